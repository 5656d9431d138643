"""Rows that the upgraded side refuses: set aside with what follows them, or the end of the feed."""

import json
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

SCHEMA = "CREATE TABLE parts (id int PRIMARY KEY, label text, price int)"
STRICT = "ALTER TABLE parts ADD CONSTRAINT positive CHECK (price >= 0)"
PARK = "apply: {on_error: dlq}"


def letters(shop: Migration) -> list[dict[str, Any]]:
    """What `replicator dlq list` tells."""
    listing = shop.command("dlq", "list", "FILE", "--json")
    assert 0 == listing.wait(), listing.story()
    return list(json.loads(listing.stdout))


def ask(shop: Migration, *args: str, code: int = 0) -> str:
    """Run a command of the queue, and return what it said."""
    asked = shop.command("dlq", *args)
    assert code == asked.wait(), asked.story()
    return asked.story()


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_key_waits_in_order(migrate: Migrate, lanes: int) -> None:
    """A refused change is parked, later ones of its key wait behind it in order, moved keys too; others go on."""
    shop = migrate(SCHEMA, upgraded_schema=STRICT, options=f"apply: {{on_error: dlq, lanes: {lanes}}}")
    shop.old.execute("INSERT INTO parts SELECT n, 'old', n FROM generate_series(1, 20) n")
    shop.streaming()
    for change in (
        "UPDATE parts SET price = -1 WHERE id = 1",
        "UPDATE parts SET label = 'second' WHERE id = 1",
        "UPDATE parts SET id = 101, price = 5 WHERE id = 1",
        "UPDATE parts SET label = 'third' WHERE id = 101",
        "UPDATE parts SET label = 'free', price = price + 1 WHERE id BETWEEN 2 AND 20",
    ):
        shop.old.execute(change)
    shop.catch_up()

    shop.same("SELECT * FROM parts WHERE id NOT IN (1, 101)")
    assert [(1, "old", 1)] == shop.upgraded.execute("SELECT * FROM parts WHERE id IN (1, 101)")
    of_first = [letter["kind"] for letter in letters(shop) if letter["key"] == ["1"]]
    assert ["data", "behind", "behind"] == of_first
    assert {"behind"} == {letter["kind"] for letter in letters(shop) if letter["key"] == ["101"]}

    ask(shop, "retry", "FILE", "--all")
    assert [] == letters(shop)
    shop.old.execute("UPDATE parts SET label = 'after' WHERE id IN (1, 101)")
    shop.catch_up()
    shop.same_tables("parts")


def test_a_queue_outlives_the_daemon(migrate: Migrate) -> None:
    """Killed, the next daemon still holds later changes behind a parked one."""
    shop = migrate(SCHEMA, upgraded_schema=STRICT, options=PARK)
    shop.old.execute("INSERT INTO parts VALUES (1, 'old', 1)")
    daemon = shop.streaming()
    shop.old.execute("UPDATE parts SET price = -1")
    shop.catch_up()
    daemon.kill()
    shop.old.execute("UPDATE parts SET price = 7")
    shop.streaming()
    shop.catch_up()
    assert ["data", "behind"] == [letter["kind"] for letter in letters(shop)]
    assert [(1,)] == shop.upgraded.execute("SELECT price FROM parts")

    ask(shop, "retry", "FILE", "--key", "1")
    shop.same_tables("parts")


def test_truncate_voids_what_waits(migrate: Migrate) -> None:
    """A TRUNCATE empties the table and the queue of it; what comes later is applied."""
    shop = migrate(SCHEMA, upgraded_schema=STRICT, options=PARK)
    shop.streaming()
    shop.old.execute("INSERT INTO parts VALUES (1, 'bad', -1), (2, 'good', 1)")
    shop.catch_up()
    assert 1 == len(letters(shop))
    shop.old.execute("TRUNCATE parts")
    shop.old.execute("INSERT INTO parts VALUES (1, 'better', 1)")
    shop.catch_up()

    assert [] == letters(shop)
    shop.same_tables("parts")


def test_a_retry_that_is_refused_again(migrate: Migrate) -> None:
    """What is refused again stays where it was, and discarding it frees its key for what comes later."""
    shop = migrate(SCHEMA, upgraded_schema=STRICT, options=PARK)
    shop.streaming()
    shop.old.execute("INSERT INTO parts VALUES (1, 'bad', -1)")
    shop.catch_up()
    assert "positive" in ask(shop, "retry", "FILE", "--all", code=1)
    assert ["data"] == [letter["kind"] for letter in letters(shop)]

    ask(shop, "discard", "FILE", "--all", "--yes")
    assert [] == letters(shop)
    shop.old.execute("UPDATE parts SET price = 3")
    shop.catch_up()
    shop.same_tables("parts")


def test_stop(migrate: Migrate) -> None:
    """The feed stops before the guilty transaction, says table, key and remedy, and goes on once mended."""
    shop = migrate(SCHEMA, upgraded_schema=STRICT)
    daemon = shop.streaming()
    with shop.old.connect() as session:
        session.execute("INSERT INTO parts VALUES (1, 'good', 1)")
        session.commit()
        session.execute("INSERT INTO parts VALUES (2, 'half', 1)")
        session.execute("INSERT INTO parts VALUES (3, 'bad', -1)")
        session.commit()
        session.execute("INSERT INTO parts VALUES (4, 'later', 1)")
        session.commit()
    failed = daemon.wait_for_log("connector failed")
    assert ("data", "public.parts", "(3)", "positive") == tuple(
        failed[name] for name in ("error_kind", "table", "key", "constraint")
    )
    assert "everything before it is applied. Mend the cause" in failed["hint"]
    assert "-1" not in json.dumps(failed["error"])
    assert [(1,)] == shop.upgraded.execute("SELECT id FROM parts")
    daemon.terminate()
    assert 1 == daemon.wait(), daemon.story()

    shop.upgraded.execute("ALTER TABLE parts DROP CONSTRAINT positive")
    shop.run_until_caught_up()
    shop.same_tables("parts")
