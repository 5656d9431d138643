"""The feed: one direction of replication. Reads batches from a source, and has its lanes apply them.

    source ──take──▶ [drop what a copy already holds] ──▶ lane 0        one lane: whole source transactions
                                                    └──▶ lanes 0…n     several: by hash of the aggregate's key, joined
       ▲                                                   │            at each batch's end; TRUNCATE is a barrier
       └──────────────── confirm(lowest position) ◀────────┘

Locks taken on the target: the feed's epoch row (by every transaction), the gate advisory lock (shared; alone for
TRUNCATE and for transactions larger than a batch), hash stripes of aggregates that are read back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from replicator.engine.apply import Applier
from replicator.engine.cuts import Cuts
from replicator.engine.lane import Lane, LaneSettings
from replicator.engine.letters import LetterDesk
from replicator.engine.log_guard import LogGuard
from replicator.engine.pace import Pace
from replicator.engine.parking import Parking, parked_by
from replicator.engine.recent import RecentTransactions
from replicator.engine.retries import DRAIN_SECONDS
from replicator.engine.spread import Spread
from replicator.engine.unique import UniqueResolver
from replicator.errors import ReplicatorError
from replicator.events import Batch, Position
from replicator.reduction import ReshapedError

if TYPE_CHECKING:
    from replicator.copies import BackfillStore, ChunkTarget, MultisetCut
    from replicator.mapping import Mappings
    from replicator.ports import Reader, Source, Target
    from replicator.telemetry import FeedStatus

_NUDGE_SECONDS: Final = 0.5  # an idle source is asked for its position this often, while lanes wait for it
_PING_SECONDS: Final = 15.0  # a third of the sessions' idle_in_transaction_session_timeout, and some


@dataclass(frozen=True)
class FeedSettings:
    """What a feed is told by the connector.

    Attributes:
        lanes: parallel lanes; more than one gives up whole source transactions at the target.
        batch_rows_max, batch_bytes_max: limits of one target transaction.
        lane: see `LaneSettings`.
        visible_first: apply nothing that is not yet visible on the source. For a group of processes: none of them
            knows what the others apply, so this alone keeps a snapshot that one of them writes from being older than
            what another has applied.

    """

    lanes: int = 1
    batch_rows_max: int = 10_000
    batch_bytes_max: int = 16 * 1024 * 1024
    lane: LaneSettings = field(default_factory=LaneSettings)
    visible_first: bool = False


class Feed:
    """One session of one feed: from taking over until it is stopped or fails. A retry is a new session.

    Attributes:
        position: applied and committed on the target by all lanes; None before `run` has begun.
        recent: what it applies, for jobs beside it.
        applier, resolver: how it writes, for jobs that write as it does.

    """

    def __init__(
        self,
        *,
        source: Source,
        reader: Reader,
        target: Target,
        rows: ChunkTarget,
        store: BackfillStore,
        mappings: Mappings,
        settings: FeedSettings,
        status: FeedStatus,
        cuts: Sequence[MultisetCut] = (),
        pace: Pace | None = None,
    ) -> None:
        self.position: Position | None = None
        self._pace = pace or Pace()
        self._source = source
        self._target = target
        self._settings = settings
        self._store = store
        self._status = status
        self._mappings = mappings
        self._cuts = Cuts(cuts)
        self._known = 0
        self.recent = RecentTransactions()
        self.applier = self._applier = Applier(mappings, reader)
        self.resolver = self._resolver = UniqueResolver(self._applier, mappings, reader, rows, store)
        self._reader = reader
        self._moved = asyncio.Event()
        self._work: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()

    # -- for others --------------------------------------------------------------------------------------------------

    async def reach(self, position: Position) -> None:
        """Wait until everything before `position` is applied and committed. The caller nudges the source."""
        while self.position is None or self.position < position:
            self._moved.clear()
            await self._moved.wait()

    async def retry(self, ids: Collection[int]) -> str:
        """Apply parked aggregates again, as the source has them now; returns what became of them.

        Runs between two batches, and not before all that is running at the source now has ended: a commit that is in
        the queue may not be visible yet, and its key would be freed without it.

        Raises:
            ReplicatorError: what the first of them was refused with; it stays parked.

        """
        with self.recent.watch() as xids:
            await self._reader.wait_for_running()
            return await self.between(lambda: self._desk.retry(ids, frozenset(xids)))

    async def discard(self, ids: Collection[int]) -> str:
        """Forget parked changes; their aggregates may differ from then on, until the next change or a resync."""
        return await self.between(lambda: self._desk.discard(ids))

    async def reload_letters(self) -> None:
        """Take the dead letter queue as it stands now: other processes of a group park and free keys, too.

        What they parked a moment ago is unknown here until then, and does no harm: a row's changes lie in one
        partition, which one process has at a time (see `_read_again`). Only an aggregate of several tables has changes
        elsewhere; for those it is derived from the source as it is, which is never older than what waits.
        """

        async def reload() -> str:
            await self._read_letters()
            return ""

        await self.between(reload)

    async def _read_letters(self) -> None:
        letters = await self._target.dead_letters()
        self._parking.parked = parked_by(letters)
        self._status.dead_letters = len(letters)

    async def _read_again(self) -> None:
        """What whoever had a part of the log before has left in the target."""
        known = self._source.taken_over
        if known != self._known:
            await self._read_letters()
            self._cuts = Cuts(await self._store.cuts())
            self._known = known

    def add_cut(self, cut: MultisetCut) -> None:
        """Drop what a new copy of a table without a key holds; called from work between two batches."""
        self._cuts.add(cut)

    async def between(self, work: Callable[[], Awaitable[str]]) -> str:
        """Carry out work while no batch is in hand; returns its answer, and raises its `ReplicatorError`."""
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def carry_out() -> None:
            try:
                answer = await work()
            except ReplicatorError as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(answer)

        await self._work.put(carry_out)
        return await done

    async def stand(self, work: Callable[[], Awaitable[None]]) -> None:
        """Carry out work, while no batch is in hand, that may take and apply batches itself (`next`, `apply`).

        All that it has taken must be applied, in order, when it ends. What it raises ends the session.
        """
        done = asyncio.Event()

        async def carry_out() -> None:
            try:
                await work()
            finally:
                done.set()

        await self._work.put(carry_out)
        await done.wait()

    async def next(self) -> Batch:
        """The batch that comes next; a call that is cancelled takes none."""
        batch = await asyncio.shield(self._taking)
        self._taking = asyncio.ensure_future(self._take())
        return batch

    # -- the session -------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Take over, go on from the checkpoint, and apply until `stop` is set; then what is taken is finished.

        Raises:
            ReplicatorError: as `ports` and `Lane.apply` say. A kind whose action is RETRY asks for a new session.

        """
        try:
            await self._take_over(stop)
            await self._loop(stop)
        finally:
            for lane in self._lanes:
                await lane.abandon()

    _lanes: Sequence[Lane] = ()
    _taking: asyncio.Task[Batch]
    _guard: LogGuard

    async def _take_over(self, stop: asyncio.Event) -> None:
        checkpoints = await self._target.take_over(self._settings.lanes)
        source, status = self._source, self._status
        self._applier.deletes_last = self._target.role != "replica"
        positions = [None if one.position is None else source.parse(one.position) for one in checkpoints]
        known = [position for position in positions if position is not None]
        # A lane without a checkpoint has committed nothing yet: killed before, when others had. It begins where
        # the feed began, which the slot still holds: nothing is confirmed that not every lane has passed.
        begun = await source.start(min(known) if len(known) == len(positions) else None)
        # Rows born before this moment may have been written from a snapshot by whoever held the feed before.
        since = await source.head()
        self._applier.raise_floor(since)
        self._guard = LogGuard(self._reader, self._mappings, since)
        self._applier.expect_rows(await self._store.caught_up_lsn())
        letters = await self._target.dead_letters()
        self._parking = parking = Parking(self._mappings, source, letters)
        status.dead_letters = len(letters)
        self._lanes = [
            Lane(
                checkpoint.lane,
                applier=self._applier,
                parking=parking,
                resolver=self._resolver,
                source=source,
                target=self._target,
                settings=self._settings.lane,
                status=status,
                position=begun if position is None else position,
                stop=stop,
            )
            for checkpoint, position in zip(checkpoints, positions, strict=True)
        ]
        self._spread = Spread(self._lanes, self._applier, self._mappings)
        self._desk = LetterDesk(
            self._lanes[0], parking, target=self._target, applier=self._applier, reader=self._reader, status=status
        )
        for lane in self._lanes:
            status.moved(source.format(lane.position or begun), lane.number)
        self._arrived(begun)

    async def _loop(self, stop: asyncio.Event) -> None:
        stopping = asyncio.ensure_future(stop.wait())
        working = asyncio.ensure_future(self._work.get())
        self._taking = asyncio.ensure_future(self._take())
        try:
            while True:
                awaited = {self._taking, stopping, working}
                if self._lanes[0].in_transaction:  # until its end there is no time for work
                    awaited.remove(working)
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED, timeout=_PING_SECONDS)
                if self._taking.done():
                    await self.apply(self._taking.result())
                    self._taking = asyncio.ensure_future(self._take())
                elif self._lanes[0].in_transaction:
                    await self._lanes[0].ping()
                if working.done() and not self._lanes[0].in_transaction:
                    await working.result()()
                    working = asyncio.ensure_future(self._work.get())
                if stopping.done():
                    break
            await self._level()
        finally:
            for task in (self._taking, stopping, working):
                task.cancel()
            await asyncio.gather(self._taking, stopping, working, return_exceptions=True)
        await self._spread.align()
        self._confirm()

    async def _level(self) -> None:
        """Go on up to where the furthest lane began, if a stop came before that: a kill leaves lanes apart."""
        clock = asyncio.get_running_loop().time
        until = clock() + DRAIN_SECONDS
        while not self._spread.level and clock() < until:
            self._source.nudge()
            await asyncio.wait([self._taking], timeout=_NUDGE_SECONDS)
            if self._taking.done():
                await self.apply(self._taking.result())
                self._taking = asyncio.ensure_future(self._take())

    async def _take(self) -> Batch:
        settings, rows = self._settings, self._settings.batch_rows_max
        if self._applier.transforms:
            rows = self._pace.rows(rows)
        return await self._source.take(rows, settings.batch_bytes_max)

    async def apply(self, batch: Batch) -> None:
        """Apply a batch; for work that `stand` carries out, and for the session itself.

        Raises:
            ReplicatorError: as `run` says; the session ends with it.

        """
        before = self._applier.transform_seconds
        try:
            await self._apply_batch(batch)
        finally:
            self._pace.saw(len(batch.events), self._applier.transform_seconds - before)

    async def _apply_batch(self, batch: Batch) -> None:
        self._status.pending(batch.first_commit_time)
        await self._read_again()
        self._cuts.drop(batch)
        self.recent.note(batch)
        if self._settings.visible_first and batch.events:
            await self._guard.check(batch)
        await self._check_shapes(batch)
        if len(self._lanes) == 1:
            await self._lanes[0].apply(batch)
        else:
            await self._spread.apply(batch)
        self._status.pending(None)
        self._confirm()
        if batch.commit_time is not None:
            self._status.proven(batch.commit_time)

    async def _check_shapes(self, batch: Batch) -> None:
        """Compile the mappings again where a new shape's table has changed since; else it has changed back by now.

        Raises:
            ReshapedError: its columns or types are no longer those that the mappings know.

        """
        while True:
            try:
                self._applier.reducer.check(batch.events)
            except ReshapedError as reshaped:
                catalog = await self._reader.catalog()
                table = catalog.tables.get(reshaped.relation.table)
                _, side = self._mappings.by_source[reshaped.relation.table]
                known = side.table.by_name
                if table is not None and any(table.by_name.get(name) != known.get(name) for name in reshaped.columns):
                    raise
                self._applier.reducer.accept(reshaped.relation)
            else:
                return

    def _confirm(self) -> None:
        """Report the lowest position that all lanes have committed for good."""
        durable = self._spread.durable()
        if durable is not None:
            self._source.confirm(durable)
        reached = self._spread.reached()
        if reached is not None:
            self._arrived(reached)

    def _arrived(self, position: Position) -> None:
        self.position = position
        self._moved.set()
