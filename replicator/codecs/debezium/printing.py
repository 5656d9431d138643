"""Values as PostgreSQL prints them, with the settings of our sessions: DateStyle ISO, IntervalStyle postgres, TimeZone
UTC, bytea_output hex, and the shortest text of floats.

Sources in PostgreSQL: src/backend/utils/adt/{datetime,numeric,arrayfuncs,cash}.c, src/common/{d2s,f2s}.c,
contrib/hstore/hstore_io.c.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Mapping
from datetime import date
from fractions import Fraction
from functools import lru_cache
from typing import Final

DAY_MICROS: Final = 86_400_000_000
_EPOCH_ORDINAL: Final = 719_163  # date(1970, 1, 1).toordinal()
_ERA_DAYS: Final = 146_097  # of 400 years
_FIRST_DAY, _LAST_DAY = -2_440_588, 2_145_031_948  # 4714-11-24 BC, 5874897-12-31
_FIRST_MICROS, _LAST_MICROS = -210_866_803_200_000_000, 9_224_318_015_999_999_999  # 294276-12-31 23:59:59.999999
_FLOAT32: Final = struct.Struct("<f")
_FLOAT32_NORMAL: Final = 1.1754943508222875e-38
_TIES_FROM: Final = 2.0**53  # below, no text of 17 digits lies half way between two floats
_SINGLE_TIES_FROM: Final = 2.0**21  # likewise, of 9 digits
_QUOTED: Final = re.compile(rb'["\\{},\s]|\A\Z|\A[nN][uU][lL][lL]\Z', re.ASCII)
_ESCAPED: Final = re.compile(rb'(["\\])')
_DIGITS_AT_ONCE: Final = 4_000  # Python refuses to print integers of more than 4,300 digits


class OutOfRangeError(ValueError):
    """A value that PostgreSQL's type doesn't have."""


def float8_text(value: float) -> bytes:
    """Of double precision: as `float8out`."""
    size = abs(value)
    if 1e-4 <= size < 1e15 or size == 0.0:
        text = repr(value)
        return text.removesuffix(".0").encode()
    if value != value:  # noqa: PLR0124 -- NaN is what isn't equal to itself
        return b"NaN"
    if size == float("inf"):
        return b"Infinity" if value > 0 else b"-Infinity"
    text = repr(size)
    if size >= _TIES_FROM and _on_edge(text, size, 53):
        text = next(one for one in (f"{size:.{n}e}" for n in range(15, 17)) if not _on_edge(one, size, 53))
    digits, exponent = _digits(text)
    return _scientific("-" if value < 0 else "", digits, exponent)


def float4_text(value: float) -> bytes:
    """Of real: as `float4out`.

    Args:
        value: any text of the number, read as a double.

    Raises:
        OutOfRangeError: beyond real's range.

    """
    try:
        (single,) = _FLOAT32.unpack(_FLOAT32.pack(value))
    except OverflowError:
        raise OutOfRangeError from None
    size = abs(single)
    if size == 0.0 or size != size or size == float("inf"):  # noqa: PLR0124
        return float8_text(single)
    number, exponent = _digits(_shortest_single(size, _FLOAT32.pack(size)))
    sign = "-" if single < 0 else ""
    if -4 <= exponent < 6:
        return (sign + _fixed(number, exponent)).encode()
    return _scientific(sign, number, exponent)


def _shortest_single(size: float, packed: bytes) -> str:
    ties = size >= _SINGLE_TIES_FROM
    lopsided = math.frexp(size)[0] == 0.5  # above a power of two floats lie twice as far apart as below it
    for digits in range(6 if size >= _FLOAT32_NORMAL else 1, 9):
        text = f"{size:.{digits - 1}e}"
        if _FLOAT32.pack(float(text)) == packed and not (ties and _on_edge(text, size, 24)):
            return text
        if lopsided:
            mantissa, _, exponent = text.partition("e")
            text = f"{int(mantissa.replace('.', '')) + 1}e{int(exponent) - digits + 1}"
            if _FLOAT32.pack(float(text)) == packed and not _on_edge(text, size, 24):
                return text
    return f"{size:.8e}"


def _on_edge(text: str, value: float, bits: int) -> bool:
    """Whether a text lies half way to the next float: the tie makes it this one, but PostgreSQL takes no such text."""
    number, exact = Fraction(text), Fraction(value)
    mantissa, exponent = math.frexp(value)
    step = Fraction(2) ** (exponent - bits)
    if abs(mantissa) == 0.5 and abs(number) < abs(exact):
        step /= 2
    return 2 * abs(number - exact) >= step


def _digits(text: str) -> tuple[str, int]:
    """Digits of a positive number without zeros at either end, and the exponent of the first digit."""
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    shift = len(digits) - len(digits.lstrip("0"))
    return digits.strip("0"), int(exponent or 0) + len(whole) - 1 - shift


def _fixed(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    if exponent + 1 >= len(digits):
        return digits + "0" * (exponent + 1 - len(digits))
    return digits[: exponent + 1] + "." + digits[exponent + 1 :]


def _scientific(sign: str, digits: str, exponent: int) -> bytes:
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}".encode()


def integer_text(value: int) -> str:
    """Of any integer, however long."""
    if value.bit_length() < 3 * _DIGITS_AT_ONCE:
        return str(value)
    if value < 0:
        return "-" + integer_text(-value)
    half = (value.bit_length() * 301 // 1000) // 2
    high, low = divmod(value, 10**half)
    return integer_text(high) + integer_text(low).rjust(half, "0")


def numeric_text(unscaled: int, scale: int) -> bytes:
    """Of numeric: `unscaled` / 10^`scale`, with exactly `scale` digits behind the point (none if it is negative)."""
    if scale <= 0:
        return integer_text(unscaled * 10**-scale).encode()
    sign, digits = ("-", integer_text(-unscaled)) if unscaled < 0 else ("", integer_text(unscaled))
    digits = digits.rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}".encode()


def money_text(cents: int) -> bytes:
    """Of money, where `lc_monetary` is C or of a country that writes $1,234.56."""
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}".encode()


@lru_cache(maxsize=4096)
def _day(days: int) -> tuple[str, bool]:
    """Date of a number of days since 1970-01-01, and whether it is before Christ."""
    ordinal = days + _EPOCH_ORDINAL
    if 1 <= ordinal <= 3_652_059:
        return date.fromordinal(ordinal).isoformat(), False
    era, rest = divmod(
        days + 719_468, _ERA_DAYS
    )  # https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    year_of_era = (rest - rest // 1460 + rest // 36524 - rest // 146096) // 365
    day_of_year = rest - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    before_christ = year <= 0
    return f"{1 - year if before_christ else year:04d}-{month:02d}-{day:02d}", before_christ


def date_text(days: int) -> bytes:
    """Of date: days since 1970-01-01.

    Raises:
        OutOfRangeError: PostgreSQL has no such day.

    """
    if not _FIRST_DAY <= days <= _LAST_DAY:
        raise OutOfRangeError
    text, before_christ = _day(days)
    return (text + " BC" if before_christ else text).encode()


def days_of(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of the proleptic calendar, in which the year 0 is 1 BC."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * _ERA_DAYS + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def _clock(micros: int) -> str:
    seconds, fraction = divmod(micros, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def time_text(micros: int) -> bytes:
    """Of time: microseconds since midnight, 24:00:00 included.

    Raises:
        OutOfRangeError: no time of a day.

    """
    if not 0 <= micros <= DAY_MICROS:
        raise OutOfRangeError
    return _clock(micros).encode()


def timestamp_text(micros: int, zone: str = "") -> bytes:
    """Of timestamp, or with the zone "+00" of timestamptz: microseconds since 1970-01-01.

    Raises:
        OutOfRangeError: PostgreSQL has no such moment.

    """
    if not _FIRST_MICROS <= micros <= _LAST_MICROS:
        raise OutOfRangeError
    days, rest = divmod(micros, DAY_MICROS)
    text, before_christ = _day(days)
    return f"{text} {_clock(rest)}{zone}{' BC' if before_christ else ''}".encode()


def interval_text(months: int, days: int, micros: int) -> bytes:
    """Of interval, in the style `postgres` (EncodeInterval)."""
    parts: list[str] = []
    negative = False
    years, rest = (abs(months) // 12, abs(months) % 12) if months >= 0 else (-(abs(months) // 12), -(abs(months) % 12))
    for value, unit in ((years, "year"), (rest, "mon"), (days, "day")):
        if value:
            parts.append(f"{'+' if negative and value > 0 else ''}{value} {unit}{'' if value == 1 else 's'}")
            negative = value < 0
    if micros or not parts:
        sign = "-" if micros < 0 else "+" if negative else ""
        parts.append(sign + _clock(abs(micros)))
    return " ".join(parts).encode()


def array_text(elements: Iterable[bytes | None], delimiter: bytes = b",") -> bytes:
    """Of an array of one dimension that begins at 1: as `array_out`."""
    written = []
    for element in elements:
        if element is None:
            written.append(b"NULL")
        elif _QUOTED.search(element) or delimiter in element:
            written.append(b'"' + _ESCAPED.sub(rb"\\\1", element) + b'"')
        else:
            written.append(element)
    return b"{" + delimiter.join(written) + b"}"


def hstore_text(pairs: Mapping[str, str | None]) -> bytes:
    """Of hstore: as `hstore_out`, in its order."""
    written = []
    for key, value in sorted(
        ((key.encode(), value) for key, value in pairs.items()), key=lambda pair: (len(pair[0]), pair[0])
    ):
        text = b"NULL" if value is None else b'"' + _ESCAPED.sub(rb"\\\1", value.encode()) + b'"'
        written.append(b'"' + _ESCAPED.sub(rb"\\\1", key) + b'"=>' + text)
    return b", ".join(written)
