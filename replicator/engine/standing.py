"""Standing still: both databases at one position, while the source is written to and the feed runs.

    between two batches ▸ snapshot of the source ▸ apply what it sees, and no more ▸ snapshot of the target ▸ go on

The target then is what the feed makes of all that the source shows. Neither order is relied upon, of the log or of
visibility: each transaction that comes is looked up in the source's snapshot by its xid.

    applied before   visible: the snapshot is taken afterwards, and waits for it (`RecentTransactions`)
    coming           visible ones are applied, up to the first that isn't. A visible one behind that is no position, for
                     commits have become visible in another order than they have in the log: tried again
    read meanwhile   what the feed reads on the source comes from the same snapshot (`Applier.viewing`)
    written beside   by a resync or repair, from a newer snapshot: tried again

The feed applies nothing while the rest of the log comes that was there at the snapshot: some milliseconds, and
PAUSE_SECONDS at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from replicator.checks import Standstill
from replicator.engine.cuts import SnapshotText
from replicator.errors import ReplicatorError
from replicator.events import Position
from replicator.runs import Events, Run, parts_of

if TYPE_CHECKING:
    from replicator.checks import CheckReader, CheckSnapshot
    from replicator.engine.feed import Feed
    from replicator.events import Batch, ChangeEvent
    from replicator.ports import Reader

PAUSE_SECONDS: Final = 0.5
"""Longest that nothing is applied; then the feed goes on, and it is tried again."""
ATTEMPTS: Final = 20
PATIENCE_SECONDS: Final = 10.0
"""For what runs on the source at the beginning; and for the feed to come to the end of a batch."""
NUDGE_SECONDS: Final = 0.01

ORDER: Final = "commits become visible in another order than they have in the log"


class Standing:
    """Has a feed stand still.

    Args:
        feed: running, of a source that is ordered by commits.
        reader: of its source.
        source, target: on sessions of their own, one for each block of `both`.
        nudge: asks the source for its position.
        mark: has the source write its log to the disk, so that all of it comes; None: that comes by itself.

    """

    def __init__(
        self,
        feed: Feed,
        reader: Reader,
        *,
        source: CheckReader,
        target: CheckReader,
        nudge: Callable[[], None],
        mark: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.feed = feed
        self.source = source
        self.target = target
        self.nudge = nudge
        self._mark = mark
        self._reader = reader
        self._marking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def both(self) -> AsyncIterator[Standstill | str]:
        """Both databases at one position, until the block ends; a text says why not.

        Raises:
            ReplicatorError: CONNECTION.

        """
        async with AsyncExitStack() as snapshots:
            yield await self._find(snapshots)

    async def _find(self, snapshots: AsyncExitStack) -> Standstill | str:
        async with self.source.checking(), self.target.checking():
            pass  # connected before the feed has to wait
        with self.feed.recent.watch() as xids:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._reader.wait_for_running()
            except TimeoutError:
                return f"a transaction has been running on the source for more than {PATIENCE_SECONDS:.0f} s"
            why = ""
            for number in range(ATTEMPTS):
                attempt = _Attempt(self, xids)
                found = await attempt.made()
                if isinstance(found, Standstill):
                    snapshots.push_async_exit(attempt.snapshots)
                    return found
                why = found
                if attempt.timed_out:
                    break
                await asyncio.sleep(NUDGE_SECONDS * number * random.random())  # noqa: S311 - spreads attempts
            return why

    def begin_mark(self) -> None:
        """Have the source write its log to the disk; it may take as long as a standby takes to answer."""
        if self._mark is not None and (self._marking is None or self._marking.done()):
            self._marking = asyncio.ensure_future(self._marked(self._mark))

    @staticmethod
    async def _marked(mark: Callable[[], Awaitable[object]]) -> None:
        with contextlib.suppress(ReplicatorError):  # then the log comes when the server writes it by itself
            await mark()


class _Attempt:
    """One attempt: `run` is the feed's, everything else of whoever asks.

    Attributes:
        snapshots: what is open.
        timed_out: the feed has not begun with it, or not ended.

    """

    def __init__(self, standing: Standing, xids: set[int]) -> None:
        self.snapshots = AsyncExitStack()
        self._standing = standing
        self._xids = xids
        self._held: list[Batch] = []
        self._given_up = False
        self._runs = False
        self.timed_out = False
        self._until = 0.0
        self._found: Standstill | str = "the feed came to no end of a transaction"

    async def made(self) -> Standstill | str:
        """Have the feed carry it out; all that is open ends when it fails, or nobody waits any more."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._standing.feed.stand(self.run)
        except TimeoutError:
            self.timed_out = True
        finally:
            self._given_up = not isinstance(self._found, Standstill)
            if self._given_up and not self._runs:
                await self.snapshots.aclose()
        return self._found

    async def run(self) -> None:
        """What the feed does, instead of its next batch."""
        if self._given_up:
            return
        self._runs = True
        try:
            self._found = await self._stood()
            for batch in self._held:
                await self._standing.feed.apply(batch)
        finally:
            self._runs = False
            if self._given_up:
                await self.snapshots.aclose()

    async def _stood(self) -> Standstill | str:
        feed, standing = self._standing.feed, self._standing
        self._begin_pause()
        seen = frozenset(self._xids)
        source = await self._opened(standing.source, seen)
        if isinstance(source, str):
            return source
        self._xids.difference_update(seen)
        standing.begin_mark()
        ahead = feed.applier.ahead
        with feed.applier.viewing(source):
            why = await self._advance(SnapshotText(source.text), source.insert_lsn)
        if why is not None:
            return why
        target = await self._opened(standing.target, frozenset())
        if isinstance(target, str):
            return target
        if feed.applier.ahead != ahead:
            return "rows are copied or repaired meanwhile"
        assert feed.position is not None
        return Standstill(source, target, feed.position.at)

    def _begin_pause(self) -> None:
        self._until = asyncio.get_running_loop().time() + PAUSE_SECONDS

    async def _opened(self, reader: CheckReader, visible: frozenset[int]) -> CheckSnapshot | str:
        """A snapshot that stays open; what goes wrong with it is no fault of the feed."""
        try:
            async with asyncio.timeout_at(self._until):
                return await self.snapshots.enter_async_context(reader.checking(visible))
        except TimeoutError:
            return "a commit of the source is not visible yet, or a database answers slowly"
        except ReplicatorError as error:
            return error.message

    async def _advance(self, sees: SnapshotText, upto: int) -> str | None:
        """Apply what the snapshot sees of the log, up to its end; what it doesn't see is held."""
        feed = self._standing.feed
        while True:
            batch = await self._next()
            if batch is None:
                return "the source was slow to send its log"
            head, tail = cut(batch, sees)
            if tail is not None and any(sees.sees(part.transaction.xid) for part in parts_of(tail.events)):
                self._held.append(batch)
                return ORDER
            if head is not None and self._held and head.events:
                self._held.append(batch)
                return ORDER
            if head is not None and not self._held:
                await feed.apply(head)
                self._begin_pause()
            if tail is not None or self._held:
                self._held.append(batch if tail is None else tail)
            if batch.position.at >= upto:
                return None

    async def _next(self) -> Batch | None:
        """The next batch, if it comes in time."""
        clock = asyncio.get_running_loop().time
        waiting = asyncio.ensure_future(self._standing.feed.next())
        try:
            while not waiting.done() and clock() < self._until:
                self._standing.nudge()
                await asyncio.wait([waiting], timeout=NUDGE_SECONDS)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()


def cut(batch: Batch, sees: SnapshotText) -> tuple[Batch | None, Batch | None]:
    """A batch's transactions up to the first that a snapshot doesn't see; and that one, with all behind it."""
    parts = parts_of(batch.events)
    first = next((at for at, part in enumerate(parts) if not sees.sees(part.transaction.xid)), None)
    if first is None:
        return batch, None
    if not first:
        return None, batch
    place = parts[first].transaction
    done = {id(part.transaction): part.transaction for part in parts[:first]}
    head = replace(
        batch,
        events=_events(parts[:first]),
        position=Position(place.commit_lsn),
        complete=True,
        transactions=len(done),
        commit_time=max(one.commit_time for one in done.values()),
        bytes=0,
    )
    tail = replace(
        batch,
        events=_events(parts[first:]),
        transactions=max(0, batch.transactions - len(done)),
        first_commit_time=place.commit_time,
    )
    return head, tail


def _events(parts: Sequence[ChangeEvent | Run]) -> Events:
    return Events(parts, sum(len(part) if isinstance(part, Run) else 1 for part in parts))
