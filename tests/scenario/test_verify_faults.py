"""`replicator verify` when things go wrong: late visibility, kills, no daemon; and when it looks at a part only."""

import json
import signal
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import MakeDatabase, MakeServer
from tests.polling import wait_until
from tests.scenario.test_absent_standby import committing, wait_for_standby
from tests.scenario.test_verify import TABLES, findings, verify

pytestmark = [pytest.mark.fault, pytest.mark.timeout(240)]

OLD = """
    CREATE TABLE orders (id int PRIMARY KEY, state text);
    CREATE TABLE items (id int PRIMARY KEY, order_id int, price int);
    ALTER TABLE items REPLICA IDENTITY FULL;
    CREATE TABLE plain (id int PRIMARY KEY, name text);
    INSERT INTO orders SELECT n, 'new' FROM generate_series(1, 30) n;
    INSERT INTO items SELECT n, n, 10 FROM generate_series(1, 30) n;
    INSERT INTO plain SELECT n, 'n' || n FROM generate_series(1, 30) n;
"""
UPGRADED = """
    CREATE TABLE orders (id int PRIMARY KEY, state text, total int);
    CREATE TABLE plain (id int PRIMARY KEY, name text);
"""
TRANSFORMS = """
    from replicator import Aggregate, Row, transform

    @transform(old={"public.orders": "id", "public.items": "order_id"}, upgraded="public.orders")
    def order(order: Aggregate) -> Row:
        return order.root.set(total=sum(item["price"] for item in order["public.items"]))
"""


def wrong(document: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Tables with findings or undecided rows: how many of either."""
    counts = {
        one["table"]: (one["missing"] + one["extra"] + one["different"], one["unsettled"]) for one in document["tables"]
    }
    return {table: both for table, both in counts.items() if any(both)}


def test_what_is_applied_before_it_is_visible_is_no_finding(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase
) -> None:
    """While no standby answers, rows that the target has and no reader of the source sees are unsettled, never wrong:
    new ones, changed ones and deleted ones; and nothing but they.
    """
    shop = migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables="- {old: public.plain}",
        transforms=TRANSFORMS,
        old=make_database(make_server()),
    )
    shop.streaming()
    change = """
        UPDATE plain SET name = 'changed' WHERE id = 1; DELETE FROM plain WHERE id = 2;
        INSERT INTO plain VALUES (100, 'new')
    """
    with committing(shop.old, change):
        wait_until(lambda: shop.upgraded.execute("SELECT 1 FROM plain WHERE id = 100"))
        document = verify(shop, "--patience", "3s", code=1)
        assert {"public.plain": (0, 3)} == wrong(document)
        assert set() == findings(shop)
    verify(shop, code=0)
    shop.upgraded.execute("UPDATE plain SET name = 'damaged' WHERE id = 5")
    wait_for_standby(shop.old.server, "absent")  # which nobody waits for
    document = verify(shop, code=1)
    wait_for_standby(shop.old.server, "")

    assert {"public.plain": (1, 0)} == wrong(document)


@pytest.fixture
def filled(migrate: Migrate) -> Migration:
    """A table of many rows, copied and running."""
    shop = migrate(
        TABLES,
        old_schema="INSERT INTO plain SELECT n, 'name ' || n FROM generate_series(1, 60000) n",
        options="backfill: {chunk_rows: 500}\nverify: {tolerance: {public.plain.price: 0.01}}",
    )
    shop.streaming()
    shop.catch_up()
    return shop


SAVED = "SELECT progress->'public.pairs'->>'after' FROM replicator.verification WHERE finished_at IS NULL"


def test_killed_it_goes_on_where_it_was(filled: Migration) -> None:
    """A run that is killed in the middle is resumed: what it had found and counted stays, and nothing counts twice."""
    filled.old.execute("INSERT INTO pairs SELECT n / 10, 'b' || n, 'v' FROM generate_series(1, 60000) n")
    filled.catch_up()
    filled.upgraded.execute("DELETE FROM pairs WHERE b IN ('b100', 'b19000'); UPDATE plain SET name = 'x' WHERE id = 9")
    process = filled.command("verify", "FILE", "--json", "--rate", "8000", "--table", "public.pairs")
    wait_until(lambda: any(row[0] is not None for row in filled.upgraded.execute(SAVED)), 60)
    process.kill()
    ((saved,),) = filled.upgraded.execute(SAVED)
    document = verify(filled, "--table", "public.pairs", code=1)

    assert document["resumed"]
    assert [("public.pairs", 60000, 2, 0)] == [
        (one["table"], one["rows"], one["missing"], one["extra"]) for one in document["tables"]
    ], saved
    assert {key for _, key, _, _, _ in findings(filled)} == {("10", "b100"), ("1900", "b19000")}
    assert not verify(filled, "--table", "public.pairs", code=1)["resumed"]


def test_nobody_applies_anything(filled: Migration) -> None:
    """Without a daemon nothing can be proven: it says so, keeps what it has, and goes on once there is one."""
    daemon = filled.started[0]
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait()
    filled.old.execute("UPDATE plain SET name = 'later' WHERE id = 1")
    process = filled.command("verify", "FILE", "--json")
    assert 1 == process.wait(60)
    assert "" == process.stdout
    assert "nobody reads the slot" in process.story()
    filled.streaming()

    assert verify(filled, code=0)["resumed"]


def test_a_part_of_it(filled: Migration) -> None:
    """A table, a condition on the old rows, a sample: what is outside is neither looked at nor counted."""
    filled.upgraded.execute("UPDATE plain SET name = 'x' WHERE id IN (10, 50000); INSERT INTO plain VALUES (-1)")
    document = verify(filled, "--table", "public.plain", "--where", "id < 100", code=1)
    assert [("public.plain", 99, 1, 0)] == [
        (one["table"], one["rows"], one["different"], one["extra"]) for one in document["tables"]
    ]
    rows = verify(filled, "--sample", "20%", "--table", "public.plain", code=None)["tables"][0]["rows"]
    assert 2000 < rows < 30000
    process = filled.command("verify", "FILE", "--where", "id < 100")
    assert 2 == process.wait()


def test_a_declared_tolerance_is_reported(filled: Migration) -> None:
    """Values within it are no finding, and are counted; beyond it they are."""
    filled.old.execute("UPDATE plain SET price = 1 WHERE id <= 3")
    filled.catch_up()
    filled.upgraded.execute("UPDATE plain SET price = price + 0.01 * id WHERE id <= 2")
    document = verify(filled, "--table", "public.plain", "--where", "id <= 10", code=1)

    assert {"public.plain.price": "0.01"} == document["tolerance"]
    assert [(1, 1)] == [(one["different"], one["within_tolerance"]) for one in document["tables"]]
    assert {("2",)} == {key for _, key, _, _, _ in findings(filled)}
    process = filled.command("verify", "FILE", "--table", "public.plain")
    assert 1 == process.wait()
    assert "tolerance: public.plain.price may differ by 0.01" in process.stdout
    assert f"Next: replicator repair {filled.connector}" in process.stdout


def test_the_json_has_the_promised_shape(filled: Migration) -> None:
    """What scripts rely on."""
    process = filled.command("verify", "FILE", "--json", "--table", "public.pairs")
    assert 0 == process.wait()
    document = json.loads(process.stdout)

    assert {"ok", "tables", "checks", "position", "tolerance", "run", "resumed", "certificate"} == document.keys()
    wanted = {"table", "rows", "missing", "extra", "different", "unsettled", "within_tolerance", "seconds"}
    assert [wanted] == [one.keys() for one in document["tables"]]
    assert all({"name", "ok", "severity"} <= one.keys() for one in document["checks"])
    assert {"from", "upto"} == document["position"].keys()


@pytest.mark.parametrize("side", ["old", "upgraded"])
def test_a_database_goes_away(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase, side: str
) -> None:
    """Either database is killed under a run: it ends with what happened, and the next one goes on where it was."""
    databases = {side: make_database(make_server())}
    shop = migrate(
        TABLES,
        # More than is read ahead until the first of it is saved.
        old_schema="INSERT INTO pairs SELECT n / 10, 'b' || n, 'v' FROM generate_series(1, 60000) n",
        options="backfill: {chunk_rows: 500}",
        old=databases.get("old"),
        upgraded=databases.get("upgraded"),
    )
    shop.streaming()
    shop.catch_up()
    process = shop.command("verify", "FILE", "--json", "--rate", "8000", "--table", "public.pairs")
    wait_until(lambda: any(row[0] is not None for row in shop.upgraded.execute(SAVED)), 60)
    server = databases[side].server
    server.kill()
    code = process.wait(60)
    server.start()
    assert 1 == code
    assert "it goes on where it was" in process.story()
    shop.catch_up()
    document = verify(shop, "--table", "public.pairs", code=0)

    assert document["resumed"]
    assert [60000] == [one["rows"] for one in document["tables"]]


def test_all_of_it_is_missing(filled: Migration) -> None:
    """However much is wrong, all of it is found, named and counted, and closed once it is back."""
    filled.upgraded.execute("TRUNCATE plain")
    document = verify(filled, "--table", "public.plain", code=1)

    assert [(60000, 60000)] == [(one["rows"], one["missing"]) for one in document["tables"]]
    assert [(60000,)] == filled.upgraded.execute("SELECT count(*) FROM replicator.divergence WHERE closed_at IS NULL")
    process = filled.command("resync", "FILE", "public.plain")
    assert 0 == process.wait(120), process.story()
    verify(filled, "--table", "public.plain", code=0)
    assert [(0, 60000)] == filled.upgraded.execute(
        "SELECT count(*) FILTER (WHERE closed_at IS NULL), count(*) FROM replicator.divergence"
    )
