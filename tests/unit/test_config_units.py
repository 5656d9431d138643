"""Durations and sizes as text."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.config import format_duration, format_size, parse_duration, parse_size
from replicator.config.units import DURATION_MAX, SIZE_MAX


@given(st.timedeltas(min_value=timedelta(0), max_value=DURATION_MAX))
def test_a_duration_survives_its_text(duration: timedelta) -> None:
    """Formatting and parsing a duration gives the same duration, to the microsecond."""
    assert duration == parse_duration(format_duration(duration))


@given(st.integers(min_value=0, max_value=SIZE_MAX))
def test_a_size_survives_its_text(size: int) -> None:
    """Formatting and parsing a size gives the same number of bytes."""
    assert size == parse_size(format_size(size))


@pytest.mark.parametrize(
    "text,seconds",
    [("0", 0), ("5s", 5), ("250ms", 0.25), ("1m30s", 90), ("1.5h", 5400), ("2d", 172_800), ("0s", 0)],
)
def test_durations_are_read_with_their_units(text: str, seconds: float) -> None:
    """Each unit means what it says, alone and combined."""
    assert timedelta(seconds=seconds) == parse_duration(text)


@pytest.mark.parametrize(
    "text,size",
    [("16MiB", 16 << 20), ("64kB", 64_000), ("1GiB", 1 << 30), ("1.5KiB", 1536), ("12", 12), ("7B", 7)],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    """KiB, MiB, GiB count by 1024; kB, MB, GB by 1000; a bare number is bytes."""
    assert size == parse_size(text)


@pytest.mark.parametrize(
    "text", ["", "5", "-5s", "5 s", "s", "30s1m", "5s5s", "0.1us", "1e3s", "٣s", "9999d", "5S", "9" * 80 + "s"]
)
def test_a_duration_that_could_be_misread_is_refused(text: str) -> None:
    """No unit, wrong order, signs, foreign digits, and more than a year are errors."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "MiB", "-1MiB", "1KB", "1mib", "1.5B", "1 MiB", "2048TiB", "1" * 80])
def test_a_size_that_could_be_misread_is_refused(text: str) -> None:
    """Unknown units, parts of a byte, signs and more than a pebibyte are errors."""
    with pytest.raises(ValueError, match="expected a "):
        parse_size(text)
