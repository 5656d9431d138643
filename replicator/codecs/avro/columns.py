"""Rows of one relation in Avro, many at once; see `debezium.filling`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from replicator.codecs.avro.writer import SMALL, compile_writer, write_long
from replicator.codecs.debezium.filling import (
    ColumnWriter,
    Filling,
    ManyRows,
    Template,
    check_numbers,
    each,
    moments,
    texts,
)
from replicator.codecs.debezium.writing import Writer, numeric, text

if TYPE_CHECKING:
    from replicator.codecs.debezium.columns import Shape
    from replicator.codecs.debezium.fields import Field

BLANK: Final = object()
"""A place in a document."""
_PRESENT: Final = b"\2"  # the second branch of a union with null


def template(field: Field, document: Any, frame: bytes) -> Template:
    """A document with a place for each `BLANK`.

    Args:
        field: its schema.
        document: as `compile_writer` takes it, with blanks in structs.
        frame: what stands before it.

    """
    pieces, writers = [frame], list[Callable[[Any], bytes]]()

    def add(field: Field, value: Any) -> None:
        if value is BLANK:
            pieces.append(b"")
            writers.append(compile_writer(field))
        elif field.type == "struct" and value is not None:
            pieces[-1] += _PRESENT if field.optional else b""
            for name, one in field.fields:
                add(one, value[name])
        else:
            pieces[-1] += compile_writer(field)(value)

    add(field, document)
    return Template(pieces, writers)


class AvroRows(ManyRows):
    """See `filling.ManyRows`."""

    null = b"\0"

    @staticmethod
    def column(field: Field, shape: Shape, write: Writer) -> ColumnWriter:
        """See `filling.ManyRows`."""
        if write is int:
            inner: ColumnWriter = _integers
        elif write is text:
            inner = _texts
        elif write is numeric:
            inner = _numerics
        elif field.name == "io.debezium.time.ZonedTimestamp" and not shape.array:
            inner = _measured(moments(write, shape))
        else:
            form = compile_writer(field)
            return lambda column: (list(map(form, each(write, column))),)
        return _present(inner) if field.optional else inner

    def lsns(self, lsns: Sequence[int], texts: Sequence[bytes]) -> Filling:
        """See `filling.ManyRows`."""
        del texts
        return _PRESENT, _longs(lsns)

    def sequence(self, commit: bytes, texts: Sequence[bytes]) -> Filling:
        """See `filling.ManyRows`."""
        return _PRESENT, *_around(b"[" + commit + b',"', texts, b'"]')

    def place(self, transaction: str, texts: Sequence[bytes], order: int, table_order: int) -> Filling:
        """See `filling.ManyRows`."""
        orders, table_orders = (_longs(range(first, first + len(texts))) for first in (order, table_order))
        return _PRESENT, *_around(transaction.encode() + b":", texts, b""), orders, table_orders


def _longs(numbers: Sequence[int]) -> list[bytes]:
    if min(numbers) >= 0 and max(numbers) < len(SMALL):
        return [SMALL[number] for number in numbers]
    return list(map(write_long, numbers))


def _integers(column: Sequence[bytes]) -> Filling:
    return (_longs(list(map(int, column))),)


def _texts(column: Sequence[bytes]) -> Filling:
    texts(column)
    return _around(b"", column, b"")


def _numerics(column: Sequence[bytes]) -> Filling:
    check_numbers(column)
    return _around(b"", column, b"")


def _measured(write: Callable[[Sequence[bytes]], Sequence[bytes]]) -> ColumnWriter:
    return lambda column: _around(b"", write(column), b"")


def _present(write: ColumnWriter) -> ColumnWriter:
    return lambda column: (_PRESENT, *write(column))


def _around(before: bytes, column: Sequence[bytes], behind: bytes) -> Filling:
    """Strings, each with its length before it."""
    more = len(before) + len(behind)
    sizes = set(map(len, column))
    if len(sizes) == 1:
        return write_long(sizes.pop() + more) + before, column, behind
    return _longs([len(one) + more for one in column]), before, column, behind
