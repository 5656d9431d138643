"""A producer's replay is passed over; a late record is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.kafka.replays import OutOfOrderError, Sequence, Sequences


def told(seen: Sequences, *numbers: int) -> list[int]:
    """Those that are new; each number is an event of a transaction of its own."""
    return [number for number in numbers if seen.is_new((number * 10, number * 10 + 5))]


def test_what_comes_again_up_to_the_newest_is_passed_over() -> None:
    """A restart of Debezium, twice, the second time within the first replay."""
    seen = Sequences()

    assert [1, 2, 3, 4] == told(seen, 1, 2, 3, 4)
    assert [] == told(seen, 2, 3)
    assert seen.replaying
    assert [5, 6] == told(seen, 2, 3, 4, 5, 6)
    assert not seen.replaying


def test_concurrent_transactions_rise_by_their_commits() -> None:
    """The event's own LSN may go back where the commit's doesn't: that is the order of commits."""
    seen = Sequences()

    assert all(seen.is_new(one) for one in [(100, 80), (120, 60), (120, 70), (130, 65)])


@pytest.mark.parametrize("late", [[1], [3, 4, 9], [4, 6], [2, 3, 5]], ids=str)
def test_a_late_record_is_refused(late: list[int]) -> None:
    """One that was never seen; and one that was, but whose run doesn't go up to the newest."""
    seen = Sequences()
    told(seen, 2, 3, 4, 5, 8)

    with pytest.raises(OutOfOrderError) as caught:
        told(seen, *late)

    assert (80, 85) == caught.value.newest


def test_what_is_forgotten_is_refused() -> None:
    """Further back than is remembered, a late one can't be told from a replay."""
    seen = Sequences(remembered=10)
    told(seen, *range(1, 100))

    with pytest.raises(OutOfOrderError) as caught:
        told(seen, 3)

    assert caught.value.oldest > (30, 35)


def test_rows_of_one_copy_share_their_sequence() -> None:
    """A replay may bring more of them than had come before: those are new."""
    seen = Sequences()
    rows: list[Sequence] = [(1, 1), *[(2, 2)] * 3]
    assert all(seen.is_new(row) for row in rows)

    again = [seen.is_new(row) for row in [(1, 1), *[(2, 2)] * 5, (3, 3)]]

    assert [False, False, False, False, True, True, True] == again


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 40), st.integers(2, 40)), max_size=4))
def test_replays_of_any_part_bring_every_event_once(count: int, restarts: list[tuple[int, int]]) -> None:
    """Wherever the producer dies, and however far back it begins again: each event is new exactly once, in order."""
    seen, new, sent, at = Sequences(), [], 0, 0
    for more, back in [*restarts, (count, 0)]:
        until = min(count, at + more)
        new += told(seen, *range(at, until))
        sent = max(sent, until)
        at = until if back > until else until - back
        if at == sent - 1 and back <= until:  # a replay of the newest alone
            at = sent

    assert list(range(len(new))) == new
    assert len(new) == max(sent, 0)


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6), max_size=6))
def test_many_at_once_are_noted_as_one_by_one(runs: list[list[Sequence]]) -> None:
    """Runs that are new beyond doubt are those that are new one by one, and leave the same behind; others nothing."""
    at_once, by_one = Sequences(4), Sequences(4)
    for run in runs:
        before = [at_once.replaying, at_once._newest, at_once._of_newest, list(at_once._events)]
        new = at_once.are_new(run)
        after = [at_once.replaying, at_once._newest, at_once._of_newest, list(at_once._events)]
        assert new or before == after
        try:
            told_one_by_one = [by_one.is_new(one) for one in run]
        except OutOfOrderError:
            assert not new
            return
        if not new:
            assert [at_once.is_new(one) for one in run] == told_one_by_one
        else:
            assert all(told_one_by_one)
        assert at_once._newest == by_one._newest
        assert at_once._of_newest == by_one._of_newest
