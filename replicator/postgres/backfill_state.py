"""What a target knows of the copies into it: `copies.BackfillStore` over the tables `copied_*` of its own schema.

Reads go on a short session of their own; they are made after a take-over, when no former holder writes any more.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString

from replicator.copies import Chunk, CopiedTable, MultisetCut
from replicator.postgres.copying import connection_of
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.tables import TableName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from psycopg import AsyncConnection

    from replicator.events import Key
    from replicator.ports import TargetTransaction

_BEGIN: Final = """
    INSERT INTO replicator.copied_table (connector, feed, job, mapping)
    SELECT %s, %s, %s, mapping FROM pg_catalog.unnest(%s::text[]) AS given(mapping)
    ON CONFLICT DO NOTHING
"""
_RECORD: Final = """
    INSERT INTO replicator.copied_chunk (connector, feed, job, mapping, number, after, upto, rows, insert_lsn)
    VALUES (%s, %s, %s, %s, %s, %s::text[], %s::text[], %s, %s)
    ON CONFLICT (connector, feed, job, mapping, number) DO UPDATE SET after = EXCLUDED.after, upto = EXCLUDED.upto,
        rows = EXCLUDED.rows, insert_lsn = EXCLUDED.insert_lsn, finished_at = EXCLUDED.finished_at
"""
_FINISH: Final = """
    WITH chunks AS (
        DELETE FROM replicator.copied_chunk
        WHERE (connector, feed, job, mapping) = (%(connector)s, %(feed)s, %(job)s, %(mapping)s)
        RETURNING rows, insert_lsn
    )
    UPDATE replicator.copied_table AS t SET complete = true, finished_at = pg_catalog.clock_timestamp(),
        rows = t.rows + (SELECT coalesce(sum(rows), 0) FROM chunks),
        insert_lsn = greatest(t.insert_lsn, (SELECT max(insert_lsn) FROM chunks))
    WHERE (connector, feed, job, mapping) = (%(connector)s, %(feed)s, %(job)s, %(mapping)s)
"""
# Chunks first: under the replica role no cascade fires.
_FORGET: Final[tuple[LiteralString, ...]] = (
    "DELETE FROM replicator.copied_chunk WHERE (connector, feed, job, mapping) = (%s, %s, %s, %s)",
    "DELETE FROM replicator.copied_table WHERE (connector, feed, job, mapping) = (%s, %s, %s, %s)",
)
_TABLES: Final = """
    SELECT mapping, rows, insert_lsn, complete FROM replicator.copied_table
    WHERE (connector, feed, job) = (%s, %s, %s)
"""
_CHUNKS: Final = """
    SELECT mapping, number, after, upto, rows, insert_lsn FROM replicator.copied_chunk
    WHERE (connector, feed, job) = (%s, %s, %s) ORDER BY mapping, number
"""
_RECORD_CUT: Final = """
    INSERT INTO replicator.multiset_cut (connector, feed, mapping, source_schema, source_table, snapshot, lsn)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (connector, feed, mapping) DO UPDATE SET source_schema = EXCLUDED.source_schema,
        source_table = EXCLUDED.source_table, snapshot = EXCLUDED.snapshot, lsn = EXCLUDED.lsn
"""
_CUTS: Final = """
    SELECT source_schema, source_table, snapshot, lsn FROM replicator.multiset_cut WHERE (connector, feed) = (%s, %s)
"""
_DEFER: Final = """
    INSERT INTO replicator.deferred (connector, feed, mapping, key)
    VALUES (%s, %s, %s, %s::text[]) ON CONFLICT DO NOTHING
"""
_DEFERRED: Final = "SELECT mapping, key FROM replicator.deferred WHERE (connector, feed) = (%s, %s) ORDER BY since, key"
_SETTLED: Final = """
    DELETE FROM replicator.deferred WHERE (connector, feed, mapping) = (%s, %s, %s) AND key = %s::text[]
"""
_CAUGHT_UP: Final = """
    SELECT greatest(
        (SELECT max(insert_lsn) FROM replicator.copied_table WHERE (connector, feed) = (%(connector)s, %(feed)s)),
        (SELECT max(insert_lsn) FROM replicator.copied_chunk WHERE (connector, feed) = (%(connector)s, %(feed)s)),
        0)
"""
_DOING: Final = "keeping the state of the copy"


class PostgresBackfillStore:
    """The copies of one feed; see `copies.BackfillStore`.

    Args:
        dsn: the target.
        connector, feed: whose copies.

    """

    def __init__(self, dsn: str, connector: str, feed: str) -> None:
        self._dsn = dsn
        self._connector = connector
        self._feed = feed

    async def load(self, job: str) -> dict[str, CopiedTable]:
        """Every mapping's copy of this job."""
        async with self._session() as session:
            tables = await _rows(session, _TABLES, (self._connector, self._feed, job))
            rows = await _rows(session, _CHUNKS, (self._connector, self._feed, job))
        chunks: defaultdict[str, list[Chunk]] = defaultdict(list)
        for mapping, number, after, upto, count, lsn in rows:
            chunks[mapping].append(Chunk(mapping, number, _bytes(after), _bytes(upto), count, lsn))
        return {
            mapping: CopiedTable(
                mapping,
                count + sum(chunk.rows for chunk in chunks[mapping]),
                max((lsn, *(chunk.insert_lsn for chunk in chunks[mapping]))),
                complete,
                tuple(chunks[mapping]),
            )
            for mapping, count, lsn, complete in tables
        }

    async def begin(self, transaction: TargetTransaction, job: str, mappings: Sequence[str]) -> None:
        """Say that these mappings are copied by this job."""
        await self._execute(transaction, _BEGIN, (self._connector, self._feed, job, list(mappings)))

    async def record(self, transaction: TargetTransaction, job: str, chunk: Chunk) -> None:
        """Store a copied chunk of a mapping that has begun; the same number again replaces it."""
        bounds = (_text(chunk.after), _text(chunk.upto))
        values = (self._connector, self._feed, job, chunk.mapping, chunk.number, *bounds, chunk.rows, chunk.insert_lsn)
        await self._execute(transaction, _RECORD, values)

    async def finish(self, transaction: TargetTransaction, job: str, mapping: str) -> None:
        """The table is complete; its chunks are folded into one row."""
        values = {"connector": self._connector, "feed": self._feed, "job": job, "mapping": mapping}
        with driver_errors(_DOING):
            await connection_of(transaction).execute(_FINISH, values)

    async def forget(self, transaction: TargetTransaction, job: str, mapping: str) -> None:
        """Forget what is copied."""
        for statement in _FORGET:
            await self._execute(transaction, statement, (self._connector, self._feed, job, mapping))

    async def record_cut(self, transaction: TargetTransaction, mapping: str, cut: MultisetCut) -> None:
        """Store the snapshot of a table without a key."""
        table = cut.table
        values = (self._connector, self._feed, mapping, table.schema, table.name, cut.snapshot, cut.lsn)
        await self._execute(transaction, _RECORD_CUT, values)

    async def cuts(self) -> list[MultisetCut]:
        """All stored cuts."""
        async with self._session() as session:
            rows = await _rows(session, _CUTS, (self._connector, self._feed))
        return [MultisetCut(TableName(schema, name), snapshot, lsn) for schema, name, snapshot, lsn in rows]

    async def defer(self, transaction: TargetTransaction, mapping: str, keys: Sequence[Key]) -> None:
        """Store aggregates that were refused for a unique value."""
        for key in keys:
            await self._execute(transaction, _DEFER, (self._connector, self._feed, mapping, _text(key)))

    async def deferred(self) -> list[tuple[str, Key]]:
        """Mapping names and source keys of deferred aggregates, the oldest first."""
        async with self._session() as session:
            rows = await _rows(session, _DEFERRED, (self._connector, self._feed))
        return [(mapping, tuple(part.encode() for part in key)) for mapping, key in rows]

    async def settled(self, transaction: TargetTransaction, mapping: str, key: Key) -> None:
        """A deferred aggregate is written, or parked."""
        await self._execute(transaction, _SETTLED, (self._connector, self._feed, mapping, _text(key)))

    async def caught_up_lsn(self) -> int:
        """The largest `insert_lsn` of anything copied, 0 without."""
        async with self._session() as session:
            values = {"connector": self._connector, "feed": self._feed}
            with driver_errors(_DOING):
                row = await (await session.execute(_CAUGHT_UP, values)).fetchone()
        assert row is not None
        return int(row[0])

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncConnection[Any]]:
        async with await connect(self._dsn, f"{self._connector}/{self._feed}/copies") as session:
            yield session

    @staticmethod
    async def _execute(transaction: TargetTransaction, statement: LiteralString, values: Sequence[object]) -> None:
        with driver_errors(_DOING):
            await connection_of(transaction).execute(statement, values)


async def _rows(
    session: AsyncConnection[Any], statement: LiteralString, values: Sequence[object]
) -> list[tuple[Any, ...]]:
    with driver_errors(_DOING):
        return await (await session.execute(statement, values)).fetchall()


def _text(key: Key | None) -> list[str] | None:
    return None if key is None else [part.decode() for part in key]


def _bytes(texts: list[str] | None) -> Key | None:
    return None if texts is None else tuple(text.encode() for text in texts)
