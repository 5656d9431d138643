"""Whether two texts are one value of a column, as verification means it. Pure.

    numeric       by value, rounded to the column's scale as an assignment rounds it; NaN equals NaN
    real, double  by bits: -0 is not 0; any NaN equals any NaN
    jsonb         by value: order of keys and spelling of numbers don't count (json, the text type, as text)
    timestamptz   by instant; with timestamp and time rounded to the column's precision
    arrays        element by element, bounds included
    all else      by code point; blanks at the end of a `character`, and beyond a varchar's length, don't count

What Python can't read (infinity, BC) is compared as text. Composites and ranges are text too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Hashable
from datetime import UTC, date, datetime, time, timedelta
from decimal import MAX_PREC, ROUND_HALF_UP, Context, Decimal, InvalidOperation
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from replicator.rows import UnreadableValueError, load, value_oid

if TYPE_CHECKING:
    from replicator.events import Value
    from replicator.tables import Column

_HEADER: Final = 4  # of a varlena: what typmods of numeric, varchar and bpchar are shifted by
_DIGITS_MAX: Final = 200_000  # a numeric has up to 131,072 digits before its point, and 16,383 after it
_EXACT: Final = Context(prec=_DIGITS_MAX, Emax=MAX_PREC, Emin=-MAX_PREC)
_MICROSECONDS: Final = 6

Canonical = Callable[[bytes], Hashable]


class Equal(Enum):
    """How two values compare."""

    SAME = auto()
    WITHIN = auto()  # they differ by no more than the connector declares
    DIFFERENT = auto()


class Equality:
    """Compares values of one target column: the text that it should hold with the text that it prints.

    Args:
        column: of the target.
        tolerance: of numbers the largest difference that is let pass, of moments in seconds; None: none.

    """

    def __init__(self, column: Column, tolerance: Decimal | None = None) -> None:
        self.tolerance = tolerance
        self._canonical = _canonical(column.cast_type, column.base_typmod)
        self._oid = value_oid(column)

    def canonical(self, value: Value) -> Hashable:
        """Equal values, and no others, have the same one. NULL has None."""
        return self._canonical(value) if isinstance(value, bytes) else None

    def compare(self, expected: Value, found: Value) -> Equal:
        """How what is expected compares with what was found."""
        if expected == found:
            return Equal.SAME
        if not isinstance(expected, bytes) or not isinstance(found, bytes):
            return Equal.DIFFERENT
        if self._canonical(expected) == self._canonical(found):
            return Equal.SAME
        return Equal.WITHIN if self.tolerance is not None and self._near(expected, found) else Equal.DIFFERENT

    def _near(self, expected: bytes, found: bytes) -> bool:
        assert self.tolerance is not None
        try:
            one, other = load(expected, self._oid), load(found, self._oid)
        except UnreadableValueError:
            return False
        distance = _distance(one, other)
        return distance is not None and distance <= self.tolerance


def _distance(one: Any, other: Any) -> Decimal | None:
    """Between two numbers, or two moments in seconds; None where there is none."""
    if type(one) is not type(other):
        return None
    if isinstance(one, datetime | date):
        return _seconds(one - other)
    if isinstance(one, timedelta):
        return _seconds(one - other)
    if isinstance(one, int | float | Decimal) and not isinstance(one, bool):
        # The shortest text of a float is what its column prints; its exact value has tails that nobody declared.
        first, second = (Decimal(repr(each)) if isinstance(each, float) else Decimal(each) for each in (one, other))
        if first.is_finite() and second.is_finite():
            return abs(_EXACT.subtract(first, second))
    return None


def _seconds(span: timedelta) -> Decimal:
    return abs(Decimal(span // timedelta(microseconds=1))) / 1_000_000


@lru_cache(maxsize=1024)
def _canonical(cast_type: str, typmod: int) -> Canonical:
    """The function that makes texts of a type canonical."""
    if cast_type.endswith("[]"):
        element = _canonical(cast_type[:-2], typmod)
        delimiter = b";" if cast_type == "box[]" else b","
        return lambda value: _array(value, element, delimiter)
    name = cast_type.removeprefix("pg_catalog.")
    if name in _BY_TYPMOD:
        return _BY_TYPMOD[name](typmod)
    return _PLAIN.get(name, _as_text)


def _as_text(value: bytes) -> Hashable:
    return value


# -- numbers -----------------------------------------------------------------------------------------------------------


def _numeric(typmod: int) -> Canonical:
    scale = None
    if typmod >= _HEADER:
        scale = (typmod - _HEADER) & 0x7FF
        scale = (scale ^ 0x400) - 0x400  # 11 bits with a sign, since 15
    return lambda value: _number(value, scale)


def _number(value: bytes, scale: int | None) -> Hashable:
    try:
        number = Decimal(value.decode())
    except (InvalidOperation, UnicodeDecodeError):
        return value
    if not number.is_finite():
        return str(abs(number)) if number.is_nan() else str(number)
    if scale is not None:
        try:
            number = number.quantize(Decimal((0, (1,), -scale)), ROUND_HALF_UP, _EXACT)
        except InvalidOperation:
            return value
    return number  # Decimal hashes, and compares, by value


def _float(form: str) -> Canonical:
    pack = struct.Struct(form).pack

    def canonical(value: bytes) -> Hashable:
        try:
            number = float(value)
            return "NaN" if number != number else pack(number)  # noqa: PLR0124 - what NaN is known by
        except (ValueError, OverflowError):
            return value

    return canonical


# -- documents, texts --------------------------------------------------------------------------------------------------


def _document(value: bytes) -> Hashable:
    try:
        return _frozen(json.loads(value, parse_float=Decimal, parse_int=Decimal))
    except (ValueError, InvalidOperation):
        return value


def _frozen(document: Any) -> Hashable:
    match document:
        case dict():
            return ("object", frozenset((name, _frozen(item)) for name, item in document.items()))
        case list():
            return ("array", tuple(map(_frozen, document)))
        case bool() | None:
            return ("word", document)
        case _:
            number: Hashable = document
            return number


def _padded(typmod: int) -> Canonical:
    del typmod
    return lambda value: value.rstrip(b" ")


def _varying(typmod: int) -> Canonical:
    if typmod < _HEADER:
        return _as_text
    longest = typmod - _HEADER

    def canonical(value: bytes) -> Hashable:
        if len(value) <= longest or len(text := value.decode(errors="replace")) <= longest:
            return value
        return text[:longest].encode() if not text[longest:].strip(" ") else value

    return canonical


# -- moments -----------------------------------------------------------------------------------------------------------


def _moment(oid: int) -> Callable[[int], Canonical]:
    def of(typmod: int) -> Canonical:
        digits = typmod if 0 <= typmod < _MICROSECONDS else _MICROSECONDS

        def canonical(value: bytes) -> Hashable:
            try:
                moment = load(value, oid)
            except UnreadableValueError:
                return value
            if isinstance(moment, time):
                return _rounded_time(moment, digits)
            if moment.tzinfo is not None:
                moment = moment.astimezone(UTC)
            return _rounded(moment, digits)

        return canonical

    return of


def _rounded(moment: datetime, digits: int) -> Hashable:
    unit = 10 ** (_MICROSECONDS - digits)
    if unit == 1:
        return moment
    rest = moment.microsecond % unit
    try:
        return moment + timedelta(microseconds=(unit if 2 * rest >= unit else 0) - rest)
    except OverflowError:
        return moment


def _rounded_time(moment: time, digits: int) -> Hashable:
    unit = 10 ** (_MICROSECONDS - digits)
    since = ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1_000_000 + moment.microsecond
    return ((2 * since + unit) // (2 * unit) * unit, moment.utcoffset())  # timetz is equal by its zone too


# -- arrays ------------------------------------------------------------------------------------------------------------


def _array(value: bytes, element: Canonical, delimiter: bytes) -> Hashable:
    bounds, brace, rest = value.partition(b"{")
    if not brace:
        return value
    try:
        items, end = _items(rest, 0, element, delimiter)
    except IndexError:
        return value
    return (bounds, items) if end == len(rest) else value


def _items(text: bytes, at: int, element: Canonical, delimiter: bytes) -> tuple[Hashable, int]:
    """The elements up to the closing brace, and the place after it; `text` begins after the opening one."""
    items: list[Hashable] = []
    while True:
        one = text[at : at + 1]
        if one == b"}":
            return tuple(items), at + 1
        if one == delimiter:
            at += 1
        elif one == b"{":
            nested, at = _items(text, at + 1, element, delimiter)
            items.append(("array", nested))
        elif one == b'"':
            quoted, at = _quoted(text, at + 1)
            items.append(("value", element(quoted)))
        elif not one:
            raise IndexError(at)
        else:
            end = at
            while text[end] not in (delimiter[0], ord("}")):
                end += 1
            bare = text[at:end]
            items.append(None if bare.upper() == b"NULL" else ("value", element(bare)))
            at = end


def _quoted(text: bytes, at: int) -> tuple[bytes, int]:
    found = bytearray()
    while text[at] != ord('"'):
        if text[at] == ord("\\"):
            at += 1
        found.append(text[at])
        at += 1
    return bytes(found), at + 1


_BY_TYPMOD: Final[dict[str, Callable[[int], Canonical]]] = {
    "numeric": _numeric,
    "bpchar": _padded,
    "character varying": _varying,
    "timestamp with time zone": _moment(1184),
    "timestamp without time zone": _moment(1114),
    "time without time zone": _moment(1083),
    "time with time zone": _moment(1266),
}
_PLAIN: Final[dict[str, Canonical]] = {
    "real": _float("f"),
    "double precision": _float("d"),
    "jsonb": _document,
}
