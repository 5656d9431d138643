"""Rows of one relation as Debezium writes them, with the texts that its form loses. Shared by JSON and Avro."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replicator.codecs.debezium.columns import field_of, shape_of
from replicator.codecs.debezium.modes import CAPTURED
from replicator.codecs.debezium.parsing import UnreadableError
from replicator.codecs.debezium.writing import Inexact, Writer, nothing, unchanged, writer
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED

if TYPE_CHECKING:
    from replicator.captures import Described
    from replicator.codecs.debezium.fields import Field
    from replicator.events import Values

Row = list[Any]
"""Connect's values in the fields' order."""
Texts = dict[str, str | None]
"""By column: the text of a value that its form doesn't hold, or None for an unchanged one."""


class RowWriter:
    """Writes rows of one relation.

    Args:
        described: the relation.
        adapt: what a format makes of the writer of a field (JSON has no numbers for NaN).

    Attributes:
        fields: names and how they are written, in the relation's order.
        key: likewise, of a record's key.
        names: of the fields.
        key_positions: where the key's columns are.
        shapes, writers: of the columns.

    """

    def __init__(self, described: Described, adapt: Callable[[Field, Writer], Writer] | None = None) -> None:
        self.fields: tuple[tuple[str, Field], ...] = tuple(
            (column.name, _field(described, column.name)) for column in described.table.columns
        )
        self._table = str(described.relation.table)
        self.names = tuple(name for name, _ in self.fields)
        adapt = adapt or (lambda _, write: write)
        self.shapes = tuple(shape_of(column, described.enums) for column in described.table.columns)
        self.writers = self._writers = tuple(
            adapt(field, writer(field, shape)) for shape, (_, field) in zip(self.shapes, self.fields, strict=True)
        )
        positions = described.relation.positions
        self.key_positions = self._key = tuple(positions[name] for name in described.key)
        self.key = tuple(self.fields[at] for at in self._key)
        whole = described.relation.replica_identity == "f"
        told = set(described.relation.columns if whole else described.relation.key_columns)
        # Of an old row that isn't whole: what stands in its other columns says nothing.
        self._untold = tuple((at, nothing(field)) for at, (name, field) in enumerate(self.fields) if name not in told)

    def row(self, values: Values) -> tuple[Row, Texts | None]:
        """A new row, and the texts that go with it.

        Raises:
            ReplicatorError: DECODE, for a text that PostgreSQL doesn't print for such a column.

        """
        if UNCHANGED in values:
            return self._inexact(values)
        try:
            row = [None if value is None else write(value) for write, value in zip(self._writers, values)]  # type: ignore[arg-type]  # noqa: B905  # none is UNCHANGED; as many as there are writers
        except (ValueError, UnreadableError):
            self._blame(values)
            raise
        return self._inexact(values) if Inexact in map(type, row) else (row, None)

    def old_row(self, values: Values) -> tuple[Row, Texts | None]:
        """Likewise, an old row: of one that isn't whole only its identity."""
        row, texts = self.row(values)
        for at, value in self._untold:
            row[at] = value
            if texts:
                texts.pop(self.names[at], None)
        return row, texts or None

    def key_of(self, values: Values) -> Row:
        """The values of a row's key."""
        written = [None if values[at] is None else self._writers[at](values[at]) for at in self._key]  # type: ignore[arg-type]  # a key is never UNCHANGED
        return [value.value if isinstance(value, Inexact) else value for value in written]

    def _inexact(self, values: Values) -> tuple[Row, Texts]:
        row: Row = []
        texts: Texts = {}
        for (name, field), write, value in zip(self.fields, self._writers, values, strict=True):
            if value is None:
                row.append(None)
            elif value is UNCHANGED:
                row.append(unchanged(field))
                texts[name] = None
            else:
                written = write(value)
                if isinstance(written, Inexact):
                    written = written.value
                    texts[name] = value.decode()
                row.append(written)
        return row, texts

    def _blame(self, values: Values) -> None:
        for name, write, value in zip(self.names, self._writers, values, strict=True):
            try:
                if isinstance(value, bytes):
                    write(value)
            except ValueError:
                raise ReplicatorError(
                    f"a value of {self._table} isn't what PostgreSQL prints for its column",
                    kind=ErrorKind.DECODE,
                    table=self._table,
                    column=name,
                    hint="Nothing of its transaction was captured. Report it with the column's type",
                ) from None


def _field(described: Described, name: str) -> Field:
    field = field_of(described.table.by_name[name], CAPTURED, described.enums)
    assert field is not None  # our own capture leaves no column out
    return field
