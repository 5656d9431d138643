"""The schema `replicator` in a target database: made here, and read and written for the command line and the daemon.

What belongs to an apply transaction is written by `PostgresTransaction`; what is here runs on sessions of its own.
"""

from __future__ import annotations

import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from psycopg import AsyncRawCursor, sql
from psycopg.types.json import Jsonb

from replicator.errors import ErrorKind, ReplicatorError
from replicator.ports import Checkpoint, DeadLetter
from replicator.postgres import state_sql
from replicator.postgres.partition_sql import PARTITIONS
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.tables import TableName

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
    from datetime import datetime

    from psycopg import AsyncConnection

SCHEMA: Final = "replicator"
VERSION: Final = 4
_LOGS_SINCE: Final = 2
_SETUP_LOCK: Final = zlib.crc32(b"replicator setup") - (1 << 31)


# -- setup -------------------------------------------------------------------------------------------------------------


async def setup(connection: AsyncConnection[Any]) -> None:
    """Make the schema `replicator`, or bring it to this version. Idempotent; safe beside others that do the same.

    Args:
        connection: a session on the target, in autocommit.

    Raises:
        ReplicatorError: PERMISSION with the statements to run; CONFIG when a newer version has made it.

    """
    if await version(connection) == VERSION:
        return
    try:
        with driver_errors("setting up the schema replicator in the target"):
            async with connection.transaction():
                await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s, 0)", [_SETUP_LOCK])
                await _upgrade(connection, await version(connection))
    except ReplicatorError as error:
        if error.kind is not ErrorKind.PERMISSION:
            raise
        raise await _lacks_rights(connection, error) from error


async def version(connection: AsyncConnection[Any]) -> int:
    """The version of the schema in this database, 0 where there is none."""
    with driver_errors("reading the version of the schema replicator"):
        # Not to_regclass: its cached "no" outlives the wait for another process that makes the schema (tried).
        if not await fetch(connection, state_sql.VERSION_THERE):
            return 0
        rows = await fetch(connection, "SELECT number FROM replicator.version")
    return int(rows[0][0]) if rows else 0


async def _upgrade(connection: AsyncConnection[Any], found: int) -> None:
    if found > VERSION:
        raise ReplicatorError(
            f"the schema replicator in the target is of version {found}, and this program knows {VERSION}",
            kind=ErrorKind.CONFIG,
            hint="run the newer program that made it",
        )
    if not found:
        there = await fetch(connection, "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1", SCHEMA)
        if not there:
            await connection.execute("CREATE SCHEMA replicator")
        await connection.execute("CREATE TABLE replicator.version (number integer NOT NULL)")
        await connection.execute("INSERT INTO replicator.version VALUES (0)")
    for number in range(found + 1, VERSION + 1):
        script = resources.files("replicator.postgres").joinpath("sql", f"state_{number}.sql").read_bytes()
        await connection.execute(script, prepare=False)  # many statements
    await connection.execute("UPDATE replicator.version SET number = %s", [VERSION])


async def _lacks_rights(connection: AsyncConnection[Any], error: ReplicatorError) -> ReplicatorError:
    (row,) = await fetch(
        connection,
        "SELECT current_user::text, current_database()::text, "
        "EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)",
        SCHEMA,
    )
    user, database, there = row
    statement = (
        "GRANT USAGE, CREATE ON SCHEMA replicator TO {};" if there else ("CREATE SCHEMA replicator AUTHORIZATION {};")
    )
    exact = sql.SQL(statement).format(sql.Identifier(user)).as_string(connection)
    return ReplicatorError(
        error.message,
        kind=ErrorKind.PERMISSION,
        sqlstate=error.sqlstate,
        hint=f"nothing was changed; in database {database}, let its owner run: {exact}",
    )


async def fetch(connection: AsyncConnection[Any], query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run a query with `$1` parameters, and return its rows."""
    cursor = AsyncRawCursor(connection)
    await cursor.execute(query.encode(), parameters)
    return await cursor.fetchall() if cursor.description is not None else []


# -- what others read and ask ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartitionState:
    """One partition of a log as the target knows it.

    Attributes:
        topic, partition: which.
        next_offset: of the first record that is not applied; None: nobody has begun.
        holder: host and process that applies it; None: it was given up in good order.
        commit_time: source commit time of the newest applied change, seconds since the epoch.

    """

    topic: str
    partition: int
    next_offset: int | None
    holder: str | None
    commit_time: float | None

    @property
    def position(self) -> str | None:
        """For people: `topic/partition:offset`; None where nobody has begun."""
        return None if self.next_offset is None else f"{self.topic}/{self.partition}:{self.next_offset}"


@dataclass(frozen=True)
class FeedState:
    """One feed as its target knows it.

    Attributes:
        feed: 'forward' or 'reverse'.
        holder: host and process that took over last, at `taken_at`.
        state: the workflow's state as the daemon last told it.
        checkpoints: one a lane; none where a log is read.
        partitions: of the log, in order of topic and number.
        dead_letters: changes that wait in the dead letter queue.
        deferred: aggregates that are to be derived again.

    """

    feed: str
    epoch: int
    lanes: int
    holder: str
    taken_at: datetime
    state: str | None
    dead_letters: int
    deferred: int
    checkpoints: tuple[Checkpoint, ...] = ()
    partitions: tuple[PartitionState, ...] = ()


@dataclass(frozen=True)
class Request:
    """What the command line asked of the daemon.

    Attributes:
        kind: 'resync', 'retry' or 'discard'.
        payload: its arguments: {"mappings": [...]}, {"ids": [...]}.
        status: 'new', 'running', 'done' or 'failed'.
        message: what became of it.

    """

    id: int
    kind: str
    payload: Mapping[str, Any]
    status: str
    message: str | None = None


class State:
    """One connector's state in one target, over one session in autocommit.

    Args:
        connection: a session of `session.connect`.
        connector: its name.

    """

    def __init__(self, connection: AsyncConnection[Any], connector: str) -> None:
        self._connection = connection
        self._connector = connector

    async def feeds(self) -> list[FeedState]:
        """The feeds that have begun in this target; empty where there is no schema yet."""
        with driver_errors("reading the state of the feeds"):
            found = await version(self._connection)
            if not found:
                return []
            # The checkpoints first: what a feed has deferred up to them is then counted.
            lanes = await fetch(self._connection, state_sql.CHECKPOINTS_ALL, self._connector)
            # The daemon that is to upgrade the schema may not have been started again yet.
            logs = [] if found < _LOGS_SINCE else await fetch(self._connection, PARTITIONS, self._connector)
            rows = await fetch(self._connection, state_sql.FEEDS, self._connector)
        return [
            replace(
                FeedState(*row),
                checkpoints=tuple(Checkpoint(*lane) for feed, *lane in lanes if feed == row[0]),
                partitions=tuple(PartitionState(*one) for feed, *one in logs if feed == row[0]),
            )
            for row in rows
        ]

    async def checkpoints(self, feed: str) -> list[Checkpoint]:
        """Each lane's progress."""
        rows = await fetch(self._connection, state_sql.CHECKPOINTS, self._connector, feed)
        return [Checkpoint(*row) for row in rows]

    async def dead_letters(self, feed: str) -> list[DeadLetter]:
        """What waits in the dead letter queue, in order."""
        with driver_errors("reading the dead letter queue"):
            rows = await fetch(self._connection, state_sql.LETTERS, self._connector, feed)
        return [_letter(row) for row in rows]

    async def ask_letters(self, feed: str, ids: Collection[int], kind: str) -> Request:
        """Ask the daemon to 'retry' or 'discard' dead letters.

        Raises:
            ReplicatorError: CONFIG, naming ids that don't wait.

        """
        with driver_errors("asking the daemon"):
            async with self._connection.transaction():
                rows = await fetch(self._connection, state_sql.LETTERS_ASK, self._connector, feed, sorted(ids), kind)
                unknown = set(ids) - {row[0] for row in rows}
                if unknown:
                    raise ReplicatorError(
                        "no such dead letter: " + ", ".join(map(str, sorted(unknown))),
                        kind=ErrorKind.CONFIG,
                        hint="`replicator dlq list` shows what waits",
                    )
                return await self.ask(feed, kind, {"ids": sorted(ids)})

    async def ask(self, feed: str, kind: str, payload: Mapping[str, Any]) -> Request:
        """Leave a request for the daemon that runs the feed, and wake it."""
        with driver_errors("asking the daemon"):
            async with self._connection.transaction():
                ((number,),) = await fetch(
                    self._connection, state_sql.REQUEST_NEW, self._connector, feed, kind, Jsonb(dict(payload))
                )
                await fetch(self._connection, state_sql.NOTIFY, self._connector)
        return Request(number, kind, payload, "new")

    async def requests(self, feed: str) -> list[Request]:
        """Requests that are not done, in order; those 'running' were begun by a daemon that may have died."""
        with driver_errors("reading requests"):
            rows = await fetch(self._connection, state_sql.REQUESTS_OPEN, self._connector, feed)
        return [Request(*row) for row in rows]

    async def request(self, number: int) -> Request | None:
        """One request, to see what became of it."""
        with driver_errors("reading requests"):
            rows = await fetch(self._connection, state_sql.REQUEST_READ, number)
        return Request(*rows[0]) if rows else None

    async def start(self, request: Request) -> None:
        """The daemon begins with it."""
        with driver_errors("answering a request"):
            await fetch(self._connection, state_sql.REQUEST_START, request.id)

    async def end(self, request: Request, message: str, *, failed: bool = False) -> None:
        """The daemon is done with it."""
        with driver_errors("answering a request"):
            await fetch(self._connection, state_sql.REQUEST_END, request.id, "failed" if failed else "done", message)
            await fetch(self._connection, state_sql.NOTIFY, self._connector)

    async def woken(self) -> AsyncGenerator[None, None]:
        """Yields when somebody has left a request for this connector, or has answered one; the session serves nothing
        else meanwhile.
        """
        with driver_errors("listening for requests"):
            await self._connection.execute("LISTEN replicator")
            async for note in self._connection.notifies():
                if note.payload == self._connector:
                    yield


@asynccontextmanager
async def open_state(dsn: str, connector: str) -> AsyncIterator[State]:
    """The state of one connector, over a session that ends with the block."""
    connection = await connect(dsn, f"{connector}/state")
    try:
        yield State(connection, connector)
    finally:
        await connection.close()


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    number, mapping, key, schema, table, op, position, kind, message, before, after, request = row
    return DeadLetter(
        mapping=mapping,
        key=tuple(part.encode() for part in key),
        table=TableName(schema, table),
        op=op,
        position=position,
        kind=kind,
        message=message,
        before=before,
        after=after,
        id=number,
        request=request,
    )
