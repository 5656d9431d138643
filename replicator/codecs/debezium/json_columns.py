"""Rows of one relation in JSON, many at once; see `filling`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from replicator.codecs.debezium.filling import (
    ColumnWriter,
    Filling,
    ManyRows,
    Template,
    check_numbers,
    each,
    moments,
    numbers,
    texts,
)
from replicator.codecs.debezium.writing import Writer, numeric, text

if TYPE_CHECKING:
    from replicator.codecs.debezium.columns import Shape
    from replicator.codecs.debezium.fields import Field

BLANK: Final = msgspec.Raw(b"\0")
"""A place in a document: JSON has no such byte."""
_encode: Final = msgspec.json.Encoder().encode
_escaped: Final = re.compile(rb'[\x00-\x1f"\\]').search


def template(document: Any, head: bytes = b"", tail: bytes = b"") -> Template:
    """A document with a place for each `BLANK`.

    Args:
        document: anything that JSON has, and blanks.
        head: what stands before it.
        tail: what stands behind it.

    """
    pieces = (head + _encode(document) + tail).split(b"\0")
    return Template(pieces, [_encode] * (len(pieces) - 1))


class JsonRows(ManyRows):
    """See `filling.ManyRows`."""

    null = b"null"

    @staticmethod
    def column(field: Field, shape: Shape, write: Writer) -> ColumnWriter:
        """See `filling.ManyRows`."""
        if write is int:
            return lambda column: (column,)
        if write is text:
            return _texts
        if write is numeric:
            return _numerics
        if field.name == "io.debezium.time.ZonedTimestamp" and not shape.array:
            return _quoted(moments(write, shape))
        return lambda column: (list(map(_encode, each(write, column))),)

    def lsns(self, lsns: Sequence[int], texts: Sequence[bytes]) -> Filling:
        """See `filling.ManyRows`."""
        del lsns
        return (texts,)

    def sequence(self, commit: bytes, texts: Sequence[bytes]) -> Filling:
        """See `filling.ManyRows`."""
        return b'"[' + commit.replace(b'"', b'\\"') + b',\\"', texts, b'\\"]"'

    def place(self, transaction: str, texts: Sequence[bytes], order: int, table_order: int) -> Filling:
        """See `filling.ManyRows`."""
        count = len(texts)
        return (
            b'{"id":"' + transaction.encode() + b":",
            texts,
            b'","total_order":',
            numbers(order, count),
            b',"data_collection_order":',
            numbers(table_order, count),
            b"}",
        )


def _texts(column: Sequence[bytes]) -> Filling:
    if _escaped(texts(column)):
        return ([_encode(one.decode()) for one in column],)
    return b'"', column, b'"'


def _numerics(column: Sequence[bytes]) -> Filling:
    check_numbers(column)
    return b'"', column, b'"'


def _quoted(write: Callable[[Sequence[bytes]], Sequence[bytes]]) -> ColumnWriter:
    return lambda column: (b'"', write(column), b'"')
