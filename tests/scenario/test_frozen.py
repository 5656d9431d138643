"""A daemon that was frozen while another took over, and wakes: it writes nothing, takes nothing back, and says so."""

import pytest

from tests.churn import COUNTED, TABLES, assert_equal_and_once
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database
from tests.fix_replicator import ReplicatorProcess
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

LANE = "replicator:shop/forward/0"


def epoch(upgraded: Database) -> int:
    return int(upgraded.execute("SELECT epoch FROM replicator.feed")[0][0])


def events(daemon: ReplicatorProcess) -> list[str]:
    """What it has logged by now, by name."""
    return [str(line.get("event")) for line in list(daemon.logs)]


def buy(shop: Migration, first: int, last: int) -> None:
    """One transaction on the old side that writes a row for each of these numbers."""
    shop.old.execute("INSERT INTO ledger (tx) SELECT n FROM generate_series(%s::int, %s::int) n", [first, last])


def wait_until_blocked(upgraded: Database, name: str) -> None:
    """Until this session of the daemon waits for a lock on the upgraded side."""
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event_type = 'Lock'"
    wait_until(lambda: upgraded.execute(query, [name]), 60)


def assert_yields(shop: Migration, woken: ReplicatorProcess, successor: ReplicatorProcess) -> None:
    """The woken one ends its feed as superseded, its exit code says so; its successor goes on undisturbed."""
    before = epoch(shop.upgraded)
    woken.thaw()
    told = woken.wait_for_log("connector superseded")
    assert "another process has taken over feed shop/forward" in told["error"]
    woken.terminate()
    assert 1 == woken.wait(), woken.story()

    buy(shop, 900_001, 900_001)
    shop.catch_up()
    assert before == epoch(shop.upgraded)
    assert "retrying" not in events(successor)
    assert_equal_and_once(shop)


def test_frozen_while_idle(migrate: Migrate) -> None:
    """Frozen in between two batches, the former holder yields as soon as it wakes."""
    shop = migrate(TABLES, upgraded_schema=COUNTED)
    former = shop.streaming()
    buy(shop, 1, 1)
    shop.catch_up()
    former.freeze()
    successor = shop.streaming()
    buy(shop, 2, 2)
    shop.catch_up()

    assert_yields(shop, former, successor)


def test_frozen_in_a_large_transaction(migrate: Migrate) -> None:
    """Frozen with a target transaction open, inside a large one: it is undone, and its successor applies it."""
    shop = migrate(TABLES, upgraded_schema=COUNTED, options="apply: {batch_rows_max: 100}")
    former = shop.streaming()
    with shop.upgraded.connect() as session:
        session.execute("INSERT INTO ledger VALUES (700, 0)")  # the daemon's insert of that key waits for it
        buy(shop, 1, 1000)
        wait_until_blocked(shop.upgraded, LANE)
        former.freeze()
        session.rollback()
    successor = shop.streaming()
    shop.catch_up()

    assert_yields(shop, former, successor)


def test_frozen_while_copying(migrate: Migrate) -> None:
    """Frozen with a chunk half written, it leaves the rest of the copy to its successor."""
    shop = migrate(TABLES, upgraded_schema=COUNTED, options="backfill: {chunk_rows: 100}")
    buy(shop, 1, 1000)
    with shop.upgraded.connect() as session:
        former = shop.start()
        former.wait_for_log("backfill started")
        session.execute("INSERT INTO ledger VALUES (950, 0)")
        wait_until_blocked(shop.upgraded, "replicator:shop/forward/backfill-%")
        former.freeze()
        session.rollback()
    successor = shop.streaming()
    shop.catch_up()

    assert_yields(shop, former, successor)


def test_two_that_wake(migrate: Migrate) -> None:
    """Two former holders wake at once: neither takes the feed back, and the third goes on."""
    shop = migrate(TABLES, upgraded_schema=COUNTED)
    first = shop.streaming()
    first.freeze()
    second = shop.streaming()
    second.freeze()
    third = shop.streaming()
    buy(shop, 1, 1)
    first.thaw()

    assert_yields(shop, second, third)
    first.wait_for_log("connector superseded")
    assert "superseded" not in events(third)
