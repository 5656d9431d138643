"""Rows of one relation in JSON, many at once: written column by column, and put into records that are filled in.

For what is plain. Whatever isn't (a text that its form loses, an unchanged value, an old row) is `UnusualError`, and is
left to the encoder that looks at each change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from replicator.codecs.debezium.writing import Inexact, Writer, numeric, text

if TYPE_CHECKING:
    from replicator.codecs.debezium.columns import Shape
    from replicator.codecs.debezium.fields import Field

ColumnWriter = Callable[[Sequence[bytes]], Sequence[bytes]]
"""PostgreSQL's texts, none NULL, to JSON's."""

BLANK: Final = msgspec.Raw(b"\0")
"""A place in a document that is filled in later: JSON has no such byte."""
_encode: Final = msgspec.json.Encoder().encode
_escaped: Final = re.compile(rb'[\x00-\x1f"\\]').search


class UnusualError(Exception):
    """These rows have to be written one by one."""


def column_writer(field: Field, shape: Shape, write: Writer) -> ColumnWriter:
    """How a column is written.

    Args:
        field: the column's.
        shape: likewise.
        write: writes one of its values.

    """
    if write is int:
        return lambda column: column
    if write is text:
        return _texts
    if write is numeric:
        return _numerics
    if field.name == "io.debezium.time.ZonedTimestamp" and not shape.array:
        return _moments(write, 23 + (shape.fraction + 1 if shape.fraction else 0) - 1)

    def write_each(column: Sequence[bytes]) -> list[bytes]:
        values = list(map(write, column))
        if Inexact in map(type, values):
            raise UnusualError
        return list(map(_encode, values))

    return write_each


def _texts(column: Sequence[bytes]) -> list[bytes]:
    together = b" ".join(column)
    if _escaped(together):
        return [_encode(one.decode()) for one in column]
    together.decode()  # or it raises
    return [b'"%b"' % one for one in column]


def _numerics(column: Sequence[bytes]) -> list[bytes]:
    together = b" ".join(column)
    if b"N" in together or b"I" in together:  # NaN and the infinities have other names
        raise UnusualError
    return [b'"%b"' % one for one in column]


def _moments(write: Writer, length: int) -> ColumnWriter:
    """Of timestamptz: nearly all have four digits of a year, and this length."""
    end = length - 3

    def write_moments(column: Sequence[bytes]) -> list[bytes]:
        return [
            b'"%bT%bZ"' % (one[:10], one[11:end])
            if len(one) == length and one[4] == 45 and one[10] == 32 and one[end:] == b"+00"
            else _encode(write(one))
            for one in column
        ]

    return write_moments


def written(write: ColumnWriter, column: Sequence[Any]) -> Sequence[bytes]:
    """A column with its NULLs."""
    if None not in column:
        return write(column)
    rest = iter(write([one for one in column if one is not None]))
    return [b"null" if one is None else next(rest) for one in column]


def form_of(document: Any) -> bytes:
    """A document with `BLANK`s, to be filled in by `%` twice: what is the same in a run first."""
    return _encode(document).replace(b"%", b"%%%%").replace(b"\0", b"%b")
