"""Runs of rows are decoded together, to what each of them is decoded to alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.errors import ReplicatorError
from replicator.events import UNCHANGED, ChangeEvent, StreamItem
from tests import pgoutput_encoder as server

HEADER = b"w" * 25
FIRST, SECOND = 16_384, 16_385
TEXT = st.text(alphabet="tnu12\x01é ", max_size=300).map(str.encode)
VALUES = st.one_of(st.none(), st.just(UNCHANGED), TEXT, TEXT, st.binary(max_size=300))
ROWS = st.tuples(VALUES, VALUES)
OIDS = st.sampled_from([FIRST, SECOND])
MESSAGES = st.one_of(
    st.builds(server.insert, OIDS, ROWS),
    st.builds(server.update, OIDS, ROWS, st.none() | ROWS),
    st.builds(server.delete, OIDS, ROWS, st.sampled_from([b"K", b"O"])),
    st.builds(server.truncate, OIDS),
)
ALIKE = st.one_of(
    st.lists(st.builds(server.insert, st.just(FIRST), st.tuples(VALUES, VALUES)), min_size=3, max_size=8),
    st.lists(st.builds(server.insert, st.just(FIRST), st.tuples(TEXT, st.none() | TEXT)), min_size=3, max_size=8),
    st.lists(st.builds(server.update, st.just(FIRST), st.tuples(TEXT, TEXT), st.none()), min_size=3, max_size=8),
    st.lists(st.builds(server.delete, st.just(FIRST), st.tuples(TEXT, st.none())), min_size=3, max_size=8),
)
ROW_MESSAGES = st.lists(MESSAGES, min_size=1, max_size=12) | st.lists(ALIKE, min_size=1, max_size=3).map(
    lambda groups: [message for group in groups for message in group]
)


def decoder() -> PgoutputDecoder:
    made = PgoutputDecoder()
    for oid, name in ((FIRST, "first"), (SECOND, "second")):
        made.feed(server.relation(oid, "public", name, [("id", 20, True), ("name", 25, False)]))
    made.feed(server.begin(0x100))
    return made


def one_by_one(messages: list[bytes]) -> tuple[list[StreamItem | None], str | None]:
    """Return what each message is decoded to, up to the error that ends it."""
    single, items = decoder(), list[StreamItem | None]()
    try:
        items.extend(single.feed(message, len(HEADER)) for message in messages)
    except ReplicatorError as error:
        return items, error.message
    return items, None


def in_runs(messages: list[bytes]) -> tuple[list[StreamItem | None], str | None]:
    """Return the same, decoded in runs where the decoder finds one."""
    several, items = decoder(), list[StreamItem | None]()
    while len(items) < len(messages):
        try:
            run = several.feed_rows(messages, len(items), len(HEADER))
            items += run or [several.feed(messages[len(items)], len(HEADER))]
        except ReplicatorError as error:
            return items, error.message
    return items, None


def test_rows_of_two_damaged_messages_are_not_mixed_up() -> None:
    """A value that one message lacks, and one too many in the next, are the right number together: no run has both."""
    short, long = server.insert(FIRST, (b"1", b"a")), server.insert(FIRST, (b"2", b"b"))
    short, long = short[: -len(b"t\0\0\0\1a")], long + b"t\0\0\0\1a"
    framed = [HEADER + message for message in [*[server.insert(FIRST, (b"0", b"x"))] * 4, short, long]]

    expected, found = one_by_one(framed), in_runs(framed)

    assert (shape(expected[0]), expected[1]) == (shape(found[0]), found[1])
    assert 4 == len(found[0])


def shape(items: list[StreamItem | None]) -> list[object]:
    """Return what can be compared between two decoders: relations and transactions are objects of their own."""
    return [
        (item.op, item.relation.table, item.before, item.after, item.ordinal, item.transaction.xid)
        if isinstance(item, ChangeEvent)
        else type(item)
        for item in items
    ]


@given(ROW_MESSAGES)
def test_a_run_is_its_rows(messages: list[bytes]) -> None:
    """Whatever the order of kinds and relations, runs give the events, with the ordinals, of one by one."""
    framed = [HEADER + message for message in messages]

    items, _ = in_runs(framed)

    assert shape(one_by_one(framed)[0]) == shape(items)
    assert len(messages) == len(items)


@given(ROW_MESSAGES, st.data())
def test_damage_ends_a_run_where_it_is(messages: list[bytes], data: st.DataObject) -> None:
    """A damaged message among others is the same error, after the same events; nothing else ever leaves a run."""
    at = data.draw(st.integers(0, len(messages) - 1))
    damaged = bytearray(messages[at])
    where = data.draw(st.integers(0, len(damaged) - 1))
    if data.draw(st.booleans()):
        damaged[where] = data.draw(st.integers(0, 255))
    else:
        del damaged[where:]
    messages[at] = bytes(damaged)
    framed = [HEADER + message for message in messages]

    expected, found = one_by_one(framed), in_runs(framed)

    assert (shape(expected[0]), expected[1]) == (shape(found[0]), found[1])


@pytest.mark.parametrize("length", [255, 256, 0x74FF, 0x7400, 0xFFFF, 0x10000, 0x17400, 0x740000])
def test_long_values_among_short_ones(length: int) -> None:
    """Values of any length come back, also where the bytes of the length look like a mark."""
    rows = [(b"1", b"t" * length), (b"t", None), (b"", b"tt")]

    items, error = in_runs([HEADER + server.insert(FIRST, row) for row in rows])

    assert error is None
    assert rows == [item.after for item in items if isinstance(item, ChangeEvent)]


def test_equal_rows_of_one_kind_are_one_run() -> None:
    """A run ends only where kind, relation or transaction change; a short frame, such as a keepalive, is none."""
    rows = [HEADER + server.insert(FIRST, (b"%d" % number, None)) for number in range(5)]
    other = HEADER + server.insert(SECOND, (b"1", b"x"))

    runs = decoder()

    assert 5 == len(runs.feed_rows([*rows, other, *rows], 0, len(HEADER)))
    assert 1 == len(runs.feed_rows([*rows, other, *rows], 5, len(HEADER)))
    assert 3 == len(runs.feed_rows([*rows[:3], b"k" * 18, *rows], 0, len(HEADER)))
    assert not runs.feed_rows([b"k" * 18], 0, len(HEADER))
    assert not PgoutputDecoder().feed_rows(rows, 0, len(HEADER))
