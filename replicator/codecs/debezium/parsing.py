"""PostgreSQL's text of dates, intervals, arrays and hstore, taken apart: the other way round as `printing`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from replicator.codecs.debezium.printing import DAY_MICROS, days_of

_DATE: Final = re.compile(r"(\d{4,7})-(\d\d)-(\d\d)( BC)?").fullmatch
_MOMENT: Final = re.compile(r"(\d{4,6})-(\d\d)-(\d\d) ([\d:.]{8,15})(\+00)?( BC)?").fullmatch
_CLOCK: Final = re.compile(r"(\d{2,}):(\d\d):(\d\d)(?:\.(\d{1,6}))?").fullmatch
_INTERVAL: Final = re.compile(
    r"(?:([+-]?\d+) years?)? ?(?:([+-]?\d+) mons?)? ?(?:([+-]?\d+) days?)? ?"
    r"(?:([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?"
).fullmatch
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PAIR: Final = re.compile(r'"((?:[^"\\]|\\.)*)"=>(?:(NULL)|"((?:[^"\\]|\\.)*)")(?:, |\Z)', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED_BYTE: Final = re.compile(rb"\\(.)", re.DOTALL)


class UnreadableError(ValueError):
    """A text that PostgreSQL doesn't print for such a value, or not with our settings."""


def date_days(text: str) -> int:
    """Days since 1970-01-01.

    Raises:
        UnreadableError: no finite date.

    """
    match = _DATE(text)
    if match is None:
        raise UnreadableError
    year = int(match[1])
    return days_of(1 - year if match[4] else year, int(match[2]), int(match[3]))


def clock_micros(text: str) -> int:
    """Microseconds since midnight.

    Raises:
        UnreadableError: no time.

    """
    match = _CLOCK(text)
    if match is None:
        raise UnreadableError
    return _micros(match[1], match[2], match[3], match[4])


def _micros(hours: str, minutes: str, seconds: str, fraction: str | None) -> int:
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1_000_000 + int((fraction or "").ljust(6, "0"))


def timestamp_micros(text: str) -> int:
    """Microseconds since 1970-01-01, of timestamp, or of timestamptz in UTC.

    Raises:
        UnreadableError: no finite moment.

    """
    match = _MOMENT(text)
    if match is None:
        raise UnreadableError
    year = int(match[1])
    days = days_of(1 - year if match[6] else year, int(match[2]), int(match[3]))
    return days * DAY_MICROS + clock_micros(match[4])


def iso_moment(text: str, digits: int) -> str:
    """A timestamptz in UTC as Java writes it, with so many digits of a second.

    Raises:
        UnreadableError: no finite moment.

    """
    match = _MOMENT(text)
    if match is None or match[5] is None:
        raise UnreadableError
    year, before_christ = match[1], match[6]
    if before_christ:
        signed = 1 - int(year)
        year = f"{'-' if signed < 0 else ''}{abs(signed):04d}"
    elif len(year) > 4:
        year = "+" + year
    clock = match[4]
    if digits:
        whole, _, fraction = clock.partition(".")
        clock = f"{whole}.{fraction.ljust(digits, '0')}"
    return f"{year}-{match[2]}-{match[3]}T{clock}Z"


def iso_interval(text: str) -> str:
    """An interval as Debezium writes it.

    Raises:
        UnreadableError: no finite interval.

    """
    match = _INTERVAL(text)
    if match is None or not text:
        raise UnreadableError
    sign = "-" if match[4] == "-" else ""
    hours, minutes, seconds = (int(match[n] or 0) for n in (5, 6, 7))
    fraction = (match[8] or "").rstrip("0")

    def signed(number: str) -> str:
        return sign + number if number.strip("0.") else "0"

    years, months, days = (int(match[n] or 0) for n in (1, 2, 3))
    second = f"{seconds}.{fraction}" if fraction else str(seconds)
    return f"P{years}Y{months}M{days}DT{signed(str(hours))}H{signed(str(minutes))}M{signed(second)}S"


def array_elements(text: bytes, delimiter: bytes = b",") -> list[bytes | None]:
    """Elements of an array of one dimension that begins at 1.

    Raises:
        UnreadableError: it has more dimensions, or begins elsewhere.

    """
    if text == b"{}":
        return []
    if text[:1] != b"{" or text[-1:] != b"}":
        raise UnreadableError
    return list(_elements(text, delimiter))


def _elements(text: bytes, delimiter: bytes) -> Iterator[bytes | None]:
    at, end = 1, len(text) - 1
    while True:
        if text[at : at + 1] == b'"':
            match = _QUOTED.match(text, at, end)
            if match is None:
                raise UnreadableError
            yield _ESCAPED_BYTE.sub(rb"\1", match[1])
            at = match.end()
        else:
            stop = text.find(delimiter, at, end)
            stop = end if stop < 0 else stop
            element = text[at:stop]
            if element[:1] == b"{":
                raise UnreadableError
            yield None if element == b"NULL" else element
            at = stop
        if at == end:
            return
        if text[at : at + 1] != delimiter:
            raise UnreadableError
        at += 1


def hstore_pairs(text: str) -> dict[str, str | None]:
    """Keys and values of hstore.

    Raises:
        UnreadableError: it is none.

    """
    pairs: dict[str, str | None] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            raise UnreadableError
        pairs[_ESCAPED.sub(r"\1", match[1])] = None if match[2] else _ESCAPED.sub(r"\1", match[3])
        at = match.end()
    return pairs
