"""Dates, times and intervals of Debezium's records, as PostgreSQL prints them.

Infinity is a number there that no date has: PostgresValueConverter takes PGStatement.DATE_POSITIVE_INFINITY as
microseconds for timestamps, and the days -5877611-06-21 and -22 for dates.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from replicator.codecs.debezium import printing
from replicator.codecs.debezium.fields import MalformedError

if TYPE_CHECKING:
    from replicator.events import Value

_POSITIVE: Final = 9_223_372_036_825_200_000
_NEGATIVE: Final = -9_223_372_036_832_400_000
INFINITE_DAYS: Final = {
    b"infinity": printing.days_of(-5_877_611, 6, 21),
    b"-infinity": printing.days_of(-5_877_611, 6, 22),
}
# A snapshot's dates and those of arrays come by way of java.sql.Date, whose days Debezium cuts to 32 bits; which day it
# is depends on the worker's time zone.
_DAYS: Final = {
    **{days: text for text, days in INFINITE_DAYS.items()},
    **{-622_191_234 + shift: b"infinity" for shift in (-1, 0, 1)},
    **{-625_821_272 + shift: b"-infinity" for shift in (-1, 0, 1)},
}
_MICROS: Final = {_POSITIVE: b"infinity", _NEGATIVE: b"-infinity"}
INFINITE_MICROS: Final = {text: micros for micros, text in _MICROS.items()}
_MILLIS: Final = {_POSITIVE // 1_000: b"infinity", _NEGATIVE // 1_000: b"-infinity"}
_SATURATED: Final = 2**63 - 1
_DAY: Final = r"([+-]?\d{4,9})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_CLOCK: Final = r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,6})0*)?"
_UTC: Final = r"(?:Z|\+00:00)"
_MOMENT: Final = re.compile(f"{_DAY}T{_CLOCK}{_UTC}", re.ASCII).fullmatch
_DATE: Final = re.compile(_DAY + _UTC, re.ASCII).fullmatch
_USUAL: Final = re.compile(f"(?!0000){_DAY.replace('[+-]?', '').replace('{4,9}', '{4}')}T{_CLOCK}Z", re.ASCII).fullmatch
_INTERVAL: Final = re.compile(r"P(-?\d+)Y(-?\d+)M(-?\d+)DT(-?\d+)H(-?\d+)M(-?)(\d+)(?:\.(\d{1,6})0*)?S", re.ASCII)


def date_of_days(value: int) -> Value:
    """io.debezium.time.Date and Connect's Date."""
    return _DAYS.get(value) or printing.date_text(value)


def date_of_iso(value: str) -> Value:
    """io.debezium.time.IsoDate."""
    match = _DATE(value)
    if match is None:
        raise MalformedError("it is no date of ISO 8601")
    return date_of_days(printing.days_of(int(match[1]), int(match[2]), int(match[3])))


def time_of_millis(value: int) -> Value:
    """io.debezium.time.Time and Connect's Time."""
    return printing.time_text(value * 1_000)


def time_of_nanos(value: int) -> Value:
    """io.debezium.time.NanoTime."""
    return printing.time_text(_micros(value))


def timestamp_of_millis(value: int) -> Value:
    """io.debezium.time.Timestamp and Connect's Timestamp."""
    return _MILLIS.get(value) or printing.timestamp_text(value * 1_000)


def timestamp_of_micros(value: int) -> Value:
    """io.debezium.time.MicroTimestamp; the last 29 years that PostgreSQL has don't fit in."""
    if value == _SATURATED:
        raise MalformedError("it lies beyond what 64 bits of microseconds hold; time.precision.mode=isostring keeps it")
    return _MICROS.get(value) or printing.timestamp_text(value)


def timestamp_of_nanos(value: int) -> Value:
    """io.debezium.time.NanoTimestamp: anything after 2262, or infinite, has the largest number."""
    if abs(value) > _SATURATED - 1_000_000_000:
        raise MalformedError(
            "it lies beyond what 64 bits of nanoseconds hold; time.precision.mode=microseconds keeps it"
        )
    return printing.timestamp_text(_micros(value))


def timestamp_of_iso(value: str) -> Value:
    """io.debezium.time.IsoTimestamp."""
    micros = _moment(value)
    return _MICROS.get(micros) or printing.timestamp_text(micros)


def timestamptz_of_iso(value: str) -> Value:
    """io.debezium.time.ZonedTimestamp, which Debezium writes in UTC."""
    match = _USUAL(value)
    if match is not None:
        fraction = (match[7] or "").rstrip("0")
        return f"{value[:10]} {value[11:19]}{'.' if fraction else ''}{fraction}+00".encode()
    if value in {"infinity", "-infinity"}:
        return value.encode()
    return printing.timestamp_text(_moment(value), "+00")


def interval_of_iso(value: str) -> Value:
    """io.debezium.time.Interval, as `interval.handling.mode=string` writes it."""
    match = _INTERVAL.fullmatch(value)
    if match is None:
        raise MalformedError("it is no interval as Debezium writes it")
    years, months, days, hours, minutes = (int(match[n]) for n in range(1, 6))
    micros = int(match[7]) * 1_000_000 + int((match[8] or "").ljust(6, "0"))
    micros = (hours * 60 + minutes) * 60_000_000 + (-micros if match[6] else micros)
    return printing.interval_text(years * 12 + months, days, micros)


def _micros(nanos: int) -> int:
    micros, rest = divmod(nanos, 1_000)
    if rest:
        raise MalformedError("it has fractions of a microsecond")
    return micros


def _clock(hour: str, minute: str, second: str, fraction: str | None) -> int:
    whole = (int(hour) * 60 + int(minute)) * 60 + int(second)
    return whole * 1_000_000 + int((fraction or "").ljust(6, "0"))


def _moment(value: str) -> int:
    match = _MOMENT(value)
    if match is None:
        raise MalformedError("it is no moment of ISO 8601 in UTC")
    days = printing.days_of(int(match[1]), int(match[2]), int(match[3]))
    return days * printing.DAY_MICROS + _clock(match[4], match[5], match[6], match[7])
