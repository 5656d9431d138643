"""A run is the sequence of its events, and rows are the sequence of their values."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.events import ChangeEvent, Op, Relation, Transaction, Values
from replicator.runs import Events, LogRun, Origins, Rows, oldest_of, parts_of, xids_of
from replicator.tables import TableName
from tests.in_runs import in_runs, run_of

WIDTH = 3
RELATION = Relation(TableName("public", "t"), ("a", "b", "c"))
VALUES = st.none() | st.binary(max_size=3)
ROWS = st.lists(st.tuples(*[VALUES] * WIDTH), min_size=1, max_size=8)
OPS = st.sampled_from([Op.INSERT, Op.UPDATE, Op.DELETE])


def events_of(rows: list[Values], op: Op, transaction: Transaction, first: int = 1) -> list[ChangeEvent]:
    pairs = [(row, None) if op is Op.DELETE else (None, row) for row in rows]
    return [
        ChangeEvent(op, RELATION, before, after, transaction, ordinal)
        for ordinal, (before, after) in enumerate(pairs, first)
    ]


def rows_of(given_rows: list[Values]) -> Rows:
    return Rows([value for row in given_rows for value in row], WIDTH)


@given(ROWS, st.slices(8))
def test_rows_are_their_values(given_rows: list[Values], part: slice) -> None:
    """Length, order, every row from either end, every part: as a list of tuples."""
    rows = rows_of(given_rows)

    assert given_rows == list(rows) == [rows[at] for at in range(len(rows))]
    assert given_rows[-1] == rows[-1] == rows[-len(rows) :][-1]
    assert given_rows[2:5] == list(rows[2:5])
    if (part.step or 1) == 1:
        assert given_rows[part] == list(rows[part])
    with pytest.raises(IndexError):
        rows[len(rows)]


@given(ROWS, st.lists(st.integers(0, WIDTH - 1), min_size=1, max_size=4))
def test_columns_are_picked(given_rows: list[Values], at: list[int]) -> None:
    """Some columns, in another order, or twice; keys are what they are in the rows."""
    rows = rows_of(given_rows)

    assert [tuple(row[place] for place in at) for row in given_rows] == list(rows.pick(at))
    assert [row[1] for row in given_rows] == list(rows.keys([1]))
    assert [(row[2], row[0]) for row in given_rows] == list(rows.keys([2, 0]))


@given(ROWS, ROWS)
def test_rows_are_joined(first: list[Values], second: list[Values]) -> None:
    """Rows in one list and rows as tuples make one."""
    assert first + second == list(Rows.join([rows_of(first), second], WIDTH))


@given(ROWS, OPS, st.integers(0, 8), st.integers(0, 8))
def test_a_run_is_its_events(given_rows: list[Values], op: Op, begin: int, end: int) -> None:
    """Every event, with its ordinal, and every part of the run."""
    events = events_of(given_rows, op, Transaction(7, 100, 1.0), first=40)
    run = run_of(events)

    assert events == list(run) == [run[at] for at in range(len(run))]
    assert events[-1] == run[-1]
    assert events[begin:end] == list(run[begin:end])


@given(ROWS, OPS, st.integers(0, 8), st.integers(1, 8))
def test_a_run_of_a_log_is_its_events(given_rows: list[Values], op: Op, begin: int, length: int) -> None:
    """Each is a transaction of its own, and they are numbered; so are those of every part."""
    count, rows = len(given_rows), rows_of(given_rows)
    origins = Origins([7] * count, [100 - at for at in range(count)], [float(at) for at in range(count)])
    run = LogRun(op, RELATION, rows, origins, number=40, size=count)

    events = [
        ChangeEvent(op, RELATION, row if op is Op.DELETE else None, None if op is Op.DELETE else row, where, 1)
        for row, where in zip(
            given_rows, [Transaction(7, 100 - at, float(at), 40 + at) for at in range(count)], strict=True
        )
    ]

    def told(found: Sequence[ChangeEvent]) -> list[tuple[object, ...]]:
        whose = [one.transaction for one in found]
        return [
            (*one[:4], w.xid, w.commit_lsn, w.commit_time, w.at, one[5]) for one, w in zip(found, whose, strict=True)
        ]

    assert told(events) == told(list(run)) == told([run[at] for at in range(count)])
    assert told(events[-1:]) == told([run[-1]])
    part = slice(min(begin, count - 1), min(begin, count - 1) + length)
    assert told(events[part]) == told(list(run[part]))
    assert (100 - count + 1, {7}) == (oldest_of(Events([run], count)), xids_of(Events([run], count)))
    assert (100, 40 + count - 1) == (run.transaction.commit_lsn, run.transaction.at)


@given(st.lists(st.tuples(ROWS, OPS), max_size=5))
def test_events_in_runs_are_events(groups: list[tuple[list[Values], Op]]) -> None:
    """Whoever asks for events gets each, in order, whether it came in a run or alone."""
    events: list[ChangeEvent] = []
    for number, (rows, op) in enumerate(groups):
        events += events_of(rows, op, Transaction(number, number, 1.0))

    found = in_runs(events)

    assert events == list(found)
    assert len(events) == len(found)
    assert events[1:3] == found[1:3]
    assert not events or (events[0], events[-1]) == (found[0], found[-1])
    assert {event.transaction.xid for event in events} == xids_of(found) == xids_of(events)
    assert events == list(parts_of(events))
    assert isinstance(found, Events)
