"""The decisions of the bracketed read, against a model of databases whose commits are in the WAL before they show."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.engine.verify.brackets import (
    AGREEING,
    AGREEING_UNPROVEN,
    NOTHING,
    Difference,
    Look,
    Suspect,
    Verdict,
    judge,
    print_of,
    suspect,
)
from replicator.verification import Kind

WRONG = (Difference(0, Kind.DIFFERENT, (b"1",), ("v",)),)


@dataclass
class World:
    """One row on both sides. A transaction takes an id, is in the WAL, and is visible: three moments, in this order.

    `damaged`: what the target holds is not what it applied.
    """

    damaged: bool = False
    next_id: int = 100
    completed: int = 99
    running: set[int] = field(default_factory=set)
    row: tuple[int, str] | None = None  # as it is visible: xmin, value
    writer: int | None = None  # who holds the row's lock
    in_wal: bool = False
    wal: list[tuple[int, str | None]] = field(default_factory=list)
    applied: int = 0
    batch: int = 0
    target: tuple[int, str] | None = None  # xmin (the batch), value
    noise: list[int] = field(default_factory=list)

    def take_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def start(self) -> int:
        one = self.take_id()
        self.running.add(one)
        return one

    def end(self, one: int) -> None:
        self.running.discard(one)
        self.completed = max(self.completed, one)

    def write(self, value: str | None) -> None:
        """Into the WAL, not visible yet; nobody else can write the row until it is."""
        if self.writer is None:
            self.writer = self.start()
            self.wal.append((self.writer, value))

    def show(self) -> None:
        if self.writer is not None:
            xid, value = self.wal[-1]
            self.row = None if value is None else (xid, value)
            self.end(self.writer)
            self.writer = None

    def apply(self, upto: int) -> None:
        """One batch; the last value wins, and the row is written anew."""
        if upto > self.applied:
            self.batch += 1
            self.applied = upto
            value = self.wal[upto - 1][1]
            self.target = None if value is None else (self.batch, value)

    @property
    def visible_upto(self) -> int:
        return len(self.wal) - (self.writer is not None)

    @property
    def xmin(self) -> int:
        return min(self.running, default=self.completed + 1)

    @property
    def xmax(self) -> int:
        return self.completed + 1


def act(world: World, choose: random.Random) -> None:
    """Something happens on the source, or the feed applies something."""
    match choose.randrange(6):
        case 0 | 1:
            world.write(choose.choice((None, "a", "b")))
        case 2 | 3:
            world.show()
        case 4:
            world.apply(choose.randint(world.applied, len(world.wal)))
        case _ if world.noise and choose.random() < 0.5:
            world.end(world.noise.pop(choose.randrange(len(world.noise))))
        case _:
            world.noise.append(world.start())


def some(world: World, choose: random.Random, busy: float) -> None:
    while choose.random() < busy:
        act(world, choose)


def look(world: World, choose: random.Random, busy: float, *, weak: bool = False) -> Look | None:
    """A, B and C with things happening in between; None where B is what A demands."""
    before, xmin, lsn = world.row, world.xmin, world.visible_upto
    some(world, choose, busy)
    if world.applied < lsn:
        world.apply(choose.randint(lsn, len(world.wal)))
    target = world.target
    held = None if target is None else target[1]
    demanded = None if before is None else before[1]
    if world.damaged:
        held = "damaged"
    some(world, choose, busy)
    after = world.row
    barrier = world.xmax - 1 if weak else world.take_id()
    if not weak:
        world.completed = max(world.completed, barrier)
    if held == demanded:
        return None
    prints = [NOTHING if row is None else print_of([(repr(row).encode(),)]) for row in (before, target, after)]
    return Look(prints[0], prints[1], prints[2], xmin, barrier, lsn, WRONG)


def verdicts(world: World, seed: int, looks: int, *, busy: float = 0.8, weak: bool = False) -> list[Verdict]:
    choose = random.Random(seed)
    one: Suspect | None = None
    found = []
    for _ in range(looks):
        some(world, choose, busy)
        seen = look(world, choose, busy, weak=weak)
        if one is None:
            one = None if seen is None else suspect(seen)
            continue
        found.append(judge(one, seen))
        if found[-1] is not Verdict.IN_FLIGHT:
            one = None
    return found


@given(st.integers(0, 2**32), st.sampled_from([0.3, 0.6, 0.8, 0.9]))
@settings(max_examples=300, deadline=None)
def test_a_target_that_is_right_is_never_called_wrong(seed: int, busy: float) -> None:
    """Whatever happens between the steps of any number of looks, and however late commits become visible."""
    assert Verdict.DIVERGED not in verdicts(World(), seed, 60, busy=busy)


def test_a_snapshots_xmax_would_be_no_barrier() -> None:
    """The model has the power to tell: what ran at the first look may have an id beyond its snapshot's xmax."""
    assert any(Verdict.DIVERGED in verdicts(World(), seed, 60, busy=0.6, weak=True) for seed in range(2000))


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_what_is_wrong_is_found_once_it_stands_still(seed: int) -> None:
    """A damaged row that nobody writes is a divergence after a few looks, and as soon as what ran has ended."""
    world = World(damaged=True)
    some(world, random.Random(seed), 0.9)
    world.show()
    for one in list(world.noise):
        world.end(one)
    found = verdicts(world, seed, AGREEING + 1, busy=0)

    assert [Verdict.IN_FLIGHT] * (AGREEING - 1) + [Verdict.DIVERGED] == found


def a_look(
    *, before: bytes = b"s", target: bytes = b"t", after: bytes = b"s", xmin: int = 10, barrier: int = 10
) -> Look:
    return Look(before, target, after, xmin, barrier, 1, WRONG)


def test_what_ran_must_have_ended() -> None:
    """Looks that agree count only when they see everything that ran at the first one."""
    one = suspect(a_look(barrier=20))

    assert [Verdict.IN_FLIGHT] * 3 == [judge(one, a_look(xmin=xmin)) for xmin in (15, 20, 20)]
    assert 0 == one.agreed
    assert [Verdict.IN_FLIGHT, Verdict.DIVERGED] == [judge(one, a_look(xmin=21)) for _ in range(AGREEING)]


@pytest.mark.parametrize("changed", [{"before": b"x", "after": b"x"}, {"target": b"x"}, {"after": b"x"}])
def test_any_change_begins_anew(changed: dict[str, bytes]) -> None:
    """A row that was written by another transaction, on either side, is not the one that was seen before."""
    one = suspect(a_look())
    judge(one, a_look(xmin=11, barrier=11))
    assert 1 == one.agreed

    assert Verdict.IN_FLIGHT is judge(one, a_look(xmin=12, barrier=12, **changed))
    assert 0 == one.agreed


def test_equal_is_equal() -> None:
    """One look that finds no difference is enough, whatever was seen before."""
    assert Verdict.EQUAL is judge(suspect(a_look()), None)


def test_more_looks_where_nothing_proves_that_it_stood_still() -> None:
    """A row that an apply may leave as it is needs more looks that agree."""
    seen = Look(b"s", b"t", b"s", 99, 10, 1, WRONG, proves=False)
    one = suspect(seen)

    assert [Verdict.IN_FLIGHT] * (AGREEING_UNPROVEN - 1) == [judge(one, seen) for _ in range(AGREEING_UNPROVEN - 1)]
    assert Verdict.DIVERGED is judge(one, seen)


def test_what_the_target_says_itself_is_no_finding() -> None:
    """A row that waits for a unique value is in flight until it is written."""
    held = Look(b"s", b"t", b"s", 99, 10, 1, WRONG, held=True)
    one = suspect(held)

    assert [Verdict.IN_FLIGHT] * 9 == [judge(one, held) for _ in range(9)]
