"""What a target knows of verification: `verification.VerifyStore` over tables of its own schema.

A session of its own, held as long as the run: its advisory lock says that somebody goes on with the run.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import structlog
from psycopg.types.json import Jsonb

from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch, setup
from replicator.tables import TableName
from replicator.verification import Counts, Finding, Kind, OpenDivergence, Progress, Run, Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection

    from replicator.events import Key

DOING: Final = "keeping the state of verification"
_LOGGED: Final = 50
"""Findings that are stored at once and logged one by one; the rows have all of them."""
_LOCKS: Final = zlib.crc32(b"replicator verification") - (1 << 31)

_INTERRUPTED: Final = (
    "SELECT v.id, v.progress FROM replicator.verification AS v WHERE v.connector = $1::text AND v.feed = $2::text "
    "AND v.finished_at IS NULL AND v.scope = $3::jsonb ORDER BY v.progress = '{}'::jsonb, v.id DESC"
)
_LOCK: Final = "SELECT pg_catalog.pg_try_advisory_lock($1::integer, $2::integer)"
_BEGIN: Final = (
    "INSERT INTO replicator.verification (connector, feed, scope) VALUES ($1::text, $2::text, $3::jsonb) RETURNING id"
)
_SAVE: Final = (
    "UPDATE replicator.verification SET saved_at = pg_catalog.clock_timestamp(), "
    "progress = progress || pg_catalog.jsonb_build_object($2::text, $3::jsonb) WHERE id = $1::bigint"
)
_FINISH: Final = (
    "UPDATE replicator.verification SET finished_at = pg_catalog.clock_timestamp(), saved_at = "
    "pg_catalog.clock_timestamp(), result = $2::jsonb WHERE id = $1::bigint"
)
_RECORD: Final = """
    INSERT INTO replicator.divergence AS d (connector, feed, mapping, table_schema, table_name, key, kind, columns,
        source_key, target_key, cause, evidence)
    SELECT $1::text, $2::text, f.mapping, f.table_schema, f.table_name, f.key, f.kind, f.columns, f.source_key,
        f.target_key, f.cause, f.evidence
    FROM pg_catalog.jsonb_to_recordset($3::jsonb) AS f (mapping text, table_schema text, table_name text, key text[],
        kind text, columns text[], source_key text[], target_key text[], cause text, evidence jsonb)
    ON CONFLICT (connector, feed, mapping, table_schema, table_name, kind, key) DO UPDATE SET
        columns = excluded.columns, source_key = excluded.source_key, target_key = excluded.target_key,
        cause = excluded.cause, evidence = excluded.evidence, last_seen = excluded.last_seen, closed_at = NULL,
        first_seen = CASE WHEN d.closed_at IS NULL THEN d.first_seen ELSE excluded.first_seen END,
        opened = CASE WHEN d.closed_at IS NULL THEN d.opened ELSE excluded.opened END,
        changed = CASE WHEN d.closed_at IS NULL AND d.columns = excluded.columns AND d.cause = excluded.cause
            THEN d.changed ELSE excluded.changed END
    RETURNING d.table_schema, d.table_name, d.key, d.kind, d.columns, d.cause, d.first_seen = d.last_seen
"""
_OPEN: Final = (
    "SELECT d.id, d.table_schema, d.table_name, d.key, d.kind, d.source_key, d.target_key "
    "FROM replicator.divergence AS d WHERE d.connector = $1::text AND d.feed = $2::text AND d.mapping = $3::text "
    "AND d.closed_at IS NULL AND d.id > $4::bigint ORDER BY d.id LIMIT $5::bigint"
)
_CLOSE: Final = (
    "UPDATE replicator.divergence SET closed_at = pg_catalog.clock_timestamp(), changed = DEFAULT "
    "WHERE id = ANY($1::bigint[]) AND closed_at IS NULL"
)
_CLOSE_UNSEEN: Final = (
    "UPDATE replicator.divergence AS d SET closed_at = pg_catalog.clock_timestamp(), changed = DEFAULT "
    "WHERE d.connector = $1::text "
    "AND d.feed = $2::text AND d.mapping = $3::text AND d.closed_at IS NULL AND d.last_seen < "
    "(SELECT v.started_at FROM replicator.verification AS v WHERE v.id = $4::bigint)"
)
# What a certificate rests on stays, and so do runs that somebody has asked for.
_FORGET_CERTIFICATES: Final = """
    DELETE FROM replicator.certificate AS c WHERE c.connector = $1::text AND c.feed = $2::text
    AND c.issued_at < pg_catalog.now() - pg_catalog.make_interval(days => $3::integer)
    AND EXISTS (SELECT FROM replicator.certificate AS n WHERE n.connector = c.connector AND n.feed = c.feed
        AND n.id > c.id)
"""
_FORGET_RUNS: Final = """
    DELETE FROM replicator.verification AS v WHERE v.connector = $1::text AND v.feed = $2::text
    AND v.scope ? 'continuous' AND v.saved_at < pg_catalog.now() - pg_catalog.make_interval(days => $3::integer)
    AND NOT EXISTS (SELECT FROM replicator.certificate AS c WHERE c.verification = v.id)
"""


class PostgresVerifyStore:
    """See `verification.VerifyStore`.

    Args:
        session: on the target, in autocommit; None where `_run` is another one.
        connector, feed: whose verification.

    """

    def __init__(self, session: AsyncConnection[Any] | None, connector: str, feed: str) -> None:
        self._session = session
        self._connector = connector
        self._feed = feed
        self._turn = asyncio.Lock()
        self._log = structlog.get_logger("replicator.verify").bind(connector=connector, feed=feed)

    async def begin(self, scope: Scope) -> Run:
        """Begin a run, or go on with an interrupted one of the same scope."""
        wanted = Jsonb(scope.to_json())
        for number, progress in await self._run(_INTERRUPTED, self._connector, self._feed, wanted):
            if await self._lock(number):
                made = {mapping: _progress(document) for mapping, document in progress.items()}
                return Run(number, made, resumed=True, seed=number)
        ((number,),) = await self._run(_BEGIN, self._connector, self._feed, wanted)
        await self._lock(number)
        return Run(number, {}, resumed=False, seed=number)

    async def _lock(self, number: int) -> bool:
        ((held,),) = await self._run(_LOCK, _LOCKS, number & 0x7FFFFFFF)
        return bool(held)

    async def save(self, run: Run, mapping: str, progress: Progress) -> None:
        """Store how far a mapping is."""
        await self._run(_SAVE, run.id, mapping, Jsonb(_document(progress)))

    async def record(self, findings: Sequence[Finding]) -> None:
        """Open findings, or see them again."""
        # One row a key: what is found twice in one batch would be updated twice by one statement.
        rows = {(one.mapping, one.table, one.kind, one.key): one for one in findings}
        stored = Jsonb([_finding(one) for one in rows.values()])
        kept = await self._run(_RECORD, self._connector, self._feed, stored)
        self._tell([row[:-1] for row in kept if row[-1]])

    def _tell(self, opened: Sequence[tuple[Any, ...]]) -> None:
        """Log what is new, and not each of a table that is empty."""
        for schema, name, key, kind, columns, cause in opened[:_LOGGED]:
            table = str(TableName(schema, name))
            self._log.warning("divergence", table=table, key=key, kind=kind, columns=columns, cause=cause)
        if len(opened) > _LOGGED:
            self._log.warning("further divergences", rows=len(opened) - _LOGGED)

    async def divergences(self, mapping: str, after: int, rows: int) -> list[OpenDivergence]:
        """Open ones of a mapping, by id."""
        return [
            OpenDivergence(number, TableName(schema, name), _key(key), Kind(kind), _some(source), _some(target))
            for number, schema, name, key, kind, source, target in await self._run(
                _OPEN, self._connector, self._feed, mapping, after, rows
            )
        ]

    async def close(self, ids: Sequence[int]) -> None:
        """Close them."""
        if ids:
            await self._run(_CLOSE, list(ids))

    async def close_unseen(self, run: Run, mapping: str) -> None:
        """Close what was not seen in this run."""
        await self._run(_CLOSE_UNSEEN, self._connector, self._feed, mapping, run.id)

    async def finish(self, run: Run, result: Mapping[str, Any]) -> None:
        """The run is complete."""
        await self._run(_FINISH, run.id, Jsonb(dict(result)))

    async def forget(self, days: int) -> None:
        """Remove passes of the daemon, and certificates that newer ones have followed, from before so many days."""
        for query in (_FORGET_CERTIFICATES, _FORGET_RUNS):
            await self._run(query, self._connector, self._feed, days)

    async def _run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        assert self._session is not None
        async with self._turn:
            with driver_errors(DOING):
                return await fetch(self._session, query, *values)


@asynccontextmanager
async def open_verify_store(dsn: str, connector: str, feed: str) -> AsyncIterator[PostgresVerifyStore]:
    """The store, over a session that ends with the block; its tables are made where they lack.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION, CONFIG of a newer schema.

    """
    session = await connect(dsn, f"{connector}/{feed}/verify")
    try:
        await setup(session)
        yield PostgresVerifyStore(session, connector, feed)
    finally:
        await session.close()


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "mapping": one.mapping,
        "table_schema": one.table.schema,
        "table_name": one.table.name,
        "key": _texts(one.key),
        "kind": str(one.kind),
        "columns": list(one.columns),
        "source_key": _texts(one.source_key),
        "target_key": _texts(one.target_key),
        "cause": str(one.cause),
        "evidence": dict(one.evidence),
    }


def _document(progress: Progress) -> dict[str, Any]:
    return {
        "step": progress.step,
        "after": _texts(progress.after),
        "rows_read": progress.rows_read,
        "counts": {table: asdict(counts) for table, counts in progress.counts.items()},
        "pending": [_texts(key) for key in progress.pending],
        "lost": [[table, _texts(key)] for table, key in progress.lost],
    }


def _progress(document: Mapping[str, Any]) -> Progress:
    return Progress(
        step=document["step"],
        after=_some(document["after"]),
        rows_read=document["rows_read"],
        counts={table: Counts(**counts) for table, counts in document["counts"].items()},
        pending=[_key(key) for key in document["pending"]],
        lost=[(table, _key(key)) for table, key in document["lost"]],
    )


def _texts(key: Key | None) -> list[str] | None:
    return None if key is None else [part.decode() for part in key]


def _key(texts: list[str]) -> Key:
    return tuple(text.encode() for text in texts)


def _some(texts: list[str] | None) -> Key | None:
    return None if texts is None else _key(texts)
