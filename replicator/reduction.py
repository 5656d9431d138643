"""Reduction: what is left of a batch's events when the last state of each key wins. Pure.

The result, applied to the target, equals replaying the events one by one (a property test says so). It falls apart into
segments: a TRUNCATE, or a new shape of a table's rows, is a barrier that reduction doesn't cross.

UNCHANGED belongs to a row, not to its key. It survives only where every event of the key in the segment is an
update that keeps the key (then the column is left out of the UPDATE), or it is filled from an earlier event of the
same row, or from a complete old tuple. Otherwise the row is fetched from the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, cast

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, ChangeEvent, Key, Op, Relation, Values
from replicator.keys import KeyOf, Keys, identity_error
from replicator.runs import Run, parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping as MappingType

    from replicator.mapping import Mapping, Mappings, Side
    from replicator.tables import Table, TableName


_relation_of: Final = attrgetter("relation")


@dataclass(slots=True)
class Reduced:
    """What a segment leaves to do for one mapping. Keys are disjoint between the fields.

    Attributes:
        mapping: which.
        relation: the shape of `inserts`, `upserts` and `updates`.
        inserts: final rows whose key was born in this segment.
        upserts: final rows, complete.
        updates: final rows with UNCHANGED values, of keys that the target should have.
        deletes: keys that are gone.
        fetches: keys whose row or aggregate must be read from the source, and
        xids: the transactions that such a read must see.
        adds, removes: multiset mappings: rows to append and to remove, with repetitions.
        runs: events of rows of their own, of the same shape: each key is in one of them alone, and in no other field.
            An INSERT's rows are as `inserts`, an UPDATE's as `upserts`, a DELETE's keys as `deletes`.

    """

    mapping: Mapping
    relation: Relation
    inserts: dict[Key, Values] = field(default_factory=dict)
    upserts: dict[Key, Values] = field(default_factory=dict)
    updates: dict[Key, Values] = field(default_factory=dict)
    deletes: set[Key] = field(default_factory=set)
    fetches: set[Key] = field(default_factory=set)
    xids: set[int] = field(default_factory=set)
    adds: list[Values] = field(default_factory=list)
    removes: list[Values] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)


@dataclass(slots=True)
class Segment:
    """Events between two barriers, reduced; or the barrier itself: tables that are truncated together."""

    reduced: list[Reduced] = field(default_factory=list)
    truncated: list[TableName] = field(default_factory=list)
    xids: set[int] = field(default_factory=set)


class ReshapedError(ReplicatorError):
    """Rows of the stream have columns, or types, that the table didn't have when the mappings were compiled."""

    def __init__(self, relation: Relation, columns: tuple[str, ...]) -> None:
        names = ", ".join(columns)
        super().__init__(
            f"{relation.table} got a new column or type while running: {names}",
            kind=ErrorKind.RESHAPED,
            table=str(relation.table),
            hint="nothing of that change was applied yet; the mappings are compiled again from both catalogs",
        )
        self.relation = relation
        self.columns = columns


def unknown_columns(relation: Relation, table: Table) -> tuple[str, ...]:
    """The columns of a shape that a table doesn't have, or has in another type; not every source knows the types."""
    types: Iterable[tuple[int, int] | None] = repeat(None)
    if relation.typmods:
        types = zip(relation.type_oids, relation.typmods, strict=True)
    unknown = []
    for name, known in zip(relation.columns, types, strict=False):
        column = table.by_name.get(name)
        if column is None or (known is not None and known != (column.type_oid, column.typmod)):
            unknown.append(name)
    return tuple(unknown)


class Reducer:
    """Reduces events of one feed's mappings."""

    def __init__(self, mappings: Mappings) -> None:
        self._by_source = mappings.by_source
        self._known: dict[int, Relation] = {}
        self.keys = Keys()

    def accept(self, relation: Relation) -> None:
        """Take a shape as it is: the table has those columns no longer, or has their former types again."""
        self._known[id(relation)] = relation

    def check(self, events: Sequence[ChangeEvent]) -> None:
        """A shape that is seen first must have no column or type that the mappings don't know, and name its old rows.

        Raises:
            ReshapedError: it has; nothing else happened.
            ReplicatorError: SCHEMA, when a row was updated or deleted whose old key the shape can't tell.

        """
        for relation in set(map(_relation_of, parts_of(events))):  # equal by identity
            if id(relation) in self._known:
                continue
            _, side = self._by_source[relation.table]
            blind = bool(relation.key_columns) and not set(side.key) <= set(relation.key_columns)
            if blind:  # looked at each time: an INSERT does no harm
                _refuse_blind(side, relation, events)
            unknown = unknown_columns(relation, side.table)
            if unknown:
                raise ReshapedError(relation, unknown)
            if not blind:
                self._known[id(relation)] = relation

    def split(self, events: Sequence[ChangeEvent]) -> list[Segment]:
        """Cut a batch at its barriers and reduce what lies between."""
        segments: list[Segment] = []
        groups: _Groups = {}
        group: list[ChangeEvent | Run] = []
        truncate = Op.TRUNCATE
        last: Relation | None = None
        for event in parts_of(events):
            if event.op is truncate:
                self._close(segments, groups)
                groups, last = {}, None
                self._truncate(segments, event)
                continue
            relation = event.relation
            if relation is not last:  # runs of one table are long: its name is looked up once a run
                last = relation
                group = groups.get(relation.table, [])
                if group and group[0].relation is not relation:
                    self._close(segments, groups)
                    group, groups = [], {}
                groups[relation.table] = group
            group.append(event)
        self._close(segments, groups)
        return segments

    def _close(self, segments: list[Segment], groups: _Groups) -> None:
        if groups:
            segments.append(Segment(self._reduce(groups)))

    @staticmethod
    def _truncate(segments: list[Segment], event: ChangeEvent | Run) -> None:
        # TRUNCATE a, b CASCADE comes as consecutive events of one statement; they go together, as foreign keys demand.
        if not (segments and segments[-1].truncated):
            segments.append(Segment())
        segments[-1].truncated.append(event.relation.table)
        segments[-1].xids.add(event.transaction.xid)

    def reduce(self, events: Sequence[ChangeEvent]) -> list[Reduced]:
        """Reduce events between two barriers; every table has one shape, none is truncated."""
        groups: _Groups = {}
        for event in parts_of(events):
            groups.setdefault(event.relation.table, []).append(event)
        return self._reduce(groups)

    def _reduce(self, groups: _Groups) -> list[Reduced]:
        results: dict[str, Reduced] = {}
        for table, parts in groups.items():
            mapping, side = self._by_source[table]
            relation = parts[0].relation
            if mapping.takes_runs:
                settled = self._settle(parts, mapping, side)
                if settled is not None:
                    results[mapping.name] = settled  # of one table alone
                    continue
            group = _events_of(parts)
            reduced = results.get(mapping.name)
            if reduced is None:
                reduced = results[mapping.name] = Reduced(mapping, relation)
            if mapping.reads_back:
                for event in group:
                    reduced.fetches.update(self.keys.of_event(side, event))
                    reduced.xids.add(event.transaction.xid)
            elif mapping.multiset:
                _net(group, reduced)
            else:
                _reduce_rows(group, self.keys.getter(relation, side.key), side, reduced)
        return list(results.values())

    def _settle(self, parts: Sequence[ChangeEvent | Run], mapping: Mapping, side: Side) -> Reduced | None:
        """Leave runs as they are; None where a key comes twice, and order matters, or an old row lacks its key."""
        runs = [part for part in parts if isinstance(part, Run)]
        if not runs:
            return None
        relation = runs[0].relation
        key_of = self.keys.getter(relation, side.key)
        at = [relation.positions[name] for name in side.key]
        keys: set[Any] = set()
        for run in runs:
            keys.update(run.rows.keys(at))
        if len(keys) < sum(map(len, runs)):
            return None
        if any(run.op is Op.DELETE and None in run.rows.column(place) for run in runs for place in at):
            return None
        reduced = Reduced(mapping, relation)
        if len(runs) < len(parts):
            _reduce_rows([part for part in parts if not isinstance(part, Run)], key_of, side, reduced)
            fates = (reduced.inserts, reduced.upserts, reduced.updates, reduced.deletes, reduced.fetches)
            if not all(keys.isdisjoint(fate if len(at) > 1 else (key for (key,) in fate)) for fate in fates):
                return None
        # A snapshot's row replaces whatever is there.
        reduced.runs = [run.as_update() if run.op is Op.READ else run for run in runs]
        return reduced


_Groups = dict["TableName", list[ChangeEvent | Run]]


def _events_of(parts: list[ChangeEvent | Run]) -> list[ChangeEvent]:
    if not any(isinstance(part, Run) for part in parts):
        return cast("list[ChangeEvent]", parts)
    return list(chain.from_iterable(part if isinstance(part, Run) else (part,) for part in parts))


def _refuse_blind(side: Side, relation: Relation, events: Iterable[ChangeEvent]) -> None:
    """An UPDATE that keeps the identity's columns comes without an old tuple, though it may have changed the key."""
    for event in events:
        if event.relation is relation and event.op in (Op.UPDATE, Op.DELETE):
            raise identity_error(side, event)


def _reduce_rows(events: list[ChangeEvent], key_of: KeyOf, side: Side, reduced: Reduced) -> None:
    """The last state of each key wins. One dictionary for each fate; a key is in one of them."""
    inserts, upserts, updates = reduced.inserts, reduced.upserts, reduced.updates
    deletes, fetches = reduced.deletes, reduced.fetches
    insert, delete = Op.INSERT, Op.DELETE
    for event in events:
        op, _, before, after, _, _ = event
        if before is None and after is not None and UNCHANGED not in after:
            # Almost every row comes here. What is empty isn't asked: most segments only insert, or only update.
            key = key_of(after)
            if (deletes and key in deletes) or (fetches and key in fetches) or (updates and key in updates):
                _forget(reduced, key)
                upserts[key] = after
            elif (not upserts or key not in upserts) if op is insert else (inserts and key in inserts):
                inserts[key] = after
            else:
                upserts[key] = after
            continue
        old: Key | None = None
        if before is not None:
            old = key_of(before)
            if None in old:
                raise identity_error(side, event)
        if op is delete:
            if old is None:
                raise identity_error(side, event)
            if inserts or upserts or updates or fetches:
                _forget(reduced, old)
            deletes.add(old)
            continue
        if after is None:  # pragma: no cover - no codec makes such an event
            raise ReplicatorError("an update without a new row", kind=ErrorKind.DECODE, table=str(event.relation.table))
        _update(reduced, key_of, old, after, event)


def _update(reduced: Reduced, key_of: KeyOf, old: Key | None, after: Values, event: ChangeEvent) -> None:
    """An UPDATE, a READ, or an INSERT with UNCHANGED values (a key update that came as delete and create)."""
    whole = UNCHANGED not in after
    if not whole and event.before is not None:
        after = _from_old_tuple(after, event)
        whole = UNCHANGED not in after
    key = key_of(after)
    moved = old is not None and old != key
    # The row's earlier state in this segment, where one is known, fills what the stream left out.
    known = _known(reduced, old if moved and old is not None else key)
    if not whole and known is not None and event.op is Op.UPDATE:
        after = fill(after, known)
        whole = UNCHANGED not in after
        key = key_of(after)
        moved = old is not None and old != key
    was_born = key in reduced.inserts and not moved
    was_partial = key in reduced.updates
    gone = key in reduced.deletes
    fetched = key in reduced.fetches
    if moved and old is not None:
        _forget(reduced, old)
        reduced.deletes.add(old)
    _forget(reduced, key)
    if whole:
        (reduced.inserts if was_born else reduced.upserts)[key] = after
        return
    # What can't be filled may have to be read from the source, which must then see this transaction.
    reduced.xids.add(event.transaction.xid)
    if moved or gone or fetched or event.op is not Op.UPDATE or (known is not None and not was_partial):
        reduced.fetches.add(key)
    else:
        reduced.updates[key] = after


def _from_old_tuple(after: Values, event: ChangeEvent) -> Values:
    """Fill UNCHANGED from the old tuple: all of it with FULL, else the key columns, which alone are not None there."""
    before = event.before or ()
    full = event.relation.replica_identity == "f"
    return tuple(
        old if new is UNCHANGED and (full or old is not None) else new for new, old in zip(after, before, strict=True)
    )


def fill(after: Values, earlier: Values) -> Values:
    """`after` with its UNCHANGED values taken from an earlier state of the same row."""
    return tuple(old if new is UNCHANGED else new for new, old in zip(after, earlier, strict=True))


def _known(reduced: Reduced, key: Key) -> Values | None:
    return reduced.inserts.get(key) or reduced.upserts.get(key) or reduced.updates.get(key)


def _forget(reduced: Reduced, key: Key) -> None:
    reduced.inserts.pop(key, None)
    reduced.upserts.pop(key, None)
    reduced.updates.pop(key, None)
    reduced.deletes.discard(key)
    reduced.fetches.discard(key)


def _net(events: Iterable[ChangeEvent], reduced: Reduced) -> None:
    """A multiset's events add and remove equal rows; what cancels within the segment need not be done."""
    counts: Counter[Values] = Counter()
    for event in events:
        before, after = event.before, event.after
        if before is not None:
            if event.relation.replica_identity != "f":
                raise _multiset_error(event)
            counts[before] -= 1
            if after is not None:
                after = fill(after, before)
        elif event.op in (Op.DELETE, Op.UPDATE):
            raise _multiset_error(event)
        if after is not None:
            counts[after] += 1
    for row, count in counts.items():
        if count > 0:
            reduced.adds.extend([row] * count)
        elif count < 0:
            reduced.removes.extend([row] * -count)


def _multiset_error(event: ChangeEvent) -> ReplicatorError:
    return ReplicatorError(
        f"{event.relation.table} has no key, and an old row of it came incomplete",
        kind=ErrorKind.SCHEMA,
        table=str(event.relation.table),
        hint=f"nothing was applied; ALTER TABLE {event.relation.table} REPLICA IDENTITY FULL, then resync the table",
    )


def event_values(event: ChangeEvent) -> tuple[MappingType[str, str | None] | None, MappingType[str, str | None] | None]:
    """An event's old and new values by column name, as text; UNCHANGED ones left out. For the dead letter queue."""

    def named(values: Values | None) -> dict[str, str | None] | None:
        if values is None:
            return None
        pairs = zip(event.relation.columns, values, strict=True)
        return {
            name: None if value is None else cast("Any", value).decode("utf-8", "replace")
            for name, value in pairs
            if value is not UNCHANGED
        }

    return named(event.before), named(event.after)
