"""Writers of Avro's binary encoding, composed for each schema of Kafka Connect.

Encoding: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from replicator.codecs.debezium.fields import Field

_CHUNK: Final = 1 << 14
_MORE: Final = tuple(bytes((low & 127 | 128, low >> 7 | 128)) for low in range(_CHUNK))
"""Fourteen bits of a number, when others follow."""
_LAST: Final = tuple(bytes((low,)) if low < 128 else bytes((low & 127 | 128, low >> 7)) for low in range(_CHUNK))
"""Its last fourteen bits."""
SMALL: Final = _LAST[::2]
"""Numbers from 0 on."""
_double = struct.Struct("<d").pack
_float = struct.Struct("<f").pack


def compile_writer(field: Field) -> Callable[[Any], bytes]:
    """A writer of values of this schema.

    Args:
        field: any schema; what is written can be read with that of `schema_writer.schema_text`.

    Returns:
        From None, bool, int, float, bytes, str, list, dict (a struct by its fields' names, or a map), or a list of
        pairs (a map whose keys are no texts) to its bytes. A value of another type raises what Python raises for it.

    """
    write = _writer(field)
    if not field.optional:
        return write

    def write_optional(value: Any) -> bytes:
        return b"\0" if value is None else b"\2" + write(value)

    return write_optional


def _writer(field: Field) -> Callable[[Any], bytes]:
    """Of a value that isn't null."""
    if field.type == "struct":
        return _struct(field)
    if field.type == "array" and field.items is not None:
        return _blocks(compile_writer(field.items))
    if field.type == "map" and field.keys is not None and field.values is not None:
        key, value = compile_writer(field.keys), compile_writer(field.values)
        pairs = _blocks(lambda pair: key(pair[0]) + value(pair[1]))
        return lambda entries: pairs(list(entries.items()) if isinstance(entries, dict) else entries)
    return {
        "boolean": _boolean,
        "string": _string,
        "bytes": _bytes,
        "double": _double,
        "float": _float,
    }.get(field.type, write_long)


def _struct(field: Field) -> Callable[[Any], bytes]:
    """Generated, so that a field that is null, as most of a record's are, costs no call."""
    names: dict[str, Any] = {}
    parts = []
    for at, (name, one) in enumerate(field.fields):
        names[f"w{at}"] = _writer(one)
        if one.optional:
            parts.append(f"b'\\0' if (x := v[{name!r}]) is None else b'\\2' + w{at}(x)")
        else:
            parts.append(f"w{at}(v[{name!r}])")
    # Of what comes from outside only the repr of names gets into this text.
    text = f"lambda v: b''.join(({' '.join(f'{part},' for part in parts)}))"
    made: Callable[[Any], bytes] = eval(compile(text, "<avro struct>", "eval"), names)  # noqa: S307
    return made


def _blocks(write: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def write_blocks(values: Any) -> bytes:
        if not values:
            return b"\0"
        return write_long(len(values)) + b"".join([write(one) for one in values]) + b"\0"

    return write_blocks


def _boolean(value: Any) -> bytes:
    return b"\1" if value else b"\0"


def write_long(value: int) -> bytes:
    """An int or a long."""
    number = value << 1 if value >= 0 else ~(value << 1)
    if number < _CHUNK:
        return _LAST[number]
    written = b""
    while number >= _CHUNK:
        written += _MORE[number & 0x3FFF]
        number >>= 14
    return written + _LAST[number]


def _bytes(value: bytes) -> bytes:
    return write_long(len(value)) + value


def _string(value: str) -> bytes:
    return _bytes(value.encode())
