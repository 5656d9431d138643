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
    assert seen.unproven
    assert [5, 6] == told(seen, 2, 3, 4, 5, 6)
    assert not seen.unproven


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


def test_what_is_forgotten_is_told_by_its_outcome() -> None:
    """Further back than is remembered: a replay comes to what is remembered, a late record doesn't."""
    seen = Sequences(remembered=10)
    told(seen, *range(1, 100))

    assert [] == told(seen, 3, 4, 2)
    assert seen.unproven
    assert [100] == told(seen, *range(3, 101))
    assert not seen.unproven
    told(seen, 3, 4)
    with pytest.raises(OutOfOrderError) as caught:
        told(seen, 101)
    assert (1000, 1005) == caught.value.newest
    assert caught.value.oldest > (30, 35)


def test_a_later_session_knows_the_newest() -> None:
    """The mark that was stored is enough: what comes again is passed over, rows of its COPY included, and no more."""
    earlier = Sequences()
    rows: list[Sequence] = [(1, 1), *[(2, 2)] * 3]
    assert all(earlier.is_new(row) for row in rows)
    assert (2, 2, 3) == earlier.mark
    later = Sequences(earlier.mark)

    assert not later.is_new((1, 1))
    assert later.unproven
    again = [later.is_new(row) for row in [*[(2, 2)] * 5, (3, 3)]]

    assert [False, False, False, True, True, True] == again
    assert not later.unproven
    assert (3, 3, 1) == later.mark


def test_a_debezium_that_begins_anew_names_no_commit() -> None:
    """Its first transaction is new where it lies behind everything; else it goes back."""
    seen = Sequences((50, 40, 1))

    assert [True, True, True] == [seen.is_new(one) for one in [(0, 60), (0, 60), (65, 70)]]
    with pytest.raises(OutOfOrderError):
        [seen.is_new(one) for one in [(0, 45), (70, 75)]]


@pytest.mark.parametrize("late", [[2, 9], [4, 9], [2, 4, 3, 9], [6, 7, 4, 9]], ids=str)
def test_a_later_session_refuses_a_late_record(late: list[int]) -> None:
    """What goes back beyond the stored newest, and doesn't come to it again, is refused."""
    seen = Sequences((50, 55, 1))

    with pytest.raises(OutOfOrderError) as caught:
        told(seen, *late)

    assert late[-2] in {2, 4, 3}
    assert caught.value.newest in {(50, 55), (70, 75)}


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
    at_once, by_one = Sequences(remembered=4), Sequences(remembered=4)
    for run in runs:
        before = [at_once._at, at_once._newest, at_once._of_newest, list(at_once._events)]
        new = at_once.are_new(run)
        after = [at_once._at, at_once._newest, at_once._of_newest, list(at_once._events)]
        assert new is not None or before == after
        try:
            told_one_by_one = [by_one.is_new(one) for one in run]
        except OutOfOrderError:
            assert new is None
            return
        if new is None:
            assert [at_once.is_new(one) for one in run] == told_one_by_one
        else:
            assert all(told_one_by_one)
            assert new[-1] == by_one.mark
        assert at_once._newest == by_one._newest
        assert at_once._of_newest == by_one._of_newest
