"""The target database of one feed: `ports.Target` for PostgreSQL.

take_over ──▶ Holder (epoch) ──▶ one session a lane, one a worker ──▶ transactions

A connection that breaks is made anew at the next transaction; the checkpoint tells whether its last COMMIT counted.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres import state_sql
from replicator.postgres.catalog import read_catalog
from replicator.postgres.key_map import KeyCache, PendingKeys
from replicator.postgres.session import connect
from replicator.postgres.sessions import FeedSession, Marks, Role, detect_role, open_session
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import State, fetch, setup
from replicator.postgres.takeover import Holder, check_held, superseded, take_over
from replicator.postgres.transaction import PostgresTransaction
from replicator.postgres.wire import Wire
from replicator.postgres.writing import StatementCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection

    from replicator.ports import Checkpoint, DeadLetter
    from replicator.tables import Catalog


class PostgresTarget:
    """See `ports.Target`.

    Args:
        dsn: of the target.
        connector: its name.
        feed: 'forward' or 'reverse'.
        source_dsn: of the source, whose key map (written by the other feed) is looked into; None: there is none.
        former: `holder` of an earlier target of this process, which it must not take back from a successor.

    Attributes:
        holder: under whose epoch it writes; None before `take_over`.
        role: 'replica', or 'origin' where the user may not take that role; known after `take_over`.
        marks_by: how the lanes' transactions are told from an application's: 'origin', 'message', or None where
            neither is possible (13 without superuser); known once one has begun. A job's are marked by message.

    """

    def __init__(
        self, dsn: str, *, connector: str, feed: str, source_dsn: str | None = None, former: Holder | None = None
    ) -> None:
        self.holder = former
        self.role: Role = "origin"
        self.marks_by: Marks | None = None
        self._dsn = dsn
        self._source_dsn = source_dsn
        self._connector = connector
        self._feed = feed
        self._positions: dict[int, str | None] = {}
        self._sessions: dict[str, FeedSession] = {}
        self._control: AsyncConnection[Any] | None = None
        self._catalogs: AsyncConnection[Any] | None = None
        self._looking = asyncio.Lock()
        self._source: Wire | None = None
        self._connecting = asyncio.Lock()
        self._statements = StatementCache()
        self._keys = KeyCache()

    async def take_over(self, lanes: int) -> list[Checkpoint]:
        """Become the feed's one writer; makes the schema `replicator` where it isn't there yet.

        Taking over again, as after lost connections, raises SUPERSEDED when another process did so meanwhile: two that
        take a feed from each other would never end.
        """
        await self._end_sessions()
        connection = await self._controller()
        await setup(connection)
        self.holder, checkpoints = await take_over(connection, self._connector, self._feed, lanes, former=self.holder)
        self.role = await detect_role(Wire(connection))
        self._positions = {one.lane: one.position for one in checkpoints}
        self._keys.clear()
        return checkpoints

    @asynccontextmanager
    async def transaction(self, lane: int) -> AsyncIterator[PostgresTransaction]:
        """Begin a lane's transaction."""
        if lane not in self._positions:
            raise ReplicatorError(f"feed {self._connector}/{self._feed} has no lane {lane}", kind=ErrorKind.INTERNAL)
        transaction = self._transaction(await self._session(str(lane), lane=True), lane)
        async with self._ended(transaction):
            yield transaction
        self._positions[lane] = transaction.position

    @asynccontextmanager
    async def job(self, worker: str) -> AsyncIterator[PostgresTransaction]:
        """Begin a worker's transaction; it has begun on the server when this returns."""
        transaction = self._transaction(await self._session(worker, lane=False), None)
        async with self._ended(transaction):
            await transaction.begin()
            yield transaction

    @asynccontextmanager
    async def _ended(self, transaction: PostgresTransaction) -> AsyncIterator[None]:
        """Commit at the end of the block; roll back when an exception leaves it, or when the commit is refused."""
        try:
            yield
            await transaction.commit()
        except ReplicatorError as error:
            await transaction.rollback()
            if error.kind in (ErrorKind.CONNECTION, ErrorKind.COMMIT_UNKNOWN):
                await self._check_held(error)
            raise
        except BaseException:
            await transaction.rollback()
            raise

    async def _check_held(self, lost: ReplicatorError) -> None:
        """A successor may have ended the connection that was lost: then this process is to yield, not to retry."""
        assert self.holder is not None
        try:
            await check_held(await self._controller(), self.holder)
        except ReplicatorError as error:
            if error.kind is ErrorKind.SUPERSEDED:
                raise error from lost

    def _transaction(self, session: FeedSession, lane: int | None) -> PostgresTransaction:
        return PostgresTransaction(
            session,
            lane=lane,
            position=None if lane is None else self._positions[lane],
            pending=PendingKeys(self._keys),
            source=None if self._source_dsn is None else self._source_wire,
        )

    async def _session(self, purpose: str, *, lane: bool) -> FeedSession:
        if self.holder is None:
            raise ReplicatorError(f"feed {self._connector}/{self._feed} was not taken over", kind=ErrorKind.INTERNAL)
        known = self._sessions.get(purpose)
        if known is not None and not known.wire.broken:
            return known
        made = await open_session(
            self._dsn, self.holder, purpose, lane=lane, role=self.role, statements=self._statements
        )
        self._sessions[purpose] = made
        if lane:
            self.marks_by = made.marks
        return made

    async def _source_wire(self) -> Wire:
        async with self._connecting:  # several workers may be the first at once
            if self._source is None or self._source.broken:
                assert self._source_dsn is not None
                self._source = Wire(await connect(self._source_dsn, f"{self._connector}/{self._feed}/keys"))
            return self._source

    async def _controller(self) -> AsyncConnection[Any]:
        """The session for everything beside the transactions, in autocommit."""
        async with self._connecting:
            if self._control is None or self._control.closed:
                self._control = await connect(self._dsn, f"{self._connector}/{self._feed}/control")
            return self._control

    @property
    def epoch(self) -> int | None:
        """The epoch under which this process writes; None before `take_over`."""
        return None if self.holder is None else self.holder.epoch

    async def dead_letters(self) -> list[DeadLetter]:
        """All that wait, in order of their id."""
        return await State(await self._controller(), self._connector).dead_letters(self._feed)

    async def tell(self, state: str) -> None:
        """Show the workflow's state in the feed's row, for people and scripts.

        Raises:
            ReplicatorError: SUPERSEDED, CONNECTION.

        """
        assert self.holder is not None
        with driver_errors("telling the feed's state"):
            rows = await fetch(
                await self._controller(),
                state_sql.STATE_TELL,
                self._connector,
                self._feed,
                self.holder.epoch,
                state,
            )
        if not rows:
            raise superseded(self.holder)

    async def catalog(self) -> Catalog:
        """The target's catalog now, read on a session of its own: its one snapshot spans several statements."""
        async with self._looking:
            if self._catalogs is None or self._catalogs.closed:
                self._catalogs = await connect(self._dsn, f"{self._connector}/{self._feed}/catalog")
            return await read_catalog(self._catalogs)

    async def close(self) -> None:
        """End all connections. Idempotent."""
        await self._end_sessions()
        source = None if self._source is None else self._source.connection
        for connection in (self._control, self._catalogs, source):
            if connection is not None:
                await connection.close()
        self._control = self._catalogs = self._source = None

    async def _end_sessions(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.wire.close()
