"""Values as PostgreSQL prints them, with the settings of our sessions: DateStyle ISO, IntervalStyle postgres, TimeZone
UTC and bytea_output hex. Floats are in `floats`.

Sources in PostgreSQL: src/backend/utils/adt/{datetime,numeric,arrayfuncs,cash}.c, contrib/hstore/hstore_io.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Final

from replicator.codecs.debezium.fields import MalformedError

DAY_MICROS: Final = 86_400_000_000
_EPOCH_ORDINAL: Final = 719_163  # date(1970, 1, 1).toordinal()
_ERA_DAYS: Final = 146_097  # of 400 years
_FIRST_DAY, _LAST_DAY = -2_440_588, 2_145_042_905  # 4714-11-24 BC, 5874897-12-31
_FIRST_MICROS, _LAST_MICROS = -210_866_803_200_000_000, 9_224_318_015_999_999_999  # 294276-12-31 23:59:59.999999
_QUOTED: Final = re.compile(rb'["\\{}\s]|\A\Z|\A[nN][uU][lL][lL]\Z', re.ASCII)
_ESCAPED: Final = re.compile(rb'(["\\])')
_DIGITS_AT_ONCE: Final = 4_000  # Python refuses to print integers of more than 4,300 digits


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
        MalformedError: PostgreSQL has no such day.

    """
    if not _FIRST_DAY <= days <= _LAST_DAY:
        raise MalformedError("PostgreSQL has no such value")
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
        MalformedError: no time of a day.

    """
    if not 0 <= micros <= DAY_MICROS:
        raise MalformedError("PostgreSQL has no such value")
    return _clock(micros).encode()


def timestamp_text(micros: int, zone: str = "") -> bytes:
    """Of timestamp, or with the zone "+00" of timestamptz: microseconds since 1970-01-01.

    Raises:
        MalformedError: PostgreSQL has no such moment.

    """
    if not _FIRST_MICROS <= micros <= _LAST_MICROS:
        raise MalformedError("PostgreSQL has no such value")
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
