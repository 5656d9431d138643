"""The heartbeat: one row a feed on the source, so that an idle database's slot moves and its lag can be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import errors

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.sqlstate import driver_errors
from replicator.tables import TableName

if TYPE_CHECKING:
    from psycopg import AsyncConnection

HEARTBEAT: Final = TableName("replicator", "heartbeat")

MAKE_HEARTBEAT: Final = (
    "CREATE SCHEMA IF NOT EXISTS replicator",
    """CREATE TABLE IF NOT EXISTS replicator.heartbeat (
    feed pg_catalog.text PRIMARY KEY,
    beat_at pg_catalog.timestamptz NOT NULL,
    count pg_catalog.int8 NOT NULL
)""",
)
"""Run on the source by a role that may create a schema; the feed's role needs SELECT, INSERT and UPDATE on it."""

# The LSN is taken inside the transaction: whatever committed before the call lies before it, and the heartbeat's own
# commit after it, so an idle feed passes it without waiting for anybody; nor does its commit wait for a standby.
_BEAT: Final = """
INSERT INTO replicator.heartbeat AS h (feed, beat_at, count) VALUES (%s, pg_catalog.clock_timestamp(), 1)
ON CONFLICT (feed) DO UPDATE SET beat_at = pg_catalog.clock_timestamp(), count = h.count OPERATOR(pg_catalog.+) 1
RETURNING pg_catalog.pg_current_wal_insert_lsn() OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn,
    pg_catalog.set_config('synchronous_commit', 'local', true)
"""


async def beat(connection: AsyncConnection[Any], feed: str) -> int:
    """Write the feed's row.

    Args:
        connection: a plain session on the source, in autocommit.
        feed: `connector/direction`.

    Returns:
        An LSN after everything that was committed before the call.

    Raises:
        ReplicatorError: PERMISSION when the source has no heartbeat table, or the role may not write it.

    """
    with driver_errors("writing the heartbeat on the source"):
        try:
            row = await (await connection.execute(_BEAT, [feed])).fetchone()
        except (
            errors.UndefinedTable,
            errors.InvalidSchemaName,
            errors.InsufficientPrivilege,
            errors.ReadOnlySqlTransaction,
        ) as refused:
            raise ReplicatorError(
                f"the source takes no heartbeat: {refused.diag.message_primary}",
                kind=ErrorKind.PERMISSION,
                table=str(HEARTBEAT),
                sqlstate=refused.sqlstate,
                hint="Replication goes on; an idle source reports no lag, and its slot moves by keepalives only",
            ) from refused
    if row is None:
        raise ReplicatorError("the heartbeat returned no position", kind=ErrorKind.INTERNAL)
    return int(row[0])
