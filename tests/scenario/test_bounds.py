"""P10: memory is bounded, whatever the size of a transaction, the lag, or the number of tables."""

import threading
from typing import Self

import psutil
import pytest

from tests.fix_migration import Migrate
from tests.fix_replicator import ReplicatorProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MEGABYTE = 1024 * 1024


class Peak:
    """The highest resident set of a process while the block runs, in megabytes."""

    def __init__(self, process: ReplicatorProcess) -> None:
        self._process = psutil.Process(process.pid)
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self.megabytes = 0.0

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self.megabytes = max(self.megabytes, self._process.memory_info().rss / MEGABYTE)


@pytest.mark.parametrize("transform", [False, True])
def test_a_transaction_of_500_000_rows(migrate: Migrate, transform: bool) -> None:
    """It streams through with less than 300 MB, as it is or through a function, and unchanged TOAST stays."""
    functions = """
        from replicator import Row, transform

        @transform(old="public.t", upgraded="public.t")
        def same(row: Row) -> Row:
            return row.set(b=row["b"].upper())
    """
    shop = migrate(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text, big text)",
        old_schema="ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
        transforms=functions if transform else None,
        tables="[]" if transform else '- {old: "public.*"}',
        options="cutover: {reverse: off}",
    )
    shop.old.execute("INSERT INTO t SELECT n, n, 'x', repeat('y', 3000) FROM generate_series(1, 2000) n")
    daemon = shop.streaming()
    with Peak(daemon) as peak:
        shop.old.execute(
            "BEGIN; UPDATE t SET a = a + 1; INSERT INTO t SELECT n, n, 'b' || n FROM generate_series(10001, 510000) n;"
            "UPDATE t SET b = 'z' WHERE id <= 2000; COMMIT"
        )
        shop.catch_up(240)
    assert peak.megabytes < 300
    shop.same("SELECT count(*), sum(a), sum(length(b)), md5(string_agg(big, '' ORDER BY id)) FROM t")


def test_a_target_that_does_not_take(migrate: Migrate) -> None:
    """While the target waits for a lock, what the source writes stays in its WAL, not in our memory."""
    shop = migrate(
        "CREATE TABLE t (id int PRIMARY KEY, b text)", options="apply: {batch_bytes_max: 1MiB, batch_rows_max: 1000}"
    )
    daemon = shop.streaming()
    with shop.upgraded.connect() as other, Peak(daemon) as peak:
        other.execute("LOCK TABLE t")
        for first in range(0, 60_000, 2_000):
            shop.old.execute(
                f"INSERT INTO t SELECT n, repeat('x', 4000) FROM generate_series({first}, {first + 1999}) n"
            )
        other.rollback()
        shop.catch_up(120)
    assert peak.megabytes < 300
    shop.same("SELECT count(*), sum(length(b)) FROM t")


def test_a_thousand_tables(migrate: Migrate) -> None:
    """1,000 tables in one connector are copied and followed."""
    shop = migrate(
        "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format("
        "'CREATE TABLE t%s (id int PRIMARY KEY, a int, b text, c numeric, d timestamptz)', n); "
        "IF n % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$"
    )
    every = "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('{}', n); END LOOP; END $$"
    shop.old.execute(every.format("INSERT INTO t%s SELECT n, n FROM generate_series(1, 3) n"))
    daemon = shop.start()
    with Peak(daemon) as peak:
        daemon.wait_for_log("streaming", 120)
        shop.old.execute(every.format("INSERT INTO t%s VALUES (4, 4)"))
        shop.old.execute(every.format("UPDATE t%s SET a = 7 WHERE id < 3"))
        shop.catch_up(120)
    assert peak.megabytes < 300
    shop.same_tables(*(f"t{n}" for n in range(1, 1001, 37)))
