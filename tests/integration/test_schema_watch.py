"""What changes a table without an event, on PostgreSQL 18 and 15: what is noticed, and what it means for a feed."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from replicator.engine.changes import Change, Watched, compare_catalogs
from replicator.engine.watch import SchemaWatch
from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import Mapping, Mappings, Side
from replicator.postgres.reader import PostgresReader
from replicator.postgres.schema_state import PostgresSchemaStore
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
    "ALTER TABLE t RENAME a TO z": "column_added resync, column_dropped stops",
    "ALTER TABLE t DROP a, ADD a2 integer": "column_added fits, column_dropped stops",
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
    watched = Watched("public.t", T, ("id",), CARRIED, source=True)
    assert SOURCE_CHANGES == await told(database, reader, TABLES, SOURCE_CHANGES, watched)


async def test_vacuum_full_of_a_fast_default_looks_like_an_alter(database: Database, reader: PostgresReader) -> None:
    """It writes the default out and touches its column, as ALTER COLUMN does: we cannot tell, and ask for a resync."""
    made = f"{TABLES} ALTER TABLE t ADD c integer DEFAULT 5"
    watched = Watched("public.t", T, ("id",), None, source=True)
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
    watched = Watched("public.t", T, ("id",), CARRIED, source=False)
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
    watched = Watched("public.t", T, ("id",), None, source=True)
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


@dataclass
class Ends:
    """A feed between two equal databases, taken over, and the reports of its schema watches."""

    old: Database
    upgraded: Database
    reader: PostgresReader
    target: PostgresTarget
    store: PostgresSchemaStore
    mappings: Mappings
    reports: asyncio.Queue[Sequence[Change]] = field(default_factory=asyncio.Queue)

    def watch(self) -> SchemaWatch:
        return SchemaWatch(
            reader=self.reader,
            target=self.target,
            store=self.store,
            mappings=self.mappings,
            report=self.reports.put,
            interval=0.05,
        )

    async def reported(self) -> str:
        """The next report, in words."""
        changes = await asyncio.wait_for(self.reports.get(), 20)
        return ", ".join(f"{change.kind} {change.effect}" for change in changes)

    async def stale(self) -> dict[str, str]:
        return {stale.mapping: stale.reason for stale in await self.store.stale()}


@pytest.fixture
async def ends(database: Database, reader: PostgresReader, make_database: MakeDatabase) -> AsyncIterator[Ends]:
    upgraded = make_database()
    for each in (database, upgraded):
        each.execute(PARTED)
    target = PostgresTarget(upgraded.dsn, connector="test", feed="forward", source_dsn=database.dsn)
    mappings = same_shape(await reader.catalog(), await target.catalog())
    await target.take_over(1)
    yield Ends(database, upgraded, reader, target, PostgresSchemaStore(upgraded.dsn, "test", "forward"), mappings)
    await target.close()


async def test_the_watch_reports_each_change_once(ends: Ends) -> None:
    """Changes of both ends are reported by the look that finds them, and not again; an error ends the watch."""
    watch = ends.watch()
    await watch.look()
    running = asyncio.create_task(watch.run())
    ends.old.execute("CREATE TABLE p2 PARTITION OF t FOR VALUES FROM (200) TO (300)")
    assert "partition_attached fits" == await ends.reported()
    assert {} == await ends.stale()
    ends.old.execute("ALTER TABLE t ATTACH PARTITION filled FOR VALUES FROM (100) TO (200)")
    assert "partition_attached resync" == await ends.reported()
    ends.upgraded.execute("ALTER TABLE t DROP a")
    assert "column_dropped stops" == await ends.reported()
    assert ends.reports.empty()
    assert ["public.t"] == list(await ends.stale())
    await ends.reader.close()
    with pytest.raises(ReplicatorError) as caught:
        await asyncio.wait_for(running, 20)
    assert ErrorKind.INTERNAL is caught.value.kind


async def test_a_change_while_nobody_looks_is_found_by_the_next_process(ends: Ends) -> None:
    """What was seen last is in the target; a new table of the same name needs a resync once it is published."""
    await ends.watch().look()
    await ends.watch().look()
    assert ends.reports.empty()
    ends.old.execute("DROP TABLE t; CREATE TABLE t (id integer PRIMARY KEY, a integer)")
    await ends.watch().look()
    assert "table_recreated stops" == await ends.reported()
    assert "dropped and made again" in (await ends.stale())["public.t"]
    await ends.watch().look()
    assert ends.reports.empty()


async def test_a_resync_mends_what_was_noticed_before_it(ends: Ends) -> None:
    """A reason that comes while the resync runs stays; one that is found at its start is mended by it."""
    watch = ends.watch()
    await watch.look()
    ends.old.execute("ALTER TABLE t DETACH PARTITION p1")

    async def copy() -> None:
        assert ["public.t"] == list(await ends.stale())

    await watch.resynced("public.t", copy)
    assert {} == await ends.stale()

    async def copy_while_it_changes() -> None:
        ends.old.execute("ALTER TABLE t ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100)")
        await watch.look()

    ends.old.execute("ALTER TABLE t ATTACH PARTITION filled FOR VALUES FROM (100) TO (200)")
    await watch.resynced("public.t", copy_while_it_changes)
    assert "p1 was attached" in (await ends.stale())["public.t"]


async def test_a_superseded_process_stores_nothing(ends: Ends) -> None:
    """What is seen is stored under the epoch, like everything else."""
    watch = ends.watch()
    await watch.look()
    successor = PostgresTarget(ends.upgraded.dsn, connector="test", feed="forward", source_dsn=ends.old.dsn)
    await successor.take_over(1)
    ends.old.execute("ALTER TABLE t DETACH PARTITION p1")
    with pytest.raises(ReplicatorError) as caught:
        await watch.look()
    assert ErrorKind.SUPERSEDED is caught.value.kind
    assert {} == await ends.stale()
    await successor.close()
