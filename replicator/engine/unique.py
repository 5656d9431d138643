"""Unique values that move: a row is refused because another still holds a value that it has given up at the source.

No retry helps: the other row's change lies later in the stream (or in another chunk of a backfill). So both aggregates
are read in ONE snapshot of the source and written from it; later events of theirs are applied over it and converge.
Where both claim the value there too, it is a data error. A row without a source behind it is never touched: where its
delete may lie ahead (the row came from a newer snapshot, or from another lane), the refused aggregate is deferred until
the feed has passed it; see `deferred.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from replicator.engine.apply import Applied, Applier
from replicator.engine.derive import AggregateReader, nothing
from replicator.engine.exchange import exchanged
from replicator.engine.room import Room
from replicator.engine.translation import source_keys, translated
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import ChangeEvent, Key, Op
from replicator.planner import plan_outcomes, plan_rows

if TYPE_CHECKING:
    from replicator.copies import BackfillStore, ChunkTarget
    from replicator.mapping import Mapping, Mappings, SourceAggregate
    from replicator.ports import Reader, SourceSnapshot, TargetTransaction
    from replicator.writes import Write

_CHAIN_MAX: Final = 20  # rows that stand in each other's way; those of a longer chain all go, and come again


class _Blocked(Exception):  # noqa: N818 - control flow: one aggregate's row stands in another's way
    def __init__(self, error: ReplicatorError, keys: list[Key]) -> None:
        super().__init__(str(error))
        self.error = error
        self.keys = keys  # of the source, of the aggregates in the way


class OrphanError(ReplicatorError):
    """The row that holds the value has no row of the source behind it: not any more, or not at all."""


class UniqueResolver:
    """Writes aggregates that exclude each other on the target from one snapshot of the source.

    Attributes:
        deferred: set when the feed has committed a deferred aggregate.

    """

    def __init__(
        self, applier: Applier, mappings: Mappings, reader: Reader, rows: ChunkTarget, store: BackfillStore
    ) -> None:
        self.deferred = asyncio.Event()
        self._applier = applier
        self._rows = rows
        self._store = store
        self._mappings = mappings
        self._reader = reader
        self._aggregates = AggregateReader(reader)

    async def resolve(
        self,
        tx: TargetTransaction,
        event: ChangeEvent,
        error: ReplicatorError,
        xids: Collection[int],
        applied: Applied,
    ) -> None:
        """Settle the aggregates of an event that was refused with UNIQUE.

        Args:
            tx: the event's.
            event: refused.
            error: with this.
            xids: the transactions of its batch: what is in the way may have been written by any of them.
            applied: is added to.

        Raises:
            ReplicatorError: DATA, when it is no moving value: both rows claim it at the source, or no source row
                stands behind the one in the way, or the index can't be asked which row that is.

        """
        mapping, side = self._mappings.by_source[event.relation.table]
        if mapping.multiset or event.op is Op.TRUNCATE:
            raise error
        keys = self._applier.reducer.keys.of_event(side, event)
        await self.settle(tx, mapping, keys, xids, applied)

    def room(self, xids: Collection[int] | None) -> Room:
        """Room for one batch of these transactions; None: beside other lanes."""
        return Room(self, self._mappings, self._rows, xids)

    async def defer(self, tx: TargetTransaction, event: ChangeEvent) -> None:
        """Leave the aggregates of an event to `DeferredAggregates`, once the feed has passed what lies ahead."""
        mapping, side = self._mappings.by_source[event.relation.table]
        await self._store.defer(tx, mapping.name, self._applier.reducer.keys.of_event(side, event))

    async def settle(
        self, tx: TargetTransaction, mapping: Mapping, keys: Sequence[Key], xids: Collection[int], applied: Applied
    ) -> None:
        """Settle these aggregates of one mapping; `resolve` says what it raises."""
        await tx.lock_all()  # the aggregates in the way aren't known yet, so neither are their stripes
        async with self._reader.snapshot(xids) as snapshot:
            found = await self._read(snapshot, mapping, keys)
            if not await self._chain(tx, snapshot, mapping, found, applied) and not await self._together(
                tx, snapshot, mapping, found, applied
            ):
                self._may_delete(mapping)
                async with tx.savepoint():
                    await self._exchange(tx, snapshot, mapping, found, applied)
            self._applier.raise_floor(snapshot.insert_lsn, mapping)

    async def _chain(
        self,
        tx: TargetTransaction,
        snapshot: SourceSnapshot,
        mapping: Mapping,
        found: dict[Key, SourceAggregate | None],
        applied: Applied,
    ) -> bool:
        """Write those that are waited for before those that wait for them; False where they wait in a circle."""
        waiting = list(found)
        for _ in range(_CHAIN_MAX):
            try:
                async with tx.savepoint():
                    for key in waiting:
                        await self._one(tx, mapping, key, found[key], applied)
            except _Blocked as blocked:
                new = await self._further(snapshot, mapping, found, blocked)
                if not new:
                    return False
                waiting = [*new, *waiting]
            else:
                return True
        return False

    async def _together(
        self,
        tx: TargetTransaction,
        snapshot: SourceSnapshot,
        mapping: Mapping,
        found: dict[Key, SourceAggregate | None],
        applied: Applied,
    ) -> bool:
        """Write all in one plan, so that rows which exchange values keep what the mapping doesn't carry.

        False where foreign keys would act on rows that are taken away, or where that isn't all.
        """
        if self._applier.deletes_last:
            return False
        for _ in range(_CHAIN_MAX):
            aggregates = [one for one in found.values() if one is not None]
            absent = [key for key, one in found.items() if one is None]
            try:
                async with tx.savepoint():
                    plan = self._applier.plan_aggregates(mapping, aggregates, absent)
                    await self._write(tx, mapping, plan, found, applied)
            except _Blocked as blocked:
                if not await self._further(snapshot, mapping, found, blocked):
                    return False
            else:
                return True
        return False

    async def _exchange(
        self,
        tx: TargetTransaction,
        snapshot: SourceSnapshot,
        mapping: Mapping,
        found: dict[Key, SourceAggregate | None],
        applied: Applied,
    ) -> None:
        """All go, and whoever else is in the way; then all come as the source has them."""
        for key in found:
            await self._one(tx, mapping, key, None, applied)
        waiting = list(found)
        while waiting:
            try:
                await self._one(tx, mapping, waiting[-1], found[waiting[-1]], applied)
            except _Blocked as blocked:
                new = await self._further(snapshot, mapping, found, blocked)
                if not new:
                    why = "and another row holds the value at the source too"
                    raise _claimed(mapping, waiting[-1], blocked.error, why) from blocked
                for key in new:
                    await self._one(tx, mapping, key, None, applied)
                waiting = [*new, *waiting]
            else:
                waiting.pop()

    async def _further(
        self,
        snapshot: SourceSnapshot,
        mapping: Mapping,
        found: dict[Key, SourceAggregate | None],
        blocked: _Blocked,
    ) -> list[Key]:
        """Aggregates in the way that were not read yet: now they are."""
        there = await self._read(snapshot, mapping, [key for key in blocked.keys if key not in found])
        new = [key for key in there if key not in found]
        found.update(there)
        self._behind(mapping, new, found, blocked.error)
        return new

    async def _read(
        self, snapshot: SourceSnapshot, mapping: Mapping, keys: Sequence[Key]
    ) -> dict[Key, SourceAggregate | None]:
        there, absent = await self._aggregates.by_key(snapshot, mapping, keys)
        # What is gone makes room, so it goes first.
        return {**dict.fromkeys(absent), **{one.key: one for one in there}}

    @staticmethod
    def _behind(
        mapping: Mapping, keys: Sequence[Key], found: dict[Key, SourceAggregate | None], error: ReplicatorError
    ) -> None:
        """An aggregate in the way must have a source, else nobody may move it."""
        for key in keys:
            if found[key] is None:
                raise _claimed(
                    mapping,
                    key,
                    error,
                    "and no row of the source stands behind the one that holds the value",
                    kind_of_error=OrphanError,
                )

    def _may_delete(self, mapping: Mapping) -> None:
        targets = {side.table.name for side in mapping.targets}
        for table in self._mappings.target_tables:
            for reference in table.foreign_keys:
                if reference.referenced in targets and table.name not in targets and reference.on_delete in "cnd":
                    raise ReplicatorError(
                        f"rows of {mapping.target.table.name} exchange unique values in a circle, and can't be taken "
                        f"away for it: foreign key {reference.name} of {table.name} would change rows",
                        kind=ErrorKind.DATA,
                        table=str(mapping.target.table.name),
                        hint="grant the replica role to replicator's user, or make the unique constraint deferrable",
                    )

    async def _one(
        self,
        tx: TargetTransaction,
        mapping: Mapping,
        key: Key,
        aggregate: SourceAggregate | None,
        applied: Applied,
    ) -> None:
        """Write one aggregate, or delete it."""
        await self._write(tx, mapping, self._plan(mapping, key, aggregate), (key,), applied)

    async def _write(
        self,
        tx: TargetTransaction,
        mapping: Mapping,
        plan: Sequence[Write],
        keys: Collection[Key],
        applied: Applied,
    ) -> None:
        """Write the plan of these aggregates.

        Raises:
            _Blocked: by others.

        """
        for write in self._applier.order(plan):
            ready = await translated(tx, write)
            try:
                affected = await self._put(tx, ready)
            except ReplicatorError as error:
                if error.kind is not ErrorKind.UNIQUE or error.constraint is None:
                    raise
                raise _Blocked(error, await self._in_the_way(tx, mapping, ready, keys, error)) from error
            applied.add(write, affected)

    async def _put(self, tx: TargetTransaction, write: Write) -> int:
        """Write, with room for rows of the same write that exchange unique values; returns the affected rows."""
        constraints: dict[str, None] = {}
        while True:
            try:
                async with tx.savepoint():
                    apart = await exchanged(tx, self._rows, write, constraints) if constraints else None
                    writes = [write] if apart is None else [apart.rest, apart.whole]
                    affected = sum([(await tx.write(one)).affected for one in writes])
                    await tx.check(write.table)
                    return affected
            except ReplicatorError as error:
                known = error.constraint is None or error.constraint in constraints
                if error.kind is not ErrorKind.UNIQUE or known or self._applier.deletes_last:
                    raise
                constraints[error.constraint or ""] = None

    def _plan(self, mapping: Mapping, key: Key, aggregate: SourceAggregate | None) -> list[Write]:
        if aggregate is not None:
            return self._applier.plan_aggregates(mapping, [aggregate])
        if mapping.function is None:
            relation = self._reader.relation(mapping.root.table)
            return plan_rows(mapping, relation, inserts=(), upserts=(), updates=(), deletes=[key])
        return plan_outcomes(mapping, [nothing(mapping, key)])

    async def _in_the_way(
        self, tx: TargetTransaction, mapping: Mapping, write: Write, own: Collection[Key], error: ReplicatorError
    ) -> list[Key]:
        """Source keys of the aggregates whose rows hold what `write` wants, but for its own."""
        side = next((one for one in mapping.targets if one.table.name == write.table.name), None)
        assert error.constraint is not None
        if side is None:
            raise error
        keys = await self._rows.in_the_way(tx, write, error.constraint, side.key)
        back = await source_keys(self._rows, tx, mapping, side, keys)
        key = next(iter(own))
        if len(back) < len(keys):
            raise _claimed(mapping, key, error, "and the row that holds it is in no key map: no source stands there")
        others = [other for other in back.values() if other not in own]
        if not keys and len(own) == 1:
            raise _claimed(mapping, key, error, "and the row that holds it can't be told")
        return others


def _claimed(
    mapping: Mapping,
    key: Key,
    error: ReplicatorError,
    why: str,
    *,
    kind_of_error: type[ReplicatorError] = ReplicatorError,
) -> ReplicatorError:
    return kind_of_error(
        f"{error.message}: this is no value on its way from one row to another, {why}",
        kind=ErrorKind.DATA,
        table=str(mapping.target.table.name),
        key=tuple(part.decode("utf-8", "replace") for part in key),
        constraint=error.constraint,
        hint="mend the rows at the source, or the unique index on the target",
        sqlstate=error.sqlstate,
    )
