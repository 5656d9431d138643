"""What was seen of a partition's order, to tell a producer's replay from a late record. Pure.

Debezium's `source.sequence` is (LSN of the last commit, LSN of the event): it rises within a partition. After a restart
Debezium sends again what it had not yet noted as sent: the same events, in order, up to the newest and on. Those were
applied, and are passed over. A worker that was frozen, and replaced, sends what it had in hand when it wakes: that goes
back, too, but doesn't run up to the newest; such a record must never be applied over newer ones.

The newest is stored with the partition's offset (`Mark`), so that the next session knows it. What came before what is
remembered is judged by its outcome alone: a replay comes to the oldest that is remembered.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence as Sequence_
from itertools import repeat
from operator import gt, lt
from typing import Final

Sequence = tuple[int, int]

Mark = tuple[int, int, int]
"""A sequence, and how many events have had it so far: rows of one COPY share theirs."""

REMEMBERED: Final = 32_768
"""Sequences of one partition, 16 bytes each."""

_FORGOTTEN: Final = -1


class OutOfOrderError(Exception):
    """A sequence went back, and this isn't a replay.

    Attributes:
        newest: what had been seen.
        oldest: what is remembered.

    """

    def __init__(self, newest: Sequence, oldest: Sequence) -> None:
        super().__init__(newest, oldest)
        self.newest = newest
        self.oldest = oldest


class Sequences:
    """Of one partition, while this process reads it.

    Args:
        newest: what an earlier session stored; None where there is none.
        remembered: how many.
        forgotten: what came before the newest isn't remembered.

    """

    def __init__(self, newest: Mark | None = None, *, remembered: int = REMEMBERED, forgotten: bool = False) -> None:
        self._remembered = remembered
        self._forgotten = forgotten or newest is not None
        # Distinct ones, rising: commit and event LSN in parallel.
        self._commits = array("Q")
        self._events = array("Q")
        self._newest: Sequence = (-1, -1)
        self._of_newest = 0  # events that have the newest
        # While a replay runs: where it is (or _FORGOTTEN), and how many it had of the newest.
        self._at: int | None = None
        self._repeated = 0
        if newest is not None:
            self._note(newest[:2])
            self._of_newest = newest[2]

    def is_new(self, sequence: Sequence) -> bool:
        """Whether the event wasn't seen before; else it belongs to a replay, and is to be passed over.

        A replay that begins with the newest itself looks like one more row of the same COPY, and is taken for new:
        what is applied twice then is the newest state. A Debezium that begins without an offset names no commit (0)
        in its first transaction: what lies behind all that was seen is new all the same.

        Raises:
            OutOfOrderError: neither.

        """
        if not sequence[0] and sequence[1] >= max(self._newest) > 0:
            sequence = self._newest[0], sequence[1]
        if self._at is None and sequence >= self._newest:
            self._note(sequence)
            return True
        return self._replayed(sequence)

    def are_new(self, sequences: Sequence_[Sequence | None]) -> list[Mark | None] | None:
        """Note all of these, which follow each other, where they are new beyond doubt; returns the mark after each.

        If they aren't, nothing is noted, and `is_new` has to be asked about each.
        """
        newest = self._newest
        if self._at is not None or None in sequences or not sequences:
            return None
        known: Sequence_[Sequence] = sequences  # type: ignore[assignment]  # without None
        if known[0] > newest and all(map(lt, known, known[1:])):
            commits, events = zip(*known, strict=True)
            self._commits.extend(commits)
            self._events.extend(events)
            self._newest, self._of_newest = known[-1], 1
            self._trim()
            return list(zip(commits, events, repeat(1)))
        if known[0] < newest or any(map(gt, known, known[1:])):
            return None
        marks: list[Mark | None] = []
        for one in known:
            self._note(one)
            marks.append((*one, self._of_newest))
        return marks

    @property
    def mark(self) -> Mark:
        """The newest; only where one was seen."""
        return (*self._newest, self._of_newest)

    @property
    def unproven(self) -> bool:
        """Whether something went back, and what follows hasn't come to the newest yet: it may be no replay."""
        return self._at is not None and self._at < len(self._commits) - 1

    def _note(self, sequence: Sequence) -> None:
        if sequence == self._newest:
            self._of_newest += 1
            return
        self._newest, self._of_newest = sequence, 1
        self._commits.append(sequence[0])
        self._events.append(sequence[1])
        self._trim()

    def _trim(self) -> None:
        if len(self._commits) >= 2 * self._remembered:
            del self._commits[: -self._remembered], self._events[: -self._remembered]
            self._forgotten = True

    def _replayed(self, sequence: Sequence) -> bool:
        last = len(self._commits) - 1
        if self._forgotten and sequence < self._sequence(0):
            self._at, self._repeated = _FORGOTTEN, 0
            return False
        if self._at is None or (self._at != _FORGOTTEN and sequence < self._sequence(self._at)):  # begins, or anew
            self._at, self._repeated = self._find(sequence), 0
        elif self._at == _FORGOTTEN or sequence > self._sequence(self._at):
            if self._at == last:  # past the newest: it was a replay, and is over
                self._at = None
                self._note(sequence)
                return True
            if sequence != self._sequence(self._at + 1):
                raise OutOfOrderError(self._newest, self._sequence(0))
            self._at += 1
        if self._at == last:
            self._repeated += 1
            if self._repeated > self._of_newest:  # more rows of one COPY than had come before
                self._of_newest, self._at = self._repeated, None
                return True
        return False

    def _sequence(self, at: int) -> Sequence:
        return self._commits[at], self._events[at]

    def _find(self, sequence: Sequence) -> int:
        at = bisect_left(range(len(self._commits)), sequence, key=self._sequence)
        if at == len(self._commits) or self._sequence(at) != sequence:
            raise OutOfOrderError(self._newest, self._sequence(0))
        return at
