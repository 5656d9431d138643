"""Derive: from rows of the source to outcomes, for feed, backfill, resync and repair alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from replicator.events import Key, Relation, Values
from replicator.keys import Keys
from replicator.mapping import Mapping, NeedsFetch, Outcome, SourceAggregate, SourceRows

if TYPE_CHECKING:
    from replicator.ports import Reader, SourceSnapshot


def single(relation: Relation, key: Key, values: Values) -> SourceAggregate:
    """The aggregate of a mapping with one source table: the row itself."""
    return SourceAggregate(key, (SourceRows(relation, (values,)),))


def nothing(mapping: Mapping, key: Key) -> Outcome:
    """The outcome of an aggregate that is gone."""
    return Outcome(key, [[] for _ in mapping.targets])


def derive(mapping: Mapping, aggregates: Sequence[SourceAggregate]) -> tuple[list[Outcome], list[Key]]:
    """Run the mapping's transform on aggregates.

    Returns:
        The outcomes, and the keys of the aggregates whose transform read a value that the stream didn't carry.

    Raises:
        ReplicatorError: TRANSFORM, naming function, table and key.

    """
    function = mapping.function
    assert function is not None
    outcomes: list[Outcome] = []
    unread: list[Key] = []
    for aggregate in aggregates:
        try:
            outcomes.append(function(aggregate))
        except NeedsFetch:
            unread.append(aggregate.key)
    return outcomes, unread


class AggregateReader:
    """Reads whole aggregates of the source, one statement a table, whatever the number of keys."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._keys = Keys()

    async def by_key(
        self, snapshot: SourceSnapshot, mapping: Mapping, keys: Collection[Key]
    ) -> tuple[list[SourceAggregate], list[Key]]:
        """Read the aggregates of these keys.

        Returns:
            Those that have a root row which the mapping owns, with the root's own text of their key (a child may spell
            it in another way), and the keys of those that have none.

        """
        wanted = list(keys)
        root = mapping.root
        rows = await snapshot.rows(root.table, root.key, wanted, where=mapping.owns_source)
        aggregates = await self.of_roots(snapshot, mapping, rows)
        there = {aggregate.key for aggregate in aggregates}
        absent = [key for key in wanted if key not in there]
        if absent and len(wanted) - len(absent) < len(there):
            stored = await snapshot.as_stored(root.table, root.key, absent)
            absent = [key for key in absent if stored.get(key) not in there]
        return aggregates, absent

    async def of_roots(
        self, snapshot: SourceSnapshot, mapping: Mapping, rows: Sequence[Values]
    ) -> list[SourceAggregate]:
        """The aggregates of root rows that were read in this snapshot: their children are read here."""
        root = mapping.root
        relation = self._reader.relation(root.table)
        key_of = self._keys.getter(relation, root.key)
        keys = [key_of(row) for row in rows]
        children = [await self._children(snapshot, mapping, at, keys) for at in range(1, len(mapping.sources))]
        return [
            SourceAggregate(
                key,
                (
                    SourceRows(relation, (row,)),
                    *(SourceRows(shape, by_key.get(key, ())) for shape, by_key in children),
                ),
            )
            for key, row in zip(keys, rows, strict=True)
        ]

    async def _children(
        self, snapshot: SourceSnapshot, mapping: Mapping, at: int, keys: Sequence[Key]
    ) -> tuple[Relation, dict[Key, list[Values]]]:
        """The rows of a child table by their root's key, in the root's own text."""
        side, root = mapping.sources[at], mapping.root
        shape = self._reader.relation(side.table)
        by_key: defaultdict[Key, list[Values]] = defaultdict(list)
        if keys:
            key_of = self._keys.getter(shape, side.key)
            rows = [(key_of(row), row) for row in await snapshot.rows(side.table, side.key, keys)]
            others = {key for key, _ in rows}.difference(keys)
            stored = await snapshot.as_stored(root.table, root.key, list(others))
            for key, row in rows:
                by_key[stored.get(key, key)].append(row)
        return shape, by_key
