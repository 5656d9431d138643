"""Records of many rows at once: what is the same in all of them, and places between that are filled in.

Rows are written column by column, and a column is as plain as most are: bytes that stand as they came between others
that are the same in each row. So a record is put together by one call in C. What isn't plain (a text that its form
loses) is `UnusualError`, and is left to the encoder that looks at each change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from replicator.captures import Records
from replicator.codecs.debezium.writing import Inexact, Writer

if TYPE_CHECKING:
    from replicator.captures import NewRows
    from replicator.codecs.debezium.columns import Shape
    from replicator.codecs.debezium.fields import Field
    from replicator.codecs.debezium.row_writer import RowWriter

Filling = tuple[bytes | Sequence[bytes], ...]
"""What goes into a place, part after part: the same for all rows, or one for each."""
ColumnWriter = Callable[[Sequence[bytes]], Filling]
"""PostgreSQL's texts, none NULL, to what a format makes of them."""

_NUMBERS: Final = tuple(b"%d" % number for number in range(10_000))


class UnusualError(Exception):
    """These rows have to be written one by one."""


class Template(NamedTuple):
    """A document with places.

    Attributes:
        pieces: what stands before the first place, between each two, and after the last one.
        writers: of any value into each of the places.

    """

    pieces: Sequence[bytes]
    writers: Sequence[Callable[[Any], bytes]]

    def filled(self, fillings: Iterable[Filling]) -> list[bytes]:
        """The documents; one of the parts at least is one for each row."""
        first, *others = self.pieces
        parts: list[bytes | Sequence[bytes]] = [first]
        for filling, piece in zip(fillings, others, strict=True):
            parts += *filling, piece
        return joined(parts)


def joined(parts: Iterable[bytes | Sequence[bytes]]) -> list[bytes]:
    """Put the parts of each row together."""
    strings: list[Iterable[bytes]] = []
    same = b""
    for part in parts:
        if isinstance(part, bytes):
            same += part
        else:
            strings += (repeat(same), part) if same else (part,)
            same = b""
    if same:
        strings.append(repeat(same))
    return list(map(b"".join, zip(*strings, strict=False)))  # those that are repeated have no end


def with_nulls(write: ColumnWriter, column: Sequence[Any], null: bytes) -> Filling:
    """A column with its NULLs."""
    if None not in column:
        return write(column)
    values = [one for one in column if one is not None]
    if not values:
        return (null,)
    rest = iter(joined(write(values)))
    return ([null if one is None else next(rest) for one in column],)


def numbers(first: int, count: int) -> Sequence[bytes]:
    """Numbers that follow each other, in decimal."""
    if first + count <= len(_NUMBERS):
        return _NUMBERS[first : first + count]
    return [b"%d" % number for number in range(first, first + count)]


def each(write: Writer, column: Sequence[bytes]) -> list[Any]:
    """The values of a column.

    Raises:
        UnusualError: one of them doesn't hold all of its text.

    """
    values = list(map(write, column))
    if Inexact in map(type, values):
        raise UnusualError
    return values


def texts(column: Sequence[bytes]) -> bytes:
    """All texts of a column behind each other.

    Raises:
        ValueError: one isn't UTF-8.

    """
    together = b" ".join(column)
    together.decode()
    return together


def check_numbers(column: Sequence[bytes]) -> None:
    """That there is neither NaN nor an infinity among numerics: these have other names.

    Raises:
        UnusualError: there is one.

    """
    together = b" ".join(column)
    if b"N" in together or b"I" in together:
        raise UnusualError


def moments(write: Writer, shape: Shape) -> Callable[[Sequence[bytes]], Sequence[bytes]]:
    """A writer of timestamptz as Java prints it: nearly all have four digits of a year, and UTC."""
    digits = shape.fraction
    end = 20 + digits if digits else 19
    length, step = end + 3, end + 4

    def padded(one: bytes) -> bytes:
        """With the zeros that PostgreSQL leaves out at the end of a fraction."""
        if len(one) == length or one[-3:] != b"+00" or (len(one) > 22 and one[19] != 46):
            return one
        return (one[:-3] if len(one) > 22 else one[:-3] + b".").ljust(end, b"0") + b"+00"

    def write_moments(column: Sequence[bytes]) -> Sequence[bytes]:
        count = len(column)
        if set(map(len, column)) != {length}:
            column = [one if len(one) == length else padded(one) for one in column]
        together = b"\0".join([*column, b""])
        plain = (
            set(map(len, column)) == {length}
            and together[4::step] == b"-" * count
            and together[10::step] == b" " * count == b" " * together.count(b" ")
            and together.count(b"+00\0") == count
        )
        if plain:
            return together.replace(b" ", b"T").replace(b"+00\0", b"Z\0").split(b"\0")[:-1]
        return [one.encode() for one in each(write, column)]

    return write_moments


class ManyRows(ABC):
    """Writes many rows of one relation.

    Args:
        writer: of a row.
        key: of a record's key, with a place for each of its columns; None for none.
        value: of its envelope, with places for the columns of the new row, and then for `PLACES`.

    """

    null: bytes

    def __init__(self, writer: RowWriter, key: Template | None, value: Template) -> None:
        columns = zip(writer.fields, writer.shapes, writer.writers, strict=True)
        self._columns = tuple(self.column(field, shape, write) for (_, field), shape, write in columns)
        self._key_at = writer.key_positions
        self._key = key
        self._value = value
        self._written = value.writers[len(self._columns) :]

    @staticmethod
    @abstractmethod
    def column(field: Field, shape: Shape, write: Writer) -> ColumnWriter:
        """How a column is written.

        Args:
            field: the column's.
            shape: likewise.
            write: writes one of its values.

        """

    @abstractmethod
    def lsns(self, lsns: Sequence[int], texts: Sequence[bytes]) -> Filling:
        """Of `source.lsn`."""

    @abstractmethod
    def sequence(self, commit: bytes, texts: Sequence[bytes]) -> Filling:
        """Of `source.sequence`: `[commit,"lsn"]`."""

    @abstractmethod
    def place(self, transaction: str, texts: Sequence[bytes], order: int, table_order: int) -> Filling:
        """Of `transaction`, where it is told."""

    def records(self, changes: NewRows, now: float) -> Records:
        """The records.

        Raises:
            UnusualError, ValueError, UnreadableError: these rows have to be written one by one.

        """
        rows, lsns = changes.rows, changes.lsns
        columns = [with_nulls(write, rows.column(at), self.null) for at, write in enumerate(self._columns)]
        printed = [b"%d" % lsn for lsn in lsns]
        commit = b'"%d"' % changes.last_commit if changes.last_commit else b"null"
        place: Filling | None = None
        if changes.transaction is not None:
            place = self.place(changes.transaction, printed, changes.order, changes.table_order)
        then, at = round(changes.commit_time * 1_000_000), int(now * 1_000_000)
        told = (
            then // 1_000,
            self.sequence(commit, printed),
            then,
            then * 1_000,
            changes.xid or None,
            self.lsns(lsns, printed),
            place,
            changes.op.value,
            at // 1_000,
            at,
            at * 1_000,
        )
        others = [
            one if isinstance(one, tuple) else (write(one),) for one, write in zip(told, self._written, strict=True)
        ]
        keys: list[bytes | None] = [None] * len(rows)
        if self._key is not None:
            keys[:] = self._key.filled([columns[at] for at in self._key_at])
        return Records(keys, [*self._value.filled([*columns, *others])])


SOURCE_PLACES: Final = ("ts_ms", "sequence", "ts_us", "ts_ns", "txId", "lsn")
PLACES: Final = ("transaction", "op", "ts_ms", "ts_us", "ts_ns")
"""Of an envelope, behind those of its `source`."""


def with_places(envelope: dict[str, Any], names: Sequence[str], blank: object) -> dict[str, Any]:
    """An envelope with `blank` in the places that `ManyRows` fills.

    Args:
        envelope: of any change of the relation.
        names: of the relation's columns.
        blank: stands for what is filled in.

    """
    source = envelope["source"] | dict.fromkeys(SOURCE_PLACES, blank)
    return envelope | {"after": dict.fromkeys(names, blank), "source": source} | dict.fromkeys(PLACES, blank)
