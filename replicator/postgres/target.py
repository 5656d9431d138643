"""The target database of one feed: `ports.Target` for PostgreSQL.

take_over ──▶ Holder (epoch) ──▶ one session a lane, one a worker ──▶ transactions

Beside other processes of a group, `take_over` joins: the one lane's transactions move what the ledger holds, and only
the one that `lead`s becomes the feed's holder, for its jobs.

A connection that breaks is made anew at the next transaction; the checkpoint tells whether its last COMMIT counted.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from replicator.errors import ErrorKind, ReplicatorError
from replicator.ports import Checkpoint
from replicator.postgres import state_sql
from replicator.postgres.catalog import read_catalog
from replicator.postgres.key_map import KeyCache, PendingKeys
from replicator.postgres.leadership import Leadership
from replicator.postgres.partition_ledger import PartitionLedger, join
from replicator.postgres.progress import JobProgress, LaneProgress, PartitionProgress
from replicator.postgres.session import connect
from replicator.postgres.sessions import FeedSession, Marks, Role, detect_role, open_member_session, open_session
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import State, fetch, setup
from replicator.postgres.takeover import Holder, check_held, superseded, take_over
from replicator.postgres.transaction import PostgresTransaction
from replicator.postgres.wire import Wire
from replicator.postgres.writing import StatementCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from psycopg import AsyncConnection

    from replicator.ports import DeadLetter
    from replicator.tables import Catalog


class PostgresTarget:
    """See `ports.Target`.

    Args:
        dsn: of the target.
        connector: its name.
        feed: 'forward' or 'reverse'.
        source_dsn: of the source, whose key map (written by the other feed) is looked into; None: there is none.
        former: `holder` of an earlier target of this process, which it must not take back from a successor.
        ledger: the partitions of a log that this process applies, beside others that apply theirs; None: the feed is
            this process's alone.

    Attributes:
        holder: under whose epoch it writes (with a ledger: its jobs); None before `take_over` (with a ledger: `lead`).
        role: 'replica', or 'origin' where the user may not take that role; known after `take_over`.
        marks_by: how the lanes' transactions are told from an application's: 'origin', 'message', or None where
            neither is possible (13 without superuser); known once one has begun. A job's are marked by message.

    """

    def __init__(
        self,
        dsn: str,
        *,
        connector: str,
        feed: str,
        source_dsn: str | None = None,
        former: Holder | None = None,
        ledger: PartitionLedger | None = None,
    ) -> None:
        self.holder = former if ledger is None else None
        self.role: Role = "origin"
        self.marks_by: Marks | None = None
        self._dsn = dsn
        self._source_dsn = source_dsn
        self._connector = connector
        self._feed = feed
        self._ledger = ledger
        self._leadership = Leadership(dsn, connector, feed)
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

        With a ledger nothing is taken from anybody, and there is one lane, without a position of its own.
        """
        await self._end_sessions()
        connection = await self._controller()
        await setup(connection)
        if self._ledger is not None:
            await join(connection, self._connector, self._feed)
            checkpoints = [Checkpoint(0, None)]
        else:
            self.holder, checkpoints = await take_over(
                connection, self._connector, self._feed, lanes, former=self.holder
            )
        self.role = await detect_role(Wire(connection))
        self._positions = {one.lane: one.position for one in checkpoints}
        self._keys.clear()
        return checkpoints

    @asynccontextmanager
    async def transaction(self, lane: int) -> AsyncIterator[PostgresTransaction]:
        """Begin a lane's transaction."""
        if lane not in self._positions:
            raise ReplicatorError(f"feed {self._connector}/{self._feed} has no lane {lane}", kind=ErrorKind.INTERNAL)
        session = await self._session(str(lane), lane=True)
        if self._ledger is not None:
            leader = self.holder if self.is_leader else None
            progress = PartitionProgress(self._ledger, leader, self._lost)
            try:
                async with self._run(session, progress, self._ledger.check_held) as transaction:
                    yield transaction
            finally:
                self._ledger.in_doubt |= session.wire.broken
            return
        lane_progress = LaneProgress(session.holder, lane, self._positions[lane])
        async with self._run(session, lane_progress, self._check_held) as transaction:
            yield transaction
        self._positions[lane] = lane_progress.position

    @asynccontextmanager
    async def job(self, worker: str) -> AsyncIterator[PostgresTransaction]:
        """Begin a worker's transaction; it has begun on the server when this returns.

        Raises:
            ReplicatorError: REASSIGNED in place of SUPERSEDED, with a ledger: another process leads.

        """
        if self._ledger is not None and not self.is_leader:
            raise self._leadership.lost()
        session = await self._session(worker, lane=False)
        async with self._run(session, JobProgress(session.holder, self._lost), self._check_held) as transaction:
            await transaction.begin()
            yield transaction

    def _lost(self) -> ReplicatorError:
        """The error of a holder that is none any more."""
        assert self.holder is not None
        return superseded(self.holder) if self._ledger is None else self._leadership.lost()

    @asynccontextmanager
    async def _run(
        self, session: FeedSession, progress: JobProgress, check: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[PostgresTransaction]:
        """Commit at the end of the block; roll back when an exception leaves it, or when the commit is refused.

        Args:
            session: idle.
            progress: what the transaction compares and moves.
            check: a successor may have ended a connection that was lost: then this says so, and that is to be told.

        """
        transaction = PostgresTransaction(
            session,
            progress=progress,
            pending=PendingKeys(self._keys),
            source=None if self._source_dsn is None else self._source_wire,
        )
        try:
            yield transaction
            await transaction.commit()
        except ReplicatorError as error:
            await transaction.rollback()
            if error.kind in (ErrorKind.CONNECTION, ErrorKind.COMMIT_UNKNOWN):
                await _told(check, error)
            raise
        except BaseException:
            await transaction.rollback()
            raise

    async def _check_held(self) -> None:
        assert self.holder is not None
        try:
            await check_held(await self._controller(), self.holder)
        except ReplicatorError as error:
            if error.kind is not ErrorKind.SUPERSEDED:
                raise
            raise self._lost() from error

    async def _session(self, purpose: str, *, lane: bool) -> FeedSession:
        known = self._sessions.get(purpose)
        if known is not None and not known.wire.broken:
            return known
        if lane and self._ledger is not None:
            made = await open_member_session(
                self._dsn, self._ledger, purpose, role=self.role, statements=self._statements
            )
        elif self.holder is None:
            raise ReplicatorError(f"feed {self._connector}/{self._feed} was not taken over", kind=ErrorKind.INTERNAL)
        else:
            made = await open_session(
                self._dsn, self.holder, purpose, self._lost, lane=lane, role=self.role, statements=self._statements
            )
        self._sessions[purpose] = made
        if lane:
            self.marks_by = made.marks
        return made

    # -- the leader of a group -----------------------------------------------------------------------------------------

    async def lead(self) -> None:
        """Wait until this process leads its group, and become the feed's holder: then `job` and `tell` work.

        After `take_over`. Cancel-safe. The former leader's jobs are ended.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION, TIMEOUT.

        """
        if self.is_leader:
            return
        await self._leadership.acquire()
        try:
            self.holder, _ = await take_over(await self._controller(), self._connector, self._feed, 0)
        except BaseException:
            await self._leadership.close()
            raise

    @property
    def is_leader(self) -> bool:
        """Whether this process leads its group, as far as it knows; its transactions know better."""
        return self._leadership.held

    async def keep_leading(self) -> None:
        """Wait until this process no longer leads. Cancel-safe.

        Raises:
            ReplicatorError: REASSIGNED then.

        """
        await self._leadership.keep()

    # -- beside the transactions ---------------------------------------------------------------------------------------

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
        """The feed's epoch under which this process writes; None before it is the holder."""
        return None if self.holder is None else self.holder.epoch

    async def dead_letters(self) -> list[DeadLetter]:
        """All that wait, in order of their id."""
        return await State(await self._controller(), self._connector).dead_letters(self._feed)

    async def tell(self, state: str) -> None:
        """Show the workflow's state in the feed's row, for people and scripts.

        Raises:
            ReplicatorError: SUPERSEDED, CONNECTION; REASSIGNED in place of the first, with a ledger.

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
            raise self._lost()

    async def catalog(self) -> Catalog:
        """The target's catalog now, read on a session of its own: its one snapshot spans several statements."""
        async with self._looking:
            if self._catalogs is None or self._catalogs.closed:
                self._catalogs = await connect(self._dsn, f"{self._connector}/{self._feed}/catalog")
            return await read_catalog(self._catalogs)

    async def close(self) -> None:
        """End all connections. Idempotent."""
        await self._end_sessions()
        await self._leadership.close()
        source = None if self._source is None else self._source.connection
        for connection in (self._control, self._catalogs, source):
            if connection is not None:
                await connection.close()
        self._control = self._catalogs = self._source = None

    async def _end_sessions(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.wire.close()


async def _told(check: Callable[[], Awaitable[None]], lost: ReplicatorError) -> None:
    try:
        await check()
    except ReplicatorError as error:
        if error.kind in (ErrorKind.SUPERSEDED, ErrorKind.REASSIGNED):
            raise error from lost
