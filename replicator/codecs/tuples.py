"""Rows of pgoutput's tuples, many at once.

A tuple of texts is laid out as MessagePack lays out an array of binary values, but for two bytes: the array's mark, and
the 't' before each value. Text holds no zero byte, so a 't' with the two upper zeros of a length below 64 KiB stands
nowhere else, and can be replaced by MessagePack's mark in all rows at once. NULL and unchanged, 'n' and 'u', are small
integers there. So the rows are taken apart in C: 0.3 µs for one of 6 columns, in place of 1.3.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html#PROTOCOL-LOGICALREP-MESSAGE-FORMATS-TUPLEDATA
https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Final, cast

import msgspec

from replicator.events import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import Values

_SHORT_TEXT: Final = b"t\0\0"
_BINARY: Final = b"\xc6\0\0"  # bin 32
_ARRAY: Final = b"\xdc"  # array 16: the number of its values follows, as it stands in the tuple
_head = struct.Struct(">BI").pack  # array 32 of so many rows
_texts = msgspec.msgpack.Decoder(list[tuple[bytes, ...]]).decode
_values = msgspec.msgpack.Decoder(list[tuple[bytes | int, ...]]).decode
_MARKS: Final = {ord("n"): None, ord("u"): UNCHANGED}


def rows_at_once(tuples: Sequence[bytes], width: int) -> list[Values] | None:
    """The rows of tuples (number of values, values).

    Args:
        tuples: each says that it has `width` values.
        width: number of columns.

    Returns:
        None where they have to be looked at one by one: a value is long, or something is malformed.

    """
    packed = _head(0xDD, len(tuples)) + _ARRAY + _ARRAY.join(tuples)
    texts, values = packed.count(_SHORT_TEXT), len(tuples) * width
    packed = packed.replace(_SHORT_TEXT, _BINARY)
    try:
        if texts == values:
            return cast("list[Values]", _texts(packed))
        marked = _values(packed)
        if list(map(type, chain.from_iterable(marked))).count(bytes) != texts:
            return None  # a zero byte in a value: no server sends one
        return [tuple([_MARKS[one] if isinstance(one, int) else one for one in row]) for row in marked]
    except (msgspec.DecodeError, KeyError):
        return None
