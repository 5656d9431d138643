"""`Row`: one row of a table, immutable; a column is decoded when it is read, and an untouched one never is."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

from replicator.events import UNCHANGED, Value
from replicator.mapping import NeedsFetch
from replicator.rows.text import (
    RawText,
    RowError,
    UnknownColumnError,
    UnreadableValueError,
    UnwritableValueError,
    dump,
    load,
    text_equal,
)
from replicator.tables import TableName

_CONTAINERS: Final = (dict, list, set, bytearray)


class Given:
    """A Python value that a transform set; becomes text when the column that takes it is known."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        # A copy, of a container: what the caller does to his own later changes no row.
        self.value = copy.deepcopy(value) if isinstance(value, _CONTAINERS) else value


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What all rows of one source table share.

    Attributes:
        label: the table's name, for `repr` and messages.
        oids: how each column's values are decoded (see `replicator.rows.text.value_oid`); absent ones as text.

    """

    label: str = ""
    oids: Mapping[str, int] = field(default_factory=dict)


_NO_SHAPE: Final = Shape()
_NO_NAMES: Final[dict[str, str]] = {}


@lru_cache(maxsize=4096)
def parse_table(text: str) -> TableName:
    """`TableName.parse`, remembered: transforms name the same few tables for every row.

    Raises:
        RowError: not of the form schema.table.

    """
    try:
        return TableName.parse(text)
    except ValueError as error:
        raise RowError(str(error)) from None


class Row(Mapping[str, Any]):
    """One row of a table: an immutable mapping from column name to value.

    `row["price"]` decodes that column the way psycopg does (numeric to Decimal, timestamptz to datetime, jsonb to
    dict, ...; what psycopg doesn't know is text). `set`, `rename`, `drop`, `keep` and `to` return a new row; columns
    that they don't touch stay as the database printed them, to the byte.

    Rows compare by table, columns and values (`1.0` equals `1.00`), and aren't hashable. Their `repr` shows columns
    only: values don't belong into a log.
    """

    __slots__ = ("_names", "_shape", "_table", "_values")

    _values: dict[str, Value | Given]
    _shape: Shape
    _names: dict[str, str]  # renamed columns: the name now to the name in `_shape`
    _table: TableName | None

    def __init__(self) -> None:
        raise TypeError("a Row comes from the engine, or from Row.of('schema.table', column=value, ...)")

    @classmethod
    def of(cls, table: str, values: Mapping[str, object] | None = None, /, **columns: object) -> Row:
        """A new row for a table.

        Args:
            table: `schema.table`.
            values: columns whose names are no Python identifiers.
            columns: Python values by column; None is NULL.

        """
        given = {name: _given(value) for name, value in {**(values or {}), **columns}.items()}
        return new_row(given, _NO_SHAPE, _NO_NAMES, parse_table(table))

    @property
    def table(self) -> str | None:
        """The table that `of` or `to` named; None for a row as the source has it."""
        return None if self._table is None else str(self._table)

    def __getitem__(self, column: str) -> Any:
        """The column's value, decoded.

        Raises:
            KeyError: no such column; lists those that there are.
            ValueError: Python has no such value (infinity, a date BC); `raw` gives its text.

        """
        value = self._value(column)
        if type(value) is bytes:
            try:
                return load(value, self._oid(column))
            except UnreadableValueError as error:
                raise UnreadableValueError(f"column {column}: {error}; row.raw({column!r}) gives its text") from None
        if isinstance(value, Given):
            return copy.deepcopy(value.value) if isinstance(value.value, _CONTAINERS) else value.value
        return None

    def raw(self, column: str) -> RawText | None:
        """The column's text, exactly as PostgreSQL prints it; None for NULL.

        Raises:
            KeyError: no such column.

        """
        value = self._value(column)
        if isinstance(value, Given):
            value = dump(value.value, 0)
        return None if value is None else RawText(value.decode())

    def set(self, values: Mapping[str, object] | None = None, /, **columns: object) -> Row:
        """The row with these columns added or replaced; None is NULL, `RawText` is written as it stands."""
        changed = self._values.copy()
        for name, value in {**values, **columns}.items() if values else columns.items():
            changed[name] = None if value is None else Given(value)
        return new_row(changed, self._shape, self._names, self._table)

    def rename(self, names: Mapping[str, str] | None = None, /, **columns: str) -> Row:
        """The row with columns renamed: `row.rename(company="name")` makes column company the column name.

        Raises:
            KeyError: no such column.
            ValueError: the row has a column of the new name already.

        """
        renamed = {**names, **columns} if names else columns
        changed = self._values.copy()
        taken = [(new, old, changed.pop(old)) for old, new in renamed.items() if old in changed or self._missing(old)]
        origins = self._names.copy()
        for new, old, value in taken:
            if new in changed:
                raise UnwritableValueError(f"rename: the row has a column {new} already; drop it first")
            changed[new] = value
            origins[new] = self._names.get(old, old)
        return new_row(changed, self._shape, origins, self._table)

    def drop(self, *columns: str) -> Row:
        """The row without these columns.

        Raises:
            KeyError: no such column.

        """
        changed = self._values.copy()
        for name in columns:
            if name not in changed:
                self._missing(name)
            del changed[name]
        return new_row(changed, self._shape, self._names, self._table)

    def keep(self, *columns: str) -> Row:
        """The row with these columns alone.

        Raises:
            KeyError: no such column.

        """
        kept = {name: self._values[name] for name in columns if name in self._values or self._missing(name)}
        return new_row(kept, self._shape, self._names, self._table)

    def to(self, table: str) -> Row:
        """The row, meant for this table (`schema.table`) of the other database."""
        return new_row(self._values, self._shape, self._names, parse_table(table))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, column: object) -> bool:
        return column in self._values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return Mapping.__eq__(self, other) if isinstance(other, Mapping) else NotImplemented
        if self._table != other._table or self._values.keys() != other._values.keys():
            return False
        return all(self._same(name, other) for name in self._values)

    __hash__ = None  # type: ignore[assignment]  # equal rows may differ in their text, and hold dicts

    def __repr__(self) -> str:
        label = self.table or self._shape.label
        return f"<Row {label}({', '.join(self._values)})>"

    def _same(self, name: str, other: Row) -> bool:
        mine, its = self._values[name], other._values[name]
        if mine is its or (type(mine) is bytes and mine == its):
            return True
        if type(mine) is bytes and type(its) is bytes:
            return text_equal(mine, its, self._oid(name))
        return bool(self[name] == other[name])

    def _oid(self, column: str) -> int:
        return self._shape.oids.get(self._names.get(column, column), 0)

    def _value(self, column: str) -> bytes | Given | None:
        value = self._values.get(column)
        if value is None and column not in self._values:
            self._missing(column)
        if value is UNCHANGED:
            raise NeedsFetch(self._names.get(column, column))
        return value

    def _missing(self, column: str) -> bool:
        raise UnknownColumnError(missing_column(column, self._values, self.table or self._shape.label or "the row"))


def missing_column(column: str, columns: Iterable[str], where: str) -> str:
    """The message for a column that isn't there: the columns that are, and the likeliest of them."""
    names = [str(name) for name in columns]
    near = get_close_matches(str(column), names, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"no column {column} in {where}{meant} (there are: {', '.join(names) or 'none'})"


def _given(value: object) -> Value | Given:
    return None if value is None else Given(value)


def new_row(values: dict[str, Value | Given], shape: Shape, names: dict[str, str], table: TableName | None) -> Row:
    """A row from its parts, which it keeps: the caller changes none of them afterwards."""
    row = object.__new__(Row)
    row._values = values
    row._shape = shape
    row._names = names
    row._table = table
    return row


def source_row(values: dict[str, Value], shape: Shape) -> Row:
    """A row as the source has it."""
    return new_row(values, shape, _NO_NAMES, None)  # type: ignore[arg-type]  # dict is invariant; nobody writes to it


def target_of(row: Row) -> TableName | None:
    """The table that the row is meant for, where `of` or `to` said so."""
    return row._table  # noqa: SLF001 - the row's own module


def write_row(row: Row, oids: Mapping[str, int]) -> dict[str, Value]:
    """The row's values as text, in the order of `oids`; those without an oid are left out.

    Args:
        row: as a transform returned it.
        oids: the writable columns of the table that takes it, with the types of their values.

    Raises:
        UnwritableValueError: a value that was set doesn't fit its column.

    """
    values = row._values  # noqa: SLF001 - the row's own module
    texts: dict[str, Any] = {name: values[name] for name in oids if name in values}
    for name, value in texts.items():
        if value.__class__ is Given:
            try:
                texts[name] = dump(value.value, oids[name])
            except UnwritableValueError as error:
                raise UnwritableValueError(f"column {name}: {error}") from None
    return texts
