"""Every type's way from text to Python and back."""

# ruff: noqa: DTZ001 - types without time zone are among them

import ipaddress
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.range import Range

from replicator.rows import RawText, UnreadableValueError, UnwritableValueError, dump, load, text_equal, value_oid
from tests.shapes import column

TYPES = psycopg.adapters.types
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
FINITE = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "numeric": st.decimals(allow_nan=False, allow_infinity=None),
    "float8": st.floats(allow_nan=False),
    "text": TEXT,
    "bpchar": TEXT,
    "bytea": st.binary(),
    "uuid": st.uuids(),
    "date": st.dates(),
    "time": st.times(),
    "timetz": st.times(timezones=ZONES),
    "timestamp": st.datetimes(),
    "timestamptz": st.datetimes(timezones=ZONES, min_value=datetime(2, 1, 1), max_value=datetime(9999, 12, 1)),
    "interval": st.timedeltas(),
    "jsonb": DOCUMENTS.filter(lambda document: not isinstance(document, str)),
    "inet": st.ip_addresses(),
    "int4range": st.builds(Range, st.integers(-9, 0), st.integers(1, 9)),
    "text[]": st.lists(st.none() | TEXT),
    "int4[]": st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), min_size=1, max_size=3),
    "bytea[]": st.lists(st.binary()),
    "numeric[]": st.lists(FINITE),
    "uuid[]": st.lists(st.uuids()),
    "timestamptz[]": st.lists(st.datetimes(timezones=st.just(UTC), min_value=datetime(2, 1, 1))),
    "jsonb[]": st.lists(st.dictionaries(TEXT, st.integers(), max_size=2)),
}


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
def test_a_value_comes_back(name: str, data: st.DataObject) -> None:
    """Setting a value and reading it back from its text gives the same value, for every type."""
    value = data.draw(VALUES[name])
    oid = TYPES.get_oid(name)
    assert value == load(dump(value, oid), oid)


# As PostgreSQL prints them: keys are compared as text.
CANONICAL: list[tuple[object, str, bytes]] = [
    (True, "bool", b"t"),
    (5, "int8", b"5"),
    (5.0, "float8", b"5"),
    (math.inf, "float8", b"Infinity"),
    (-math.inf, "float4", b"-Infinity"),
    (math.nan, "float8", b"NaN"),
    (Decimal("1E+2"), "numeric", b"100"),
    (Decimal("1.50"), "numeric", b"1.50"),
    (Decimal("-Infinity"), "numeric", b"-Infinity"),
    (Decimal("sNaN"), "numeric", b"NaN"),
    (UUID(int=1), "uuid", b"00000000-0000-0000-0000-000000000001"),
    (b"\x00\xff", "bytea", b"\\x00ff"),
    (date(1, 2, 3), "date", b"0001-02-03"),
    (datetime(2024, 1, 2, 3, 4, 5, 500_000), "timestamp", b"2024-01-02 03:04:05.5"),
    (datetime(2024, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2))), "timestamptz", b"2024-01-02 01:04:00+00"),
    (time(10, 30), "time", b"10:30:00"),
    (ipaddress.ip_address("10.0.0.1"), "inet", b"10.0.0.1"),
    ({"a": [1, None, Decimal("1.10")]}, "jsonb", b'{"a": [1, null, 1.10]}'),
    (True, "jsonb", b"true"),
    ([1, 2], "jsonb", b"[1, 2]"),
    ([1, None], "int4[]", b"{1,NULL}"),
    (["", "NULL", "a b", 'q"\\', "é", "a,b"], "text[]", '{"","NULL","a b","q\\"\\\\",é,"a,b"}'.encode()),
    ([[1], [2]], "int4[]", b"{{1},{2}}"),
    ([], "text[]", b"{}"),
    ([{"a": 1}], "jsonb[]", b'{"{\\"a\\": 1}"}'),
    ([b"\x01"], "bytea[]", b'{"\\\\x01"}'),
    (RawText("anything"), "date", b"anything"),
]


@pytest.mark.parametrize("value, name, text", CANONICAL)
def test_values_are_written_as_postgresql_prints_them(value: object, name: str, text: bytes) -> None:
    """A value that was set has the text that the database would print, so that equal keys are equal texts."""
    assert text == dump(value, TYPES.get_oid(name))


class Colour(StrEnum):
    RED = "red"


def test_enums_are_texts() -> None:
    """A type that psycopg doesn't know is text on both ways, and an array of it a list of texts."""
    plain, array = value_oid(column("c mood")), value_oid(column("c mood[]"))
    assert (b"red", "red") == (dump(Colour.RED, plain), load(b"red", plain))
    assert (b"{red,NULL}", ["red"]) == (dump([Colour.RED, None], array), load(b"{red}", array))


def test_a_domain_is_its_base_type() -> None:
    """A domain's values are decoded as those of the type that it is made of."""
    domain = column("c amount")
    assert Decimal("1.5") == load(b"1.5", value_oid(type(domain)("c", domain.type_oid, "amount", "numeric")))


REFUSED: list[tuple[object, str, str]] = [
    ("a\0b", "text", "NUL"),
    (["a\0b"], "text[]", "NUL"),
    ("\ud800", "text", "surrogate"),
    ('{"a": 1}', "jsonb", "RawText"),
    (math.nan, "jsonb", "float"),
    ({1: 2}, "jsonb", "dict"),
    ({"a": object()}, "json", "dict"),
    (object(), "text", "object"),
    ({1, 2}, "int4[]", "set"),
    (datetime(2024, 1, 1), "timestamptz", "tzinfo"),
    (time(1), "timetz", "tzinfo"),
    (datetime(2024, 1, 1, tzinfo=UTC), "timestamp", "zone"),
    (time(1, tzinfo=UTC), "time", "zone"),
    (datetime(2024, 1, 1), "date", "time"),
]


@pytest.mark.parametrize("value, name, told", REFUSED)
def test_what_would_be_guessed_or_lost_is_refused(value: object, name: str, told: str) -> None:
    """A value that its column can't hold exactly is an error that tells why, and not the value."""
    with pytest.raises(UnwritableValueError, match=told):
        dump(value, TYPES.get_oid(name))


UNREADABLE = [
    ("date", b"infinity"),
    ("date", b"0044-03-15 BC"),
    ("timestamptz", b"-infinity"),
    ("timestamp", b"294276-12-31 23:59:59"),
    ("time", b"24:00:00"),
    ("interval", b"1 mon"),
    ("interval", b"2 years 3 days"),
    ("int4[]", b"[0:1]={1,2}"),
    ("int4", b"no number"),
    ("date[]", b"{infinity}"),
]


@pytest.mark.parametrize("name, text", UNREADABLE)
def test_what_python_lacks_is_unreadable(name: str, text: bytes) -> None:
    """A value without an exact counterpart in Python is an error; none is bent into shape."""
    with pytest.raises(UnreadableValueError, match=r"no counterpart|bounds"):
        load(text, TYPES.get_oid(name))


def test_numbers_in_documents_keep_their_digits() -> None:
    """A JSON number that a float would round is a Decimal; others are floats and ints."""
    oid = TYPES.get_oid("jsonb")
    loaded = load(b'{"a": 0.1, "b": 12345678901234567890.123456789, "c": 1e400, "d": 12345678901234567890}', oid)
    assert {"a": float, "b": Decimal, "c": Decimal, "d": int} == {name: type(value) for name, value in loaded.items()}
    assert b"12345678901234567890.123456789" in dump(loaded, oid)


@pytest.mark.parametrize(
    "left, right, name, same",
    [
        (b"1.0", b"1.00", "numeric", True),
        (b"1.0", b"1.00", "text", False),
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}', "jsonb", True),
        (b"infinity", b"infinity", "date", True),
        (b"infinity", b"2024-01-01", "date", False),
        (b"t", b"true", "text", False),
    ],
)
def test_texts_are_compared_as_values(left: bytes, right: bytes, name: str, same: bool) -> None:
    """Two texts of one value are equal; texts that can't be decoded are equal when they are the same."""
    assert same is text_equal(left, right, TYPES.get_oid(name))
