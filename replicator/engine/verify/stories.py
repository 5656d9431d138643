"""Aggregates as they are at one moment, row by row: what the source has, what that demands, what the target holds.

For people (`explain`) and for causes (`investigate`). Nothing is proven here: for that see `looks` and `brackets`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from replicator.engine.verify.compare import META, SideComparer, of_ours, printed
from replicator.engine.verify.demands import Demand, Demands, SourceReads
from replicator.engine.verify.keys import KeyMaps

if TYPE_CHECKING:
    from replicator.engine.verify.brackets import Difference
    from replicator.engine.verify.keys import Row
    from replicator.errors import ReplicatorError
    from replicator.events import Key, Values
    from replicator.mapping import Mapping
    from replicator.tables import Table
    from replicator.verification import Tolerances, VersionedReader


@dataclass(frozen=True)
class FoundRow:
    """A row of a target table.

    Attributes:
        xmin: which transaction wrote it.
        owned: it is the mapping's own, by the connector's predicate.
        values: by column.

    """

    xmin: int
    owned: bool
    values: Row


@dataclass
class SideStory:
    """One target table's rows of an aggregate.

    Attributes:
        table: it.
        key: the aggregate's key in its rows; None where nobody has made it yet.
        expected: what it should hold, keys translated; as the server prints it.
        found: what it holds.
        differences: what is wrong.

    """

    table: Table
    key: Key | None
    expected: list[Row]
    found: list[FoundRow]
    differences: list[Difference] = field(default_factory=list)

    def pair(self, key: Key, comparer: SideComparer) -> tuple[Row, Row] | None:
        """The rows of this key, expected and found; None where there aren't both."""
        names = self.table.key or comparer.side.key

        def of(row: Row) -> tuple[object, ...]:
            return tuple(comparer.equality[name].canonical(row.get(name)) for name in names)

        wanted = tuple(comparer.equality[name].canonical(part) for name, part in zip(names, key, strict=False))
        found = next((one.values for one in self.found if of(one.values) == wanted), None)
        expected = next((one for one in self.expected if of(one) == wanted), None)
        if expected is None and len(self.expected) == 1 == len(self.found):
            expected = self.expected[0]
        return None if found is None or expected is None else (expected, found)

    def writer(self, key: Key, comparer: SideComparer) -> int | None:
        """The xmin of the row of this key."""
        names = self.table.key or comparer.side.key
        for one in self.found:
            if tuple(one.values.get(name) for name in names) == key:
                return one.xmin
        return None


@dataclass
class Story:
    """One aggregate.

    Attributes:
        key: at the source; None where no map has one.
        sources: one list of rows a source table, each with its xmin; None: the source has no such aggregate.
        lsn: of the source's snapshot.
        sides: one a target table.
        error: why it isn't known what the target should hold.
        deferred: the feed says that it isn't done with it.
        letter: number of a dead letter of it.

    """

    key: Key | None
    sources: list[list[FoundRow]] | None
    lsn: int
    sides: list[SideStory]
    error: ReplicatorError | None = None
    deferred: bool = False
    letter: int | None = None

    @property
    def differs(self) -> bool:
        """Whether anything is wrong, as far as is known."""
        return any(side.differences for side in self.sides)


class Stories:
    """Tells the stories of aggregates of one mapping that has a key.

    Args:
        mapping: it.
        source, target: the two databases.
        tolerances: see `verification.Tolerances`.

    """

    def __init__(
        self, mapping: Mapping, source: VersionedReader, target: VersionedReader, tolerances: Tolerances
    ) -> None:
        self.mapping = mapping
        self.comparers = [
            SideComparer(at, side, tolerances.get(side.table.name, {})) for at, side in enumerate(mapping.targets)
        ]
        self.maps = KeyMaps(source)
        self._reads = SourceReads(mapping, source)
        self._demands = Demands(mapping, source, target)
        self._target = target

    async def of(self, keys: Sequence[Key]) -> dict[Key, Story]:
        """The stories of these keys at the source.

        Raises:
            ReplicatorError: CONNECTION, ...

        """
        read = await self._reads.by_key(keys)
        demands = await self._demands.of(read)
        found: defaultdict[int, list[list[Values]]] = defaultdict(lambda: [[] for _ in self.mapping.targets])
        async with self._target.versioned() as snapshot:
            self._demands.translate(demands, await self.maps.find(snapshot, self._demands.wanted(demands)))
            waiting = await snapshot.waiting(self.mapping.name)
            for at, side in enumerate(self.mapping.targets):
                numbers = [number for number, demand in enumerate(demands) if demand.target_keys[at] is not None]
                wanted = [key for number in numbers if (key := demands[number].target_keys[at]) is not None]
                owns = self.mapping.owns if at == 0 else None
                for row in await snapshot.owned_versions(side.table, side.key, wanted, owns=owns):
                    found[numbers[_number(row) - 1]][at].append(row[1:])
        await printed(self._target, self.comparers, demands)
        stories = {}
        for number, demand in enumerate(demands):
            story = self._story(demand, found[number])
            tables = read.rows.get(demand.key)
            story.sources = None if tables is None else self._sources(tables)
            story.lsn = read.lsn
            story.deferred = demand.key in waiting.deferred
            story.letter = waiting.letters.get(demand.key)
            stories[demand.key] = story
        return stories

    def _story(self, demand: Demand, found: list[list[Values]]) -> Story:
        ours = of_ours(found, demand)
        sides = [
            SideStory(side.table, key, rows, [_found(side.table, row) for row in there])
            for side, key, rows, there in zip(self.mapping.targets, demand.target_keys, demand.rows, found, strict=True)
        ]
        if demand.error is None:
            for side, comparer, own in zip(sides, self.comparers, ours, strict=True):
                side.differences = list(comparer.compare(demand, own).differences)
        return Story(demand.key, None, 0, sides, demand.error)

    def _sources(self, tables: tuple[Sequence[Values], ...]) -> list[list[FoundRow]]:
        return [
            [FoundRow(_xmin(row[0]), owned=True, values=_named(side.table, row[1:])) for row in rows]
            for side, rows in zip(self.mapping.sources, tables, strict=True)
        ]

    async def lost(self, at: int, keys: Sequence[Key]) -> dict[Key, Story]:
        """The stories of keys of one target table that have no key at the source."""
        side, comparer = self.mapping.targets[at], self.comparers[at]
        rows: defaultdict[Key, list[Values]] = defaultdict(list)
        async with self._target.versioned() as snapshot:
            owns = self.mapping.owns if at == 0 else None
            for row in await snapshot.owned_versions(side.table, side.key, keys, owns=owns):
                rows[keys[_number(row) - 1]].append(row[1:])
        stories = {}
        for key, found in rows.items():
            one = SideStory(side.table, key, [], [_found(side.table, row) for row in found])
            one.differences = list(comparer.too_much([row for row in found if row[1] == b"t"]))
            stories[key] = Story(None, None, 0, [one])
        return stories


def _found(table: Table, row: Values) -> FoundRow:
    return FoundRow(_xmin(row[0]), row[1] == b"t", _named(table, row[META:]))


def _named(table: Table, values: Values) -> Row:
    return dict(zip(table.column_names, values, strict=True))


def _number(row: Values) -> int:
    return _xmin(row[0])


def _xmin(value: object) -> int:
    assert isinstance(value, bytes)
    return int(value)
