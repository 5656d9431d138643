"""`Aggregate`: a root row, and the rows of other tables that belong to it by its key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from replicator.rows.row import Row, parse_table
from replicator.rows.text import RowError
from replicator.tables import TableName


class Aggregate(Mapping[str, tuple[Row, ...]]):
    """A root row and the rows that belong to it; `aggregate["schema.table"]` is a tuple of rows, maybe empty.

    Attributes:
        root: the one row of the first table.
        key: the aggregate's key at the source, decoded: `(17,)`.

    """

    __slots__ = ("_key", "_tables", "root")

    root: Row
    _key: tuple[str, ...]
    _tables: dict[TableName, tuple[Row, ...]]

    def __init__(self) -> None:
        raise TypeError("an Aggregate comes from the engine, or from Aggregate.of(root, {'schema.table': [rows]})")

    @classmethod
    def of(
        cls, root: Row, children: Mapping[str, Iterable[Row]] | None = None, /, *, key: str | tuple[str, ...]
    ) -> Aggregate:
        """An aggregate for the tests of a transform.

        Args:
            root: made with `Row.of`, so that it names its table.
            children: rows of each of the other tables.
            key: the root's column(s) that hold the key.

        Raises:
            KeyError: the root has no such column.
            ValueError: the root names no table.

        """
        if root.table is None:
            raise ValueError("the root must name its table: Row.of('schema.table', ...)")
        tables: dict[TableName, tuple[Row, ...]] = {parse_table(root.table): (root,)}
        for name, rows in (children or {}).items():
            tables[parse_table(name)] = tuple(rows)
        return new_aggregate(tables, root.keep(*([key] if isinstance(key, str) else key)))

    @property
    def key(self) -> tuple[Any, ...]:
        """The aggregate's key at the source, decoded."""
        return tuple(self.root[column] for column in self._key)

    def __getitem__(self, table: str) -> tuple[Row, ...]:
        """The rows of one of the source's tables.

        Raises:
            KeyError: the transform doesn't name this table; lists those that it does.

        """
        try:
            return self._tables[parse_table(table)]
        except (KeyError, RowError):
            known = ", ".join(map(str, self._tables))
            raise UnknownTableError(f"no table {table} in this aggregate (there are: {known})") from None

    def __iter__(self) -> Iterator[str]:
        return map(str, self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __repr__(self) -> str:
        return f"<Aggregate {', '.join(f'{table}: {len(rows)}' for table, rows in self._tables.items())}>"


class UnknownTableError(RowError, KeyError):
    """The aggregate has no such table."""

    def __str__(self) -> str:
        """The message as it stands; KeyError would quote it."""
        return str(self.args[0])


def new_aggregate(tables: dict[TableName, tuple[Row, ...]], key: Iterable[str]) -> Aggregate:
    """An aggregate from its parts: the root's table first, with exactly one row; `key` names columns of the root."""
    aggregate = object.__new__(Aggregate)
    aggregate._tables = tables
    aggregate._key = tuple(key)
    (aggregate.root,) = next(iter(tables.values()))
    return aggregate
