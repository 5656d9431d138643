"""Durations ("1m30s") and sizes ("16MiB") as text, and back. Pure; exact in both directions."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction
from typing import Final

DURATION_MAX: Final = timedelta(days=365)
"""Longer is a mistake, not a wish."""

SIZE_MAX: Final = 1 << 50
"""1 PiB, in bytes."""

DURATION_PATTERN: Final = (
    r"(?=[0-9])([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?"
    r"([0-9]+(\.[0-9]+)?s)?([0-9]+(\.[0-9]+)?ms)?([0-9]+us)?"
)
SIZE_PATTERN: Final = r"[0-9]+(\.[0-9]+)?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?"

_MICROSECONDS: Final = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
_BYTES: Final = {
    "TiB": 1 << 40,
    "TB": 10**12,
    "GiB": 1 << 30,
    "GB": 10**9,
    "MiB": 1 << 20,
    "MB": 10**6,
    "KiB": 1 << 10,
    "kB": 10**3,
    "B": 1,
}
_LENGTH_MAX: Final = 64
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|[dhms])")
_DURATION: Final = re.compile(DURATION_PATTERN)
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")


def parse_duration(text: str) -> timedelta:
    """Read a duration: numbers with units d, h, m, s, ms, us, largest first ("1m30s", "1.5s"); or "0".

    Raises:
        ValueError: without a unit, negative, finer than a microsecond, longer than `DURATION_MAX`.
            The message says what is expected and doesn't repeat the text.

    """
    expected = "expected a duration with a unit, such as 250ms, 5s or 1m30s"
    if text == "0":
        return timedelta(0)
    if len(text) > _LENGTH_MAX or not _DURATION.fullmatch(text):
        raise ValueError(expected)
    total = Fraction(0)
    for number, unit in _PART.findall(text):
        total += Fraction(number) * _MICROSECONDS[unit]
    if total.denominator != 1:
        raise ValueError("expected a duration of whole microseconds")
    if total > DURATION_MAX // timedelta(microseconds=1):
        raise ValueError(f"expected a duration of at most {format_duration(DURATION_MAX)}")
    return timedelta(microseconds=int(total))


def format_duration(duration: timedelta) -> str:
    """The shortest text without fractions that `parse_duration` reads back as the same duration."""
    rest = duration // timedelta(microseconds=1)
    parts: list[str] = []
    for unit, microseconds in _MICROSECONDS.items():
        count, rest = divmod(rest, microseconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Read a size in bytes: "16MiB" (1024 based), "64kB" (1000 based), or a bare number of bytes.

    Raises:
        ValueError: unknown unit, negative, no whole number of bytes, more than `SIZE_MAX`.
            The message says what is expected and doesn't repeat the text.

    """
    match = _SIZE.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if match is None:
        raise ValueError("expected a size such as 512KiB, 16MiB or 1GiB")
    number, unit = match[1], match[2] or "B"
    if unit not in _BYTES:
        raise ValueError("expected a size with unit B, KiB, MiB, GiB, TiB (1024) or kB, MB, GB, TB (1000)")
    size = Fraction(number) * _BYTES[unit]
    if size.denominator != 1:
        raise ValueError("expected a whole number of bytes")
    if size > SIZE_MAX:
        raise ValueError(f"expected a size of at most {format_size(SIZE_MAX)}")
    return int(size)


def format_size(size: int) -> str:
    """The size in the largest unit that keeps it whole; `parse_size` reads it back as the same."""
    for unit, factor in _BYTES.items():
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return "0B"
