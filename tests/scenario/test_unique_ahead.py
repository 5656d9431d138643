"""Unique values whose holder on the upgraded side is newer than the event that wants them, and gone at the source."""

import zlib

import pytest

from tests.fix_migration import Migrate
from tests.polling import wait_until

pytestmark = pytest.mark.fault

SEATS = "CREATE TABLE seats (id int PRIMARY KEY, place text UNIQUE)"


def test_a_copied_row_that_dies_later(migrate: Migrate) -> None:
    """An old event wants a value that a newer, copied row holds, whose delete is still ahead: all arrives."""
    shop = migrate(
        SEATS + "; CREATE TABLE before (id int PRIMARY KEY); CREATE TABLE zebra (id int PRIMARY KEY)",
        options="apply: {batch_rows_max: 1}\nbackfill: {workers: 1}",
    )
    shop.old.execute(
        "INSERT INTO seats VALUES (1, 'a'), (2, 'b'); INSERT INTO before VALUES (1); INSERT INTO zebra VALUES (1)"
    )
    with shop.upgraded.connect() as first, shop.upgraded.connect() as last:
        # A SHARE lock takes no transaction id, which making the slot would wait for.
        first.execute("LOCK TABLE before IN SHARE MODE")
        last.execute("LOCK TABLE zebra IN SHARE MODE")
        daemon = shop.start()
        daemon.wait_for_log("backfill started")
        for change in ("'v' WHERE id = 1", "'w' WHERE id = 1", "'v' WHERE id = 2"):
            shop.old.execute(f"UPDATE seats SET place = {change}")
        first.commit()
        daemon.wait_for_log("table copied", table="public.seats")
        shop.old.execute("DELETE FROM seats WHERE id = 2")
        shop.old.execute("UPDATE seats SET place = 'v' WHERE id = 1")
        last.commit()
        daemon.wait_for_log("streaming")
    shop.catch_up()

    shop.same_tables("seats")
    assert [] == shop.upgraded.execute("SELECT * FROM replicator.deferred")


def test_another_lane_is_ahead(migrate: Migrate) -> None:
    """A lane's event wants a value that another lane has given away since, to a row that is gone: all arrives."""
    shop = migrate(SEATS, options="apply: {lanes: 4}")
    a, b, c = (next(n for n in range(1, 1000) if lane_of(n) == lane) for lane in (1, 2, 3))
    shop.old.execute("INSERT INTO seats VALUES (%s, 'a'), (%s, 'b'), (%s, 'c')", [a, b, c])
    daemon = shop.streaming()
    with shop.upgraded.connect() as session, shop.old.connect() as writer:
        session.execute("SELECT FROM seats WHERE id = %s FOR UPDATE", [c])
        for key, place in ((a, "v"), (c, "c2"), (a, "c"), (b, "v")):
            writer.execute("UPDATE seats SET place = %s WHERE id = %s", [place, key])
        writer.commit()
        # Lane 1 is refused, for c's row still has its value; lane 2 commits; lane 3 waits.
        wait_until(lambda: shop.upgraded.execute("SELECT 1 FROM seats WHERE place = 'v'"))
        shop.old.execute("DELETE FROM seats WHERE id = %s", [b])
        shop.old.execute("UPDATE seats SET place = 'v' WHERE id = %s", [a])
        session.rollback()
        shop.catch_up()

    shop.same_tables("seats")
    daemon.terminate()
    assert 0 == daemon.wait()


def lane_of(key: int) -> int:
    """The lane of four that a row of `seats` goes to."""
    return zlib.crc32(b"public.seats\x00%d" % key) % 1024 % 4
