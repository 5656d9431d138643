"""What a column prints after it took a text: enough of PostgreSQL's input and output for the law to be checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation, localcontext
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from replicator.tables import Column

_HEADER: Final = 4
_INTEGER: Final = re.compile(r"\s*[+-]?\d+\s*\Z")
_BOOLEANS: Final = {"t": "t", "true": "t", "yes": "t", "on": "t", "1": "t"} | dict.fromkeys(
    ("f", "false", "no", "off", "0"), "f"
)
_BITS: Final = {"smallint": 16, "integer": 32, "bigint": 64}


class DoesNotFitError(Exception):
    """The column would refuse the text. The message tells why, not the value."""


def stored(text: bytes, column: Column) -> bytes:
    """The text that the column prints once it has taken `text`.

    Types that aren't known here print what they took.

    Raises:
        DoesNotFitError: PostgreSQL would refuse it.

    """
    convert = _CONVERSIONS.get(column.cast_type)
    return text if convert is None else convert(text.decode(), column).encode()


def _integer(text: str, column: Column) -> str:
    if not _INTEGER.match(text):
        raise DoesNotFitError(f"no {column.type_name}")
    number = int(text)
    bits = _BITS[column.cast_type]
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise DoesNotFitError(f"out of range for {column.type_name}")
    return str(number)


def _numeric(text: str, column: Column) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise DoesNotFitError(f"no {column.type_name}") from None
    typmod = column.base_typmod
    if not number.is_finite():
        return text
    if typmod < _HEADER:
        return format(number, "f")
    precision, scale = (typmod - _HEADER) >> 16, (typmod - _HEADER) & 0x7FF
    if scale >= 0x400:  # negative: PostgreSQL 15 and later
        return text
    with localcontext(prec=1100, rounding="ROUND_HALF_UP"):
        rounded = number.quantize(Decimal(1).scaleb(-scale))
    if abs(rounded) >= Decimal(10) ** (precision - scale):
        raise DoesNotFitError(f"out of range for {column.type_name}")
    return format(rounded, "f")


def _boolean(text: str, column: Column) -> str:
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise DoesNotFitError(f"no {column.type_name}") from None


def _varying(text: str, column: Column) -> str:
    longest = column.base_typmod - _HEADER
    if longest < 0 or len(text) <= longest:
        return text
    if text[longest:].strip(" "):
        raise DoesNotFitError(f"too long for {column.type_name}")
    return text[:longest]


def _padded(text: str, column: Column) -> str:
    return _varying(text, column).ljust(max(0, column.base_typmod - _HEADER))


def _uuid(text: str, column: Column) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise DoesNotFitError(f"no {column.type_name}") from None


_CONVERSIONS: Final[dict[str, Callable[[str, Column], str]]] = {
    "smallint": _integer,
    "integer": _integer,
    "bigint": _integer,
    "numeric": _numeric,
    "boolean": _boolean,
    "character varying": _varying,
    "bpchar": _padded,
    "uuid": _uuid,
}
