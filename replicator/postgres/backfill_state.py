"""What a target knows of the copies into it: `copies.BackfillStore` over the tables `copied_*` of its own schema.

Reads go on a short session of their own; they are made after a take-over, when no former holder writes any more.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from replicator.copies import Chunk, CopiedTable, MultisetCut
from replicator.postgres import state_sql
from replicator.postgres.copying import own
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch
from replicator.postgres.transaction import array_literal
from replicator.tables import TableName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import Key
    from replicator.ports import TargetTransaction

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
        tables = await self._read(state_sql.COPIED_TABLES, job)
        rows = await self._read(state_sql.COPIED_CHUNKS, job)
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
        for mapping in mappings:
            await self._execute(transaction, state_sql.COPY_BEGIN, job, mapping)

    async def record(self, transaction: TargetTransaction, job: str, chunk: Chunk) -> None:
        """Store a copied chunk of a mapping that has begun; the same number again replaces it."""
        await self._execute(
            transaction,
            state_sql.CHUNK_RECORD,
            job,
            chunk.mapping,
            chunk.number,
            chunk.after,
            chunk.upto,
            chunk.rows,
            chunk.insert_lsn,
        )

    async def finish(self, transaction: TargetTransaction, job: str, mapping: str) -> None:
        """The table is complete; its chunks are folded into one row."""
        await self._execute(transaction, state_sql.COPY_FINISH, job, mapping)

    async def forget(self, transaction: TargetTransaction, job: str, mapping: str) -> None:
        """Forget what is copied; chunks first, for under the replica role no cascade fires."""
        await self._execute(transaction, state_sql.CHUNKS_FORGET, job, mapping)
        await self._execute(transaction, state_sql.COPY_FORGET, job, mapping)

    async def record_cut(self, transaction: TargetTransaction, mapping: str, cut: MultisetCut) -> None:
        """Store the snapshot of a table without a key."""
        table = cut.table
        values = (mapping, table.schema, table.name, cut.snapshot, cut.lsn)
        await self._execute(transaction, state_sql.CUT_RECORD, *values)

    async def cuts(self) -> list[MultisetCut]:
        """All stored cuts."""
        rows = await self._read(state_sql.CUTS)
        return [MultisetCut(TableName(schema, name), snapshot, lsn) for schema, name, snapshot, lsn in rows]

    async def defer(self, transaction: TargetTransaction, mapping: str, keys: Sequence[Key]) -> None:
        """Store aggregates that were refused for a unique value."""
        for key in keys:
            await self._execute(transaction, state_sql.DEFER_KEY, mapping, key)

    async def deferred(self) -> list[tuple[str, Key]]:
        """Mapping names and source keys of deferred aggregates, the oldest first."""
        rows = await self._read(state_sql.DEFERRED)
        return [(mapping, tuple(part.encode() for part in key)) for mapping, key in rows]

    async def settled(self, transaction: TargetTransaction, mapping: str, key: Key) -> None:
        """A deferred aggregate is written, or parked."""
        await self._execute(transaction, state_sql.SETTLED, mapping, key)

    async def caught_up_lsn(self) -> int:
        """The largest `insert_lsn` of anything copied, 0 without."""
        return int((await self._read(state_sql.CAUGHT_UP))[0][0])

    async def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        async with await connect(self._dsn, f"{self._connector}/{self._feed}/copies") as session:
            with driver_errors(_DOING):
                return await fetch(session, query, self._connector, self._feed, *values)

    async def _execute(self, transaction: TargetTransaction, text: bytes, *values: str | int | Key | None) -> None:
        parameters = (self._connector, self._feed, *values)
        await own(transaction).execute(text, *map(_parameter, parameters), doing=_DOING)


def _parameter(value: str | int | Key | None) -> bytes | None:
    """In PostgreSQL's text format; a key is a text[]."""
    if value is None:
        return None
    return array_literal(value) if isinstance(value, tuple) else str(value).encode()


def _bytes(texts: list[str] | None) -> Key | None:
    return None if texts is None else tuple(text.encode() for text in texts)
