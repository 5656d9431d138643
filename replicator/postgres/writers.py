"""Who wrote a row of the target last, as far as the server knows: `authorship.Writers`.

A lane's transactions carry a replication origin, and a job's are noted (`replicator.job_transaction`). With
`track_commit_timestamp` the server knows the origin and the moment of every commit. So a row whose commit carries no
origin of ours and is no job's, and that is younger than the moment from which on all lanes carry one, is somebody
else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from replicator.authorship import Writer
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.session import connect
from replicator.postgres.sessions import connector_prefix
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch

if TYPE_CHECKING:
    from collections.abc import Collection

    from psycopg import AsyncConnection

    from replicator.tables import Table

NEAR: Final = 200
"""Jobs whose transactions may have had a subtransaction with an id just above theirs."""
_DOING: Final = "asking who has written rows of the target"
_ORIGINS_SINCE: Final = 140_000  # pg_xact_commit_timestamp_origin
_TRACKED: Final = "SELECT pg_catalog.current_setting('track_commit_timestamp') = 'on'"
_SINCE: Final = (
    "SELECT m.since = 'infinity', extract(epoch FROM nullif(m.since, 'infinity'))::double precision "
    "FROM (SELECT pg_catalog.max(s.since) FROM replicator.marked_session AS s WHERE s.connector = $1::text) AS m(since)"
)
# A job's rows may be of a subtransaction of its own, which has the commit timestamp of the whole, to the microsecond.
_WRITERS: Final = """
    SELECT w.xid, extract(epoch FROM t.at)::double precision, o.roname,
        t.roident IS NOT NULL AND t.roident <> 0, EXISTS (
            SELECT FROM (
                SELECT j.xid FROM replicator.job_transaction AS j WHERE j.xid <= w.whole
                ORDER BY j.xid DESC LIMIT $2::bigint
            ) AS near
            WHERE near.xid = w.whole
            OR pg_catalog.pg_xact_commit_timestamp((near.xid & 4294967295)::text::xid) = t.at
        )
    FROM (
        SELECT u.xid, n.now - ((n.now - u.xid) & 4294967295) AS whole
        FROM unnest($1::bigint[]) AS u(xid),
            (SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint AS now) AS n
    ) AS w
    LEFT JOIN LATERAL pg_catalog.pg_xact_commit_timestamp_origin(w.xid::text::xid) AS t(at, roident) ON true
    LEFT JOIN pg_catalog.pg_replication_origin AS o ON o.roident = t.roident
"""
_TIMES: Final = (
    "SELECT u.xid, extract(epoch FROM pg_catalog.pg_xact_commit_timestamp(u.xid::text::xid))::double precision "
    "FROM unnest($1::bigint[]) AS u(xid)"
)
_REPLICA: Final = "SET LOCAL session_replication_role = replica"
_TRIGGERS: Final = """
    SELECT t.tgname FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = {table}::pg_catalog.regclass
    AND NOT t.tgisinternal AND t.tgtype & 1 = 1 AND t.tgenabled = ANY($1::"char"[]) ORDER BY 1
"""


class PostgresWriters:
    """See `authorship.Writers`.

    Args:
        dsn: the target.
        connector: whose feeds and jobs are "ours".

    """

    def __init__(self, dsn: str, connector: str) -> None:
        self._dsn = dsn
        self._connector = connector
        self._session: AsyncConnection[Any] | None = None
        self._fires: list[str] | None = None

    async def of(self, xids: Collection[int]) -> dict[int, Writer]:
        """The writers of rows with these xmins."""
        session = await self._open()
        with driver_errors(_DOING):
            reason, since = await self._certain(session)
            if reason:
                return {xid: Writer(xid, unknown_because=reason) for xid in xids}
            rows = await fetch(session, _WRITERS, sorted(xids), NEAR)
        return {row[0]: self._writer(row, since) for row in rows}

    async def _certain(self, session: AsyncConnection[Any]) -> tuple[str, float]:
        """Why nothing can be told, or since when it can."""
        if session.info.server_version < _ORIGINS_SINCE:
            return "this version of PostgreSQL doesn't tell", 0.0
        ((tracked,),) = await fetch(session, _TRACKED)
        if not tracked:
            return "track_commit_timestamp is off on the upgraded side", 0.0
        ((never, since),) = await fetch(session, _SINCE, self._connector)
        if never or since is None:
            return "the feed's own transactions carry no origin", 0.0
        return "", float(since)

    def _writer(self, row: tuple[Any, ...], since: float) -> Writer:
        xid, at, origin, marked, job = row
        if at is None:
            return Writer(xid, unknown_because="the server doesn't know that commit any more")
        if job or (origin is not None and origin.startswith(connector_prefix(self._connector))):
            return Writer(xid, at, origin, ours=True)
        if marked or at > since:
            return Writer(xid, at, origin, ours=False)
        return Writer(xid, at, unknown_because="it is from before the feed's transactions carried an origin")

    async def triggers(self, table: Table) -> tuple[str, ...]:
        """Row triggers that fire in our sessions."""
        session = await self._open()
        if self._fires is None:
            self._fires = ["A", "R"] if await self._replica(session) else ["A", "O"]
        name = sql.Literal(sql.Identifier(table.name.schema, table.name.name).as_string(session))
        query = sql.SQL(_TRIGGERS).format(table=name).as_string(session)
        with driver_errors(_DOING):
            rows = await fetch(session, query, self._fires)
        return tuple(str(row[0]) for row in rows)

    async def _replica(self, session: AsyncConnection[Any]) -> bool:
        """Whether the feed writes as a replica: whether this user may."""
        try:
            with driver_errors(_DOING):
                async with session.transaction(force_rollback=True):
                    await session.execute(_REPLICA)
        except ReplicatorError as error:
            if error.kind is not ErrorKind.PERMISSION:
                raise
            return False
        return True

    async def _open(self) -> AsyncConnection[Any]:
        if self._session is None or self._session.closed:
            self._session = await connect(self._dsn, f"{self._connector}/writers")
        return self._session

    async def close(self) -> None:
        """End the session. Idempotent."""
        if self._session is not None:
            await self._session.close()


async def commit_times(dsn: str, purpose: str, xids: Collection[int]) -> dict[int, float]:
    """When transactions were committed, seconds since the epoch; those that the server doesn't know are left out.

    Args:
        dsn: of either database.
        purpose: for application_name.
        xids: 32 bits, as a row's xmin is.

    Raises:
        ReplicatorError: CONNECTION.

    """
    async with await connect(dsn, purpose) as session:
        with driver_errors("asking when rows were committed"):
            ((tracked,),) = await fetch(session, _TRACKED)
            rows = await fetch(session, _TIMES, sorted(xids)) if tracked else []
    return {xid: at for xid, at in rows if at is not None}
