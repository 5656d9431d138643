"""Values of Debezium's events, back to the text that PostgreSQL prints.

What a setting of Debezium's loses is refused when a table's converters are built, or, where only some values are lost
(a moment beyond 2262 in nanoseconds), when such a value comes. Nothing is guessed, but some things can't be seen, as
they were tried with 3.6.3:

- A text that equals `unavailable.value.placeholder` in a column that can be TOASTed counts as unchanged, and the
  engine fetches the row where it needs the value.
- An array's lower bounds, which Debezium drops: it comes as one that begins at 1. (More dimensions are refused, and so
  is an array of nothing but NULL, which looks the same.)
- In Debezium's snapshot a date before Christ comes as one after, and 1582-10-05 to -14 come ten days later.
- A timestamp of 294247-01-10 04:00:25.2 is infinite, and an infinite interval (17 and later) is one of no time.
- Of money, `lc_monetary`: it is printed as with C.

Debezium: PostgresValueConverter, JdbcValueConverters, UnchangedToastedPlaceholder (2.7 to 3.6).
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, NoReturn

import msgspec

from replicator.codecs.debezium import binaries, moments, printing, quantities, spaces
from replicator.codecs.debezium.binaries import binary_reader
from replicator.codecs.debezium.columns import FIXED, shape_of
from replicator.codecs.debezium.conversion import (
    CONVERSION_ERRORS,
    Context,
    Converter,
    PlainNumeric,
    PlainText,
    placeholder_only,
)
from replicator.codecs.debezium.fields import Field, MalformedError
from replicator.codecs.debezium.modes import Modes
from replicator.errors import ReplicatorError
from replicator.events import UNCHANGED, Value
from replicator.tables import Column

__all__ = ["CONVERSION_ERRORS", "Converter", "binary_reader", "converter"]

_JAVA_OBJECT: Final = re.compile(rb"\[+L?[\w.]+;?@[0-9a-f]+")
_VECTORS: Final = {"int2vector", "oidvector"}


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
    context = Context(field, shape, modes, "" if column is None else column.name)
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
    try:
        return build(context)
    except ReplicatorError:
        if modes.exact:
            return _told_elsewhere
        raise


def _told_elsewhere(_: object) -> NoReturn:
    """Of a value whose form loses something, in a record that should have told its text besides."""
    raise MalformedError("its text lacks in `exact`")


# --- texts ----------------------------------------------------------------------------------------------------------


def _named_text(context: Context) -> Converter:
    """A text that is PostgreSQL's own."""
    return PlainText(context.modes.placeholder)


def _string(context: Context) -> Converter:
    """A text without a meaning of its own: what it is depends on the column."""
    kind, modes = context.kind, context.modes
    if context.shape is not None and context.shape.array:
        return binaries.binary(context)
    if kind == "numeric":
        return PlainNumeric(context.modes.placeholder, quantities.is_whole(context))
    if kind == "money":
        return lambda value: printing.money_text(quantities.cents_of(Decimal(value)))
    if kind == "bytea" and modes.binary == "bytes":
        context.refuse(
            "it comes as text, and binary.handling.mode isn't told", "binary.handling.mode in stream.debezium"
        )
    if kind and kind not in _TEXT_KINDS and context.shape is not None and not context.shape.labels:
        return binaries.binary(context)
    if kind == "name" and not modes.unknown_types:
        context.refuse("values of the type name come as NULL", "include.unknown.datatypes=true")
    return PlainText(None) if kind in FIXED else _named_text(context)


_TEXT_KINDS: Final = frozenset(
    {
        *("text", "character varying", "bpchar", '"char"', "name", "citext", "isbn", "ltree", "uuid", "json", "jsonb"),
        *("inet", "cidr", "macaddr", "macaddr8", "xml", "tsvector"),
        *("tsrange", "tstzrange", "daterange", "int4range", "numrange", "int8range"),
    }
)


def _json(context: Context) -> Converter:
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


def _map(context: Context) -> Converter:
    """Hstore as a map."""
    placeholder = context.modes.placeholder
    unchanged = {placeholder: placeholder}

    def convert(value: Mapping[str, str | None] | str) -> Value:
        if isinstance(value, str):
            return placeholder_only(value, placeholder)
        return UNCHANGED if value == unchanged else printing.hstore_text(value)

    return convert


# --- moments --------------------------------------------------------------------------------------------------------


def _as_it_is(convert: Converter) -> Callable[[Context], Converter]:
    return lambda _: convert


def _connect(convert: Converter) -> Callable[[Context], Converter]:
    def build(context: Context) -> Converter:
        if context.shape is None or context.shape.fraction > 3:
            context.refuse("fractions of a millisecond are cut off", "time.precision.mode=adaptive")
        return convert

    return build


def _iso_time(context: Context) -> NoReturn:
    context.refuse("24:00:00 comes as 00:00:00", "time.precision.mode=adaptive")


def _zoned_time(context: Context) -> NoReturn:
    context.refuse("times with time zone come in UTC, without the zone that they have", None)


def _duration(context: Context) -> NoReturn:
    context.refuse("months and days of an interval come as microseconds", "interval.handling.mode=string")


# --- composed -------------------------------------------------------------------------------------------------------


def _array(context: Context) -> Converter:
    """Elements as they come; one dimension."""
    items = context.field.items
    build = _BUILDERS.get(items.name or items.type) if items is not None else None
    if items is None or build is None:
        context.refuse("elements come in a form that isn't known here", None)
    if not context.modes.exact:
        _refuse_by_driver(context)
    placeholder = context.modes.placeholder
    # Elements have no placeholder of their own: one of that text is a text.
    of_elements = replace(context.modes, placeholder=None)
    element = None if context.shape is None else context.shape.element
    convert_one = build(Context(items, element, of_elements, context.column))
    if context.kind in _DATES and not context.modes.exact:
        convert_one = _since_1583(convert_one)
    marks = () if placeholder is None else _array_marks(placeholder)
    delimiter = b";" if context.kind == "box" else b","
    whole = binaries.binary(Context(Field("bytes"), context.shape, context.modes, context.column))

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


def _refuse_by_driver(context: Context) -> None:
    """Refuse arrays that the JDBC driver, through which Debezium reads all of them, doesn't keep."""
    if context.kind in _VECTORS:
        context.refuse(f"Debezium sends an empty array in place of an {context.kind}, or stops at it", None)
    if context.kind.startswith("bit"):
        context.refuse("arrays of bits come as NULL", None)
    if context.kind == "time without time zone":
        context.refuse("24:00:00 comes as 00:00:00 in arrays, and fractions of a millisecond are cut off", None)


_DATES: Final = {"date", "timestamp without time zone", "timestamp with time zone"}


def _since_1583(convert: Converter) -> Converter:
    """Java's dates have another calendar before, and Debezium drops their era."""

    def converted(value: Any) -> Value:
        text = convert(value)
        if isinstance(text, bytes) and (text.endswith(b"BC") or (text[4:5] == b"-" and text[:4] < b"1583")):
            raise MalformedError("a date before 1583 comes as another one in arrays")
        return text

    return converted


def _array_marks(placeholder: str) -> tuple[list[Any], ...]:
    """What an unchanged array comes as: UnchangedToastedPlaceholder."""
    content = placeholder.encode()
    digest = bytearray(hashlib.md5(content, usedforsecurity=False).digest())
    digest[6], digest[8] = digest[6] & 0x0F | 0x30, digest[8] & 0x3F | 0x80
    number = digest.hex()
    uuid = "-".join((number[:8], number[8:12], number[12:16], number[16:20], number[20:]))
    return [placeholder], [content], [binascii.b2a_base64(content, newline=False).decode()], list(content), [uuid]


_BUILDERS: Final[Mapping[str, Callable[[Context], Converter]]] = {
    **dict.fromkeys(("int8", "int16", "int32", "int64"), quantities.integer),
    "boolean": quantities.boolean,
    "float": quantities.float_of,
    "double": quantities.float_of,
    "string": _string,
    "bytes": binaries.binary,
    "array": _array,
    "map": _map,
    "org.apache.kafka.connect.data.Decimal": quantities.decimal,
    "org.apache.kafka.connect.data.Date": _as_it_is(moments.date_of_days),
    "org.apache.kafka.connect.data.Time": _connect(moments.time_of_millis),
    "org.apache.kafka.connect.data.Timestamp": _connect(moments.timestamp_of_millis),
    "io.debezium.data.VariableScaleDecimal": quantities.variable_scale,
    "io.debezium.data.Bits": quantities.bits,
    "io.debezium.data.Json": _json,
    "io.debezium.data.Xml": _named_text,
    "io.debezium.data.Uuid": lambda _: PlainText(None),
    "io.debezium.data.Enum": lambda _: PlainText(None),
    "io.debezium.data.Ltree": _named_text,
    "io.debezium.data.Tsvector": _named_text,
    "io.debezium.data.DoubleVector": spaces.vector,
    "io.debezium.data.FloatVector": spaces.vector,
    "io.debezium.data.SparseDoubleVector": spaces.sparse_vector,
    "io.debezium.data.geometry.Point": spaces.point,
    "io.debezium.data.geometry.Geometry": spaces.geometry,
    "io.debezium.data.geometry.Geography": spaces.geometry,
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
