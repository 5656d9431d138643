"""What the check of the laws makes up: values of every type, aggregates, and what a column does to a value."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.lawcheck.aggregates import Generator
from replicator.lawcheck.stored import DoesNotFitError, stored
from replicator.mapping import Side, SourceAggregate
from replicator.rows import RawText, UnreadableValueError, dump, load, value_oid
from tests.shapes import catalog, column, table

GENERATED = """
    boolean | smallint | integer | bigint | numeric | numeric(10,2) | numeric(3,3) | real | double precision | text |
    varchar(5) | bpchar(4) | bytea | uuid | date | timestamp | timestamptz | time | timetz | interval | json | jsonb |
    inet | int4range | tstzrange | text[] | integer[] | jsonb[] | bytea[] | date[]
"""


@pytest.mark.parametrize("name", [name.strip() for name in GENERATED.split("|")])
@given(seed=st.integers(0, 10_000))
def test_generated_values_are_values(name: str, seed: int) -> None:
    """What is generated decodes to a Python value that is written as the same value, or is one that Python lacks."""
    made = column(f"c {name}")
    one = table("a.b", f"c {name}")
    text = Generator((Side(one, ()),), catalog(one), (), Random(seed)).value(one, made)
    assert isinstance(text, bytes)
    try:
        value = load(text, value_oid(made))
    except UnreadableValueError:
        return
    again = load(dump(RawText(text.decode()) if isinstance(value, str) else value, value_oid(made)), value_oid(made))
    assert value == again or value != value or "NaN" in text.decode()  # noqa: PLR0124 - NaN


STORED: Sequence[tuple[bytes, str, bytes | None]] = [
    (b"1.005", "numeric(10,2)", b"1.01"),
    (b"5", "numeric(10,2)", b"5.00"),
    (b"1E+2", "numeric", b"100"),
    (b"NaN", "numeric(10,2)", b"NaN"),
    (b"123", "numeric(4,2)", None),
    (b"x", "numeric", None),
    (b" 7 ", "integer", b"7"),
    (b"5.00", "integer", None),
    (b"40000", "smallint", None),
    (b"true", "boolean", b"t"),
    (b"maybe", "boolean", None),
    (b"abc   ", "character varying(3)", b"abc"),
    (b"abcd", "character varying(3)", None),
    (b"ab", "bpchar(4)", b"ab  "),
    (b"00000000000000000000000000000001", "uuid", b"00000000-0000-0000-0000-000000000001"),
    (b"7", "uuid", None),
    (b"anything", "xml", b"anything"),
]


@pytest.mark.parametrize("text, name, expected", STORED)
def test_a_column_takes_and_prints(text: bytes, name: str, expected: bytes | None) -> None:
    """The imitation of a column rounds, pads and refuses as PostgreSQL does."""
    if expected is None:
        with pytest.raises(DoesNotFitError):
            stored(text, column(f"c {name}"))
    else:
        assert expected == stored(text, column(f"c {name}"))


def test_the_same_seed_gives_the_same_aggregates() -> None:
    """A failure on a generated row can be had again."""
    users = table("public.users", "id bigint pk", "name text", "fax text null")

    def made(seed: int) -> list[SourceAggregate]:
        generator = Generator((Side(users, ("id",)),), catalog(users), (), Random(seed))
        return [generator.aggregate() for _ in range(20)]

    assert [each.key for each in made(5)] == [each.key for each in made(5)]
    assert made(5)[0].tables[0].rows == made(5)[0].tables[0].rows
    assert [each.key for each in made(5)] != [each.key for each in made(6)]
