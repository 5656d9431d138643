"""The plain side of a source whose changes come through a log: LSNs, and marks that the log's producer hears of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import errors

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.heartbeat import beat
from replicator.postgres.probe import Probe
from replicator.postgres.sqlstate import driver_errors

if TYPE_CHECKING:
    from typing import Any

    from psycopg import AsyncConnection

MESSAGE_PREFIX: Final = "replicator"
"""Of the logical messages that mark a place; Debezium's `message.prefix.exclude.list` should name it."""

# Transactional: the producer reads BEGIN, the message (or nothing, where it leaves it out) and COMMIT, in their place
# among the commits. The LSN is the message's own, which lies before its commit; nor does that wait for a standby.
_MESSAGE: Final = """
SELECT pg_catalog.pg_logical_emit_message(true, %s, ''::pg_catalog.text)
       OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn,
    pg_catalog.set_config('synchronous_commit', 'local', true)
"""


class LogMarker:
    """`partitions.Marker` on a PostgreSQL source.

    Args:
        dsn: of the source.
        feed: `connector/direction`.
        slot: the producer's, where its name is known.
        message: mark by a logical message too, for a producer whose publication lacks the heartbeat's table: since
            PostgreSQL 15 a transaction that touches no published table isn't sent at all, and its LSN never heard of.

    """

    def __init__(self, dsn: str, feed: str, *, slot: str | None = None, message: bool = False) -> None:
        self._probe = Probe(dsn, feed)
        self._feed = feed
        self._slot = slot
        self._message = message

    async def beat(self) -> int:
        """See `ports.Source.beat`. Without a heartbeat's table a message alone serves, where messages are wanted."""
        session = await self._probe.session()
        if not self._message:
            return await beat(session, self._feed)
        lsn = await self._row(session)
        told = await self._tell(session)
        return told if lsn is None else lsn

    async def _row(self, session: AsyncConnection[Any]) -> int | None:
        """The heartbeat's row; None where the source takes none."""
        try:
            return await beat(session, self._feed)
        except ReplicatorError as error:
            if error.kind is not ErrorKind.PERMISSION:
                raise
        return None

    async def _tell(self, session: AsyncConnection[Any]) -> int:
        with driver_errors("marking a place on the source"):
            try:
                row = await (await session.execute(_MESSAGE, [MESSAGE_PREFIX])).fetchone()
            except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as refused:
                raise ReplicatorError(
                    f"the source takes no logical message: {refused.diag.message_primary}",
                    kind=ErrorKind.PERMISSION,
                    sqlstate=refused.sqlstate,
                    hint="Replication goes on; how far an idle source is behind can't be known",
                ) from refused
        if row is None:
            raise ReplicatorError("the message returned no position", kind=ErrorKind.INTERNAL)
        return int(row[0])

    async def head(self) -> int:
        """See `ports.Source.head`."""
        return await self._probe.insert_lsn()

    async def retained_wal_bytes(self) -> int | None:
        """See `partitions.Marker`."""
        return None if self._slot is None else await self._probe.retained_wal_bytes(self._slot)

    async def close(self) -> None:
        """End its session. Idempotent."""
        await self._probe.close()
