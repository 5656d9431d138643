"""Beside a running feed: what proves how far it is, and what says so.

    catching_up ──▶ streaming       once the position has passed the last snapshot that was copied, and what unique
                                    values in motion kept out of the copy is settled
    requests                        of operators
    proof                           of an idle feed: up to which moment all is applied; by a heartbeat, its lag
    lag                             what the slot holds back, clock offset
    verification                    of what is found, and where it is continuous
    until caught up                 one mark on the source; once it is reached, stop

The watches end with the feed, and a watch that fails ends the feed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Position
from replicator.telemetry import FeedStatus, State

if TYPE_CHECKING:
    from replicator.engine.feed import Feed
    from replicator.ports import Source
    from replicator.verification import Reached

NUDGE_SECONDS: Final = 0.5
"""While somebody waits for a position, an idle server is asked for its own this often."""
PROOF_SECONDS: Final = 1.0
"""How fresh an idle feed proves itself."""
LAG_SECONDS: Final = 5.0
MARK_SECONDS: Final = 0.02
"""A feed that hasn't passed a position by then is helped by a heartbeat."""
PAUSED_SECONDS: Final = 0.2
DEFERRED_SECONDS: Final = 1.0
"""How often a leader looks for what other processes of its group have left out."""


@dataclass(frozen=True)
class StreamingOptions:
    """What the watch is told.

    Attributes:
        heartbeat_seconds: how often an idle source gets a heartbeat; 0 is never.
        caught_up_at: the feed is consistent once it has passed this LSN.
        until_caught_up: end the feed once it has passed what is committed when it becomes consistent.
        follows: another process does the jobs beside the feed, as far as is known at the start.
        proves: whether the source can prove that something is applied; without, freshness is unknown.

    """

    heartbeat_seconds: float
    caught_up_at: int
    until_caught_up: bool = False
    follows: bool = False
    proves: bool = True


class Streaming:
    """Runs a feed, and watches it.

    Args:
        feed: not yet running.
        source: the feed's.
        status: the feed's.
        options: see `StreamingOptions`.
        enter: changes the state.
        lead: returns once this process is the one that does the jobs beside the feed.
        settle: writes what was kept out of the copy, once the feed has passed every snapshot.
        serve: carries out requests, until cancelled.
        keep: returns never while this process leads, and raises when it doesn't any more; None where nobody else may.
        follow: keeps up with what other processes of a group do, until cancelled; None where there are none.
        watch: looks for changes that the stream doesn't tell, until cancelled.
        verify: verifies beside the feed, given what tells that it has passed an LSN and streams; never fails.

    """

    def __init__(
        self,
        feed: Feed,
        source: Source,
        status: FeedStatus,
        options: StreamingOptions,
        *,
        enter: Callable[[State], Awaitable[None]],
        lead: Callable[[], Awaitable[None]],
        settle: Callable[[Callable[[int], Awaitable[None]]], Awaitable[None]],
        serve: Callable[[], Coroutine[Any, Any, None]],
        watch: Callable[[], Coroutine[Any, Any, None]],
        keep: Callable[[], Coroutine[Any, Any, None]] | None = None,
        follow: Callable[[], Coroutine[Any, Any, None]] | None = None,
        verify: Callable[[Reached], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._feed = feed
        self._source = source
        self._status = status
        self._options = options
        self._enter = enter
        self._lead = lead
        self._settle = settle
        self._serve = serve
        self._watch = watch
        self._keep = keep
        self._follow = follow
        self._verify = verify
        self._log = structlog.get_logger("replicator.daemon").bind(connector=status.connector, feed=status.feed)
        self._beats = options.heartbeat_seconds > 0
        self._consistent = asyncio.Event()
        self._leads = asyncio.Event()
        self._settling = asyncio.Lock()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set (here, with `until_caught_up`), then until the feed has drained.

        Raises:
            ReplicatorError: of the feed, or of a watch whose connection was lost; perhaps in an ExceptionGroup.

        """
        async with asyncio.TaskGroup() as group:
            watches = [
                group.create_task(self._catch_up(stop)),
                group.create_task(self._settle_again()),
                group.create_task(self._watch_lag()),
                group.create_task(self._begin_to_lead()),
                group.create_task(self._as_leader(self._serve)),
                group.create_task(self._as_leader(self._watch)),
            ]
            if self._follow is not None:
                watches.append(group.create_task(self._follow_others(self._follow)))
            if self._verify is not None:
                watches.append(group.create_task(self._verify_beside(self._verify)))
            if self._options.proves:
                watches.append(group.create_task(self._prove()))
            try:
                await self._feed.run(stop)
            finally:
                for watch in watches:
                    watch.cancel()

    async def _catch_up(self, stop: asyncio.Event) -> None:
        await self.settled(self._options.caught_up_at)
        self._consistent.set()
        self._log.info("streaming", position=self._status.position)
        if self._options.until_caught_up:
            mark = await self._mark()
            await self.settled(mark)
            self._log.info("caught up", position=self._status.position)
            stop.set()

    async def settled(self, lsn: int) -> None:
        """Stream: the target agrees with the source once the feed has passed this, and what was kept out is written."""
        await self._reach(lsn)
        if not self._options.follows:
            await self._leads.wait()
            async with self._settling:
                await self._settle(self._reach)
        await self._enter(State.STREAMING)

    async def _settle_again(self) -> None:
        """What the feed itself has left out, because of rows whose end lay ahead, is written once it has passed it."""
        deferred = self._feed.resolver.deferred
        await self._consistent.wait()
        await self._leads.wait()
        while True:
            async with self._settling:
                await self._settle(self._reach)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(deferred.wait(), None if self._follow is None else DEFERRED_SECONDS)
            deferred.clear()

    async def _mark(self) -> int:
        """An LSN after everything that is committed on the source now; by a heartbeat, where it takes one."""
        if self._beats:
            try:
                return await self._source.beat()
            except ReplicatorError as error:
                if error.kind is not ErrorKind.PERMISSION:
                    raise
                self._beats = False
                self._log.warning("no heartbeat", error=error.message, **error.facts())
        return await self._source.head()

    async def _reach(self, lsn: int) -> None:
        """Until everything that was committed on the source before this LSN is applied."""

        async def reach() -> None:
            await self._feed.reach(Position(0))  # only then the source is started
            await self._feed.reach(await self._source.passed(lsn))

        await nudged(reach(), self._source.nudge)

    async def _begin_to_lead(self) -> None:
        """Not before the feed has taken over, which ends the sessions before it."""
        await self._feed.reach(Position(0))
        await self._lead()
        self._leads.set()
        if self._keep is not None:
            await self._keep()

    async def _follow_others(self, follow: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._feed.reach(Position(0))
        await follow()

    async def _as_leader(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Work that writes to the target."""
        await self._leads.wait()
        await work()

    async def _verify_beside(self, verify: Callable[[Reached], Coroutine[Any, Any, None]]) -> None:
        await self._consistent.wait()
        await self._leads.wait()
        await verify(self._streams_past)

    async def _streams_past(self, lsn: int) -> None:
        """Until everything before this LSN is applied, and no copy is being caught up with."""
        reaching = asyncio.ensure_future(self._reach(lsn))
        try:
            await asyncio.wait([reaching], timeout=MARK_SECONDS)
            if not reaching.done():
                await self._mark()  # an idle server may not have flushed its WAL up to there, and never shows it then
            await reaching
        finally:
            reaching.cancel()
        while True:
            if self._status.state is State.STREAMING:
                return
            await asyncio.sleep(PAUSED_SECONDS)

    async def _prove(self) -> None:
        """While nothing else is applied: what was committed before now is applied. A busy feed proves it by itself.

        Asking for the end of the source's WAL writes nothing and proves freshness; only a heartbeat, once an interval,
        has a commit whose way to the target can be measured.
        """
        while True:
            began = time.time()
            idle_seconds = began - (self._status.applied_at or 0.0)
            if idle_seconds >= PROOF_SECONDS:
                beats = self._beats and idle_seconds >= self._options.heartbeat_seconds
                mark = await (self._mark() if beats else self._source.head())
                marked = time.time()
                await self._reach(mark)
                now = time.time()
                self._status.proven(began + (self._status.clock_offset or 0.0))
                if beats and self._beats:
                    self._status.measured(now, now - marked)
            await asyncio.sleep(PROOF_SECONDS)

    async def _watch_lag(self) -> None:
        while True:
            lag = await self._source.lag()
            self._status.retained_wal_bytes = lag.retained_wal_bytes
            self._status.backlog_offsets = lag.backlog_offsets
            await asyncio.sleep(LAG_SECONDS)


async def nudged(work: Coroutine[Any, Any, None], nudge: Callable[[], None]) -> None:
    """Do work that waits for a position; an idle server is asked for its own meanwhile.

    Raises:
        ReplicatorError: what the work raises.

    """
    working = asyncio.ensure_future(work)
    try:
        while not working.done():
            nudge()
            await asyncio.wait([working], timeout=NUDGE_SECONDS)
        await working
    finally:
        working.cancel()


async def unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Do work that doesn't watch `stop` itself; it is cancelled when that is set. Returns whether it was finished.

    Raises:
        ReplicatorError: what the work raises.

    """

    async def cancel_when_stopped(working: asyncio.Task[None]) -> None:
        await stop.wait()
        working.cancel()

    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        watching = group.create_task(cancel_when_stopped(working))
        await asyncio.wait([working])
        watching.cancel()
    return not working.cancelled()
