"""Rows that the target should hold beside those that it holds. Pure but for what only the target can print.

In a table in which the aggregate's key is unique there is one row to compare. In any other, rows are matched by the
primary key where all of them give it, else by a unique key that they give, else by all the columns that they give, as
often as given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from replicator.engine.verify.brackets import Difference, Print, print_of
from replicator.engine.verify.keys import UNKNOWN, Row
from replicator.equality import Equal, Equality
from replicator.errors import ErrorKind, ReplicatorError
from replicator.verification import Kind

if TYPE_CHECKING:
    from decimal import Decimal

    from replicator.engine.verify.demands import Demand
    from replicator.events import Key, Values
    from replicator.mapping import Side
    from replicator.tables import Column
    from replicator.verification import VersionedReader

META: Final = 2
"""A row that was found begins with its xmin, and with whether it is the mapping's own."""

Found = Sequence[Sequence["Values"]]
"""What the target holds of one aggregate: one list of rows a side."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One aggregate: what is wrong, and values within a declared tolerance."""

    differences: tuple[Difference, ...]
    within: int = 0


_EQUAL: Final = Compared(())


class SideComparer:
    """Compares rows of one target table.

    Args:
        at: the side's number.
        side: it.
        tolerances: by column.

    """

    def __init__(self, at: int, side: Side, tolerances: Mapping[str, Decimal]) -> None:
        table = side.table
        self.side = side
        self._at = at
        self._places = {name: place + META for place, name in enumerate(table.column_names)}
        self.equality = {column.name: Equality(column, tolerances.get(column.name)) for column in table.columns}
        self._getters: dict[tuple[str, ...], Callable[[Values], Any]] = {}
        self._row_key = table.key or side.key
        within = set(side.key)
        self.single = any(key.not_null and within.issuperset(key.columns) for key in table.unique_keys)

    def same(self, expected: Row, found: Values) -> bool:
        """Whether all values are there, to the letter; the fast path."""
        names = tuple(expected)
        getter = self._getters.get(names)
        if getter is None:
            places = [self._places[name] for name in names]
            only = places[0] if len(places) == 1 else None
            getter = itemgetter(*places) if only is None else lambda row: (row[places[0]],)
            self._getters[names] = getter
        return bool(getter(found) == tuple(expected.values()))

    def compare(self, demand: Demand, found: Sequence[Values]) -> Compared:
        """One aggregate's rows of this table."""
        rows = demand.rows[self._at]
        if self.single and len(rows) == 1 == len(found):
            return _EQUAL if self.same(rows[0], found[0]) else self._pair(rows[0], found[0])
        if not rows and not found:
            return _EQUAL
        match = self._match(rows)
        if match is None:
            return self._multiset(demand, rows, found)
        expected = {self._match_key(row, match): row for row in rows}
        there = {tuple(self.equality[name].canonical(row[self._places[name]]) for name in match): row for row in found}
        differences: list[Difference] = []
        within = 0
        for key, row in expected.items():
            other = there.get(key)
            if other is None:
                differences.append(self._missing(demand, row))
            elif not self.same(row, other):
                pair = self._pair(row, other)
                differences += pair.differences
                within += pair.within
        differences += [self._extra(row) for key, row in there.items() if key not in expected]
        return Compared(tuple(differences), within)

    def _match(self, rows: Sequence[Row]) -> tuple[str, ...] | None:
        """The columns by which rows are told apart; None: all that they give, as often as given."""
        keys = [key.columns for key in self.side.table.unique_keys if key.not_null]
        given = frozenset.intersection(*map(frozenset, rows)) if rows else frozenset(self._places)
        return next((columns for columns in keys if given.issuperset(columns)), None)

    def _match_key(self, row: Row, match: tuple[str, ...]) -> tuple[Hashable, ...]:
        return tuple(self.equality[name].canonical(row[name]) for name in match)

    def _pair(self, expected: Row, found: Values) -> Compared:
        columns, within = [], 0
        for name, value in expected.items():
            equal = self.equality[name].compare(value, found[self._places[name]])
            if equal is Equal.DIFFERENT:
                columns.append(name)
            elif equal is Equal.WITHIN:
                within += 1
        if not columns:
            return Compared((), within)
        return Compared((Difference(self._at, Kind.DIFFERENT, self._found_key(found), tuple(columns)),), within)

    def _multiset(self, demand: Demand, rows: Sequence[Row], found: Sequence[Values]) -> Compared:
        names = tuple(sorted(frozenset.intersection(*map(frozenset, rows)))) if rows else ()
        wanted: defaultdict[tuple[Hashable, ...], list[Row]] = defaultdict(list)
        for row in rows:
            wanted[self._match_key(row, names)].append(row)
        extra = []
        for one in found:
            same = wanted.get(tuple(self.equality[name].canonical(one[self._places[name]]) for name in names))
            if same:
                same.pop()
            else:
                extra.append(self._extra(one))
        missing = [self._missing(demand, row) for left in wanted.values() for row in left]
        return Compared((*missing, *extra))

    def _missing(self, demand: Demand, row: Row) -> Difference:
        values = [row.get(name) for name in self._row_key]
        key = tuple(value for value in values if isinstance(value, bytes) and value != UNKNOWN)
        if len(key) != len(values):  # a key that the target would give, or that nobody has made yet
            key = demand.target_keys[self._at] or demand.key
        return Difference(self._at, Kind.MISSING, key)

    def _extra(self, row: Values) -> Difference:
        return Difference(self._at, Kind.EXTRA, self._found_key(row))

    def _found_key(self, row: Values) -> Key:
        values = [row[self._places[name]] for name in self._row_key]
        return tuple(value if isinstance(value, bytes) else b"" for value in values)

    def too_much(self, found: Sequence[Values]) -> tuple[Difference, ...]:
        """All of these rows are too much."""
        return tuple(map(self._extra, found))


def of_ours(found: Found, demand: Demand | None) -> Found:
    """Without the rows that are not this mapping's: where it demands none, what it doesn't own is somebody else's."""
    if demand is not None and any(demand.rows):
        return found
    root = found[0]
    if any(row[1] == b"f" for row in root):
        return [[] for _ in found]
    return found


def found_print(found: Found) -> Print:
    """What the target's rows of an aggregate are known by."""
    return print_of((b"%d" % at, *row) for at, rows in enumerate(found) for row in rows)


async def printed(target: VersionedReader, comparers: Sequence[SideComparer], demands: Sequence[Demand]) -> bool:
    """Let the target print what these demands hold, as it would print its own rows; whether any text has changed.

    A transform may have written `{"a":1}`, `TRUE`, an instant of another zone or an array in its own spelling.
    """
    changed = False
    for at, comparer in enumerate(comparers):
        rows = [(demand, number) for demand in demands for number in range(len(demand.rows[at]))]
        texts: defaultdict[str, dict[bytes, None]] = defaultdict(dict)
        for demand, number in rows:
            for name, value in demand.rows[at][number].items():
                if isinstance(value, bytes) and value != UNKNOWN:
                    texts[name][value] = None
        columns = comparer.side.table.by_name
        known = {name: await printed_texts(target, columns[name], list(values)) for name, values in texts.items()}
        for demand, number in rows:
            row = demand.rows[at][number]
            new: Row = {
                name: known[name].get(value, value) if isinstance(value, bytes) and name in known else value
                for name, value in row.items()
            }
            if new != row:
                demand.rows[at][number] = new
                changed = True
    return changed


async def printed_texts(target: VersionedReader, column: Column, texts: list[bytes]) -> dict[bytes, bytes | None]:
    """What the server makes of each; what is no value of the type is left out, for it can't be in the target either."""
    try:
        async with target.versioned() as snapshot:
            return dict(zip(texts, await snapshot.printed(column, texts), strict=True))
    except ReplicatorError as error:
        if error.kind is not ErrorKind.DATA:
            raise
    if len(texts) == 1:
        return {}
    half = len(texts) // 2
    return await printed_texts(target, column, texts[:half]) | await printed_texts(target, column, texts[half:])
