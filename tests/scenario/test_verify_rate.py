"""`replicator verify` reads no faster than it is told."""

import time

import pytest

from tests.fix_migration import Migrate, Migration
from tests.polling import wait_until
from tests.scenario.test_verify import verify

pytestmark = [pytest.mark.timeout(180)]

RATE = 6_000
ROWS = 10_000
"""Of each table."""
READ = "SELECT sum(seq_tup_read + idx_tup_fetch)::int FROM pg_stat_user_tables WHERE relname IN ('plain', 'made')"


def read(shop: Migration) -> int:
    """Rows of the old tables that anybody has read so far, as far as sessions have told."""
    ((rows,),) = shop.old.execute(READ)
    return int(rows)


def test_the_old_side_is_read_no_faster_than_the_limit(migrate: Migrate) -> None:
    """By digests and row by row: what the old server says was read is what the tables hold (and the ends of ranges are
    looked for in their index), and it took the seconds that the rate gives.
    """
    shop = migrate(
        "CREATE TABLE plain (id int PRIMARY KEY, name text); CREATE TABLE made (id int PRIMARY KEY, name text)",
        old_schema=f"INSERT INTO plain SELECT n, 'name ' || n FROM generate_series(1, {ROWS}) n; "
        "INSERT INTO made SELECT * FROM plain",
        tables="- {old: public.plain}",
        transforms="""
            from replicator import Row, transform

            @transform(old="public.made", upgraded="public.made")
            def made(row: Row) -> Row:
                return row.set(name=row["name"].upper())
        """,
        options="cutover: {reverse: off}",
    )
    shop.streaming()
    shop.catch_up()
    shop.old.execute("VACUUM ANALYZE")
    before, began = read(shop), time.monotonic()
    document = verify(shop, "--rate", str(RATE), code=0)
    seconds = time.monotonic() - began

    assert [ROWS, ROWS] == [one["rows"] for one in document["tables"]]
    assert seconds >= 2 * ROWS / RATE * 0.9
    wait_until(lambda: read(shop) - before >= 2 * ROWS)  # sessions tell when they end, or a second later
    # The end of a range is looked for again where the machine was too busy to use it at once.
    assert read(shop) - before < 10 * ROWS
