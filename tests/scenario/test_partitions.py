"""Partitioned tables: one mapping for the root, whatever happens to the partitions on either side."""

import pytest

from tests.fix_migration import Migrate, Migration
from tests.fix_replicator import ReplicatorProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

OLD = """
    CREATE TABLE events (id int, day date, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')
        PARTITION BY LIST (id);
    CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES IN (1, 2, 3);
    CREATE TABLE events_2b PARTITION OF events_2 DEFAULT;
"""
PLAIN = "CREATE TABLE events (id int, day date, body text, PRIMARY KEY (id, day));"
OTHERWISE = """
    CREATE TABLE events (id int, day date, body text, PRIMARY KEY (id, day)) PARTITION BY HASH (id);
    CREATE TABLE events_x PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE events_y PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 1);
"""
ROWS = """
    INSERT INTO events SELECT n, '2024-01-01'::date + n % 60 - n % 60 / 59, 'e' || n FROM generate_series(1, 200) n
"""


def resync(shop: Migration, daemon: ReplicatorProcess, table: str = "public.events") -> None:
    process = shop.command("resync", "FILE", table)
    assert process.wait(90) == 0, f"{process.story()}\n{daemon.story()}"


@pytest.mark.parametrize("upgraded, back", [(OLD, None), (PLAIN, None), (OTHERWISE, None), (OLD, PLAIN)])
def test_rows_of_partitions(migrate: Migrate, upgraded: str, back: str | None) -> None:
    """Inserted, updated, deleted, moved between partitions, truncated by root and by leaf: from any layout to any."""
    shop = migrate(old_schema=(back or OLD) + ROWS, upgraded_schema=upgraded)
    shop.streaming()
    shop.same_tables("events")

    shop.old.execute("INSERT INTO events VALUES (1000, '2024-01-15', 'new'), (2, '2024-02-20', 'new')")
    shop.old.execute("UPDATE events SET body = body || '!' WHERE id % 3 = 0; DELETE FROM events WHERE id % 7 = 0")
    shop.old.execute("UPDATE events SET day = day + 31 WHERE day < '2024-01-15'")
    shop.old.execute("UPDATE events SET day = day - 31, body = repeat('x', 9000) WHERE day > '2024-02-15'")
    shop.old.execute("UPDATE events SET id = id + 5000 WHERE id % 5 = 0")
    shop.catch_up()
    shop.same_tables("events")

    if back is None:
        shop.old.execute(
            "BEGIN; DELETE FROM events_1 WHERE id < 20; INSERT INTO events_1 VALUES (3, '2024-01-05'); END"
        )
    shop.old.execute("TRUNCATE events; INSERT INTO events VALUES (1, '2024-01-01'), (2, '2024-02-01')")
    shop.catch_up()
    shop.same_tables("events")


def test_truncate_of_one_partition(migrate: Migrate) -> None:
    """TRUNCATE of a leaf is in no stream: the daemon asks for a resync; not so after VACUUM FULL, or of the root."""
    shop = migrate(old_schema=OLD + ROWS, upgraded_schema=PLAIN)
    daemon = shop.streaming()
    for harmless in ("VACUUM FULL events_1", "TRUNCATE events"):
        shop.old.execute(harmless)
        daemon.wait_for_log("schema changed", change="rewritten", effect="fits")
        shop.catch_up()
        shop.same_tables("events")

    shop.old.execute(f"{ROWS}; TRUNCATE events_1; INSERT INTO events VALUES (1, '2024-01-01', 'after')")
    told = daemon.wait_for_log("schema changed", effect="resync")
    assert "partition public.events_1 was truncated" in told["detail"]
    resync(shop, daemon)
    shop.same_tables("events")


def test_partitions_that_come_and_go(migrate: Migrate) -> None:
    """Attached or detached with rows, nothing is in the stream: the daemon says so, and a resync mends it."""
    shop = migrate(old_schema=OLD + ROWS, upgraded_schema=OTHERWISE)
    daemon = shop.streaming()
    shop.old.execute("CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')")
    shop.old.execute("INSERT INTO events VALUES (7, '2024-03-03', 'in the new one')")
    daemon.wait_for_log("schema changed", change="partition_attached", effect="fits")
    shop.catch_up()
    shop.same_tables("events")

    shop.old.execute(
        "CREATE TABLE filled (LIKE events INCLUDING INDEXES); INSERT INTO filled VALUES (1, '2024-05-05', 'filled');"
        "ALTER TABLE events ATTACH PARTITION filled FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')"
    )
    daemon.wait_for_log("schema changed", change="partition_attached", effect="resync")
    shop.old.execute("ALTER TABLE events DETACH PARTITION events_1")
    daemon.wait_for_log("schema changed", change="partition_detached", effect="resync")
    shop.old.execute(
        "INSERT INTO events VALUES (2, '2024-05-06', 'after'); INSERT INTO events_1 VALUES (1, '2024-01-30')"
    )
    resync(shop, daemon)
    shop.catch_up()
    shop.same_tables("events")

    shop.old.execute("ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')")
    daemon.wait_for_log("schema changed", change="partition_attached", effect="resync")
    shop.old.execute("UPDATE events SET body = 'back again' WHERE day < '2024-02-01'; DROP TABLE events_2")
    daemon.wait_for_log("schema changed", change="partition_detached", effect="resync")
    resync(shop, daemon)
    shop.catch_up()
    shop.same_tables("events")


def test_partitions_of_the_upgraded_side_that_lack(migrate: Migrate) -> None:
    """A row for which the upgraded side has no partition stops the feed, which goes on once there is one."""
    shop = migrate(old_schema=PLAIN + ROWS, upgraded_schema=OLD)
    daemon = shop.streaming()
    shop.old.execute("INSERT INTO events VALUES (1, '2025-01-01', 'homeless')")
    failed = daemon.wait_for_log("connector failed")
    assert "public.events" in failed["error"]
    assert "no partition" in failed["error"]
    assert failed["key"] == "(1, 2025-01-01)"
    daemon.terminate()
    daemon.wait()

    shop.upgraded.execute("CREATE TABLE rest PARTITION OF events DEFAULT")
    shop.streaming()
    shop.catch_up()
    shop.same_tables("events")
