"""Values of a whole column, converted at once, beside the same ones converted one by one."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from replicator.codecs.debezium.at_once import column_converter, each
from replicator.codecs.debezium.conversion import CONVERSION_ERRORS, Converter, PlainNumeric, PlainText
from replicator.codecs.debezium.moments import timestamptz_of_iso
from replicator.codecs.debezium.quantities import integer_text

PLACEHOLDER = "__debezium_unavailable_value"
DIGITS = st.sampled_from("0123456789")


def compare(convert: Converter, column: list[Any]) -> None:
    try:
        expected = each(convert, column)
    except CONVERSION_ERRORS as error:
        with pytest.raises(type(error)):
            column_converter(convert)(column)
    else:
        assert expected == column_converter(convert)(column)


def moments(digits: int) -> st.SearchStrategy[list[str | None]]:
    fraction = st.text(DIGITS, min_size=digits, max_size=digits).map(lambda one: f".{one}" if one else "")
    usual = st.builds(lambda at, part: f"{at:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + part + "Z", st.datetimes(), fraction)
    odd = st.sampled_from(
        [
            *(None, "infinity", "-infinity", "0000-01-01T00:00:00Z", "-0043-03-15T00:00:00.000000Z"),
            *("2024-13-01T00:00:00.000000Z", "2024-01-32T00:00:00Z", "2024-01-01T24:00:00.000000Z"),
            *("2024-01-01T00:60:00Z", "2024-01-01T00:00:60.000000Z", "2024-01-01 00:00:00.000000Z", "", "soon\n"),
            "+294247-01-10T04:00:25.200000Z",
        ]
    )
    return st.lists(usual, min_size=1, max_size=6) | st.lists(usual | odd, min_size=1, max_size=6)


@given(st.integers(0, 6).flatmap(moments))
@example(["2024-01-01T00:00:01.000120Z", "2024-01-01T00:00:01.000123Z", "2024-01-01T00:00:01.000000Z"])
@example(["2024-01-01T00:00:01Z", "2024-12-31T23:59:59Z"])
@example(["2024-01-01T00:00:01.1234567Z"] * 2)
def test_moments(column: list[str | None]) -> None:
    """As many digits as the column has, or anything else that Debezium writes, or doesn't."""
    compare(timestamptz_of_iso, column)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6))
def test_integers(column: list[int | None]) -> None:
    """Of 64 bits, and NULL."""
    compare(integer_text, column)


@given(
    st.lists(st.none() | st.text(max_size=5) | st.just(PLACEHOLDER), min_size=1, max_size=6),
    st.sampled_from([None, PLACEHOLDER]),
)
def test_texts(column: list[str | None], placeholder: str | None) -> None:
    """Whatever they hold, and what is unchanged where the column may be."""
    compare(PlainText(placeholder), column)


@given(
    st.lists(
        st.decimals(allow_nan=False, allow_infinity=False, places=2).map(lambda one: f"{one:f}")
        | st.sampled_from([None, "NAN", "POSITIVE_INFINITY", "NEGATIVE_INFINITY", PLACEHOLDER, "7.00"]),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_numerics(column: list[str | None], whole: bool) -> None:
    """Numbers, what are none, and those of a column without fractions."""
    compare(PlainNumeric(PLACEHOLDER, whole), column)
