"""When a check has failed, though both databases are written to. Pure.

The result of a query has no xmin, by which verification knows that a row stood still. So what is wrong must be seen
again, the same in every look, as often as verification asks for where nothing proves that a row was not written.

    pairs    a row is known by its first column. It agrees when the source shows the same before and after the target
             does, and the target shows that too; it is wrong when the source stood still and the target shows another
    rows     of the target, that ought not to be there: wrong when they are there in every look

A later look counts only when it sees everything that was in progress at the end of the first one (`xmin`, `barrier`):
a commit can be applied before it is visible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final

AGREEING: Final = 6
"""Looks that must agree with the first one before something is wrong."""
AGREEING_STANDING: Final = 2
"""Looks at both sides at one position that must find a row wrong; one that finds it equal is enough."""
AGREEING_AFTER_MOVES: Final = 3
"""Looks that must find a row equal which was seen to move, or may have moved, none of them finding it wrong in between.
What is the same before and after can have been another in between: then the target may show that, and be wrong."""

Name = Hashable
"""What a row is known by."""
Group = Counter[Hashable]
"""The rows of one name."""
Near = Callable[[Group, Group], bool]


@dataclass(frozen=True, slots=True)
class PairLook:
    """One look at a pair of queries.

    Attributes:
        before, after: of the source, by name; a name that is absent has no rows.
        target: what the target shows in between.
        xmin: of the snapshot of `before`.
        barrier: a transaction id, taken after `after`.
        held: the feed knows that it has not written everything yet.
        quiet: hardly anything was committed on the source between `before` and `after`.

    """

    before: Mapping[Name, Group]
    target: Mapping[Name, Group]
    after: Mapping[Name, Group]
    xmin: int
    barrier: int
    held: bool = False
    quiet: bool = True


@dataclass(slots=True)
class _Standing:
    """What is known of one name."""

    base: tuple[Group, Group] | None = None
    barrier: int = 0
    wrong: int = 0
    equal: int = 0
    moved: bool = False
    wrong_standing: int = 0


class PairJudge:
    """Decides name by name.

    Args:
        near: whether the source's rows and the target's count as equal, where they aren't the same.

    """

    def __init__(self, near: Near | None = None) -> None:
        self._near = near or _same
        self._open: dict[Name, _Standing] | None = None
        self.wrong: dict[Name, tuple[Group, Group]] = {}
        """What is proven wrong: the source's rows and the target's."""
        self.agreed = 0
        """Names that agree."""

    @property
    def undecided(self) -> tuple[Name, ...]:
        """Those that must be looked at again."""
        return tuple(self._open or ())

    @property
    def suspects(self) -> bool:
        """Whether one of them was wrong in the newest look, and stood still."""
        return any(standing.base is not None for standing in (self._open or {}).values())

    def see(self, look: PairLook) -> None:
        """Take a look into account. What appears first in a later one came after the first, and is let pass."""
        if self._open is None:
            names = dict.fromkeys((*look.before, *look.target, *look.after))
            self._open = {name: _Standing() for name in names}
        for name, standing in list(self._open.items()):
            before, target, after = (side.get(name, Counter()) for side in (look.before, look.target, look.after))
            if self._decided(standing, before, target, after, look):
                del self._open[name]
                if standing.wrong:
                    self.wrong[name] = (before, target)
                else:
                    self.agreed += 1

    def prove(self, source: Mapping[Name, Group], target: Mapping[Name, Group]) -> None:
        """Take into account what both sides show at one position: what is open is decided, whether it moves or not."""
        for name, standing in list((self._open or {}).items()):
            assert self._open is not None
            one, other = source.get(name, Counter()), target.get(name, Counter())
            if self._near(one, other):
                del self._open[name]
                self.agreed += 1
                continue
            standing.wrong_standing += 1
            if standing.wrong_standing >= AGREEING_STANDING:
                del self._open[name]
                self.wrong[name] = (one, other)

    def _decided(self, standing: _Standing, before: Group, target: Group, after: Group, look: PairLook) -> bool:
        if before != after or look.held:
            standing.base, standing.wrong, standing.moved = None, 0, True
            return False
        if self._near(before, target):
            standing.base, standing.wrong = None, 0
            standing.equal += 1
            return standing.equal >= (1 if look.quiet and not standing.moved else AGREEING_AFTER_MOVES)
        standing.equal = 0
        if standing.base != (before, target):
            standing.moved = standing.moved or standing.base is not None
            standing.base, standing.barrier, standing.wrong = (before, target), look.barrier, 0
        elif look.xmin > standing.barrier:
            standing.wrong += 1
        return standing.wrong >= AGREEING


class RowsJudge:
    """Rows that ought not to be there: those that every look shows."""

    def __init__(self, agreeing: int = AGREEING) -> None:
        self._agreeing = agreeing
        self._looks = 0
        self.rows: Counter[Hashable] = Counter()
        """That were in all looks so far."""

    def see(self, rows: Counter[Hashable]) -> None:
        """Take a look into account; it must see everything that was committed before the look before it ended."""
        self.rows = self.rows & rows if self._looks else +rows
        self._looks += 1

    @property
    def decided(self) -> bool:
        """Nothing is left, or all of it is wrong."""
        return not self.rows or self._looks > self._agreeing


def _same(one: Group, other: Group) -> bool:
    return one == other
