"""What verification has found, read from the target's tables: by page for the API, and as it comes for the metrics.

Whichever process finds something (the daemon, `replicator verify`, a repair), its row is seen here. A row tells which
transaction changed it last. What a look must see again the next time are rows of transactions that were still running
when it looked: ids from its snapshot's xmin on. So nothing is missed, and what was seen is not told twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch, version
from replicator.tables import TableName

if TYPE_CHECKING:
    from psycopg import AsyncConnection

PAGE_ROWS_MAX: Final = 1_000
SHOWN: Final = 10
"""Open findings of each table that a count shows."""
_SINCE: Final = 3
"""The version of the schema that has these tables."""
_DOING: Final = "reading what verification has found"

_FIELDS: Final = (
    "d.id, d.mapping, d.table_schema, d.table_name, d.key, d.kind, d.columns, d.source_key, d.cause, d.evidence, "
    "extract(epoch FROM d.first_seen)::double precision, extract(epoch FROM d.last_seen)::double precision, "
    "extract(epoch FROM d.closed_at)::double precision"
)
_HORIZON: Final = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint"
_CHANGED: Final = f"""
    SELECT {_FIELDS}, d.opened::text::bigint, d.changed::text::bigint FROM replicator.divergence AS d
    WHERE d.connector = $1::text AND d.feed = $2::text
    AND (d.changed, d.id) > ($3::bigint::text::xid8, $4::bigint)
    ORDER BY d.changed, d.id LIMIT $5::bigint
"""
_COUNT: Final = """
    SELECT d.table_schema, d.table_name, d.kind, count(*) FROM replicator.divergence AS d
    WHERE d.connector = $1::text AND d.feed = $2::text AND d.closed_at IS NULL GROUP BY 1, 2, 3
"""
_NEWEST: Final = f"""
    SELECT {_FIELDS} FROM (
        SELECT o.*, row_number() OVER (PARTITION BY o.table_schema, o.table_name ORDER BY o.id DESC) AS place
        FROM replicator.divergence AS o WHERE o.connector = $1::text AND o.feed = $2::text AND o.closed_at IS NULL
    ) AS d WHERE d.place <= $3::bigint ORDER BY d.table_schema, d.table_name, d.id DESC
"""
_PAGE: Final = f"""
    SELECT {_FIELDS} FROM replicator.divergence AS d
    WHERE d.connector = $1::text AND d.feed = $2::text AND d.id > $3::bigint
    AND ($4::boolean IS NULL OR $4::boolean = (d.closed_at IS NULL))
    AND ($5::text IS NULL OR (d.table_schema = $5::text AND d.table_name = $6::text))
    ORDER BY d.id LIMIT $7::bigint
"""
_OF_KEYS: Final = f"""
    SELECT {_FIELDS} FROM replicator.divergence AS d
    WHERE d.connector = $1::text AND d.feed = $2::text AND d.mapping = $3::text
    AND (d.source_key = $4::text[] OR d.target_key = $5::text[] OR d.key = $5::text[]) ORDER BY d.id
"""
_RUNS: Final = """
    SELECT v.id, extract(epoch FROM v.started_at)::double precision,
        extract(epoch FROM v.finished_at)::double precision, v.result
    FROM replicator.verification AS v WHERE v.connector = $1::text AND v.feed = $2::text AND v.finished_at IS NOT NULL
    AND v.scope -> 'tables' = '[]'::jsonb AND v.scope -> 'where' = 'null'::jsonb
    AND (v.scope ->> 'sample_percent')::double precision >= 100 AND v.id <> ALL($3::bigint[])
    ORDER BY v.finished_at DESC LIMIT $4::bigint
"""


@dataclass(frozen=True)
class StoredFinding:
    """One row of replicator.divergence.

    Attributes:
        id: its number.
        mapping: the mapping's name.
        table: the upgraded table.
        key: the row's there, as text.
        kind: `missing`, `extra` or `different`.
        columns: those that differ.
        source_key: the aggregate's, on the old side; None where no map has it.
        cause, evidence: why, as far as is known.
        first_seen, last_seen, closed_at: seconds since the epoch; the last is None while it is open.
        new: of a change: it has been opened since the one before it was told.

    """

    id: int
    mapping: str
    table: TableName
    key: tuple[str, ...]
    kind: str
    columns: tuple[str, ...]
    source_key: tuple[str, ...] | None
    cause: str
    evidence: Mapping[str, Any]
    first_seen: float
    last_seen: float
    closed_at: float | None
    new: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id,
            "state": "open" if self.closed_at is None else "closed",
            "mapping": self.mapping,
            "table": str(self.table),
            "key": list(self.key),
            "kind": self.kind,
            "columns": list(self.columns),
            "source_key": None if self.source_key is None else list(self.source_key),
            "cause": self.cause,
            "evidence": dict(self.evidence),
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "closed_at": self.closed_at,
        }


@dataclass(frozen=True)
class StoredRun:
    """A verification of everything that has ended.

    Attributes:
        id: its number.
        started_at, finished_at: seconds since the epoch.
        result: its report.

    """

    id: int
    started_at: float
    finished_at: float
    result: Mapping[str, Any]


@dataclass
class Told:
    """Which changes of findings somebody knows, over the sessions that tell of them.

    Attributes:
        horizon: transactions below it are known; None before the beginning.
        seen: of those from it on, what is known to have been opened or changed: transaction and number.

    """

    horizon: int | None = None
    seen: dict[tuple[int, int], None] = field(default_factory=dict)


class Findings:
    """What was found of one feed, over a session of its own.

    Args:
        session: on the target, in autocommit.
        connector, feed: whose.
        told: what the caller knows already, moved on here: a new session goes on where the one before it ended.

    """

    def __init__(self, session: AsyncConnection[Any], connector: str, feed: str, told: Told | None = None) -> None:
        self._session = session
        self._whose = (connector, feed)
        self._told = told or Told()

    async def changed(self) -> list[StoredFinding]:
        """What was opened, closed or changed since the last call; at the first one nothing, for that is the beginning.

        Raises:
            ReplicatorError: CONNECTION; what comes then, comes with the next call.

        """
        ((horizon,),) = await self._fetch(_HORIZON)
        told = self._told
        rows = await self._since(horizon if told.horizon is None else told.horizon)
        begun = told.horizon is not None
        since, seen = told.horizon or 0, told.seen
        found = [
            replace(_stored(row[:-2]), new=row[-2] >= since and (row[-2], row[0]) not in seen)
            for row in rows
            if begun and (row[-1], row[0]) not in seen
        ]
        told.horizon = horizon
        told.seen = {(xid, row[0]): None for row in rows for xid in row[-2:] if xid >= horizon}
        return found

    async def _since(self, xid: int) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        after = (xid - 1, (1 << 63) - 1)
        while True:
            page = await self._fetch(_CHANGED, *self._whose, *after, PAGE_ROWS_MAX)
            rows += page
            if len(page) < PAGE_ROWS_MAX:
                return rows
            after = (page[-1][-1], page[-1][0])

    async def open(self) -> dict[tuple[str, str], int]:
        """How many are open, by table and kind."""
        rows = await self._fetch(_COUNT, *self._whose)
        return {(str(TableName(schema, name)), kind): number for schema, name, kind, number in rows}

    async def newest(self) -> list[StoredFinding]:
        """A few open ones of each table, the newest first."""
        return [_stored(row) for row in await self._fetch(_NEWEST, *self._whose, SHOWN)]

    async def page(
        self, *, after: int, rows: int, is_open: bool | None = None, table: TableName | None = None
    ) -> list[StoredFinding]:
        """Up to `rows` with an id above `after`, in order; open ones, closed ones, or both."""
        schema, name = (None, None) if table is None else (table.schema, table.name)
        found = await self._fetch(_PAGE, *self._whose, after, is_open, schema, name, min(rows, PAGE_ROWS_MAX))
        return [_stored(row) for row in found]

    async def of_key(
        self, mapping: str, source: tuple[str, ...] | None, target: tuple[str, ...] | None
    ) -> list[StoredFinding]:
        """All of one aggregate, or of one row of a target table, open or closed."""
        rows = await self._fetch(
            _OF_KEYS,
            *self._whose,
            mapping,
            None if source is None else list(source),
            None if target is None else list(target),
        )
        return [_stored(row) for row in rows]

    async def runs(self, known: list[int], most: int) -> list[StoredRun]:
        """The newest verifications of everything that have ended, but for those that are known; the newest first."""
        return [StoredRun(*row) for row in await self._fetch(_RUNS, *self._whose, known, most)]

    async def _fetch(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with driver_errors(_DOING):
            return await fetch(self._session, query, *values)


@asynccontextmanager
async def open_findings(
    dsn: str, connector: str, feed: str, told: Told | None = None
) -> AsyncIterator[Findings | None]:
    """What was found of a feed, over a session that ends with the block; None where nobody has verified anything yet.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    session = await connect(dsn, f"{connector}/{feed}/findings")
    try:
        yield Findings(session, connector, feed, told) if await version(session) >= _SINCE else None
    finally:
        await session.close()


def _stored(row: tuple[Any, ...]) -> StoredFinding:
    number, mapping, schema, name, key, kind, columns, source_key, cause, evidence, *times = row
    source = None if source_key is None else tuple(source_key)
    return StoredFinding(
        number, mapping, TableName(schema, name), tuple(key), kind, tuple(columns), source, cause, evidence, *times
    )
