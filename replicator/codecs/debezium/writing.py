"""Values as Debezium writes them, from PostgreSQL's text: the other way round as `values`, for our own capture.

Of Debezium's settings the ones in `modes.CAPTURED`. What their form loses is `Inexact`: it comes as near as Debezium
comes to it, and its text is told besides.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from replicator.codecs.debezium import parsing
from replicator.codecs.debezium.columns import Shape
from replicator.codecs.debezium.fields import Field
from replicator.codecs.debezium.modes import PLACEHOLDER
from replicator.codecs.debezium.moments import INFINITE_DAYS, INFINITE_MICROS

Writer = Callable[[bytes], Any]
"""PostgreSQL's text to a value of Connect's: bytes where the field's type is 'bytes', a float where it is one (NaN and
the infinities too, which JSON has no numbers for); pairs for a map whose keys are no texts; or `Inexact`.
"""

_INT64_MAX: Final = 2**63 - 1
_SPECIAL: Final = {"NaN": "NAN", "Infinity": "POSITIVE_INFINITY", "-Infinity": "NEGATIVE_INFINITY"}
_DOLLARS: Final = re.compile(r"-?\$\d{1,3}(?:,\d{3})*\.\d\d").fullmatch
_ZONED: Final = re.compile(r"([\d:.]+)([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?").fullmatch
_POINT: Final = struct.Struct("<BIdd")
_SRID: Final = 0x20000000


class Inexact(NamedTuple):
    """A value that doesn't hold all of its text."""

    value: Any


def writer(field: Field, shape: Shape) -> Writer:
    """How values of a column are written.

    Args:
        field: `columns.field_of` of the column with `modes.CAPTURED`.
        shape: the column's.

    """
    if field.type == "array" and field.name is None and field.items is not None:
        return _array(writer(field.items, shape.element), b";" if shape.kind == "box" else b",")
    if field.name == "io.debezium.data.Json" and shape.kind == "hstore":
        return _hstore
    if field.name is not None:
        return _named(field.name, shape)
    if field.type == "boolean":
        return _bit if shape.kind.startswith("bit") else lambda text: text == b"t"
    if field.type == "string":
        return {"numeric": numeric, "money": _money}.get(shape.kind, text)
    if field.type == "bytes":
        return _bytea if shape.kind == "bytea" and not shape.array else _same
    return float if field.type in {"float", "double"} else int


def unchanged(field: Field) -> Any:
    """What stands for an unchanged value: as Debezium writes it (UnchangedToastedPlaceholder), or as near."""
    if field.type == "string":
        return PLACEHOLDER
    if field.type == "bytes":
        return PLACEHOLDER.encode()
    if field.type == "array" and field.items is not None:
        content = PLACEHOLDER.encode()
        return {"string": [PLACEHOLDER], "bytes": [content]}.get(field.items.type, _numbers(content, field.items.type))
    return nothing(field)


def _numbers(content: bytes, kind: str) -> list[Any]:
    if kind in {"int16", "int32", "int64"}:
        return list(content)
    return [float(one) for one in content] if kind in {"float", "double"} else []


def nothing(field: Field) -> Any:
    """What stands where a field must not be null and nothing is known: Debezium's fallbacks."""
    if field.optional:
        return None
    if field.type == "struct":
        return {name: nothing(part) for name, part in field.fields}
    empty = {"boolean": False, "float": 0.0, "double": 0.0, "string": "", "bytes": b"", "array": []}
    pairs: Any = {} if field.keys is None or field.keys.type == "string" else []
    return pairs if field.type == "map" else empty.get(field.type, 0)


def _same(text: bytes) -> bytes:
    return text


def text(value: bytes) -> str:
    """A text as it is."""
    return value.decode()


def _bytea(text: bytes) -> bytes:
    return bytes.fromhex(text[2:].decode())


def numeric(value: bytes) -> str:
    """A number as a text, with the names that Debezium has for those that are none."""
    number = value.decode()
    return _SPECIAL.get(number, number)


def _money(text: bytes) -> str | Inexact:
    amount = text.decode()
    plain = re.sub(r"[^-0-9.]", "", amount)
    return plain if _DOLLARS(amount) else Inexact(plain)


def _bit(text: bytes) -> bool | Inexact:
    return text == b"1" if text in {b"0", b"1"} else Inexact(value=False)


def _hstore(text: bytes) -> str:
    return msgspec.json.encode(parsing.hstore_pairs(text.decode())).decode()


def _array(write: Writer, delimiter: bytes) -> Writer:
    def write_array(text: bytes) -> list[Any] | Inexact:
        try:
            elements = parsing.array_elements(text, delimiter)
        except parsing.UnreadableError:
            return Inexact([])
        values = [None if one is None else write(one) for one in elements]
        if any(isinstance(one, Inexact) for one in values):
            return Inexact([one.value if isinstance(one, Inexact) else one for one in values])
        # An array of nothing but NULL is how Debezium writes one of more dimensions.
        return Inexact(values) if values and not any(one is not None for one in elements) else values

    return write_array


def _named(name: str, shape: Shape) -> Writer:
    """Of a field with a meaning."""
    bare = name.rpartition(".")[2]
    if bare == "Bits":
        return _varbit if shape.kind == "bit varying" else _bits
    if bare == "ZonedTimestamp":
        digits = shape.fraction
        return lambda text: _zoned_timestamp(text.decode(), digits)
    return _NAMED.get(bare, text)


def _bits(text: bytes) -> bytes:
    number = int(text, 2)
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def _varbit(text: bytes) -> Inexact:
    return Inexact(_bits(text or b"0"))


def _date(text: bytes) -> int:
    days = INFINITE_DAYS.get(text)
    return parsing.date_days(text.decode()) if days is None else days


def _timestamp(text: bytes) -> int | Inexact:
    micros = INFINITE_MICROS.get(text)
    if micros is not None:
        return micros
    micros = parsing.timestamp_micros(text.decode())
    beyond = micros >= _INT64_MAX or micros in INFINITE_MICROS.values()
    return Inexact(min(micros, _INT64_MAX)) if beyond else micros


def _timestamp_millis(text: bytes) -> int | Inexact:
    micros = INFINITE_MICROS.get(text)
    if micros is not None:
        return micros // 1_000
    millis = parsing.timestamp_micros(text.decode()) // 1_000
    return Inexact(millis) if millis * 1_000 in INFINITE_MICROS.values() else millis


def _zoned_timestamp(text: str, digits: int) -> str:
    return text if text in {"infinity", "-infinity"} else parsing.iso_moment(text, digits)


def _zoned_time(text: bytes) -> Inexact:
    """In UTC, as Debezium has it, without its zone."""
    match = _ZONED(text.decode())
    if match is None:
        raise parsing.UnreadableError
    offset = int(match[3]) * 3_600 + int(match[4] or 0) * 60 + int(match[5] or 0)
    micros = parsing.clock_micros(match[1]) - (-offset if match[2] == "-" else offset) * 1_000_000
    seconds, fraction = divmod(micros % 86_400_000_000, 1_000_000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return Inexact(f"{clock}.{fraction:06d}".rstrip("0") + "Z" if fraction else clock + "Z")


def _interval(text: bytes) -> str | Inexact:
    try:
        return parsing.iso_interval(text.decode())
    except parsing.UnreadableError:  # infinite, since 17
        return Inexact("P0Y0M0DT0H0M0S")


def _point(text: bytes) -> dict[str, Any]:
    x, y = (float(one) for one in text[1:-1].split(b","))
    return {"x": x, "y": y, "wkb": _POINT.pack(1, 1, x, y), "srid": None}


def _geometry(text: bytes) -> dict[str, Any]:
    """PostGIS prints EWKB in hex: its byte order, its type, and the SRID where a bit of that says so."""
    wkb = bytes.fromhex(text.decode())
    order = "<" if wkb[:1] == b"\1" else ">"
    (kind,) = struct.unpack_from(order + "I", wkb, 1)
    srid = struct.unpack_from(order + "i", wkb, 5)[0] if kind & _SRID else None
    return {"wkb": wkb, "srid": srid}


def _vector(text: bytes) -> list[float]:
    return [float(one) for one in text[1:-1].split(b",")]


def _sparse_vector(text: bytes) -> dict[str, Any] | Inexact:
    pairs, _, dimensions = text.decode().rpartition("/")
    vector = []
    for one in pairs[1:-1].split(",") if pairs != "{}" else ():
        at, _, number = one.partition(":")
        vector.append((int(at), float(number)))
    if int(dimensions) > 32_767:  # Debezium's numbers have 16 bits
        return Inexact({"dimensions": 32_767, "vector": [pair for pair in vector if pair[0] <= 32_767]})
    return {"dimensions": int(dimensions), "vector": vector}


_NAMED: Final[dict[str, Writer]] = {
    "Date": _date,
    "Time": lambda text: parsing.clock_micros(text.decode()) // 1_000,
    "MicroTime": lambda text: parsing.clock_micros(text.decode()),
    "Timestamp": _timestamp_millis,
    "MicroTimestamp": _timestamp,
    "ZonedTime": _zoned_time,
    "Interval": _interval,
    "Point": _point,
    "Geometry": _geometry,
    "Geography": _geometry,
    "DoubleVector": _vector,
    "FloatVector": _vector,
    "SparseDoubleVector": _sparse_vector,
}
