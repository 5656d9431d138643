"""`replicator repair` and `rederive` when things go wrong: kills, a frozen daemon, nobody there, what stays wrong."""

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import psycopg
import pytest

from replicator.demo.servers import PostgresServer
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import MakeDatabase
from tests.integration.test_backfill_faults import writing
from tests.polling import wait_until
from tests.scenario.test_repair import repair
from tests.scenario.test_verify import findings, verify

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]

ROWS = 2_500
TABLE = "CREATE TABLE plain (id int PRIMARY KEY, name text)"
OPEN = "SELECT count(*) FROM replicator.divergence WHERE closed_at IS NULL"
BLOCKED = """
    SELECT 1 FROM pg_stat_activity
    WHERE application_name = 'replicator:shop/forward/repair' AND wait_event_type = 'Lock'
"""
VERSIONS = "SELECT id, name, xmin::text FROM plain ORDER BY id"


def work(connection: "psycopg.Connection[Any]", chance: random.Random) -> None:
    """What the application does meanwhile: damaged rows too are changed, deleted and made again."""
    key = chance.randrange(1, ROWS)
    if chance.random() < 0.5:
        connection.execute("UPDATE plain SET name = 'changed' WHERE id = %s", [key])
    else:
        connection.execute("DELETE FROM plain WHERE id = %s", [key])
        connection.execute("INSERT INTO plain VALUES (%s, 'again')", [key])


def blocked(shop: Migration) -> None:
    """Until the job stands still at a row."""
    wait_until(lambda: shop.upgraded.execute(BLOCKED), 120)


@contextlib.contextmanager
def held(shop: Migration, key: int) -> Any:
    """A row of the upgraded side that nobody else can write: what wants to stands still there."""
    with shop.upgraded.connect() as session:
        session.execute("SELECT FROM plain WHERE id = %s FOR UPDATE", [key])
        yield
        session.rollback()


@pytest.mark.parametrize("end", ["killed", "frozen"])
def test_a_repair_goes_on_in_the_next_daemon(
    migrate: Migrate, make_database: MakeDatabase, server15: PostgresServer, end: str
) -> None:
    """The daemon is killed, or frozen, in the middle of a repair: the next one carries the rest out, while the
    application writes; the frozen one wakes as superseded, and has written nothing.
    """
    fill = f"INSERT INTO plain SELECT n, 'n' || n FROM generate_series(1, {ROWS}) n"
    shop = migrate(TABLE, old_schema=fill, old=make_database(server15))
    former = shop.streaming()
    shop.catch_up()
    shop.upgraded.execute("UPDATE plain SET name = 'damaged'; DELETE FROM plain WHERE id % 5 = 0")
    shop.upgraded.execute("INSERT INTO plain SELECT n, 'extra' FROM generate_series(-50, -1) n")
    verify(shop, code=1)
    assert [(ROWS + 50,)] == shop.upgraded.execute(OPEN)
    last = "SELECT key[1]::int FROM replicator.divergence WHERE kind = 'different' ORDER BY id DESC LIMIT 1"
    with held(shop, shop.upgraded.execute(last)[0][0]):  # far behind the first page
        process = shop.command("repair", "FILE", "--yes", "--json")
        blocked(shop)
        ((left,),) = shop.upgraded.execute(OPEN)
        assert 0 < left < ROWS
        if end == "killed":
            former.kill()
        else:
            former.freeze()
    with writing(shop.old, work):
        successor = shop.streaming()
        assert 0 == process.wait(120), process.story()
    document = json.loads(process.stdout)
    assert document["ok"]
    assert 0 < document["repaired"] <= left
    shop.catch_up()
    before = shop.upgraded.execute(VERSIONS)
    if end == "frozen":
        former.thaw()
        former.wait_for_log("connector superseded", 60)
        former.terminate()
        assert 1 == former.wait(), former.story()
    assert before == shop.upgraded.execute(VERSIONS)
    assert successor.running
    verify(shop, code=0)
    assert set() == findings(shop)


PEOPLE = """
    CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, name text, CONSTRAINT proper CHECK (name <> 'bad'));
"""
OLD_PEOPLE = """
    CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO people SELECT n, 'mail ' || n, 'name ' || n FROM generate_series(1, 50) n;
"""
CORRUPT = """
    CREATE FUNCTION corrupt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := 'corrupted'; RETURN NEW; END $$;
    CREATE TRIGGER corrupt BEFORE UPDATE ON people FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION corrupt();
    ALTER TABLE people ENABLE ALWAYS TRIGGER corrupt
"""


def test_what_is_left_is_named(migrate: Migrate) -> None:
    """Swapped unique values are repaired; what a trigger spoils again, and what waits in the dead letter queue, is left
    with its reason; once the cause is gone it is repaired, too. With nobody there the request waits, and says so.
    """
    shop = migrate(
        old_schema=OLD_PEOPLE, upgraded_schema=PEOPLE, options="apply: {on_error: dlq}", tables="- {old: public.people}"
    )
    daemon = shop.streaming()
    shop.old.execute("UPDATE people SET name = 'bad' WHERE id = 4")
    shop.catch_up()
    shop.upgraded.execute(CORRUPT)
    shop.upgraded.execute(
        "UPDATE people SET email = 'x' WHERE id = 1; UPDATE people SET email = 'mail 1' WHERE id = 2;"
        "UPDATE people SET email = 'mail 2' WHERE id = 1; UPDATE people SET name = 'damaged' WHERE id IN (3, 4)"
    )
    verify(shop, code=1)
    document = repair(shop, "--yes", code=1)
    assert {("3", "differs"), ("4", "dead_letter")} == {(row["key"][0], row["why"]) for row in document["rows"]}
    assert (2, {"differs": 1, "dead_letter": 1}) == (document["repaired"], document["left"])
    assert {("3",), ("4",)} == {one[1] for one in findings(shop)}

    shop.upgraded.execute("DROP TRIGGER corrupt ON people; ALTER TABLE people DROP CONSTRAINT proper")
    retry = shop.command("dlq", "retry", "FILE", "--key", "4")
    assert 0 == retry.wait(120), retry.story()
    daemon.terminate()
    daemon.wait()
    process = shop.command("repair", "FILE", "--yes")
    assert 1 == process.wait(120)
    assert "no daemon runs this connector" in process.story()
    shop.streaming()
    wait_until(lambda: shop.upgraded.execute(OPEN) == [(0,)], 120)
    verify(shop, code=0)


TRANSFORM = """
    from replicator import Row, transform

    @transform(old="public.plain", upgraded="public.plain")
    def plain(row: Row) -> Row:
        return row.set(name=row["name"].{how}())
"""


def test_a_rederive_goes_on_in_the_next_daemon(
    migrate: Migrate, make_database: MakeDatabase, server15: PostgresServer, tmp_path: Path
) -> None:
    """Killed in the middle, what was compared and written stays, and the request goes on where it was; what waits in
    its way is waited for; then the digest that is kept is the new transform's.
    """
    shop = migrate(
        TABLE,
        old_schema=f"INSERT INTO plain SELECT n, 'n' || n FROM generate_series(1, {ROWS}) n",
        tables="[]",
        transforms=TRANSFORM.format(how="lower"),
        options="backfill: {chunk_rows: 200}\ncutover: {reverse: off}",
        old=make_database(server15),
    )
    daemon = shop.streaming()
    shop.catch_up()
    daemon.terminate()
    daemon.wait()
    (tmp_path / "shop.py").write_text(TRANSFORM.format(how="upper").replace("\n    ", "\n"))
    daemon = shop.streaming()
    digests = "SELECT digest, writes, progress FROM replicator.mapping_digest"
    ((digest, writes, _),) = shop.upgraded.execute(digests)
    assert writes not in (None, digest)
    with held(shop, 2_401):
        process = shop.command("rederive", "FILE", "--json")
        blocked(shop)
        kept = "SELECT 1 FROM replicator.mapping_digest WHERE progress IS NOT NULL"
        wait_until(lambda: shop.upgraded.execute(kept), 60)
        daemon.kill()
    before = dict(shop.upgraded.execute("SELECT id, xmin::text FROM plain WHERE name LIKE 'N%'"))
    assert 0 < len(before) < ROWS
    daemon = shop.streaming()
    assert 0 == process.wait(120), process.story()
    assert [True] == [line["resumed"] for line in daemon.logged("rederive started")]
    assert [(writes, None, None)] == shop.upgraded.execute(digests)
    shop.same("SELECT id, upper(name) FROM plain", "SELECT id, name FROM plain")
    after = dict(shop.upgraded.execute("SELECT id, xmin::text FROM plain"))
    again = {key for key, version in before.items() if after[key] != version}
    assert not again, sorted(again)
    verify(shop, code=0)
