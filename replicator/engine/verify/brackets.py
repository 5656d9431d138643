"""The bracketed read's decisions: when a difference between two databases that never stand still is proven. Pure.

    A   the source, in one snapshot; its WAL is at S            one look
    .   wait until the target has applied everything up to S
    B   the target, in one snapshot
    C   the source again, and then the barrier: a transaction id of this moment

An aggregate that is different is looked at again. It is a divergence when a later look shows the same rows, written by
the same transactions, in all of A, B and C as the first one did, and the later A sees everything that had an id before
the first look's barrier. Why that is a proof, for a target that is right at every position of its own:

- Whatever the target had applied at the first B had an id before the barrier, so the later A sees it, also what was
  applied before it was visible (a commit is in the WAL first).
- The rows at B were not written in between (an apply of the aggregate writes its root row anew), so nothing that
  touches the aggregate was applied in between, while everything that the later A sees was applied before the later B.
- So what the later A sees is what the target's rows were made from; and they are not what that demands.

Where the target has no row there is nothing to be written anew, and where its rows have no column but their key an
apply may leave them as they are: a row that comes and goes may then be caught at the wrong moment in every look, if
seldom. There more looks must agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from replicator.errors import ReplicatorError
    from replicator.events import Key, Values
    from replicator.verification import Kind

AGREEING: Final = 2
"""Looks that must agree with the first one. One is the proof; the other costs a few milliseconds."""
AGREEING_UNPROVEN: Final = 6
"""Likewise, where nothing shows that an aggregate was written in between."""

Print = bytes
"""What a set of rows, with the transactions that wrote them, is known by."""


def print_of(rows: Iterable[Values]) -> Print:
    """Of rows that begin with their xmin (and with what tells tables apart), in any order."""
    return hashlib.blake2b("\0".join(sorted(map(repr, rows))).encode(), digest_size=16).digest()


NOTHING: Final = print_of(())


@dataclass(frozen=True, slots=True)
class Difference:
    """One row of the target that isn't as it should be.

    Attributes:
        side: which of the mapping's target tables.
        kind: see `Kind`.
        key: the row's key.
        columns: those that differ.

    """

    side: int
    kind: Kind
    key: Key
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found of one aggregate that is different.

    Attributes:
        before, after: the source in A and in C.
        target: in B.
        xmin: of A's snapshot: whatever has a lower id had ended.
        barrier: taken after C.
        lsn: A's.
        differences: at least one, but where `error` is set.
        held: the target says itself that it is not done with this aggregate.
        proves: rows that stay the same prove that nothing was applied.
        letter: the number of a dead letter of this aggregate.
        error: why nobody knows what the target should hold.

    """

    before: Print
    target: Print
    after: Print
    xmin: int
    barrier: int
    lsn: int
    differences: tuple[Difference, ...]
    held: bool = False
    proves: bool = True
    letter: int | None = None
    error: ReplicatorError | None = None

    @property
    def steady(self) -> bool:
        """Nothing happened to it while it was looked at, as far as one look can tell."""
        return self.before == self.after and not self.held and self.error is None


class Verdict(Enum):
    """What is known of an aggregate."""

    EQUAL = auto()
    DIVERGED = auto()
    IN_FLIGHT = auto()


@dataclass(slots=True)
class Suspect:
    """An aggregate that was seen different.

    Attributes:
        base: the look that later ones are compared with; None where it was not steady.
        newest: the last look.
        looks: how many there were.
        agreed: how many agree with the base.

    """

    base: Look | None
    newest: Look
    looks: int = 1
    agreed: int = 0


def suspect(look: Look) -> Suspect:
    """Of the first look that found a difference."""
    return Suspect(look if look.steady else None, look)


def judge(one: Suspect, look: Look | None) -> Verdict:
    """What a further look says; None: it was found equal."""
    if look is None:
        return Verdict.EQUAL
    one.looks += 1
    one.newest = look
    base = one.base
    if base is None or not look.steady or (look.before, look.target) != (base.before, base.target):
        one.base, one.agreed = look if look.steady else None, 0
        return Verdict.IN_FLIGHT
    if look.xmin <= base.barrier:
        return Verdict.IN_FLIGHT  # what ran then still runs
    one.agreed += 1
    wanted = AGREEING if look.proves else AGREEING_UNPROVEN
    return Verdict.DIVERGED if one.agreed >= wanted else Verdict.IN_FLIGHT
