"""When two texts are one value of a column."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.equality import Equal, Equality
from replicator.tables import Column


def column(cast_type: str, typmod: int = -1) -> Column:
    return Column("c", 0, cast_type, cast_type, typmod=typmod, base_typmod=typmod)


def numeric(precision: int, scale: int) -> int:
    return (precision << 16 | scale) + 4


def compare(cast_type: str, one: str | None, other: str | None, typmod: int = -1) -> Equal:
    values = [None if text is None else text.encode() for text in (one, other)]
    return Equality(column(cast_type, typmod)).compare(*values)


@pytest.mark.parametrize(
    "cast_type, one, other",
    [
        ("numeric", "1.0", "1.00"),
        ("numeric", "1e3", "1000"),
        ("numeric", "NaN", "NaN"),
        ("double precision", "1e2", "100"),
        ("double precision", "NaN", "NaN"),
        ("real", "0.1", "0.10000000149011612"),
        ("jsonb", '{"a": 1, "b": [1.0]}', '{"b":[1],"a":1.00}'),
        ("timestamp with time zone", "2024-05-01 12:00:00+02", "2024-05-01 10:00:00+00"),
        ("timestamp with time zone", "infinity", "infinity"),
        ("numeric[]", "{1.0,NULL,{2.50}}", "{1,NULL,{2.5}}"),
        ("text[]", '{"a",b}', "{a,b}"),
        ("bpchar", "ab", "ab   "),
        ("text", None, None),
    ],
)
def test_same(cast_type: str, one: str, other: str) -> None:
    """Values are equal however they are spelled."""
    assert Equal.SAME is compare(cast_type, one, other)


@pytest.mark.parametrize(
    "cast_type, one, other",
    [
        ("numeric", "1.0", "1.01"),
        ("numeric", "12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567891"),
        ("numeric", "NaN", "1"),
        ("numeric", "Infinity", "-Infinity"),
        ("double precision", "0", "-0"),
        ("double precision", "0.30000000000000004", "0.3"),
        ("jsonb", '{"a": 1}', '{"a": 1, "b": null}'),
        ("jsonb", "1", "true"),
        ("jsonb", '"1"', "1"),
        ("jsonb", "[1, 2]", "[2, 1]"),
        ("jsonb", "[]", "{}"),
        ("json", '{"a": 1}', '{"a":1}'),
        ("timestamp with time zone", "2024-05-01 12:00:00+00", "2024-05-01 13:00:00+00"),
        ("timestamp with time zone", "infinity", "-infinity"),
        ("text", "e\u0301", "é"),
        ("text", "a", "A"),
        ("text", "a", "a "),
        ("text", "", None),
        ("text[]", "{NULL}", '{"NULL"}'),
        ("text[]", "{a,b}", "{{a,b}}"),
        ("text[]", "{a,b}", "[0:1]={a,b}"),
        ("text[]", '{""}', "{}"),
        ("interval", "1 mon", "30 days"),
        ("boolean", "t", "f"),
    ],
)
def test_different(cast_type: str, one: str, other: str | None) -> None:
    """Values that only look alike are different, to the last digit and code point."""
    assert Equal.DIFFERENT is compare(cast_type, one, other)


@pytest.mark.parametrize(
    "cast_type, typmod, given, stored, wrong",
    [
        ("numeric", numeric(10, 2), "1.235", "1.24", "1.23"),
        ("numeric", numeric(10, 2), "-1.235", "-1.24", "-1.23"),
        ("numeric", (5 << 16 | 0x7FF & -2) + 4, "1250", "1300", "1200"),
        ("timestamp without time zone", 0, "2024-01-01 23:59:59.5", "2024-01-02 00:00:00", "2024-01-01 23:59:59"),
        ("time without time zone", 3, "10:00:00.1234", "10:00:00.123", "10:00:00.124"),
        ("character varying", 3 + 4, "abc  ", "abc", "ab"),
        ("numeric[]", numeric(10, 1), "{1.25}", "{1.3}", "{1.2}"),
    ],
)
def test_a_value_is_compared_as_an_assignment_stores_it(
    cast_type: str, typmod: int, given: str, stored: str, wrong: str
) -> None:
    """What a column rounds is equal to what it was rounded from, and to nothing else."""
    assert Equal.SAME is compare(cast_type, given, stored, typmod)
    assert Equal.DIFFERENT is compare(cast_type, given, wrong, typmod)


def test_a_declared_tolerance_lets_that_much_pass() -> None:
    """No more than it, and only where it was declared."""
    cents = Equality(column("numeric"), Decimal("0.01"))
    seconds = Equality(column("timestamp with time zone"), Decimal(1))

    assert Equal.WITHIN is cents.compare(b"1.00", b"1.01")
    assert Equal.DIFFERENT is cents.compare(b"1.00", b"1.0101")
    assert Equal.DIFFERENT is cents.compare(b"1.00", None)
    assert Equal.DIFFERENT is cents.compare(b"NaN", b"1")
    assert Equal.SAME is cents.compare(b"1.0", b"1.00")
    assert Equal.WITHIN is seconds.compare(b"2024-01-01 00:00:00+00", b"2024-01-01 00:00:01+00")
    assert Equal.DIFFERENT is seconds.compare(b"2024-01-01 00:00:00+00", b"2024-01-01 00:00:01.000001+00")


numbers = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12)


@given(numbers, numbers, st.integers(0, 9))
def test_numerics_are_equal_when_their_values_are(one: Decimal, other: Decimal, zeros: int) -> None:
    """Zeros at the end count for nothing; anything else does."""
    spelled = f"{one:f}{'0' * zeros}"
    assert Equal.SAME is compare("numeric", f"{one:f}", spelled)
    assert (Equal.SAME if one == other else Equal.DIFFERENT) is compare("numeric", f"{one:f}", f"{other:f}")


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def typed(document: Any) -> Any:
    """With bools told from numbers, as JSON does and Python doesn't."""
    match document:
        case bool():
            return ("bool", document)
        case list():
            return [typed(item) for item in document]
        case dict():
            return {name: typed(item) for name, item in document.items()}
        case _:
            return document


@given(documents, documents)
def test_documents_are_equal_when_their_values_are(one: Any, other: Any) -> None:
    """The order of keys and blanks count for nothing."""
    spelled = json.dumps(one, sort_keys=True, separators=(",", ":"))
    assert Equal.SAME is compare("jsonb", json.dumps(one), spelled)
    same = Equal.SAME if typed(one) == typed(other) else Equal.DIFFERENT
    assert same is compare("jsonb", json.dumps(one), json.dumps(other))


@given(st.lists(st.none() | st.text(alphabet='ab,{}"\\ NUL', max_size=5), max_size=4), st.data())
def test_arrays_are_equal_when_their_elements_are(items: list[str | None], data: st.DataObject) -> None:
    """However an element is quoted; a change of one is seen."""

    def literal(elements: list[str | None], *, quoted: bool) -> str:
        parts = []
        for one in elements:
            plain = one is not None and one.isalpha() and one.upper() != "NULL"
            escaped = "" if one is None else one.replace("\\", "\\\\").replace('"', '\\"')
            parts.append("NULL" if one is None else one if plain and not quoted else f'"{escaped}"')
        return "{" + ",".join(parts) + "}"

    assert Equal.SAME is compare("text[]", literal(items, quoted=True), literal(items, quoted=False))
    if items:
        at = data.draw(st.integers(0, len(items) - 1))
        changed = [*items[:at], (items[at] or "") + "x", *items[at + 1 :]]
        assert Equal.DIFFERENT is compare("text[]", literal(items, quoted=True), literal(changed, quoted=False))


@given(st.sampled_from(["numeric", "jsonb", "real", "text[]", "timestamp with time zone", "bpchar"]), st.binary())
def test_noise_is_compared_and_never_an_error(cast_type: str, noise: bytes) -> None:
    """A text that is no value of the type is equal to itself."""
    equality = Equality(column(cast_type), Decimal(1))
    assert Equal.SAME is equality.compare(noise, bytes(noise))
    equality.compare(noise, b"{")
