"""What changes a table without an event, on PostgreSQL 18 and 15: what is noticed, and what it means for a feed."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from replicator.engine.changes import Change, Watched, compare_catalogs, watched_tables
from replicator.engine.watch import SchemaWatch
from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import Mapping, Mappings, Side
from replicator.postgres.reader import PostgresReader
from replicator.postgres.target import PostgresTarget
from replicator.tables import Catalog, TableName
from tests.fix_postgres import Database, MakeDatabase

T = TableName("public", "t")
CARRIED = frozenset({"id", "a", "b"})
TABLES = """
    CREATE TABLE t (id integer PRIMARY KEY, a integer, b varchar(10), spare text, UNIQUE (a));
    INSERT INTO t SELECT g, g, 'x', 'y' FROM generate_series(1, 100) g;
"""
PARTED = """
    CREATE TABLE t (id integer PRIMARY KEY, a integer) PARTITION BY RANGE (id);
    CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    INSERT INTO t SELECT g, g FROM generate_series(1, 50) g;
    CREATE TABLE filled (LIKE t INCLUDING ALL); INSERT INTO filled VALUES (150, 1);
"""


@pytest.fixture(params=["old_database", "old15_database"], ids=["18", "15"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[PostgresReader]:
    made = PostgresReader(database.dsn, "test")
    yield made
    await made.close()


async def told(
    database: Database, reader: PostgresReader, made: str, statements: Iterable[str], watched: Watched
) -> dict[str, str]:
    """What each statement is told to be, on tables that are made anew for it."""
    found = {}
    for statement in statements:
        database.execute("DROP TABLE IF EXISTS t, elsewhere, p1, filled")
        database.execute(made)
        before = await reader.catalog()
        database.execute(statement)
        changes = compare_catalogs(before, await reader.catalog(), [watched])
        assert all(change.table == T and change.message for change in changes)
        said = (
            f"{change.kind} {change.effect} {change.partition.name if change.partition else ''}" for change in changes
        )
        found[statement] = ", ".join(sorted(each.strip() for each in said))
    return found


SOURCE_CHANGES = {
    "ALTER TABLE t ADD c integer": "column_added fits",
    "ALTER TABLE t ADD c integer DEFAULT 5": "column_added resync",
    "ALTER TABLE t ADD c double precision DEFAULT random()": "column_added resync",
    "ALTER TABLE t ADD c integer GENERATED ALWAYS AS (id * 2) STORED": "column_added fits",
    "ALTER TABLE t ADD c serial": "column_added resync",
    "ALTER TABLE t DROP a": "column_dropped stops",
    "ALTER TABLE t DROP spare": "column_dropped fits",
    "ALTER TABLE t RENAME a TO z": "column_added fits, column_dropped stops",
    "ALTER TABLE t ALTER a TYPE bigint": "column_retyped resync",
    "ALTER TABLE t ALTER b TYPE varchar(20)": "column_retyped fits",
    "ALTER TABLE t ALTER b TYPE varchar(5)": "column_retyped resync",
    "ALTER TABLE t ALTER spare TYPE integer USING 1": "column_retyped fits",
    "ALTER TABLE t ALTER a TYPE integer USING a + 1": "rewritten resync",
    "ALTER TABLE t ALTER spare TYPE text USING spare || 'x'": "rewritten fits",
    "ALTER TABLE t ALTER a SET DEFAULT 3": "",
    "ALTER TABLE t ALTER a SET NOT NULL": "",
    "ALTER TABLE t ALTER a SET STATISTICS 5": "",
    "VACUUM FULL t": "rewritten fits",
    "VACUUM t": "",
    "ANALYZE t": "",
    "CLUSTER t USING t_pkey": "rewritten fits",
    "TRUNCATE t": "rewritten fits",
    "UPDATE t SET a = a + 1000": "",
    "CREATE INDEX more ON t (b)": "",
    "ALTER TABLE t REPLICA IDENTITY FULL": "identity_changed fits",
    "ALTER TABLE t REPLICA IDENTITY NOTHING": "identity_changed stops",
    "ALTER TABLE t DROP CONSTRAINT t_pkey": "identity_changed stops",
    "ALTER TABLE t RENAME TO elsewhere": "table_missing stops",
    "DROP TABLE t": "table_missing stops",
    "DROP TABLE t; CREATE TABLE t (id integer PRIMARY KEY)": "table_recreated stops",
}


async def test_changes_of_a_source_table(database: Database, reader: PostgresReader) -> None:
    """Rows that change without an event are noticed; what leaves them alone asks for nothing."""
    watched = Watched(T, ("id",), CARRIED, source=True)
    assert SOURCE_CHANGES == await told(database, reader, TABLES, SOURCE_CHANGES, watched)


async def test_vacuum_full_of_a_fast_default_looks_like_an_alter(database: Database, reader: PostgresReader) -> None:
    """It writes the default out and touches its column, as ALTER COLUMN does: we cannot tell, and ask for a resync."""
    made = f"{TABLES} ALTER TABLE t ADD c integer DEFAULT 5"
    watched = Watched(T, ("id",), None, source=True)
    assert {"VACUUM FULL t": "rewritten resync"} == await told(database, reader, made, ["VACUUM FULL t"], watched)


TARGET_CHANGES = {
    "ALTER TABLE t ADD c integer DEFAULT 5": "column_added fits",
    "ALTER TABLE t ADD c integer NOT NULL": "column_added stops",
    "ALTER TABLE t ALTER b TYPE varchar(5)": "column_retyped resync",
    "ALTER TABLE t DROP b": "column_dropped stops",
    "ALTER TABLE t REPLICA IDENTITY NOTHING": "",
}


async def test_changes_of_a_target_table(database: Database, reader: PostgresReader) -> None:
    """At the target it matters whether rows can still be written, and whether written ones were changed."""
    watched = Watched(T, ("id",), CARRIED, source=False)
    empty = TABLES.partition("INSERT")[0]
    assert TARGET_CHANGES == await told(database, reader, empty, TARGET_CHANGES, watched)


PARTITION_CHANGES = {
    "ALTER TABLE t ATTACH PARTITION filled FOR VALUES FROM (100) TO (200)": "partition_attached resync filled",
    "CREATE TABLE p2 PARTITION OF t FOR VALUES FROM (200) TO (300)": "partition_attached resync p2",
    "ALTER TABLE t DETACH PARTITION p1": "partition_detached resync p1",
    "DROP TABLE p1": "partition_detached resync p1",
    "VACUUM FULL p1": "rewritten fits p1",
    "ALTER TABLE t ALTER a TYPE integer USING a + 1": "rewritten resync p1",
    "ALTER TABLE t ALTER a TYPE bigint": "column_retyped fits, rewritten resync p1",
    "ALTER TABLE t ADD c integer DEFAULT 5": "column_added fits, column_added resync p1",
    "ALTER TABLE t ADD c integer": "column_added fits",
}


async def test_changes_of_partitions(database: Database, reader: PostgresReader) -> None:
    """Partitions that come and go with rows, and rewrites of a leaf, are changes of the partitioned table."""
    watched = Watched(T, ("id",), None, source=True)
    assert PARTITION_CHANGES == await told(database, reader, PARTED, PARTITION_CHANGES, watched)


async def test_whether_a_partition_held_rows_when_it_was_attached(database: Database, reader: PostgresReader) -> None:
    """A new partition may be filled at once, by statements that the stream carries; rows from before it can't.

    Rows of the very transaction that attached it (as `p1` has) may be either: then the answer is yes.
    """
    database.execute(PARTED)
    database.execute("CREATE TABLE p2 PARTITION OF t FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id)")
    for statement in (
        "CREATE TABLE p2a PARTITION OF p2 FOR VALUES FROM (200) TO (250)",
        "INSERT INTO t VALUES (210, 1)",
        "UPDATE t SET a = 2 WHERE id = 210",
        "CREATE TABLE empty (LIKE t INCLUDING ALL)",
        "ALTER TABLE t ATTACH PARTITION empty FOR VALUES FROM (300) TO (400)",
        "INSERT INTO t VALUES (310, 1)",
        "ALTER TABLE t ATTACH PARTITION filled FOR VALUES FROM (100) TO (200)",
        "INSERT INTO t VALUES (160, 1)",
        "VACUUM FREEZE",
    ):
        database.execute(statement)
    tables = (await reader.catalog()).tables
    answers = {
        name: await reader.held_rows_when_attached(tables[TableName("public", name)])
        for name in ("p2a", "empty", "filled", "p1")
    }
    assert {"p2a": False, "empty": False, "filled": True, "p1": True} == answers
    database.execute("ALTER TABLE t DETACH PARTITION p2")
    database.execute("ALTER TABLE t ATTACH PARTITION p2 FOR VALUES FROM (200) TO (300)")
    assert await reader.held_rows_when_attached((await reader.catalog()).tables[TableName("public", "p2a")])


def same_shape(source: Catalog, target: Catalog) -> Mappings:
    sides = Side(source.tables[T], ("id",)), Side(target.tables[T], ("id",))
    return Mappings((Mapping("public.t", (sides[0],), (sides[1],), columns={"id": "id", "a": "a"}),))


async def test_the_watch_reports_each_change_once(
    database: Database, reader: PostgresReader, make_database: MakeDatabase
) -> None:
    """Changes of both ends are reported after the look that finds them, and not again; an error ends the watch."""
    upgraded = make_database()
    for each in (database, upgraded):
        each.execute(PARTED)
    target = PostgresTarget(upgraded.dsn, connector="test", feed="forward", source_dsn=database.dsn)
    source_catalog, target_catalog = await reader.catalog(), await target.catalog()
    reports: asyncio.Queue[list[Change]] = asyncio.Queue()
    mappings = same_shape(source_catalog, target_catalog)
    watch = SchemaWatch(
        reader=reader,
        target=target,
        mappings=mappings,
        source=source_catalog,
        target_catalog=target_catalog,
        report=reports.put,
        interval=0.05,
    )
    assert [T] == [each.table for each in watched_tables(mappings, source=False)]
    running = asyncio.create_task(watch.run())
    database.execute("CREATE TABLE p2 PARTITION OF t FOR VALUES FROM (200) TO (300)")
    (change,) = await asyncio.wait_for(reports.get(), 20)
    assert ("partition_attached", "fits") == (change.kind, change.effect)
    database.execute("ALTER TABLE t ATTACH PARTITION filled FOR VALUES FROM (100) TO (200)")
    (change,) = await asyncio.wait_for(reports.get(), 20)
    assert ("partition_attached", "resync") == (change.kind, change.effect)
    upgraded.execute("ALTER TABLE t DROP a")
    (change,) = await asyncio.wait_for(reports.get(), 20)
    assert ("column_dropped", "stops", "a") == (change.kind, change.effect, change.column)
    assert reports.empty()
    await reader.close()
    with pytest.raises(ReplicatorError) as caught:
        await asyncio.wait_for(running, 20)
    assert ErrorKind.INTERNAL is caught.value.kind
    await target.close()
