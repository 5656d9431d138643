"""When a check has failed: decisions over looks, and rows of results as values."""

import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from replicator.checks import Answer, SequenceState
from replicator.engine.checks.answers import Answers, key_text, listed, text_of
from replicator.engine.checks.judges import (
    AGREEING,
    AGREEING_AFTER_MOVES,
    AGREEING_STANDING,
    Group,
    PairJudge,
    PairLook,
    RowsJudge,
)
from replicator.tables import Column

NUMBER = Column("n", 20, "bigint", "bigint")
EXACT = Column("total", 1700, "numeric", "numeric")
FLOAT = Column("f", 701, "double precision", "double precision")
TEXT = Column("name", 25, "text", "text")
MOMENT = Column("at", 1184, "timestamp with time zone", "timestamp with time zone")
DOCUMENT = Column("doc", 114, "json", "json")


def group(*rows: object) -> Group:
    return Counter(rows)


def look(before: object, target: object, after: object, *, at: int = 0, held: bool = False) -> PairLook:
    """One name, `a`; None: no rows. `at` counts transactions: both snapshot and barrier."""
    sides: list[dict[Hashable, Group]] = [
        {} if rows is None else {"a": group(rows)} for rows in (before, target, after)
    ]
    return PairLook(sides[0], sides[1], sides[2], xmin=at, barrier=at, held=held)


def judged(*looks: PairLook) -> PairJudge:
    judge = PairJudge()
    for one in looks:
        judge.see(one)
    return judge


def test_rows_that_stand_still_agree_at_once() -> None:
    """A name with the same rows in all three reads is decided by one look."""
    judge = judged(look(1, 1, 1))
    assert (1, (), {}) == (judge.agreed, judge.undecided, judge.wrong)


def test_what_differs_in_every_look_is_wrong() -> None:
    """The same difference again and again, each time with all ended that ran at the first, is proven."""
    for rows in ((1, 2, 1), (1, None, 1), (None, 2, None)):
        judge = judged(*[look(*rows, at=at) for at in range(AGREEING + 1)])
        assert ["a"] == list(judge.wrong)


def test_what_may_still_become_visible_is_not_wrong() -> None:
    """While a transaction runs that was there at the first look, nothing is wrong: it may be what the target has."""
    stuck = [PairLook({"a": group(1)}, {"a": group(2)}, {"a": group(1)}, xmin=5, barrier=9) for _ in range(50)]
    judge = judged(*stuck)
    assert ({}, ("a",)) == (judge.wrong, judge.undecided)


def test_what_moves_is_neither() -> None:
    """Rows that change between the two reads of the source are undecided, though the target equals one of them."""
    judge = judged(*[look(at, at, at + 1, at=at) for at in range(50)])
    assert (0, {}, ("a",)) == (judge.agreed, judge.wrong, judge.undecided)


def test_what_has_moved_must_be_equal_several_times() -> None:
    """After a move one equal look is not enough: it may be an earlier state of the target that equals."""
    looks = [look(1, 1, 2), *[look(2, 2, 2, at=at) for at in range(AGREEING_AFTER_MOVES)]]
    assert judged(*looks[:-1]).undecided
    assert judged(*looks).agreed == 1
    assert judged(looks[0], *[one for equal in looks[1:] for one in (look(3, 4, 4), equal)]).agreed == 1
    assert judged(*looks[:-1], look(2, 3, 2), looks[-1]).undecided


def test_what_may_have_moved_in_between_must_be_equal_several_times() -> None:
    """While the source commits, the same rows before and after are no proof that they were the same in between: a total
    that comes and goes by one is not what a target shows that is wrong by one.
    """
    busy = [replace(look(1, 1, 1, at=at), quiet=False) for at in range(AGREEING_AFTER_MOVES)]
    assert judged(*busy[:-1]).undecided
    assert judged(*busy).agreed == 1
    judge = judged(busy[0])
    for _ in range(AGREEING_STANDING):
        judge.prove({"a": group(0)}, {"a": group(1)})
    assert ["a"] == list(judge.wrong)


def test_what_the_feed_holds_back_is_neither() -> None:
    """While the feed says that it has not written everything, nothing is decided."""
    assert judged(*[look(1, 2, 1, at=at, held=True) for at in range(50)]).undecided


def test_what_comes_later_is_let_pass() -> None:
    """A name that the first look didn't have in any read is not waited for."""
    first = PairLook({"a": group(1)}, {"a": group(1)}, {"a": group(1)}, 0, 0)
    judge = judged(first, PairLook({"b": group(1)}, {}, {"b": group(1)}, 1, 1))
    assert (1, ()) == (judge.agreed, judge.undecided)


def test_a_target_that_is_right_is_never_called_wrong() -> None:
    """A model: the source's rows flip at random, the target follows behind, as right as it can be; no look convicts."""
    chance = random.Random(7)
    for _ in range(400):
        history: list[int] = [0]
        judge = PairJudge()
        busy = chance.random()
        for _ in range(40):
            spans = []
            for _ in range(2):
                while chance.random() < busy:
                    history.append(1 - history[-1])
                spans.append(len(history))
            before, upto = spans
            target = history[chance.randrange(before - 1, upto)]  # anything from A's state on
            while chance.random() < busy:
                history.append(1 - history[-1])
            made = look(history[before - 1], target, history[-1], at=len(history))
            judge.see(made)
            if not judge.undecided:
                break
        assert {} == judge.wrong


def test_rows_that_stay_are_wrong_and_rows_that_go_are_not() -> None:
    """Of rows that ought not to be there those count that every look shows."""
    judge = RowsJudge(agreeing=2)
    for rows in (("a", "b", "c"), ("a", "c", "d"), ("a", "e")):
        assert not judge.decided or judge.rows == Counter()
        judge.see(Counter(rows))
    assert judge.decided
    assert Counter("a") == judge.rows


def test_no_row_is_decided_at_once() -> None:
    """A first look without rows is enough."""
    judge = RowsJudge()
    judge.see(Counter())
    assert judge.decided


def answer(columns: Sequence[Column], *rows: tuple[bytes | None, ...]) -> Answer:
    return Answer(tuple(columns), list(rows))


@pytest.mark.parametrize(
    "old, one, upgraded, other, same",
    [
        (NUMBER, b"5", EXACT, b"5.00", True),
        (EXACT, b"0.1", FLOAT, b"0.1", True),
        (EXACT, b"1.0", EXACT, b"1.000", True),
        (NUMBER, b"5", TEXT, b"5", True),
        (NUMBER, b"5", TEXT, b"5.0", False),
        (TEXT, b"a", TEXT, b"A", False),
        (TEXT, b"", TEXT, None, False),
        (MOMENT, b"2026-01-01 00:00:00+00", MOMENT, b"2026-01-01 01:00:00+01", True),
        (DOCUMENT, b'{"a": 1, "b": 2}', Column("", 3802, "jsonb", "jsonb"), b'{"b": 2, "a": 1.0}', True),
    ],
)
def test_values_are_compared_by_meaning(
    old: Column, one: bytes, upgraded: Column, other: bytes | None, same: bool
) -> None:
    """Of one type as verification does; numbers of two types by value; the rest by text."""
    first, second = answer([old], (one,)), answer([upgraded], (other,))
    answers = Answers(first, second, None)
    assert same is (answers.grouped(first) == answers.grouped(second))


def test_rows_are_a_multiset_known_by_their_first_column() -> None:
    """Order doesn't count, how often a row comes does, and what differs is named by its first column."""
    first = answer([TEXT, NUMBER], (b"x", b"1"), (b"y", b"2"), (b"y", b"2"))
    second = answer([TEXT, NUMBER], (b"y", b"2"), (b"x", b"1"))
    answers = Answers(first, second, None)
    one, other = answers.grouped(first), answers.grouped(second)
    assert one.keys() == other.keys()
    assert [True, False] == [answers.near(one[name], other[name]) for name in one]
    assert "y" == answers.label(one[b"y"])


def test_tolerance_lets_pass_what_is_near() -> None:
    """Numbers that differ by no more than it count as equal, one beyond it doesn't, and is named."""
    first, second = answer([TEXT, FLOAT], (b"x", b"1.0")), answer([TEXT, FLOAT], (b"x", b"1.001"))
    for tolerance, same in (("0.01", True), ("0.001", True), ("0.0001", False)):
        answers = Answers(first, second, Decimal(tolerance))
        (one,), (other,) = answers.grouped(first).values(), answers.grouped(second).values()
        assert same is answers.near(one, other)
        assert (() if same else ("f",)) == answers.different(one, other)


def test_a_single_value_is_no_key() -> None:
    """One row of one column is a value: it names nothing, and a report doesn't show it."""
    answers = Answers(answer([NUMBER], (b"5",)), answer([NUMBER], (b"6",)), None)
    assert not answers.keyed
    assert Answers(answer([NUMBER], (b"5",), (b"6",)), answer([NUMBER]), None).keyed


def test_texts_for_people() -> None:
    """Keys read as keys, long ones are cut, lists say how many are left."""
    assert ["7", "(3, b53)", "NULL"] == [key_text([b"7"]), key_text([b"3", b"b53"]), text_of(None)]
    assert 80 == len(text_of(b"x" * 500))
    assert "1, 2 and 1,000 more" == listed(["1", "2", "3"], 1002, 2)


@pytest.mark.parametrize(
    "upcoming, increment, furthest, behind",
    [(11, 1, 10, False), (10, 1, 10, True), (1, 1, None, False), (-11, -1, -10, False), (-10, -1, -10, True)],
)
def test_a_sequence_is_behind_at_its_columns_value(
    upcoming: int, increment: int, furthest: int | None, behind: bool
) -> None:
    """The next value must lie past the column's, in the direction in which it counts."""
    assert behind is SequenceState(upcoming, increment, furthest).behind


def test_what_never_stands_still_is_decided_at_one_position() -> None:
    """Equal there once: it agrees. Wrong only when two standstills say so, the second time with what they show."""
    judge = judged(look(1, 2, 3))
    judge.prove({"a": group(4)}, {"a": group(4)})
    assert (1, (), {}) == (judge.agreed, judge.undecided, judge.wrong)
    judge = judged(look(1, 2, 3))
    judge.prove({"a": group(4)}, {"a": group(5)})
    judge.prove({"a": group(6)}, {"a": group(6)})
    assert (1, (), {}) == (judge.agreed, judge.undecided, judge.wrong)
    judge = judged(look(1, 2, 3))
    judge.prove({"a": group(4)}, {"a": group(5)})
    assert {} == judge.wrong
    judge.prove({"a": group(6)}, {})
    assert ({"a": (group(6), group())}, ()) == (judge.wrong, judge.undecided)
