"""Records of many rows at once, beside the same ones written one by one: byte by byte."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.captures import NewRows
from replicator.codecs.debezium import printing
from replicator.events import Op, Values
from replicator.runs import Rows
from tests.debezium_records import FORMS, Form
from tests.unit.test_debezium_encoder import both

TEXTS = st.text(
    st.sampled_from(string.printable + "é%\u00a0😀\x7f") | st.characters(exclude_characters="\0", codec="utf-8")
)
INTEGERS = st.integers(-(2**31), 2**31 - 1).map(b"%d".__mod__)
MICROS = st.integers(-210_866_803_200_000_000, 9_224_318_015_999_999_999) | st.integers(0, 2 * 10**15)
COLUMNS: dict[str, Any] = {
    "plain% text": TEXTS.map(str.encode),
    "number int": INTEGERS,
    "long int8": INTEGERS,
    "amount numeric(12,2)": st.decimals(-(10**9), 10**9, places=2).map(lambda one: str(one).encode()),
    "odd numeric": st.sampled_from([b"NaN", b"Infinity", b"-Infinity", b"1.50", b"7"]),
    "at timestamptz": MICROS.map(lambda one: printing.timestamp_text(one, "+00")) | st.just(b"infinity"),
    "second timestamptz(0)": MICROS.map(lambda one: printing.timestamp_text(one // 10**6 * 10**6, "+00")),
    "local timestamp": MICROS.map(printing.timestamp_text),
    "day date": st.integers(-100_000, 100_000).map(printing.date_text),
    "yes boolean": st.sampled_from([b"t", b"f"]),
    "real float8": st.sampled_from([b"NaN", b"1.5", b"-Infinity", b"1e+300", b"-0"]),
    "bytes bytea": st.binary().map(lambda one: b"\\x" + one.hex().encode()),
    "some text[]": st.lists(st.none() | TEXTS.map(str.encode), max_size=3).map(printing.array_text),
    "document jsonb": st.sampled_from([b'{"a": "\\"%"}', b"null"]),
}
KEYS = {"id int not null": INTEGERS, "id text not null": TEXTS.map(str.encode)}


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[str], list[Values]]:
    """Columns, and rows of them."""
    key = draw(st.sampled_from(list(KEYS)))
    chosen = draw(st.lists(st.sampled_from(list(COLUMNS)), unique=True, max_size=5))
    rows = draw(st.lists(st.tuples(KEYS[key], *(st.none() | COLUMNS[one] for one in chosen)), min_size=1, max_size=5))
    lines = [f"{one.split(' ')[0]} {' '.join(one.split(' ')[1:])}" for one in chosen]
    return [key, *lines], rows


@pytest.mark.parametrize("form", FORMS)
@given(run=runs(), op=st.sampled_from([Op.INSERT, Op.UPDATE]), told=st.booleans(), last=st.sampled_from([0, 23_000]))
def test_many_rows_are_written_as_each_is(
    form: Form, run: tuple[list[str], list[Values]], op: Op, *, told: bool, last: int
) -> None:
    """Whatever the types and values: a record that is filled in is the one that would be written alone."""
    columns, rows = run
    trip = both(*columns, form=form)
    relation = trip.described.relation
    changes = NewRows(
        op,
        relation,
        Rows.join([rows], len(columns)),
        [5 + at for at in range(len(rows))],
        771,
        1_700_000_000.25,
        last,
        "771" if told else None,
        3,
        2,
    )

    records = trip.encoder.new_rows(changes, 1_700_000_001.5)

    made = [] if records is None else list(zip(records.keys, records.values, strict=True))
    for at, (row, (key, value)) in enumerate(zip(rows, made, strict=records is not None)):
        alone = trip.change(op, None, row)._replace(
            lsn=5 + at,
            sequence=(last, 5 + at),
            transaction="771" if told else None,
            order=3 + at,
            table_order=2 + at,
        )
        assert key == trip.encoder.key(relation, row)
        assert value == trip.encoder.value(alone, 1_700_000_001.5)


@pytest.mark.parametrize("form", FORMS)
def test_plain_rows_are_written_at_once(form: Form) -> None:
    """NULLs, quotes and signs of a percent don't keep rows from being written at once; a value that is told besides
    does.
    """
    trip = both("id int not null", "v% text", "t timetz", form=form)

    def at_once(*values: Any) -> bool:
        changes = NewRows(Op.UPDATE, trip.described.relation, Rows([b"1", *values], 3), [5], 1, 1.0, 0, None, 1, 1)
        return trip.encoder.new_rows(changes, 1.0) is not None

    assert at_once(b'"%', None)
    assert at_once(None, None)
    assert not at_once(None, b"12:00:00+02")
