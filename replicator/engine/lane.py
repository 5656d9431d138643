"""One lane: takes batches in order and commits each together with its checkpoint, exactly once.

normal   whole batch in one transaction
  │ data error
  ▼
replay   halves of the batch, and halves of the half that fails, down to one source transaction; that one event by
         event, each in a savepoint: a value that moves between rows is resolved from the source, else the event stops
         the lane, or is parked
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from replicator.engine.apply import Applied, Applier, Prepared
from replicator.engine.durability import Durability
from replicator.engine.parking import Parking, Sorted, parked_by, position_of, text_key
from replicator.engine.progress import Progress
from replicator.engine.refusals import named, undone
from replicator.engine.retries import WITH_THE_BATCH, Retries
from replicator.engine.unique import OrphanError, UniqueResolver
from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.events import Batch, ChangeEvent, Op, Position
from replicator.runs import xids_of

if TYPE_CHECKING:
    from replicator.engine.room import Room
    from replicator.ports import Source, Target, TargetTransaction
    from replicator.telemetry import FeedStatus


_FOREIGN_KEY: Final = "23503"
"""SQLSTATE: the row that this one refers to isn't there, or others still refer to this one."""


@dataclass(frozen=True)
class LaneSettings:
    """What a lane is told by the connector.

    Attributes:
        dead_letters: park an event that fails on data (`on_error: dlq`), or stop.
        retry_initial, retry_max: seconds, doubled between them, with jitter.
        unordered: changes of one key come in order, those of different keys in any (from partitions of a log): the end
            of a row in the way, or the row that another refers to, may lie ahead.

    """

    dead_letters: bool = False
    unordered: bool = False
    retry_initial: float = 0.2
    retry_max: float = 30.0


class Lane:
    """One lane of one feed. `position` is what the target has committed, `durability` knows what of it for good."""

    def __init__(
        self,
        number: int,
        *,
        applier: Applier,
        parking: Parking,
        resolver: UniqueResolver,
        source: Source,
        target: Target,
        settings: LaneSettings,
        status: FeedStatus,
        position: Position | None,
        stop: asyncio.Event,
    ) -> None:
        self.number = number
        self.position = position
        self.durability = Durability(source, stop, position)
        self._applier = applier
        self._parking = parking
        self._resolver = resolver
        self._format = source.format
        self._progress = source.progress
        self._head = source.head
        self._target = target
        self._settings = settings
        self._status = status
        self._retries = Retries(status, settings.retry_initial, settings.retry_max, stop)
        self._open: tuple[AsyncExitStack, TargetTransaction, Progress] | None = None

    # -- whole batches -----------------------------------------------------------------------------------------------

    async def apply(self, batch: Batch, *, replay: bool = True) -> None:
        """Apply a batch and commit it with its position. A part of a transaction is applied, and commits with its end.

        Args:
            batch: events that lie before this lane's position are passed over.
            replay: replay a batch that fails on data; without, the error is raised and nothing is applied, and likewise
                for a deadlock.

        Raises:
            ReplicatorError: what stops the feed (SUPERSEDED, SCHEMA, ... or a data error with `on_error: stop`), or a
                kind that needs new connections. Nothing of the batch is lost: what is not in the checkpoint comes
                again.

        """
        if self._open is not None or not batch.complete:
            await self._apply_part(batch)
            return
        events = self.unapplied(batch.events)
        if not events and self.position is not None and batch.position <= self.position:
            if self.durability.position == self.position:
                return
            batch = replace(batch, position=self.position)
        kinds = WITH_THE_BATCH if replay else WITH_THE_BATCH - {ErrorKind.SERIALIZATION}
        await self._retries.run(lambda: self._apply_whole(events, batch, replay=replay), kinds)

    async def _apply_whole(self, events: Sequence[ChangeEvent], batch: Batch, *, replay: bool) -> None:
        plain = True
        room = self._resolver.room(xids_of(events) if replay else None)
        while True:
            try:
                await self._commit(self.unapplied(events), batch, plain=plain, room=room)
            except ReplicatorError as error:
                if error.action is not Action.ISOLATE:
                    raise
                # By upsert, as a row born here may have been written from a snapshot; and with room for those that
                # exchange a unique value.
                if error.kind is ErrorKind.UNIQUE and (room.learn(error) or plain):
                    if plain:
                        self._applier.expect_rows(await self._head())
                    plain = False
                    continue
                if not replay:
                    raise
                break
            else:
                return
        await self.replay(self.unapplied(events), batch)

    async def _commit(
        self, events: Sequence[ChangeEvent], batch: Batch, *, plain: bool = True, room: Room | None = None
    ) -> None:
        """One transaction for these events, and the batch's position."""
        progress = Progress(batch)
        sorted_events = self._parking.sort(events)
        prepared = self._applier.prepare(sorted_events.free, plain=plain)
        async with self._target.transaction(self.number) as tx:
            await self._applier.apply(tx, prepared, progress.applied, room)
            await self._park(tx, sorted_events, progress)
            durable = self.durability.wanted()
            await tx.checkpoint(self._progress(batch.position), batch.commit_time, durable=durable)
        self._committed(batch.position, progress, batch.transactions, durable=durable)

    async def _park(self, tx: TargetTransaction, sorted_events: Sorted, progress: Progress) -> None:
        if sorted_events.voided:
            await tx.void(sorted_events.voided)
            progress.void(sorted_events.voided)
        if sorted_events.letters:
            await tx.park(sorted_events.letters)
            progress.parked += parked_by(sorted_events.letters)

    def unapplied(self, events: Sequence[ChangeEvent]) -> Sequence[ChangeEvent]:
        """Those that lie after this lane's position (another lane's may be further back)."""
        if not events or self.position is None or position_of(events[0]) > self.position:
            return events
        return [event for event in events if position_of(event) > self.position]

    def _committed(self, position: Position, progress: Progress, transactions: int, *, durable: bool = True) -> None:
        self.position = position
        if durable:
            self.durability.committed(position)
        if progress.parked or progress.voided:
            kept = {one: n for one, n in self._parking.parked.items() if one[0] not in progress.voided}
            self._parking.parked = Counter(kept) + progress.parked
        batch = progress.batch
        self._status.applied(
            time.time(),
            position=self._format(position),
            rows=progress.applied.rows,
            transactions=transactions,
            commit_time=batch.commit_time if transactions or progress.applied.rows else None,
            seconds=time.monotonic() - progress.started,
            lane=self.number,
            first_commit_time=batch.first_commit_time,
        )
        if progress.parked or progress.voided:
            self._status.dead_letters = self._parking.parked.total()
        if progress.deferred:
            self._resolver.deferred.set()

    # -- a transaction larger than a batch ---------------------------------------------------------------------------

    async def _apply_part(self, batch: Batch) -> None:
        """Apply a part in a target transaction that stays open until the source transaction's end has come.

        Its stripes can't be known at its start, so it takes the gate alone. Any error but a data error of one event
        undoes all of it; the source then sends it again from the checkpoint.
        """
        if self._open is None:
            stack = AsyncExitStack()
            tx = await stack.enter_async_context(self._target.transaction(self.number))
            self._open = (stack, tx, Progress(batch))
        stack, tx, progress = self._open
        progress.batch = batch
        try:
            if not progress.locked:
                await tx.lock_all()
                progress.locked = True
            await self._part(tx, self.unapplied(batch.events), progress)
            progress.transactions += batch.transactions
            if batch.complete:
                await tx.checkpoint(self._progress(batch.position), batch.commit_time)
        except BaseException as error:
            self._open = None
            await stack.__aexit__(type(error), error, error.__traceback__)
            if isinstance(error, ReplicatorError) and error.kind in WITH_THE_BATCH:
                raise undone(error) from error
            raise
        if batch.complete:
            self._open = None
            await stack.aclose()
            self._committed(batch.position, progress, progress.transactions)

    async def _part(self, tx: TargetTransaction, events: Sequence[ChangeEvent], progress: Progress) -> None:
        sorted_events = self._parking.sort(events, progress.parked, progress.voided)
        applied = Applied()
        try:
            prepared = self._applier.prepare(sorted_events.free, plain=False)
            async with tx.savepoint():
                await self._applier.apply(tx, prepared, applied)
        except ReplicatorError as error:
            if error.action is not Action.ISOLATE:
                raise
            for event in events:
                await self._one(tx, event, progress)
        else:
            progress.applied.merge(applied)
            await self._park(tx, sorted_events, progress)

    async def ping(self) -> None:
        """Keep an open transaction's session alive while the source is slow."""
        if self._open is not None:
            await self._open[1].ping()

    async def abandon(self) -> None:
        """Roll back an open transaction: its rest will not come in this session."""
        if self._open is not None:
            stack, self._open = self._open[0], None
            error = asyncio.CancelledError("the feed ends inside a source transaction")
            await stack.__aexit__(type(error), error, None)

    @property
    def in_transaction(self) -> bool:
        """Whether a target transaction is open, waiting for the rest of a source transaction."""
        return self._open is not None

    # -- replay ------------------------------------------------------------------------------------------------------

    async def replay(self, events: Sequence[ChangeEvent], batch: Batch) -> None:
        """Apply a batch that failed on data, in ever smaller runs of whole source transactions.

        Everything before the guilty event's transaction is committed when this raises.
        """
        transactions = [list(group) for _, group in groupby(events, key=lambda event: id(event.transaction))]
        await self._replay_run(transactions, batch)
        if self.position is None or batch.position > self.position:
            await self._commit((), replace(batch, transactions=0))

    async def _replay_run(self, transactions: Sequence[list[ChangeEvent]], batch: Batch) -> None:
        """A run that is known to fail: its halves each at once, and a half that fails likewise."""
        if len(transactions) == 1:
            await self._replay_events(transactions[0], batch)
            return
        middle = len(transactions) // 2
        for half in (transactions[:middle], transactions[middle:]):
            if half and not await self._commit_run(half, batch, transactions=_transactions(half)):
                await self._replay_run(half, batch)

    async def _commit_run(self, runs: Sequence[list[ChangeEvent]], batch: Batch, *, transactions: int) -> bool:
        """Apply events at once; False when one of their rows is refused, and nothing is done."""
        progress = Progress(batch)
        at, last = position_of(runs[-1][-1]), runs[-1][-1].transaction
        try:
            sorted_events = self._parking.sort([event for events in runs for event in events])
            prepared = self._applier.prepare(sorted_events.free, plain=False)
            async with self._target.transaction(self.number) as tx:
                await self._applier.apply(tx, prepared, progress.applied)
                await self._park(tx, sorted_events, progress)
                durable = self.durability.wanted()
                await tx.checkpoint(self._progress(at), last.commit_time, durable=durable)
        except ReplicatorError as error:
            if error.action is not Action.ISOLATE:
                raise
            return False
        self._committed(at, progress, transactions, durable=durable)
        return True

    async def _replay_events(self, events: Sequence[ChangeEvent], batch: Batch) -> None:
        """One source transaction, event by event, in one transaction of the target."""
        progress = Progress(batch)
        at = position_of(events[-1])
        async with self._target.transaction(self.number) as tx:
            for event in events:
                await self._one(tx, event, progress)
            durable = self.durability.wanted()
            await tx.checkpoint(self._progress(at), events[-1].transaction.commit_time, durable=durable)
        self._committed(at, progress, 1, durable=durable)

    async def replay_run(self, events: Sequence[ChangeEvent], batch: Batch) -> bool:
        """Apply some events in one transaction; False when a row is refused, and nothing is done. For several lanes."""
        return await self._commit_run([list(events)], batch, transactions=0)

    async def replay_one(self, event: ChangeEvent, batch: Batch) -> None:
        """Apply one event in a transaction of its own; for several lanes whose parts failed on each other."""
        progress = Progress(batch, beside=True)
        at = position_of(event)
        async with self._target.transaction(self.number) as tx:
            await self._one(tx, event, progress)
            durable = self.durability.wanted()
            await tx.checkpoint(self._progress(at), event.transaction.commit_time, durable=durable)
        self._committed(at, progress, 0, durable=durable)

    async def _one(self, tx: TargetTransaction, event: ChangeEvent, progress: Progress) -> None:
        """One event in a savepoint: applied, resolved, parked, or the error that names it."""
        sorted_events = self._parking.sort((event,), progress.parked, progress.voided)
        await self._park(tx, sorted_events, progress)
        try:
            prepared = self._applier.prepare(sorted_events.free, plain=False)
            await self._in_savepoint(tx, event, prepared, progress)
        except ReplicatorError as error:
            if error.action is not Action.ISOLATE:
                raise
            final = await self._resolved(tx, event, error, progress)
            if final is None:
                return
            if not self._settings.dead_letters or event.op is Op.TRUNCATE:
                raise self._named(event, final) from final
            letters = self._parking.letters_of_error(event, final)
            await tx.park(letters)
            progress.parked += parked_by(letters)

    async def _in_savepoint(
        self, tx: TargetTransaction, event: ChangeEvent, prepared: Sequence[Prepared], progress: Progress
    ) -> None:
        applied = Applied()
        async with tx.savepoint():
            await self._applier.apply(tx, prepared, applied)
            for table in self._applier.targets_of(event):
                await tx.check(table)
        progress.applied.merge(applied)

    async def _resolved(
        self, tx: TargetTransaction, event: ChangeEvent, error: ReplicatorError, progress: Progress
    ) -> ReplicatorError | None:
        """None when a unique value that moves was resolved, or it waits for what lies ahead; else what remains."""
        mapping, _ = self._applier.mappings.by_source[event.relation.table]
        unordered = self._settings.unordered and event.op is not Op.TRUNCATE and not mapping.multiset
        if unordered and error.sqlstate == _FOREIGN_KEY:
            await self._defer(tx, event, progress)
            return None
        if error.kind is not ErrorKind.UNIQUE:
            return error
        try:
            xids = xids_of(progress.batch.events) | {event.transaction.xid}
            await self._resolver.resolve(tx, event, error, xids, progress.applied)
        except ReplicatorError as remaining:
            if remaining.action is not Action.ISOLATE:
                raise
            if unordered and remaining.sqlstate == _FOREIGN_KEY:
                pass
            elif not isinstance(remaining, OrphanError) or not (
                unordered or progress.beside or self._applier.written_ahead(event)
            ):
                return remaining
            # The row in the way is newer than this event, or of another partition: its end lies ahead.
            await self._defer(tx, event, progress)
        return None

    async def _defer(self, tx: TargetTransaction, event: ChangeEvent, progress: Progress) -> None:
        await self._resolver.defer(tx, event)
        progress.deferred = True

    def _named(self, event: ChangeEvent, error: ReplicatorError) -> ReplicatorError:
        """The error with the event's place."""
        keys = None
        if event.op is not Op.TRUNCATE:
            _, touched = self._parking.keys_of(event)
            keys = text_key(touched[-1]) if touched and touched[-1] else None
        return named(event, error, key=keys, place=self._format(position_of(event)))


def _transactions(runs: Sequence[list[ChangeEvent]]) -> int:
    """How many source transactions: from a log each event is applied by itself, and several are of one."""
    return len({events[0].transaction.xid or id(events) for events in runs if events[0].op is not Op.READ})
