"""What a session has given out of which partition, in the order in which it did: positions to offsets. Pure.

A position counts what was given out. What the checkpoint stores is, for each partition, the next offset: that of the
record after the last one given out up to the position.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from replicator.events import Position
    from replicator.partitions import Partition


class Yielded:
    """What was given out and isn't confirmed yet: bounded by what the feed holds.

    A transaction n (counted from 0) is given out with `Position(n, ordinal)`, ordinal from 1; `Position(n + 1)` says
    that all of it is done.
    """

    def __init__(self) -> None:
        # By partition, in parallel and rising: the transaction, and the next offset after it.
        self._numbers: dict[Partition, list[int]] = {}
        self._offsets: dict[Partition, list[int]] = {}
        self._newest: tuple[int, Partition, int] | None = None

    def note(self, number: int, partition: Partition, next_offset: int) -> None:
        """Transaction `number` covers this partition up to (not including) this offset."""
        self._numbers.setdefault(partition, []).append(number)
        self._offsets.setdefault(partition, []).append(next_offset)

    def note_run(self, numbers: Sequence[int], partition: Partition, next_offsets: Sequence[int]) -> None:
        """Several, each with what `note` is told of one."""
        self._numbers.setdefault(partition, []).extend(numbers)
        self._offsets.setdefault(partition, []).extend(next_offsets)

    def progress(self, position: Position) -> dict[Partition, int]:
        """The next offset of each partition in which something was given out up to there, since it was confirmed."""
        found = {}
        end = position.at + (1 if position.ordinal else 0)
        for partition, numbers in self._numbers.items():
            count = bisect_left(numbers, end)
            if count:
                found[partition] = self._offsets[partition][count - 1]
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
                del self._numbers[partition], self._offsets[partition]
            else:
                del numbers[:count], self._offsets[partition][:count]
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


def progress_text(offsets: dict[Partition, int]) -> str:
    """`topic/partition:offset`, joined by commas, in order."""
    return ",".join(f"{topic}/{number}:{offset}" for (topic, number), offset in sorted(offsets.items()))
