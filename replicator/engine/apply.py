"""Apply: from a batch's events to writes in one target transaction.

    events ──reduce──▶ segments ──derive──▶ outcomes ──plan──▶ writes ──translate──▶ target
                          │                    ▲
                          └── keys to read ────┘  (aggregates of several tables, values that the stream left out)

`Applier.prepare` is pure and runs before the transaction begins; what must be read is read inside it, after the
aggregates' locks are taken: lock on the target, then read the source, then write.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from replicator.engine.derive import AggregateReader, derive, nothing, single
from replicator.engine.reduced import deleted, joined, key_at, together
from replicator.engine.translation import translated
from replicator.errors import ReplicatorError
from replicator.events import ChangeEvent, Key, Op
from replicator.planner import order_writes, plan_multiset, plan_outcomes, plan_rows, plan_truncate
from replicator.reduction import Reduced, Reducer, Segment
from replicator.runs import oldest_of
from replicator.writes import Write, WriteAction

if TYPE_CHECKING:
    from replicator.engine.room import Room
    from replicator.mapping import Mapping, Mappings, Outcome, SourceAggregate
    from replicator.ports import Reader, SourceSnapshot, TargetTransaction
    from replicator.tables import Table

STRIPES: Final = 1024
"""Advisory locks per connector: one a key would exhaust the shared lock table (15,000 did, for everybody)."""
OPERATIONS: Final = {
    WriteAction.INSERT: "insert",
    WriteAction.APPEND: "insert",
    WriteAction.UPSERT: "update",
    WriteAction.UPDATE: "update",
    WriteAction.MERGE: "update",
    WriteAction.DELETE: "delete",
    WriteAction.PRUNE: "delete",
    WriteAction.REMOVE: "delete",
    WriteAction.TRUNCATE: "delete",
    WriteAction.CLEAR: "delete",
}
"""What a write counts as in status and metrics: an upsert is an update of what the target should have."""
_NOT_TRUNCATED: Final = frozenset({"0A000", "42501"})
"""`cannot truncate a table referenced in a foreign key constraint`; no right to TRUNCATE, which DELETE does as well."""
_CHUNK_ROWS: Final = 5_000  # aggregates read at once when a truncated child table makes all be derived again


def stripe(mapping: Mapping, key: Key) -> int:
    """The hash stripe of an aggregate: the same in every process and version."""
    return zlib.crc32(b"\x00".join((mapping.name.encode(), *key))) % STRIPES


@dataclass(slots=True)
class Prepared:
    """One segment, as far as it could be planned without reading anything.

    Attributes:
        writes: planned writes.
        fetches: by mapping, keys to read from the source.
        xids: transactions that the reads must see.
        truncated: a barrier: these mappings' targets are emptied, and
        rederived: all aggregates of these are derived again.
        unfiltered: what is left of mappings that own a part of their table: the source says which rows are theirs.
        first: commit LSN of the batch's first transaction; rows born later may be written by plain INSERT. 0: none.

    """

    writes: list[Write] = field(default_factory=list)
    fetches: dict[Mapping, set[Key]] = field(default_factory=dict)
    xids: set[int] = field(default_factory=set)
    truncated: list[Mapping] = field(default_factory=list)
    rederived: list[Mapping] = field(default_factory=list)
    unfiltered: list[Reduced] = field(default_factory=list)
    first: int = 0


@dataclass(slots=True)
class Applied:
    """What was written, for status and metrics: affected rows by target table and operation."""

    rows: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, write: Write, affected: int) -> None:
        """Count one write."""
        at = (str(write.table.name), OPERATIONS[write.action])
        self.rows[at] = self.rows.get(at, 0) + affected

    def merge(self, other: Applied) -> None:
        """Count what was done beside."""
        for at, rows in other.rows.items():
            self.rows[at] = self.rows.get(at, 0) + rows


class Applier:
    """Applies events of one feed. Stateless but for caches and the insert floors; shared by its lanes.

    Attributes:
        deletes_last: foreign keys act on deletes, so they wait.
        transforms: whether any mapping runs a user's function.
        transform_seconds: how long they have run so far.
        ahead: how often something has been written from a snapshot of the source, which may show more than the feed
            has passed.

    """

    def __init__(self, mappings: Mappings, reader: Reader) -> None:
        self.mappings = mappings
        self.reducer = Reducer(mappings)
        self._reader = reader
        self._aggregates = AggregateReader(reader)
        self._floors: dict[str, int] = {}
        self._floor = 0
        self._copied = 0
        self.deletes_last = False
        self.transforms = any(mapping.function is not None for mapping in mappings.all)
        self.transform_seconds = 0.0
        self.ahead = 0
        self._view: SourceSnapshot | None = None

    @contextmanager
    def viewing(self, snapshot: SourceSnapshot) -> Iterator[None]:
        """Read the source in this snapshot, which sees all that is applied meanwhile."""
        self._view = snapshot
        try:
            yield
        finally:
            self._view = None

    def targets_of(self, event: ChangeEvent) -> list[Table]:
        """The target tables of an event's mapping."""
        mapping, _ = self.mappings.by_source[event.relation.table]
        return [side.table for side in mapping.targets]

    def order(self, writes: Sequence[Write]) -> list[Write]:
        """The writes in the order of execution. Where foreign keys act on a delete (no replica role), deletes wait."""
        return order_writes(writes, self.mappings.target_tables, deletes_last=self.deletes_last)

    # -- what may be a plain INSERT ----------------------------------------------------------------------------------

    def raise_floor(self, lsn: int, mapping: Mapping | None = None) -> None:
        """Rows born before `lsn` may already be on the target: something wrote from a snapshot taken before it."""
        self.ahead += 1
        if mapping is None:
            self._floor = max(self._floor, lsn)
        else:
            self._floors[mapping.name] = max(self._floors.get(mapping.name, 0), lsn)

    def expect_rows(self, lsn: int) -> None:
        """Rows born before `lsn` are likely on the target: a copy wrote them, or a plain INSERT has met one."""
        self._copied = max(self._copied, lsn)

    def _plain(self, mapping: Mapping, commit_lsn: int) -> bool:
        """Whether plain INSERT is worth trying. Who held the feed before has written little beside its copies; where
        a row is there nevertheless, the INSERT is refused, and the batch is applied again by upsert.
        """
        return commit_lsn > self._copied and commit_lsn > self._floors.get(mapping.name, 0)

    def written_ahead(self, event: ChangeEvent) -> bool:
        """Whether rows of the event's mapping may be on the target in a newer state, from a snapshot."""
        mapping, _ = self.mappings.by_source[event.relation.table]
        return event.transaction.commit_lsn <= max(self._floor, self._floors.get(mapping.name, 0))

    # -- pure --------------------------------------------------------------------------------------------------------

    def prepare(self, events: Sequence[ChangeEvent], *, plain: bool = True) -> list[Prepared]:
        """Reduce and plan a batch.

        Args:
            events: of mapped tables, none of whose aggregates is parked.
            plain: whether rows that were born in the batch may be written by plain INSERT.

        Raises:
            ReplicatorError: TRANSFORM, SCHEMA.

        """
        if not events:
            return []
        first = oldest_of(events) if plain else 0
        return [self._prepare(segment, first) for segment in self.reducer.split(events)]

    def _prepare(self, segment: Segment, first: int) -> Prepared:
        prepared = Prepared(xids=set(segment.xids), first=first)
        for table in segment.truncated:
            mapping, side = self.mappings.by_source[table]
            if side is mapping.root:
                prepared.truncated.append(mapping)
            else:
                prepared.rederived.append(mapping)
        for reduced in segment.reduced:
            if reduced.mapping.asks_source:
                prepared.unfiltered.append(reduced)
            else:
                self._plan(prepared, reduced)
        return prepared

    def _plan(self, prepared: Prepared, reduced: Reduced) -> None:
        if reduced.mapping.multiset:
            writes = plan_multiset(reduced.mapping, reduced.relation, reduced.adds, reduced.removes)
        elif reduced.mapping.function is None:
            writes = self._plan_same_shape(reduced, prepared.first)
        else:
            writes = self._plan_transformed(reduced, prepared.first)
        prepared.writes.extend(writes)
        if reduced.fetches:
            prepared.fetches.setdefault(reduced.mapping, set()).update(reduced.fetches)
        prepared.xids |= reduced.xids

    def _plan_same_shape(self, reduced: Reduced, first: int) -> list[Write]:
        inserts = together(reduced, Op.INSERT, reduced.inserts.values())
        upserts = together(reduced, Op.UPDATE, reduced.upserts.values())
        if inserts and not self._plain(reduced.mapping, first):
            inserts, upserts = (), joined(reduced, [inserts, upserts])
        return plan_rows(
            reduced.mapping,
            reduced.relation,
            inserts=inserts,
            upserts=upserts,
            updates=list(reduced.updates.values()),
            deletes=deleted(reduced),
        )

    def _plan_transformed(self, reduced: Reduced, first: int) -> list[Write]:
        mapping, relation = reduced.mapping, reduced.relation
        whole = {**reduced.inserts, **reduced.upserts}
        outcomes, unread = self._derive(mapping, [single(relation, key, row) for key, row in whole.items()])
        reduced.fetches.update(unread)
        if len(mapping.targets) == 1:
            partial = [single(relation, key, row) for key, row in reduced.updates.items()]
            some, unread = self._derive(mapping, partial)
            outcomes.extend(some)
            reduced.fetches.update(unread)
        else:  # rows of several tables can't be told apart by what an update left out
            reduced.fetches.update(reduced.updates)
        outcomes.extend(nothing(mapping, key) for key in reduced.deletes)
        fresh = reduced.inserts.keys() if self._plain(mapping, first) else ()
        return plan_outcomes(mapping, outcomes, fresh=fresh)

    def _derive(self, mapping: Mapping, aggregates: Sequence[SourceAggregate]) -> tuple[list[Outcome], list[Key]]:
        began = time.perf_counter()
        try:
            return derive(mapping, aggregates)
        finally:
            self.transform_seconds += time.perf_counter() - began

    # -- in the target transaction -----------------------------------------------------------------------------------

    async def apply(
        self, tx: TargetTransaction, prepared: Iterable[Prepared], applied: Applied, room: Room | None = None
    ) -> None:
        """Apply prepared segments in order; with `room`, rows that exchange unique values make room for each other.

        Raises:
            ReplicatorError: whatever reading, transforming or writing raises; the transaction is then to be rolled
                back (to a savepoint of the caller's, or whole).

        """
        for one in prepared:
            if one.truncated or one.rederived:
                await self._apply_truncate(tx, one, applied)
            else:
                await self._apply_segment(tx, one, applied, room)

    async def _apply_segment(
        self, tx: TargetTransaction, prepared: Prepared, applied: Applied, room: Room | None
    ) -> None:
        for reduced in prepared.unfiltered:
            await self._filter(reduced)
            self._plan(prepared, reduced)
        prepared.unfiltered = []
        # Locks first, then the read, then the write: two lanes can't leave the older of two reads behind.
        await tx.lock({stripe(mapping, key) for mapping, keys in prepared.fetches.items() for key in keys})
        writes = list(prepared.writes)
        if prepared.fetches:
            writes.extend(await self._read(prepared.fetches, prepared.xids))
        missing = await self._execute(tx, writes, applied, room)
        if missing:
            # An update of a row that isn't there lacks its unchanged values: the row comes whole from the source.
            await self._execute(tx, await self._read(missing, prepared.xids), applied)
        if room is not None:
            await room.settle(tx, applied)

    async def _filter(self, reduced: Reduced) -> None:
        """Rows that the mapping doesn't own, by the source's word, are as good as deleted."""
        mapping = reduced.mapping
        assert mapping.owns_source is not None
        rows = {**reduced.inserts, **reduced.upserts}
        owned = await self._reader.holds(mapping.root.table, reduced.relation, list(rows.values()), mapping.owns_source)
        for key, mine in zip(rows, owned, strict=True):
            if not mine:
                reduced.inserts.pop(key, None)
                reduced.upserts.pop(key, None)
                reduced.deletes.add(key)
        # The predicate may look at a value that the stream left out.
        reduced.fetches |= reduced.updates.keys()
        reduced.updates.clear()

    async def _read(self, wanted: dict[Mapping, set[Key]], xids: Collection[int]) -> list[Write]:
        writes: list[Write] = []
        async with self._snapshot(xids) as snapshot:
            for mapping, keys in wanted.items():
                aggregates, absent = await self._aggregates.by_key(snapshot, mapping, keys)
                writes.extend(self.plan_aggregates(mapping, aggregates, absent))
                self._written_from(snapshot, mapping)
        return writes

    @asynccontextmanager
    async def _snapshot(self, xids: Collection[int]) -> AsyncIterator[SourceSnapshot]:
        if self._view is not None:
            yield self._view
            return
        async with self._reader.snapshot(xids) as snapshot:
            yield snapshot

    def _written_from(self, snapshot: SourceSnapshot, mapping: Mapping) -> None:
        ahead = self.ahead
        self.raise_floor(snapshot.insert_lsn, mapping)
        if snapshot is self._view:
            self.ahead = ahead

    def plan_aggregates(
        self, mapping: Mapping, aggregates: Sequence[SourceAggregate], absent: Sequence[Key] = ()
    ) -> list[Write]:
        """Writes that make the target agree with whole aggregates read from the source, and without absent ones."""
        if mapping.function is None:
            rows = [aggregate.tables[0].rows[0] for aggregate in aggregates]
            relation = self._reader.relation(mapping.root.table)
            return plan_rows(mapping, relation, inserts=(), upserts=rows, updates=(), deletes=list(absent))
        outcomes: list[Outcome]
        outcomes, _ = self._derive(mapping, aggregates)  # what is read from a table is never UNCHANGED
        outcomes.extend(nothing(mapping, key) for key in absent)
        return plan_outcomes(mapping, outcomes)

    async def _execute(
        self, tx: TargetTransaction, writes: Sequence[Write], applied: Applied, room: Room | None = None
    ) -> dict[Mapping, set[Key]]:
        missing: dict[Mapping, set[Key]] = {}
        for write in self.order(writes):
            ready = await translated(tx, write)
            parts = [(write, ready)]
            if room is not None and not self.deletes_last:
                parts = await room.make(tx, write, ready)
            for planned, part in parts:
                result = await tx.write(part)
                applied.add(part, result.affected)
                if result.missing:
                    (mapping,) = self.mappings.named((write.mapping,))
                    # The planned write, unlike the translated one, holds the source's keys.
                    at = tuple(planned.columns.index(name) for name in mapping.target.key)
                    keys = (key_at(planned.rows[place], at) for place in result.missing)
                    missing.setdefault(mapping, set()).update(key for key in keys if key is not None)
        return missing

    async def _apply_truncate(self, tx: TargetTransaction, prepared: Prepared, applied: Applied) -> None:
        await tx.lock_all()
        writes = [write for mapping in prepared.truncated for write in plan_truncate(mapping, self.mappings)]
        try:
            async with tx.savepoint():
                await self._execute(tx, writes, applied)
        except ReplicatorError as error:
            if error.sqlstate not in _NOT_TRUNCATED:
                raise
            # A table that the source doesn't have, or doesn't truncate, refers to one of these: its rows stay.
            cleared = [replace(write, action=WriteAction.CLEAR, also=()) for write in writes]
            await self._execute(tx, cleared, applied)
        for mapping in prepared.rederived:
            if mapping not in prepared.truncated:
                await self._rederive(tx, mapping, prepared.xids, applied)

    async def _rederive(self, tx: TargetTransaction, mapping: Mapping, xids: Collection[int], applied: Applied) -> None:
        """All aggregates again: a child table was truncated, and no event says whose rows those were."""
        async with self._snapshot(xids) as snapshot:
            async for aggregates in self._all(snapshot, mapping):
                await self._execute(tx, self.plan_aggregates(mapping, aggregates), applied)
            self._written_from(snapshot, mapping)

    async def _all(self, snapshot: SourceSnapshot, mapping: Mapping) -> AsyncIterator[list[SourceAggregate]]:
        root, after = mapping.root, None
        while True:
            upto = await snapshot.count_before(root.table, root.key, after, _CHUNK_ROWS)
            rows = await snapshot.chunk(root.table, root.key, after, upto, where=mapping.owns_source)
            yield await self._aggregates.of_roots(snapshot, mapping, rows)
            if upto is None:
                return
            after = upto
