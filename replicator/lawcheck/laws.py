"""Checks of one aggregate: each yields the ways in which a law doesn't hold for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from replicator.events import UNCHANGED, Relation, Value
from replicator.lawcheck.report import Difference, Law
from replicator.lawcheck.stored import DoesNotFitError, stored
from replicator.mapping import SourceAggregate, SourceRows
from replicator.rows import text_equal, value_oid

if TYPE_CHECKING:
    from replicator.lawcheck.aggregates import Generator
    from replicator.lawcheck.pairs import KeyPairs
    from replicator.mapping import Mapping, Outcome, Side, TargetRow
    from replicator.tables import Column, Table


@dataclass(frozen=True)
class Finding:
    """One way in which one aggregate breaks a law."""

    law: Law
    table: str
    columns: tuple[str, ...]
    message: str
    differences: tuple[Difference, ...] = ()


def fresh(aggregate: SourceAggregate) -> SourceAggregate:
    """The same aggregate in new objects."""
    return SourceAggregate(
        tuple(aggregate.key),
        tuple(SourceRows(rows.relation, [tuple(values) for values in rows.rows]) for rows in aggregate.tables),
    )


def purity(mapping: Mapping, first: Outcome, second: Outcome) -> Iterator[Finding]:
    """Two runs on the same aggregate gave the same rows, in whatever order."""
    for side, one, other in zip(mapping.targets, first.rows, second.rows, strict=True):
        left, right = Counter(map(_items, one)), Counter(map(_items, other))
        if left != right:
            columns = {name for row in (left - right) + (right - left) for name, _ in row}
            same = {name for name in columns if _column(one, name) == _column(other, name)}
            yield Finding(
                Law.PURE,
                str(side.table.name),
                tuple(sorted(columns - same or columns)),
                "two runs on the same aggregate gave different rows",
            )


def _items(row: TargetRow) -> frozenset[tuple[str, Value]]:
    return frozenset(row.items())


def _column(rows: Sequence[TargetRow], name: str) -> Counter[Value]:
    return Counter(row.get(name, UNCHANGED) for row in rows)


def settled(mapping: Mapping, outcome: Outcome, pairs: KeyPairs) -> tuple[list[list[TargetRow]], list[Finding]]:
    """The outcome's rows as their tables would hold them, keys translated; and what doesn't fit."""
    found: list[Finding] = []
    tables = []
    for side, rows in zip(mapping.targets, outcome.rows, strict=True):
        held = []
        for row in rows:
            texts: TargetRow = {}
            for name, value in pairs.translated(mapping, side, row).items():
                try:
                    texts[name] = stored(value, side.table.by_name[name]) if isinstance(value, bytes) else value
                except DoesNotFitError as error:
                    found.append(_misfit(side, (name,), f"a value that column {name} would refuse: {error}"))
            held.append(texts)
        tables.append(held)
        found += _empty(side, held)
        found += _doubled(side, held)
    return tables, found


def _misfit(side: Side, columns: tuple[str, ...], message: str) -> Finding:
    return Finding(Law.FITS, str(side.table.name), columns, message)


def _empty(side: Side, rows: Iterable[TargetRow]) -> list[Finding]:
    """Columns that must have a value, and don't."""
    required = [column for column in side.table.columns if not column.nullable and not column.generated]
    return [
        _misfit(side, (column.name,), f"no value for column {column.name}, which is NOT NULL")
        for row in rows
        for column in required
        if row.get(column.name, UNCHANGED if column.has_default else None) is None
    ]


def _doubled(side: Side, rows: Sequence[TargetRow]) -> list[Finding]:
    """Two rows of one aggregate with the same unique key."""
    found = []
    for key in side.table.unique_keys:
        given = [tuple(row[name] for name in key.columns) for row in rows if all(name in row for name in key.columns)]
        if len(set(given)) < len(given) and not any(None in values for values in given):
            found.append(_misfit(side, key.columns, f"two rows with the same ({', '.join(key.columns)})"))
    return found


def returning(reverse: Mapping, tables: list[list[TargetRow]], defaults: Generator) -> SourceAggregate:
    """The upgraded aggregate as the reverse feed would read it: columns that the transform left out have defaults.

    Raises:
        CannotGenerateError: a default of a type that isn't known.

    """
    root = tables[0][0]
    key = tuple(value for name in reverse.root.key if isinstance(value := root.get(name), bytes))
    made = []
    for side, rows in zip(reverse.sources, tables, strict=True):
        columns = side.table.writable
        values = [tuple(_held(row, side.table, side.table.by_name[name], defaults) for name in columns) for row in rows]
        made.append(SourceRows(Relation(side.table.name, columns), values))
    return SourceAggregate(key, tuple(made))


def _held(row: TargetRow, table: Table, column: Column, defaults: Generator) -> Value:
    if column.name in row:
        return row[column.name]
    return defaults.value(table, column) if column.has_default else None


def round_trip(mapping: Mapping, aggregate: SourceAggregate, returned: list[list[TargetRow]]) -> Iterator[Finding]:
    """What the inverse gave is what there was, outside the columns declared lossy.

    Args:
        mapping: the forward one.
        aggregate: what there was.
        returned: the inverse's rows as their tables would hold them.

    """
    for side, before, after in zip(mapping.sources, aggregate.tables, returned, strict=True):
        was = [dict(zip(before.relation.columns, values, strict=True)) for values in before.rows]
        columns = [column for column in side.table.columns if not column.generated and column.name not in mapping.lossy]
        if len(was) != len(after):
            message = f"{len(was)} row(s) of {side.table.name} became {len(after)}"
            yield Finding(Law.ROUND_TRIP, str(side.table.name), (), message)
            continue
        for row, back in _paired(was, after, columns):
            differing = [column for column in columns if not _same(column, row, back)]
            if differing:
                yield _changed(side, row, back, differing)


def _changed(side: Side, row: TargetRow, back: TargetRow, differing: Sequence[Column]) -> Finding:
    names = tuple(column.name for column in differing)
    absent = [name for name in names if name not in back]
    message = f"{', '.join(names)} came back changed"
    if absent:
        message = f"the inverse doesn't give {', '.join(absent)}" + (
            f", and {', '.join(name for name in names if name not in absent)} came back changed"
            if len(absent) < len(names)
            else ""
        )
    differences = tuple(Difference(name, _shown(row.get(name)), _shown(back.get(name))) for name in names)
    return Finding(Law.ROUND_TRIP, str(side.table.name), names, message, differences)


def _paired(
    was: list[TargetRow], after: list[TargetRow], columns: Sequence[Column]
) -> Iterator[tuple[TargetRow, TargetRow]]:
    """Each row with the one that came back of it: the one that has most in common."""
    left = list(after)
    for row in was:
        best = max(left, key=lambda back: sum(_same(column, row, back) for column in columns))
        left.remove(best)
        yield row, best


def _same(column: Column, row: TargetRow, back: TargetRow) -> bool:
    before, after = row.get(column.name), back.get(column.name, UNCHANGED)
    if isinstance(before, bytes) and isinstance(after, bytes):
        return text_equal(before, after, value_oid(column))
    return before is after


def _shown(value: Value) -> str | None:
    return value.decode() if isinstance(value, bytes) else None
