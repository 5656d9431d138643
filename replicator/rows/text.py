"""Values between PostgreSQL's text and Python: psycopg's loaders and dumpers, without a connection.

Text is what a session with the settings of `replicator.postgres.session` prints: ISO dates, UTC, hex bytea. What is
dumped here is written the way PostgreSQL prints it wherever Python can know that (uuid with dashes, `+00`, no exponent
in a numeric), because keys are compared as text, and kept as text in the key map.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from psycopg.adapt import AdaptersMap, Loader, PyFormat, Transformer
from psycopg.pq import Format

if TYPE_CHECKING:
    from psycopg.abc import Buffer

    from replicator.tables import Column

_TYPES: Final = psycopg.adapters.types
_DATE: Final = _TYPES["date"].oid
_TIME: Final = _TYPES["time"].oid
_TIMETZ: Final = _TYPES["timetz"].oid
_TIMESTAMP: Final = _TYPES["timestamp"].oid
_TIMESTAMPTZ: Final = _TYPES["timestamptz"].oid
_TEXT_ARRAY: Final = _TYPES["text"].array_oid
_JSON: Final = frozenset((_TYPES["json"].oid, _TYPES["jsonb"].oid))
_ARRAYS: Final = {info.array_oid: info for info in _TYPES if info.array_oid}
_EXACT_DIGITS: Final = 16  # a decimal of 15 digits and its point comes back from a double as it went in
_BARE: Final = re.compile(r'[^\s{}"\\]+\Z')


class RowError(Exception):
    """A mistake in a transform. Its message names columns and types, never a value of the row."""


class UnknownColumnError(RowError, KeyError):
    """The row has no such column."""

    def __str__(self) -> str:
        """The message as it stands; KeyError would quote it."""
        return str(self.args[0])


class UnreadableValueError(RowError, ValueError):
    """PostgreSQL's value has no counterpart in Python; its text is there by `row.raw`."""


class UnwritableValueError(RowError, ValueError):
    """The Python value can't be written to a column of this type."""


class RawText(str):
    """A value's text, exactly as PostgreSQL prints it or is to read it.

    Handed to `Row.set` it is written as it stands, whatever the type of the column: JSON text to a jsonb column, an
    array literal, `infinity`.
    """

    __slots__ = ()


def _json_number(text: str) -> float | Decimal:
    """A float where that keeps every digit, else a Decimal: jsonb holds numbers that a float would round."""
    if len(text) <= _EXACT_DIGITS and "e" not in text and "E" not in text:
        return float(text)
    number, exact = float(text), Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


class _JsonLoader(Loader):
    def load(self, data: Buffer) -> Any:
        return json.loads(bytes(data), parse_float=_json_number)


class _IntervalLoader(Loader):
    """A timedelta, but not for months and years: psycopg would make them 30 and 365 days."""

    def __init__(self, oid: int, context: Any = None) -> None:
        super().__init__(oid, context)
        self._plain = Transformer().get_loader(oid, Format.TEXT)

    def load(self, data: Buffer) -> Any:
        text = bytes(data)
        if b"mon" in text or b"year" in text:
            raise ValueError("months and years have no fixed length")
        return self._plain.load(text)


class _Session:
    """What psycopg asks for in place of a connection: adapters, and no connection."""

    def __init__(self) -> None:
        self.connection = None
        self.adapters = AdaptersMap(psycopg.adapters)
        for name in ("json", "jsonb"):
            self.adapters.register_loader(name, _JsonLoader)
        self.adapters.register_loader("interval", _IntervalLoader)


_TRANSFORMER: Final = Transformer(_Session())
_LOADERS: Final[dict[int, Callable[[bytes], Any]]] = {}


def value_oid(column: Column) -> int:
    """The oid by which a column's values are loaded and dumped; 0 means as text.

    A domain counts as its base type. Types that psycopg doesn't know (enums, composites, extensions) are text, arrays
    of them lists of text.
    """
    if _TYPES.get(column.type_oid) is not None:
        return column.type_oid
    name = column.cast_type.removeprefix("pg_catalog.")
    if _TYPES.get(name) is not None:
        return _TYPES.get_oid(name)
    return _TEXT_ARRAY if name.endswith("[]") else 0


def type_name(oid: int) -> str:
    """A type's name for a message."""
    info = _TYPES.get(oid)
    if info is None:
        return "text"
    return f"{info.regtype or info.name}[]" if oid in _ARRAYS else info.regtype or info.name


def load(data: bytes, oid: int) -> Any:
    """The Python value of a text as PostgreSQL prints it.

    Raises:
        UnreadableValueError: Python has no such value (infinity as a date, 24:00, months in an interval).

    """
    loader = _LOADERS.get(oid)
    if loader is None:
        loader = _LOADERS[oid] = _TRANSFORMER.get_loader(oid, Format.TEXT).load
    if oid in _ARRAYS and data[:1] == b"[":
        raise UnreadableValueError(f"a value of type {type_name(oid)} has bounds that don't begin at 1")
    try:
        return loader(data)
    except (psycopg.Error, ValueError, ArithmeticError, LookupError):
        # Their messages quote the value, hence no cause.
        raise UnreadableValueError(f"a value of type {type_name(oid)} has no counterpart in Python") from None


def dump(value: object, oid: int) -> bytes:
    """The text of a Python value (not None) for a column of type `oid`.

    Raises:
        UnwritableValueError: the value doesn't fit the type, or nobody knows how to write it.

    """
    try:
        text = _text(value, oid)
    except (psycopg.Error, ValueError, TypeError, ArithmeticError) as error:
        if isinstance(error, RowError):
            raise
        message = f"a value of Python type {type(value).__qualname__} can't be written as {type_name(oid)}"
        raise UnwritableValueError(message) from None
    if "\0" in text:
        raise UnwritableValueError("a text with a NUL character can't be stored by PostgreSQL")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UnwritableValueError("a text with a lone surrogate can't be stored by PostgreSQL") from None


def _text(value: object, oid: int) -> str:
    if isinstance(value, RawText):
        return value
    if oid in _JSON:
        return _document_text(value)
    plain = _PLAIN.get(type(value))
    if plain is not None:
        return plain(value)
    if isinstance(value, list):
        info = _ARRAYS.get(oid)
        return _array_text(value, info.oid if info else 0, info.delimiter if info else ",")
    if isinstance(value, dict):
        return json_text(value)
    if isinstance(value, date | time):
        return _moment_text(value, oid)
    return bytes(_TRANSFORMER.get_dumper(value, PyFormat.TEXT).dump(value) or b"").decode()


def _document_text(value: object) -> str:
    if isinstance(value, str):
        raise UnwritableValueError(
            "a str for a JSON column could be JSON text or a JSON string: pass the document itself (dict, list, ...), "
            "or replicator.RawText(text) for JSON text"
        )
    return json_text(value)


def json_text(value: object) -> str:
    """A document as JSON, Decimals with all their digits.

    Raises:
        TypeError: JSON has no such thing.
        ValueError: NaN or an infinity.

    """
    match value:
        case dict():
            for key in value:
                if not isinstance(key, str):
                    raise TypeError(key)
            return "{" + ", ".join(f"{json_text(key)}: {json_text(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(json_text, value)) + "]"
        case Decimal():
            if not value.is_finite():
                raise ValueError("not a JSON number")
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _array_text(items: list[Any], oid: int, delimiter: str) -> str:
    parts = []
    for item in items:
        if item is None:
            parts.append("NULL")
        elif isinstance(item, list) and oid not in _JSON:
            parts.append(_array_text(item, oid, delimiter))
        else:
            text = _text(item, oid)
            bare = _BARE.match(text) and delimiter not in text and text.upper() != "NULL"
            parts.append(text if bare else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    return "{" + delimiter.join(parts) + "}"


def _float_text(value: float) -> str:
    text = repr(value).removesuffix(".0")
    return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(text, text)


def _decimal_text(value: Decimal) -> str:
    if value.is_nan():
        return "NaN"
    return format(value, "f") if value.is_finite() else str(value)


def _moment_text(value: date | time, oid: int) -> str:
    """A date, time or datetime as PostgreSQL prints it; a zone that would be guessed or lost is refused."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    aware = value.tzinfo is not None
    if oid in {_TIMESTAMPTZ, _TIMETZ} and not aware:
        raise UnwritableValueError(f"a {type(value).__name__} without time zone for {type_name(oid)}: give it a tzinfo")
    if oid in {_TIMESTAMP, _TIME} and aware:
        raise UnwritableValueError(f"a {type(value).__name__} with time zone for {type_name(oid)} would lose its zone")
    if oid == _DATE:
        raise UnwritableValueError("a datetime for a date would lose its time: use .date()")
    if isinstance(value, datetime):
        text = value.astimezone(UTC).replace(tzinfo=None).isoformat(" ") if aware else value.isoformat(" ")
        return (text.rstrip("0") if "." in text else text) + ("+00" if aware else "")
    return bytes(_TRANSFORMER.get_dumper(value, PyFormat.TEXT).dump(value) or b"").decode()


_PLAIN: Final[dict[type, Callable[[Any], str]]] = {
    str: str,
    int: str,
    bool: lambda value: "t" if value else "f",
    float: _float_text,
    Decimal: _decimal_text,
    UUID: str,
    bytes: lambda value: "\\x" + value.hex(),
    bytearray: lambda value: "\\x" + value.hex(),
    memoryview: lambda value: "\\x" + value.hex(),
}


def text_equal(left: bytes, right: bytes, oid: int) -> bool:
    """Whether two texts are one value: equal as text, else equal when decoded (`1.0` and `1.00`, jsonb by value)."""
    if left == right:
        return True
    if oid == 0:
        return False
    try:
        return bool(load(left, oid) == load(right, oid))
    except UnreadableValueError:
        return False
