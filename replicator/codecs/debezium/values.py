"""Values of Debezium's events, back to the text that PostgreSQL prints.

What a setting of Debezium's loses is refused when a table's converters are built, or, where only some values are lost
(a moment beyond 2262 in nanoseconds), when such a value comes. Nothing is guessed, but two things can't be seen:

- A text that equals `unavailable.value.placeholder` in a column that can be TOASTed counts as unchanged, and the
  engine fetches the row where it needs the value.
- An array's lower bounds, which Debezium drops: it comes as one that begins at 1. (More dimensions are refused.)

Debezium: PostgresValueConverter, JdbcValueConverters, UnchangedToastedPlaceholder (2.7 to 3.6).
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NoReturn

import msgspec

from replicator.codecs.debezium import moments, printing
from replicator.codecs.debezium.columns import FIXED, GEOMETRIC, Shape, shape_of
from replicator.codecs.debezium.fields import Field, MalformedError
from replicator.codecs.debezium.floats import float4_text, float8_text
from replicator.codecs.debezium.modes import Modes
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Value
from replicator.tables import Column

Converter = Callable[[Any], Value]
"""A decoded value, never null, to PostgreSQL's text: what JSON or Avro has for the field's type; a field of type
'bytes' as bytes, or as JSON's base64 text.

Raises one of `CONVERSION_ERRORS`; whoever decodes the record adds place and column.
"""

CONVERSION_ERRORS: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""MalformedError, which says what is wrong, or what Python raises for a value of another type."""

_NUMBER: Final = re.compile(rb"-?(?:\d[\d.]*(?:[eE][+-]?\d+)?|Infinity|NaN)")
_JAVA_OBJECT: Final = re.compile(rb"\[+L?[\w.]+;?@[0-9a-f]+")
_SPECIAL: Final = {"NAN": b"NaN", "POSITIVE_INFINITY": b"Infinity", "NEGATIVE_INFINITY": b"-Infinity"}
_VECTORS: Final = {"int2vector", "oidvector"}


@dataclass(frozen=True)
class _Context:
    """What a converter is built from.

    Attributes:
        field: how the value is written.
        shape: what the column is; None where the catalog has none of that name.
        modes: Debezium's settings.
        column: its name, for messages; '' where there is none.

    """

    field: Field
    shape: Shape | None
    modes: Modes
    column: str

    @property
    def kind(self) -> str:
        return "" if self.shape is None else self.shape.kind

    def refuse(self, what: str, setting: str | None) -> NoReturn:
        """Say that this way of writing loses something."""
        hint = f"Set {setting} in Debezium's connector" if setting else "No setting of Debezium keeps it"
        raise ReplicatorError(
            f"Debezium's records don't keep column {self.column or '?'}: {what}",
            kind=ErrorKind.DECODE,
            column=self.column or None,
            hint=f"{hint}, or leave the column out (column.exclude.list), or read by slot or `replicator capture`; "
            "nothing of it was applied",
        )


def converter(field: Field, column: Column | None, modes: Modes) -> Converter:
    """How values of one column are brought back.

    Args:
        field: how they are written.
        column: the catalog's; None where it has none of that name.
        modes: Debezium's settings.

    Raises:
        ReplicatorError: DECODE, when this way of writing loses what the column may hold; names the setting that
            keeps it.

    """
    shape = None if column is None else shape_of(column)
    context = _Context(field, shape, modes, "" if column is None else column.name)
    nullable = column is None or column.nullable
    if field.has_default and field.optional and nullable and not modes.null_is_null:
        context.refuse(
            "it has a default, which the converter writes in place of NULL",
            "value.converter.replace.null.with.default=false (Avro: ignore.default.for.nullables=true), "
            "and tell it in stream.debezium where connect_url isn't given",
        )
    build = _BUILDERS.get(field.name or field.type)
    if build is None:
        context.refuse(f"it comes as {field.name or field.type}, which isn't known here", None)
    return build(context)


def _placeholder_only(value: str, placeholder: str) -> Value:
    """A text where something else belongs."""
    if value != placeholder:
        raise MalformedError("it is a text")
    return UNCHANGED


# --- texts ----------------------------------------------------------------------------------------------------------


def _encode(value: str) -> Value:
    return value.encode()


def _named_text(context: _Context) -> Converter:
    """A text that is PostgreSQL's own."""
    placeholder = context.modes.placeholder

    def convert(value: str) -> Value:
        return UNCHANGED if value == placeholder else value.encode()

    return convert


def _string(context: _Context) -> Converter:
    """A text without a meaning of its own: what it is depends on the column."""
    kind, modes = context.kind, context.modes
    if context.shape is not None and context.shape.array:
        return _binary(context)
    if kind == "numeric":
        return _numeric_string(context)
    if kind == "money":
        return lambda value: printing.money_text(_cents(Decimal(value)))
    if kind == "bytea" and modes.binary == "bytes":
        context.refuse(
            "it comes as text, and binary.handling.mode isn't told", "binary.handling.mode in stream.debezium"
        )
    if kind and kind not in _TEXT_KINDS and context.shape is not None and not context.shape.labels:
        return _binary(context)
    if kind == "name" and not modes.unknown_types:
        context.refuse("values of the type name come as NULL", "include.unknown.datatypes=true")
    return _encode if kind in FIXED else _named_text(context)


_TEXT_KINDS: Final = frozenset(
    {
        *("text", "character varying", "bpchar", '"char"', "name", "citext", "isbn", "ltree", "uuid", "json", "jsonb"),
        *("inet", "cidr", "macaddr", "macaddr8", "xml", "tsvector"),
        *("tsrange", "tstzrange", "daterange", "int4range", "numrange", "int8range"),
    }
)


def _numeric_string(context: _Context) -> Converter:
    placeholder = context.modes.placeholder

    def convert(value: str) -> Value:
        if value == placeholder:
            return UNCHANGED
        return _SPECIAL.get(value) or value.encode()

    return convert


def _json(context: _Context) -> Converter:
    """A document, or hstore as one."""
    if context.kind != "hstore":
        return _named_text(context)
    unchanged = {context.modes.placeholder: context.modes.placeholder}
    placeholder = context.modes.placeholder

    def convert(value: str) -> Value:
        if value == placeholder:
            return UNCHANGED
        pairs = _hstore_document(value)
        return UNCHANGED if pairs == unchanged else printing.hstore_text(pairs)

    return convert


_hstore_document = msgspec.json.Decoder(dict[str, str | None]).decode


def _map(context: _Context) -> Converter:
    """Hstore as a map."""
    placeholder = context.modes.placeholder
    unchanged = {placeholder: placeholder}

    def convert(value: Mapping[str, str | None] | str) -> Value:
        if isinstance(value, str):
            return _placeholder_only(value, placeholder)
        return UNCHANGED if value == unchanged else printing.hstore_text(value)

    return convert


# --- bytes ----------------------------------------------------------------------------------------------------------


def bytes_of(value: bytes | str) -> bytes:
    """A value of Connect's type 'bytes': as it is, or JSON's base64.

    Raises:
        ValueError: it is no base64.

    """
    return binascii.a2b_base64(value, strict_mode=True) if isinstance(value, str) else bytes(value)


def _url_safe(value: str) -> bytes:
    return binascii.a2b_base64(value.translate({ord("-"): "+", ord("_"): "/"}), strict_mode=True)


_BINARY_TEXTS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "base64": bytes_of,
    "base64-url-safe": _url_safe,
    "hex": bytes.fromhex,
}


def binary_reader(kind: str, modes: Modes) -> Callable[[Any], bytes]:
    """How bytes are read from a field of the type 'bytes', or 'string' (binary.handling.mode)."""
    return bytes_of if kind == "bytes" else _BINARY_TEXTS.get(modes.binary, bytes_of)


def _binary(context: _Context) -> Converter:
    """Bytea, or the text of a type that Debezium doesn't know (include.unknown.datatypes)."""
    placeholder = context.modes.placeholder
    unchanged = placeholder.encode()
    read = binary_reader(context.field.type, context.modes)
    array = context.shape is not None and context.shape.array
    write = _as_text
    if not array and context.kind in {"bytea", ""}:
        write = _as_hex
    elif not array and context.kind in GEOMETRIC:
        write = _as_geometry

    def convert(value: bytes | str) -> Value:
        if value == placeholder:
            return UNCHANGED
        content = read(value)
        return UNCHANGED if content == unchanged else write(content)

    return convert


def _as_text(content: bytes) -> bytes:
    return content


def _as_hex(content: bytes) -> bytes:
    return b"\\x" + content.hex().encode()


def _as_geometry(content: bytes) -> bytes:
    """Numbers as PostgreSQL prints them, not as Java does (1.0 is 1)."""
    return _NUMBER.sub(lambda match: float8_text(float(match[0])), content)


# --- numbers --------------------------------------------------------------------------------------------------------


def _integer(_: _Context) -> Converter:
    return lambda value: b"%d" % value


def _boolean(context: _Context) -> Converter:
    yes, no = (b"1", b"0") if context.kind.startswith("bit") else (b"t", b"f")
    return lambda value: yes if value else no


def _float(context: _Context) -> Converter:
    if context.kind in {"numeric", "money"}:
        context.refuse("its decimals come as binary floats", "decimal.handling.mode=string")
    write = float4_text if context.kind == "real" or context.field.type == "float" else float8_text
    return lambda value: write(float(value))


def _decimal(context: _Context) -> Converter:
    """Connect's Decimal: the unscaled number, big-endian, or with decimal.format=NUMERIC the number itself."""
    try:
        scale = int(context.field.parameters["scale"])
    except (KeyError, ValueError):
        raise ReplicatorError(
            f"the schema of column {context.column} has no scale", kind=ErrorKind.DECODE, column=context.column
        ) from None
    if context.kind == "money":
        if scale < 2:
            context.refuse("money is rounded", "money.fraction.digits=2")
        return lambda value: printing.money_text(_cents(_number(value, scale)))

    def convert(value: bytes | str | Decimal) -> Value:
        if isinstance(value, Decimal):
            return f"{value:f}".encode()
        return printing.numeric_text(int.from_bytes(bytes_of(value), signed=True), scale)

    return convert


def _number(value: bytes | str | Decimal, scale: int) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(int.from_bytes(bytes_of(value), signed=True)).scaleb(-scale)


def _cents(value: Decimal) -> int:
    cents = value * 100
    if not cents.is_finite() or cents != cents.to_integral_value():
        raise MalformedError("it is no amount of money")
    return int(cents)


def _variable_scale(context: _Context) -> NoReturn:
    context.refuse(
        "trailing zeros of its numbers are cut off (and NaN stops the connector)", "decimal.handling.mode=string"
    )


def _bits(context: _Context) -> Converter:
    """Little-endian; what is not set at its end is cut off."""
    if context.kind == "bit varying":
        context.refuse("zeros at the beginning of bit varying are cut off", None)
    try:
        length = int(context.field.parameters["length"])
    except (KeyError, ValueError):
        length = 0
    if context.shape is not None and context.shape.typmod > 0:
        length = context.shape.typmod

    def convert(value: bytes | str) -> Value:
        text = f"{int.from_bytes(bytes_of(value), 'little'):0{length}b}"
        if len(text) != length:
            raise MalformedError(f"it is longer than bit({length})")
        return text.encode()

    return convert


# --- moments --------------------------------------------------------------------------------------------------------


def _as_it_is(convert: Converter) -> Callable[[_Context], Converter]:
    return lambda _: convert


def _connect(convert: Converter) -> Callable[[_Context], Converter]:
    def build(context: _Context) -> Converter:
        if context.shape is None or context.shape.fraction > 3:
            context.refuse("fractions of a millisecond are cut off", "time.precision.mode=adaptive")
        return convert

    return build


def _iso_time(context: _Context) -> NoReturn:
    context.refuse("24:00:00 comes as 00:00:00", "time.precision.mode=adaptive")


def _zoned_time(context: _Context) -> NoReturn:
    context.refuse("times with time zone come in UTC, without the zone that they have", None)


def _duration(context: _Context) -> NoReturn:
    context.refuse("months and days of an interval come as microseconds", "interval.handling.mode=string")


# --- composed -------------------------------------------------------------------------------------------------------


def _array(context: _Context) -> Converter:
    """Elements as they come; one dimension."""
    items = context.field.items
    build = _BUILDERS.get(items.name or items.type) if items is not None else None
    if items is None or build is None:
        context.refuse("elements come in a form that isn't known here", None)
    if context.kind in _VECTORS:
        return lambda value: b" ".join(b"%d" % one for one in value)
    placeholder = context.modes.placeholder
    # Elements have no placeholder of their own: one of that text is a text.
    of_elements = Modes(**{**_settings(context.modes), "placeholder": "\0"})
    element = None if context.shape is None else context.shape.element
    convert_one = build(_Context(items, element, of_elements, context.column))
    marks = _array_marks(placeholder)
    delimiter = b";" if context.kind == "box" else b","
    whole = _binary(_Context(Field("bytes"), context.shape, context.modes, context.column))

    def convert(value: list[Any] | str) -> Value:
        if not isinstance(value, list):
            return UNCHANGED if value == placeholder else whole(value)
        if value in marks:
            return UNCHANGED
        elements = [None if one is None else convert_one(one) for one in value]
        if elements and all(one is None or _JAVA_OBJECT.fullmatch(one) for one in elements):  # type: ignore[arg-type]  # never UNCHANGED
            raise MalformedError(
                "its elements are NULL, or Java's names of objects, as Debezium writes an array of several dimensions"
            )
        return printing.array_text(elements, delimiter)  # type: ignore[arg-type]  # never UNCHANGED

    return convert


def _settings(modes: Modes) -> dict[str, Any]:
    return {name: getattr(modes, name) for name in modes.__dataclass_fields__}


def _array_marks(placeholder: str) -> tuple[list[Any], ...]:
    """What an unchanged array comes as: UnchangedToastedPlaceholder."""
    content = placeholder.encode()
    digest = bytearray(hashlib.md5(content, usedforsecurity=False).digest())
    digest[6], digest[8] = digest[6] & 0x0F | 0x30, digest[8] & 0x3F | 0x80
    number = digest.hex()
    uuid = "-".join((number[:8], number[8:12], number[12:16], number[16:20], number[20:]))
    return [placeholder], [content], [binascii.b2a_base64(content, newline=False).decode()], list(content), [uuid]


def _point(_: _Context) -> Converter:
    def convert(value: Mapping[str, Any]) -> Value:
        return b"(%b,%b)" % (float8_text(float(value["x"])), float8_text(float(value["y"])))

    return convert


def _geometry(_: _Context) -> Converter:
    """PostGIS prints EWKB in hex, which Debezium's `wkb` is."""
    return lambda value: bytes_of(value["wkb"]).hex().upper().encode()


def _vector(context: _Context) -> Converter:
    placeholder = context.modes.placeholder

    def convert(value: list[Any] | str) -> Value:
        if isinstance(value, str):
            return _placeholder_only(value, placeholder)
        return b"[" + b",".join(float4_text(float(one)) for one in value) + b"]"

    return convert


def _sparse_vector(_: _Context) -> Converter:
    def convert(value: Mapping[str, Any]) -> Value:
        pairs = value["vector"]
        if isinstance(pairs, Mapping):
            pairs = pairs.items()
        numbered = sorted(
            (int(one["key"]), float(one["value"])) if isinstance(one, Mapping) else (int(one[0]), float(one[1]))
            for one in pairs
        )
        text = b",".join(b"%d:%b" % (at, float4_text(number)) for at, number in numbered)
        return b"{%b}/%d" % (text, value["dimensions"])

    return convert


_BUILDERS: Final[Mapping[str, Callable[[_Context], Converter]]] = {
    **dict.fromkeys(("int8", "int16", "int32", "int64"), _integer),
    "boolean": _boolean,
    "float": _float,
    "double": _float,
    "string": _string,
    "bytes": _binary,
    "array": _array,
    "map": _map,
    "org.apache.kafka.connect.data.Decimal": _decimal,
    "org.apache.kafka.connect.data.Date": _as_it_is(moments.date_of_days),
    "org.apache.kafka.connect.data.Time": _connect(moments.time_of_millis),
    "org.apache.kafka.connect.data.Timestamp": _connect(moments.timestamp_of_millis),
    "io.debezium.data.VariableScaleDecimal": _variable_scale,
    "io.debezium.data.Bits": _bits,
    "io.debezium.data.Json": _json,
    "io.debezium.data.Xml": _named_text,
    "io.debezium.data.Uuid": _as_it_is(_encode),
    "io.debezium.data.Enum": _as_it_is(_encode),
    "io.debezium.data.Ltree": _named_text,
    "io.debezium.data.TsVector": _named_text,
    "io.debezium.data.DoubleVector": _vector,
    "io.debezium.data.FloatVector": _vector,
    "io.debezium.data.SparseDoubleVector": _sparse_vector,
    "io.debezium.data.geometry.Point": _point,
    "io.debezium.data.geometry.Geometry": _geometry,
    "io.debezium.data.geometry.Geography": _geometry,
    "io.debezium.time.Date": _as_it_is(moments.date_of_days),
    "io.debezium.time.IsoDate": _as_it_is(moments.date_of_iso),
    "io.debezium.time.Time": _as_it_is(moments.time_of_millis),
    "io.debezium.time.MicroTime": _as_it_is(printing.time_text),
    "io.debezium.time.NanoTime": _as_it_is(moments.time_of_nanos),
    "io.debezium.time.IsoTime": _iso_time,
    "io.debezium.time.Timestamp": _as_it_is(moments.timestamp_of_millis),
    "io.debezium.time.MicroTimestamp": _as_it_is(moments.timestamp_of_micros),
    "io.debezium.time.NanoTimestamp": _as_it_is(moments.timestamp_of_nanos),
    "io.debezium.time.IsoTimestamp": _as_it_is(moments.timestamp_of_iso),
    "io.debezium.time.ZonedTimestamp": _as_it_is(moments.timestamptz_of_iso),
    "io.debezium.time.ZonedTime": _zoned_time,
    "io.debezium.time.MicroDuration": _duration,
    "io.debezium.time.Interval": _as_it_is(moments.interval_of_iso),
}
