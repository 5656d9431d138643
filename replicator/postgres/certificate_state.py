"""Results of checks over time, and certificates, in tables of the target's own schema: `checks.CheckStore`, and what
`replicator.certificate` judges by.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from replicator.certificate import Identity, RunFacts, StoredCertificate, TargetFacts
from replicator.postgres import certificate_sql
from replicator.postgres.lsn import format_lsn
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch, setup, version
from replicator.tables import TableName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from psycopg import AsyncConnection

    from replicator.checks import CheckResult

KEPT_DAYS: Final = 30
"""Older results are removed, but for the newest of each check; so are older certificates, but for the newest."""
_DOING: Final = "keeping results of checks"
_SINCE: Final = 3  # the version of the schema that has these tables

# What says the same as before is the same row, seen again: results over time stay few, however often one looks.
_RECORD: Final = """
    WITH given AS (
        SELECT g.* FROM pg_catalog.jsonb_to_recordset($4::jsonb) AS g (name text, kind text, severity text, ok boolean,
            message text, keys text[], position text, seconds double precision)
    ), newest AS (
        SELECT DISTINCT ON (r.name) r.id, r.name, r.kind, r.severity, r.ok, r.message, r.keys
        FROM replicator.check_result AS r
        WHERE r.connector = $1::text AND r.feed = $2::text AND r.name IN (SELECT g.name FROM given AS g)
        ORDER BY r.name, r.id DESC
    ), same AS (
        UPDATE replicator.check_result AS r SET checked_at = pg_catalog.clock_timestamp(), times = r.times + 1,
            position = g.position, seconds = g.seconds, verification = $3::bigint
        FROM newest AS n JOIN given AS g ON g.name = n.name AND g.kind = n.kind AND g.severity = n.severity
            AND g.ok IS NOT DISTINCT FROM n.ok AND g.message = n.message AND g.keys = n.keys
        WHERE r.id = n.id
        RETURNING r.name
    )
    INSERT INTO replicator.check_result (connector, feed, verification, name, kind, severity, ok, message, keys,
        position, seconds)
    SELECT $1::text, $2::text, $3::bigint, g.name, g.kind, g.severity, g.ok, g.message, g.keys, g.position, g.seconds
    FROM given AS g WHERE g.name NOT IN (SELECT s.name FROM same AS s)
"""
_FORGET: Final = """
    DELETE FROM replicator.check_result AS r WHERE r.connector = $1::text AND r.feed = $2::text
        AND r.checked_at < pg_catalog.now() - pg_catalog.make_interval(days => $3::integer)
        AND EXISTS (SELECT FROM replicator.check_result AS n WHERE n.connector = r.connector AND n.feed = r.feed
            AND n.name = r.name AND n.id > r.id)
"""
_NEWEST: Final = """
    SELECT DISTINCT ON (r.name) pg_catalog.jsonb_build_object('name', r.name, 'kind', r.kind, 'severity', r.severity,
        'ok', r.ok, 'message', r.message, 'keys', r.keys, 'position', r.position, 'since', r.since,
        'checked_at', r.checked_at, 'seconds', r.seconds)
    FROM replicator.check_result AS r WHERE r.connector = $1::text AND r.feed = $2::text ORDER BY r.name, r.id DESC
"""
_ISSUE: Final = """
    INSERT INTO replicator.certificate (connector, feed, verification, content)
    VALUES ($1::text, $2::text, $3::bigint, $4::jsonb) RETURNING id
"""
_OUTDATED: Final = """
    DELETE FROM replicator.certificate AS c WHERE c.connector = $1::text AND c.feed = $2::text
        AND c.issued_at < pg_catalog.now() - pg_catalog.make_interval(days => $3::integer) AND c.id < $4::bigint
"""
_VOID: Final = (
    "UPDATE replicator.certificate SET void_at = pg_catalog.clock_timestamp(), void_reason = $2::text "
    "WHERE id = $1::bigint AND void_at IS NULL"
)


class PostgresProofStore:
    """Results of checks, and certificates, of one feed.

    Args:
        session: on the target, in autocommit; used by one caller at a time.
        connector, feed: whose.

    """

    def __init__(self, session: AsyncConnection[Any], connector: str, feed: str) -> None:
        self._session = session
        self._connector = connector
        self._feed = feed

    async def record(self, results: Sequence[CheckResult], run: int | None) -> None:
        """Keep results; one that says the same as the newest of its check is counted there."""
        with driver_errors(_DOING):
            given = Jsonb([_document(one) for one in results])
            await fetch(self._session, _RECORD, self._connector, self._feed, run, given)
            await fetch(self._session, _FORGET, self._connector, self._feed, KEPT_DAYS)

    async def newest(self) -> list[dict[str, Any]]:
        """The newest result of each check, as JSON."""
        with driver_errors(_DOING):
            return [row for (row,) in await fetch(self._session, _NEWEST, self._connector, self._feed)]

    async def issue(self, run: int, content: Mapping[str, Any]) -> int:
        """Keep a certificate; returns its number."""
        with driver_errors("issuing a certificate"):
            ((number,),) = await fetch(self._session, _ISSUE, self._connector, self._feed, run, Jsonb(dict(content)))
            await fetch(self._session, _OUTDATED, self._connector, self._feed, KEPT_DAYS, number)
        return int(number)

    async def void(self, number: int, reason: str) -> None:
        """Say when it was seen that a certificate proves nothing any more, and why."""
        with driver_errors("voiding a certificate"):
            await fetch(self._session, _VOID, number, reason)

    async def facts(self, mappings: Collection[str]) -> TargetFacts:
        """What a certificate of these mappings is judged by; nothing where the feed has not begun."""
        with driver_errors("reading what a certificate is judged by"):
            if await version(self._session) < _SINCE:
                return TargetFacts()
            async with self._session.transaction():
                await self._session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                return await self._facts(list(mappings))

    async def _facts(self, mappings: list[str]) -> TargetFacts:
        certificates = await self._of_feed(certificate_sql.CERTIFICATE)
        runs = await self._of_feed(certificate_sql.RUN)
        run = _run(*runs[0]) if runs else None
        states = await self._of_feed(certificate_sql.STATE)
        ((letters,),) = await self._of_feed(certificate_sql.LETTERS)
        divergences = await self._of_feed(certificate_sql.DIVERGENCES, mappings)
        failed = await self._of_feed(certificate_sql.FAILED, run.started_at) if run is not None else []
        return TargetFacts(
            certificate=_stored(*certificates[0]) if certificates else None,
            run=run,
            state=states[0][0] if states else None,
            divergences={str(TableName(schema, name)): count for schema, name, count in divergences},
            dead_letters=letters,
            failed_checks=dict(failed),
            stale=dict(await self._of_feed(certificate_sql.STALE)),
            requests=tuple([kind for (kind,) in await self._of_feed(certificate_sql.REQUESTS)]),
            rewritten=dict(await self._of_feed(certificate_sql.REWRITTEN, mappings)),
            undone=tuple([name for (name,) in await self._of_feed(certificate_sql.UNDONE, mappings)]),
        )

    async def _of_feed(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return await fetch(self._session, query, self._connector, self._feed, *values)


async def read_identity(dsn: str, purpose: str) -> Identity:
    """Which database this is.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    async with await connect(dsn, purpose) as session:
        with driver_errors("asking a database which one it is"):
            ((system, timeline, database),) = await fetch(session, certificate_sql.IDENTITY)
    return Identity(system, timeline, database)


@asynccontextmanager
async def open_proof_store(
    dsn: str, connector: str, feed: str, *, make: bool = True
) -> AsyncIterator[PostgresProofStore]:
    """The store, over a session that ends with the block; its tables are made where they lack, if `make`.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION, CONFIG of a newer schema.

    """
    session = await connect(dsn, f"{connector}/{feed}/checks")
    try:
        if make:
            await setup(session)
        yield PostgresProofStore(session, connector, feed)
    finally:
        await session.close()


def _document(one: CheckResult) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": str(one.kind),
        "severity": str(one.severity),
        "ok": one.ok,
        "message": one.message,
        "keys": list(one.keys),
        "position": None if one.position is None else format_lsn(one.position),
        "seconds": one.seconds,
    }


def _stored(number: int, issued: float, since: float, run: int, content: Any, *void: Any) -> StoredCertificate:
    reason, at = void
    return StoredCertificate(number, issued, since, run, content, reason, at)


def _run(number: int, started: float, finished: bool, result: Mapping[str, Any] | None) -> RunFacts:  # noqa: FBT001 - a row
    if result is None:
        return RunFacts(number, started, finished=False)
    wrong = [one for one in result["tables"] if one["missing"] or one["extra"] or one["different"] or one["unsettled"]]
    return RunFacts(
        number,
        started,
        finished=finished,
        ok=result["ok"],
        tables=[one["table"] for one in wrong],
        unsettled=not any(one["missing"] or one["extra"] or one["different"] for one in wrong),
        checks=[one["name"] for one in result["checks"] if one["ok"] is not True and one["severity"] == "block"],
    )
