"""Why a row is wrong: what the databases prove about it is stored with the finding."""

from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import MakeDatabase, MakeServer
from tests.scenario.test_verify import verify

pytestmark = [pytest.mark.timeout(180)]

PLAIN = """
    CREATE TABLE plain (id int PRIMARY KEY, name text, price numeric, at timestamptz);
    CREATE TABLE stamped (id int PRIMARY KEY, name text);
"""
FILL = """
    INSERT INTO plain SELECT n, 'n' || n, n / 7.0, '2024-01-01 00:00:00.123456+00' FROM generate_series(1, 100) n;
    INSERT INTO stamped SELECT n, 'n' || n FROM generate_series(1, 20) n;
"""
TRIGGER = """
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
    CREATE TRIGGER shouting BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION shout();
    ALTER TABLE stamped ENABLE ALWAYS TRIGGER shouting;
"""


def causes(shop: Migration) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """By table and key of the open findings: cause and evidence."""
    rows = shop.upgraded.execute(
        "SELECT table_name, key[1], cause, evidence FROM replicator.divergence WHERE closed_at IS NULL"
    )
    return {(table, key): (cause, evidence) for table, key, cause, evidence in rows}


def test_who_wrote_a_row_is_known_by_its_commit(migrate: Migrate) -> None:
    """With commit timestamps, a write of somebody else is told from the copy's, the feed's, and a trigger's over it; a
    row that is gone tells nothing.
    """
    shop = migrate(PLAIN, old_schema=FILL)
    assert [("on",)] == shop.upgraded.execute("SHOW track_commit_timestamp")
    shop.streaming()
    shop.catch_up()
    shop.upgraded.execute("UPDATE plain SET name = 'secret' WHERE id = 7")  # over a row of the copy
    shop.upgraded.execute("INSERT INTO plain VALUES (900, 'extra', 1, now())")
    shop.upgraded.execute("DELETE FROM plain WHERE id = 8")
    shop.upgraded.execute(TRIGGER)
    shop.old.execute("UPDATE stamped SET name = 'changed' WHERE id = 3")
    shop.catch_up()
    # A row of the copy is wrong, and nobody has touched it: the feed was not told of a change.
    shop.old.execute("ALTER PUBLICATION replicator_shop SET (publish = 'insert')")
    shop.old.execute("UPDATE plain SET name = 'unseen' WHERE id = 9")
    shop.old.execute("ALTER PUBLICATION replicator_shop SET (publish = 'insert, update, delete, truncate')")
    verify(shop, code=1)
    found = causes(shop)
    summary = {place: (cause, evidence.get("written_by")) for place, (cause, evidence) in found.items()}

    assert {
        ("plain", "7"): ("outside_write", "another session"),
        ("plain", "900"): ("outside_write", "another session"),
        ("plain", "8"): ("unknown", None),
        ("plain", "9"): ("unknown", None),
        ("stamped", "3"): ("outside_write", "the feed"),
    } == summary
    assert ["shouting"] == found["stamped", "3"][1]["triggers"]
    assert all("target_committed_at" in found["plain", key][1] for key in ("7", "900", "9"))
    assert "writer" not in found["plain", "9"][1], "it is known to be the copy's"
    assert "secret" not in repr(found), "no value of a row is evidence"


def test_without_commit_timestamps_rounding_is_known_and_writers_are_not(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase
) -> None:
    """Where the server doesn't keep them, who wrote a row is said to be unknown, and why; a value that was cut off on
    its way is known by itself.
    """
    server = make_server(settings={"track_commit_timestamp": "off"})
    shop = migrate(PLAIN, old_schema=FILL, upgraded=make_database(server))
    shop.streaming()
    shop.catch_up()
    shop.upgraded.execute("UPDATE plain SET at = date_trunc('milliseconds', at) WHERE id = 5")
    shop.upgraded.execute("UPDATE plain SET price = price::float8::numeric, at = date_trunc('second', at) WHERE id = 6")
    shop.upgraded.execute("UPDATE plain SET price = price + 1 WHERE id = 7")
    verify(shop, code=1)
    found = causes(shop)

    assert ("rounding", {"at": "milliseconds"}) == (found["plain", "5"][0], found["plain", "5"][1]["rounded_by"])
    assert {"price": "a float", "at": "whole seconds"} == found["plain", "6"][1]["rounded_by"]
    assert "unknown" == found["plain", "7"][0]
    assert "track_commit_timestamp is off" in found["plain", "7"][1]["writer"]


GREETING = """
    from replicator import Row, transform

    @transform(old="public.plain", upgraded="public.plain")
    def plain(row: Row) -> Row:
        return row.set(name="{} " + row["name"])
"""


def test_rows_from_before_a_transform_changed_are_told(migrate: Migrate) -> None:
    """After a start with another function, rows that it would make otherwise are said to be by the former one; what is
    written since is right.
    """
    shop = migrate(
        PLAIN, old_schema=FILL, tables="- {old: public.stamped}", transforms=GREETING.format("Mr."), name="shop"
    )
    daemon = shop.streaming()
    shop.catch_up()
    daemon.terminate()
    assert 0 == daemon.wait()
    file = shop.connector.with_name("shop.py")
    file.write_text(file.read_text().replace("Mr.", "Dear"))
    shop.streaming()
    shop.old.execute("UPDATE plain SET price = 0 WHERE id <= 90")
    shop.catch_up()
    verify(shop, code=1)
    found = causes(shop)

    assert {("plain", str(number)) for number in range(91, 101)} == found.keys()
    assert {"transform_changed"} == {cause for cause, _ in found.values()}
    evidence = found["plain", "91"][1]
    assert evidence["written_by"] != evidence["compared_by"]
