"""Aggregates made up from the catalog, mixed with values that sampled rows have shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replicator.events import Relation, Value, Values
from replicator.lawcheck.values import CannotGenerateError, can_generate, generate
from replicator.mapping import SourceAggregate, SourceRows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from replicator.events import Key
    from replicator.mapping import Side
    from replicator.tables import Catalog, Column, Table, TableName

_FROM_POOL: Final = 0.8
_NULL: Final = 0.3
_CHILDREN_MAX: Final = 3


class Generator:
    """Makes aggregates of one mapping's sources.

    Columns that sampled rows have values for take four in five values from there: a role, a state, a country code has
    few values that a transform knows, and no catalog lists them.
    """

    def __init__(
        self, sides: tuple[Side, ...], catalog: Catalog, samples: Iterable[SourceAggregate], rng: Random
    ) -> None:
        self._sides = sides
        self._enums = catalog.enums
        self._rng = rng
        self._pools: dict[tuple[TableName, str], list[bytes]] = {}
        self._relations = [Relation(side.table.name, side.table.writable) for side in sides]
        for sample in samples:
            for rows in sample.tables:
                self._remember(rows)

    def _remember(self, rows: SourceRows) -> None:
        for values in rows.rows:
            for name, value in zip(rows.relation.columns, values, strict=True):
                if isinstance(value, bytes):
                    self._pools.setdefault((rows.relation.table, name), []).append(value)

    def unknown(self) -> list[str]:
        """The columns that only NULL, or what was sampled, stands for: `schema.table.column (type)`."""
        return [
            f"{side.table.name}.{column.name} ({column.type_name})"
            for side in self._sides
            for column in side.table.columns
            if not column.generated and not can_generate(column, self._enums)
        ]

    def aggregate(self) -> SourceAggregate:
        """One more.

        Raises:
            CannotGenerateError: a column must have a value, and its type isn't known.

        """
        key: Key = tuple(self._some(self._sides[0].table, self._column(name)) for name in self._sides[0].key)
        tables = []
        for at, (side, relation) in enumerate(zip(self._sides, self._relations, strict=True)):
            count = self._rng.randint(0, _CHILDREN_MAX) if at else 1
            rows = self._distinct(side.table, [self._row(side, key) for _ in range(count)])
            tables.append(SourceRows(relation, rows))
        return SourceAggregate(key, tuple(tables))

    def value(self, table: Table, column: Column) -> Value:
        """A value for one column, NULL where it may be and where nothing else is known.

        Raises:
            CannotGenerateError: it must have a value, and its type isn't known.

        """
        if column.nullable and self._rng.random() < _NULL:
            return None
        try:
            return self._some(table, column)
        except CannotGenerateError:
            if column.nullable:
                return None
            raise

    def _column(self, name: str) -> Column:
        return self._sides[0].table.by_name[name]

    def _some(self, table: Table, column: Column) -> bytes:
        pool = self._pools.get((table.name, column.name))
        if pool and self._rng.random() < _FROM_POOL:
            return self._rng.choice(pool)
        return generate(self._rng, column, self._enums)

    def _row(self, side: Side, key: Key) -> Values:
        held = dict(zip(side.key, key, strict=True))
        return tuple(
            held[name] if name in held else self.value(side.table, side.table.by_name[name])
            for name in side.table.writable
        )

    def _distinct(self, table: Table, rows: list[Values]) -> list[Values]:
        """Without rows that a unique key of the table would refuse beside an earlier one."""
        places = [
            tuple(table.writable.index(name) for name in key.columns)
            for key in table.unique_keys
            if all(name in table.writable for name in key.columns)
        ]
        seen: set[tuple[int, Values]] = set()
        kept = []
        for row in rows:
            keys = {(at, tuple(row[place] for place in key)) for at, key in enumerate(places)}
            if not keys & seen:
                seen |= keys
                kept.append(row)
        return kept
