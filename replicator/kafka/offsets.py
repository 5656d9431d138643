"""What a session has given out of which partition, in the order in which it did: positions to offsets. Pure.

A position counts what was given out. What the checkpoint stores is, for each partition, the next offset: that of the
record after the last one given out up to the position; and the newest of the producer's sequence up to there, where one
was given out (`replays.Mark`).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from replicator.events import Position
    from replicator.kafka.replays import Mark
    from replicator.partitions import Partition


class Yielded:
    """What was given out and isn't confirmed yet: bounded by what the feed holds, also of a transaction without end.

    A transaction n (counted from 0) is given out with `Position(n, ordinal)`, ordinal from 1; `Position(n + 1)` says
    that all of it is done.
    """

    def __init__(self) -> None:
        # By partition, in parallel and rising: the transaction, the next offset after it, and its newest event's mark.
        self._numbers: dict[Partition, list[int]] = {}
        self._offsets: dict[Partition, list[int]] = {}
        self._marks: dict[Partition, list[Mark | None]] = {}
        self._newest: tuple[int, Partition, int] | None = None

    def note(self, number: int, partition: Partition, next_offset: int) -> None:
        """Transaction `number` covers this partition up to (not including) this offset."""
        self.note_run((number,), partition, (next_offset,), (None,))

    def note_run(
        self,
        numbers: Sequence[int],
        partition: Partition,
        next_offsets: Sequence[int],
        marks: Sequence[Mark | None],
    ) -> None:
        """Several events, each with what `note` is told of one, and its mark if it has one."""
        kept = self._numbers.setdefault(partition, [])
        offsets, known = self._offsets.setdefault(partition, []), self._marks.setdefault(partition, [])
        if numbers[0] == numbers[-1]:
            # All of one transaction, which may have any number of them: the last one tells as much as all.
            newest = next((mark for mark in reversed(marks) if mark), None)
            numbers, next_offsets, marks = numbers[-1:], next_offsets[-1:], (newest,)
            if kept and kept[-1] == numbers[0]:
                offsets[-1], known[-1] = next_offsets[-1], newest or known[-1]
                return
        kept.extend(numbers)
        offsets.extend(next_offsets)
        known.extend(marks)

    def progress(self, position: Position) -> dict[Partition, int]:
        """The next offset of each partition in which something was given out up to there, since it was confirmed."""
        found = {}
        end = position.at + (1 if position.ordinal else 0)
        for partition, numbers in self._numbers.items():
            count = bisect_left(numbers, end)
            if count:
                found[partition] = self._offsets[partition][count - 1]
        return found

    def marks(self, position: Position) -> dict[Partition, Mark]:
        """The newest mark of each of the partitions that `progress` names, where one was given out since."""
        found = {}
        end = position.at + (1 if position.ordinal else 0)
        for partition, numbers in self._numbers.items():
            marks = self._marks[partition]
            newest = next((marks[at] for at in range(bisect_left(numbers, end) - 1, -1, -1) if marks[at]), None)
            if newest is not None:
                found[partition] = newest
        return found

    def confirm(self, position: Position) -> dict[Partition, int]:
        """Forget what is done; returns what `progress` said of it."""
        done = self.progress(position)
        self._newest = self.newest(position) or self._newest
        end = position.at + (1 if position.ordinal else 0)
        for partition in done:
            numbers = self._numbers[partition]
            count = bisect_left(numbers, end)
            if count == len(numbers):
                del self._numbers[partition], self._offsets[partition], self._marks[partition]
            else:
                del numbers[:count], self._offsets[partition][:count], self._marks[partition][:count]
        return done

    def holds(self, partitions: Collection[Partition]) -> bool:
        """Whether something of these partitions was given out and isn't confirmed."""
        return not self._numbers.keys().isdisjoint(partitions)

    def newest(self, position: Position) -> tuple[int, Partition, int] | None:
        """The newest that was given out at or before: its number, where it lies, and the next offset."""
        end = position.at + (1 if position.ordinal else 0)
        best = self._newest
        for partition, numbers in self._numbers.items():
            count = bisect_left(numbers, end)
            if count and (best is None or numbers[count - 1] >= best[0]):
                best = numbers[count - 1], partition, self._offsets[partition][count - 1]
        return best


def progress_text(offsets: dict[Partition, int], marks: Mapping[Partition, Mark]) -> str:
    """`topic/partition:offset`, joined by commas, in order; `@mark` follows where there is one."""
    parts = []
    for one, offset in sorted(offsets.items()):
        mark = marks.get(one)
        parts.append(f"{one[0]}/{one[1]}:{offset}" + ("" if mark is None else f"@{mark_text(mark)}"))
    return ",".join(parts)


def mark_text(mark: Mark) -> str:
    """As the ledger keeps it: `commit/event/count`."""
    return "/".join(map(str, mark))


def parse_mark(text: str) -> Mark:
    """What `mark_text` made."""
    commit, event, count = map(int, text.split("/"))
    return commit, event, count
