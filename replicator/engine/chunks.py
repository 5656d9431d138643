"""Chunks: which key ranges of a table are left to copy and in which order tables go. Pure.

Only chunks that are done are stored. A chunk's upper bound is the next one's lower bound, so whatever lies between two
stored ones that don't touch is left; after a kill that is what the workers had in hand, and what no one had reached.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from replicator.copies import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replicator.copies import CopiedTable
    from replicator.events import Key
    from replicator.mapping import Mapping
    from replicator.tables import Table

_ROW_BYTES_UNKNOWN: Final = 200  # a row's size before anything is known of it
STRIDE: Final = 1 << 20  # between the numbers of neighbours: room for the pieces of a gap


@dataclass(frozen=True)
class Gap:
    """A range that is left, and the numbers that its pieces may have: from `chunk.number` up to, not with, `end`."""

    chunk: Chunk
    end: int | None = None


def gaps(mapping: str, done: Sequence[Chunk]) -> list[Gap]:
    """The ranges before, between and after chunks that are done; the one that is open above comes last, if at all."""
    chunks = sorted(done, key=lambda chunk: chunk.number)
    if not chunks:
        return [Gap(Chunk(mapping, STRIDE, None, None))]
    found = []
    if chunks[0].after is not None:
        found.append(Gap(Chunk(mapping, 1, None, chunks[0].after), chunks[0].number))
    for low, high in pairwise(chunks):
        if low.upto != high.after:
            found.append(Gap(Chunk(mapping, low.number + 1, low.upto, high.after), high.number))
    if chunks[-1].upto is not None:
        found.append(Gap(Chunk(mapping, chunks[-1].number + STRIDE, chunks[-1].upto, None)))
    return found


class Walk:
    """Hands out what is left of one table, and knows when all of it is done.

    A range is cut by its reader, who alone knows the server's order: `take` returns all that is left of a gap, and
    `cut` puts the rest back.
    """

    def __init__(self, mapping: Mapping, copied: CopiedTable | None = None) -> None:
        self.mapping = mapping
        self.failed: list[Chunk] = []
        self.complete = copied is not None and copied.complete
        self._left = deque([] if self.complete else gaps(mapping.name, copied.chunks if copied else ()))
        self._in_hand: set[int] = set()

    @property
    def takeable(self) -> bool:
        """Whether there is a range that nobody has in hand."""
        return bool(self._left)

    @property
    def settled(self) -> bool:
        """Nothing is left and nothing is in hand: done, or done but for what failed."""
        return not self._left and not self._in_hand

    @property
    def last(self) -> bool:
        """What is in hand is the last chunk, and none has failed: its transaction completes the table."""
        return not self._left and not self.failed and len(self._in_hand) == 1

    def take(self) -> Gap:
        """The next range that is left; its taker calls `cut`, then `done` or `fail`."""
        gap = self._left.popleft()
        self._in_hand.add(gap.chunk.number)
        return gap

    def cut(self, gap: Gap, upto: Key | None) -> Chunk:
        """The piece of a gap up to `upto`; the rest is left for whoever takes next.

        The gap stays whole where `upto` is None, or where there is no number for the rest.
        """
        chunk = gap.chunk
        number = chunk.number + (STRIDE if gap.end is None else 1)
        if upto is None or (gap.end is not None and number >= gap.end):
            return chunk
        self._left.appendleft(Gap(replace(chunk, number=number, after=upto), gap.end))
        return replace(chunk, upto=upto)

    def done(self, chunk: Chunk) -> None:
        """Its transaction has committed."""
        self._in_hand.discard(chunk.number)

    def fail(self, chunk: Chunk) -> None:
        """It can't be copied now: it is left for the next run."""
        self._in_hand.discard(chunk.number)
        self.failed.append(chunk)

    def abandon(self) -> None:
        """Nothing more of this table in this run."""
        self.failed.extend(gap.chunk for gap in self._left)
        self._left.clear()


def parents_first(mappings: Iterable[Mapping]) -> list[tuple[Mapping, frozenset[str]]]:
    """Mappings so that those whose target tables are referenced come before those that refer to them.

    Returns:
        Each mapping with the names of those that must be complete before it where foreign keys are checked. A circle
        is cut at its first member in the given order.

    """
    waiting = {mapping.name: mapping for mapping in mappings}
    owners = {side.table.name: mapping.name for mapping in waiting.values() for side in mapping.targets}
    parents = {
        name: {
            owners[key.referenced]
            for side in mapping.targets
            for key in side.table.foreign_keys
            if key.referenced in owners and owners[key.referenced] != name
        }
        for name, mapping in waiting.items()
    }
    ordered: list[tuple[Mapping, frozenset[str]]] = []
    while waiting:
        free = [name for name in waiting if not parents[name] & waiting.keys()] or [next(iter(waiting))]
        ordered.extend((waiting[name], frozenset(parents[name] - waiting.keys())) for name in free)
        for name in free:
            del waiting[name]
    return ordered


class Portion:
    """How many rows to read into memory at once, so that they stay within `bytes_max`; learns from what it has seen."""

    def __init__(self, table: Table, bytes_max: int) -> None:
        known = table.bytes > 0 and table.rows_estimate > 0
        self._row_bytes = max(1.0, table.bytes / table.rows_estimate) if known else _ROW_BYTES_UNKNOWN
        self._bytes_max = bytes_max

    @property
    def rows(self) -> int:
        """Rows to ask for next; at least one."""
        return max(1, int(self._bytes_max / self._row_bytes))

    def saw(self, rows: int, size: int) -> None:
        """This many rows had this many bytes: larger ones count at once, smaller ones by and by."""
        if rows:
            seen = max(1.0, size / rows)
            self._row_bytes = seen if seen > self._row_bytes else (self._row_bytes + seen) / 2
