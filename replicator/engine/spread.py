"""Spread: one batch over several lanes, by hash of the aggregate's key, and all lanes together again at its end.

A batch is the unit: every lane commits its part with its own checkpoint, at the batch's position. What lanes refuse
because of each other (a unique value that moves between rows of two lanes) is replayed in the order of the events
when all have ended. TRUNCATE is a barrier: every lane reaches it, then it is applied alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from replicator.engine.apply import stripe
from replicator.engine.parking import position_of
from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.events import Batch, ChangeEvent, Key, Op, Position

if TYPE_CHECKING:
    from replicator.engine.apply import Applier
    from replicator.engine.lane import Lane
    from replicator.mapping import Mapping, Mappings

_ALIGN_SECONDS = 1.0  # lanes without work move their checkpoint this often, so that they don't hold back the slot


class Spread:
    """The lanes of one feed."""

    def __init__(self, lanes: Sequence[Lane], applier: Applier, mappings: Mappings) -> None:
        self._lanes = lanes
        self._applier = applier
        self._by_source = mappings.by_source
        self._reached: Position | None = None
        self._aligned_at = 0.0

    def durable(self) -> Position | None:
        """What every lane's checkpoint has passed for good: this much may be confirmed to the source."""
        return _lowest([lane.durability.position for lane in self._lanes])

    def reached(self) -> Position | None:
        """What is applied: a lane without an event in a batch has reached its end too."""
        if len(self._lanes) == 1:
            return self._lanes[0].position
        return self._reached or _lowest([lane.position for lane in self._lanes])

    @property
    def level(self) -> bool:
        """Whether `align` can bring all lanes to one position: none is further than what is applied by all."""
        reached = self.reached()
        return reached is None or all(lane.position is None or lane.position <= reached for lane in self._lanes)

    async def align(self) -> None:
        """Bring every lane's checkpoint to the same position for good, where one is known to be applied by all."""
        reached = self.reached()
        if reached is not None:
            for lane in self._lanes:
                if not lane.in_transaction:
                    await lane.apply(Batch([], reached))

    async def apply(self, batch: Batch) -> None:
        """Apply a batch with all lanes.

        Raises:
            ReplicatorError: as `Lane.apply`; what other lanes have committed stays, and isn't applied again.

        """
        batch = replace(batch, events=list(batch.events))  # they are compared by identity
        for run, barrier in _runs(batch.events):
            if barrier:
                await self._alone(run, batch)
            elif run:
                await self._together(run, batch)
        self._reached = batch.position
        now = asyncio.get_running_loop().time()
        if now - self._aligned_at >= _ALIGN_SECONDS or not batch.events:
            self._aligned_at = now
            await self.align()

    async def _together(self, events: Sequence[ChangeEvent], batch: Batch) -> None:
        parts = self._split(events)
        at = position_of(events[-1]) if events[-1] is not batch.events[-1] else batch.position
        refused: list[Lane] = []

        ended = batch.transactions if at == batch.position else 0

        async def one(lane: Lane, part: list[ChangeEvent], transactions: int) -> None:
            share = replace(batch, events=part, position=at, complete=True, transactions=transactions)
            try:
                await lane.apply(share, replay=False)
            except ReplicatorError as error:
                # Lanes whose unique values move wait for each other, too: one after the other they don't.
                if error.action is not Action.ISOLATE and error.kind is not ErrorKind.SERIALIZATION:
                    raise
                refused.append(lane)

        try:
            async with asyncio.TaskGroup() as group:
                for number, (lane, part) in enumerate(parts.items()):
                    group.create_task(one(lane, part, 0 if number else ended))
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        if refused:
            await self._in_order(refused, parts, replace(batch, position=at, complete=True))

    async def _in_order(self, refused: Sequence[Lane], parts: dict[Lane, list[ChangeEvent]], batch: Batch) -> None:
        """What lanes refused, in the source's order as one lane would do it; in halves, so that few go one by one."""
        events = [(event, lane) for lane in refused for event in parts[lane]]
        events.sort(key=lambda pair: position_of(pair[0]))
        if not await self._at_once(events, batch):
            await self._halves(events, batch)

    async def _halves(self, events: Sequence[tuple[ChangeEvent, Lane]], batch: Batch) -> None:
        left = [(event, lane) for event, lane in events if lane.unapplied((event,))]
        if len(left) == 1:
            ((event, lane),) = left
            await lane.replay_one(event, batch)
            return
        middle = len(left) // 2
        for half in (left[:middle], left[middle:]):
            if not await self._at_once(half, batch):
                await self._halves(half, batch)

    @staticmethod
    async def _at_once(events: Sequence[tuple[ChangeEvent, Lane]], batch: Batch) -> bool:
        """Each lane's share in one transaction; False when one of them is refused still."""
        shares: dict[Lane, list[ChangeEvent]] = {}
        for event, lane in events:
            shares.setdefault(lane, []).append(event)
        return all([await lane.replay_run(share, batch) for lane, share in shares.items()])

    async def _alone(self, events: Sequence[ChangeEvent], batch: Batch) -> None:
        """A TRUNCATE: all lanes have reached it; the first applies it."""
        before = position_of(events[0])
        at = position_of(events[-1])
        for lane in self._lanes[1:]:
            # Their checkpoints move up to it first: a crash in between must not let them apply older rows after it.
            if lane.position is None or lane.position < before:
                await lane.apply(Batch([], before._replace(ordinal=before.ordinal - 1)))
        await self._lanes[0].apply(replace(batch, events=list(events), position=at, complete=True, transactions=0))

    def _split(self, events: Sequence[ChangeEvent]) -> dict[Lane, list[ChangeEvent]]:
        parts: dict[Lane, list[ChangeEvent]] = {}
        for event in events:
            mapping, side = self._by_source[event.relation.table]
            if mapping.multiset:
                parts.setdefault(self._lane(mapping, ()), []).append(event)
                continue
            keys = self._applier.reducer.keys.of_event(side, event)
            lanes = [self._lane(mapping, key) for key in keys]
            if len(set(lanes)) <= 1 or mapping.reads_back:
                for lane in dict.fromkeys(lanes):
                    parts.setdefault(lane, []).append(event)
                continue
            # A row that moves to another lane: gone there, born here. Values that the stream left out are fetched.
            gone = event._replace(op=Op.DELETE, after=None)
            born = event._replace(op=Op.INSERT, before=None)
            parts.setdefault(lanes[0], []).append(gone)
            parts.setdefault(lanes[1], []).append(born)
        return parts

    def _lane(self, mapping: Mapping, key: Key) -> Lane:
        return self._lanes[stripe(mapping, key) % len(self._lanes)]


def _lowest(positions: Sequence[Position | None]) -> Position | None:
    known = [position for position in positions if position is not None]
    return min(known) if len(known) == len(positions) else None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of several lanes' errors; the others are of the same cause, or show again in the next session."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _runs(events: Sequence[ChangeEvent]) -> list[tuple[list[ChangeEvent], bool]]:
    """Cut at every TRUNCATE: runs of rows (False) and runs of TRUNCATE events (True)."""
    runs: list[tuple[list[ChangeEvent], bool]] = []
    for event in events:
        barrier = event.op is Op.TRUNCATE
        if not runs or runs[-1][1] is not barrier:
            runs.append(([], barrier))
        runs[-1][0].append(event)
    return runs
