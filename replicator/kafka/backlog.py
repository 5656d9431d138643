"""What was read and nobody has taken yet: cut into batches at the ends of transactions. Pure, no I/O, no clock.

Sizes are an estimate of memory in bytes, so the events' Python objects are counted, not only the values.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from replicator.events import Batch, Op, Position
from replicator.kafka.offsets import parse_mark
from replicator.kafka.replays import Sequences

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replicator.events import ChangeEvent
    from replicator.kafka.offsets import Yielded
    from replicator.kafka.replays import Mark
    from replicator.partitions import Partition
    from replicator.tables import TableName


_COUNTED: Final = 20_000
"""Source transactions that are remembered, so as to be counted once; more than the largest batch has."""


class Late(NamedTuple):
    """A record whose sequence goes back."""

    table: TableName
    offset: int
    sequence: tuple[int, int]


@dataclass(slots=True, eq=False)
class Reading:
    """How far one partition is read, while this process has it.

    Attributes:
        partition: topic and number.
        read: the next offset: everything before it is in the backlog, was given out, or says nothing to this feed.
        seen: the next offset that was read; above `read` where something is held that waits for other partitions.
        noted: the next offset that was given out.
        pending: how many of its events wait.
        sequences: what was seen of its order.
        late: the first record of what goes back and isn't proven to be a replay: nothing behind it is done.
        at_end: it was read to its end.

    """

    partition: Partition
    read: int
    noted: int
    pending: int = 0
    sequences: Sequences = field(default_factory=Sequences)
    seen: int = 0
    late: Late | None = None
    at_end: bool = False

    def __post_init__(self) -> None:
        """Nothing is held at the beginning."""
        self.seen = self.read

    @classmethod
    def begin(cls, partition: Partition, offset: int, mark: str | None) -> Reading:
        """Begin at an offset, with what the ledger knows of the producer's sequence there."""
        newest = None if mark is None else parse_mark(mark)
        return cls(partition, offset, offset, sequences=Sequences(newest, forgotten=offset > 0))

    def upto(self, next_offset: int) -> int:
        """As much of this as may be stored."""
        return next_offset if self.late is None else min(next_offset, self.late.offset)


class Backlog:
    """Events in the order in which they were read.

    Attributes:
        number: of the next transaction.
        events: that wait.
        open: more events of the last transaction are to come.

    """

    def __init__(self, yielded: Yielded) -> None:
        self.number = 0
        self.open = False
        self.events: list[ChangeEvent] = []
        self._yielded = yielded
        self._readings: list[Reading] = []  # of each event, and
        self._offsets: list[int] = []  # what is to be read after it
        self._marks: list[Mark | None] = []  # what is known of the order up to it
        self._sizes: list[int] = []  # cumulative since the beginning, so that a cut is a binary search
        self._total = 0
        self._given_bytes = 0
        self._ends: dict[int, tuple[Reading, int]] = {}
        self._counted: dict[int, None] = {}  # source transactions, the newest last

    @property
    def bytes(self) -> int:
        """Estimated memory of what waits."""
        return self._total - self._given_bytes

    def add(self, event: ChangeEvent, reading: Reading, next_offset: int, size: int, mark: Mark | None) -> None:
        """Add one event; the caller has numbered its transaction.

        Args:
            event: after all that is there.
            reading: the partition that it is of.
            next_offset: what is to be read after it.
            size: estimated memory.
            mark: its place in the producer's sequence, where it has one.

        """
        self.events.append(event)
        self._readings.append(reading)
        self._offsets.append(reading.upto(next_offset))
        self._marks.append(mark)
        self._total += size
        self._sizes.append(self._total)
        reading.pending += 1

    def add_run(
        self,
        events: Sequence[ChangeEvent],
        reading: Reading,
        next_offsets: Sequence[int],
        sizes: Sequence[int],
        marks: Sequence[Mark | None],
    ) -> None:
        """Add events of one partition, each with what `add` is told of one."""
        self.events += events
        self._readings += [reading] * len(events)
        self._offsets += next_offsets if reading.late is None else map(reading.upto, next_offsets)
        self._marks += marks
        totals = list(accumulate(sizes, initial=self._total))
        self._total = totals[-1]
        self._sizes += totals[1:]
        reading.pending += len(events)

    def end(self, reading: Reading, next_offset: int) -> None:
        """The last transaction is complete, and that is told by a partition of its own, up to this offset."""
        self._ends[self.number - 1] = reading, next_offset
        reading.pending += 1

    def cut(self, rows_max: int, bytes_max: int, readings: Iterable[Reading], *, forced: bool = False) -> Batch | None:
        """The next batch with events: whole transactions within the limits, or a part of a larger one.

        Args:
            rows_max: limit of events, at least 1.
            bytes_max: limit of estimated memory; one event is given out whatever its size.
            readings: all partitions; what was read of them without an event, behind what is given out, goes along.
            forced: nothing more can arrive before something is given out, so the beginning of an open transaction will
                do that is within the limits.

        Returns:
            None when there is nothing, or only such a beginning.

        """
        events = self.events
        if not events:
            return None
        rows = min(len(events), rows_max, max(1, bisect_right(self._sizes, self._given_bytes + bytes_max)))
        whole = True
        last = events[rows - 1].transaction
        if events[rows].transaction is last if rows < len(events) else self.open:
            start = bisect_left(events, last.at or 0, hi=rows, key=lambda event: event.transaction.at or 0)
            whole = start > 0
            if not whole and rows == len(events) and rows < rows_max and not forced:
                return None
            rows = start or rows
        return self._give(rows, readings, whole=whole)

    def idle(self, readings: Iterable[Reading]) -> Batch | None:
        """A batch without events that only moves the position; None while events wait, or where nothing was read."""
        if self.events or self.open:
            return None
        moved = [reading for reading in readings if reading.read > reading.noted]
        if not moved:
            return None
        number = self.number
        self.number += 1
        self._note(moved, number)
        return Batch([], Position(number + 1))

    def drop(self, partitions: set[Partition]) -> int | None:
        """Forget what waits of these partitions; returns the number of the last event so lost."""
        kept: list[int] = []
        dropped = None
        for at, reading in enumerate(self._readings):
            if reading.partition in partitions:
                dropped = self.events[at].transaction.at
                reading.pending = 0
            else:
                kept.append(at)
        if dropped is not None:
            sizes = [self._sizes[at] - (self._sizes[at - 1] if at else self._given_bytes) for at in kept]
            self.events[:] = [self.events[at] for at in kept]
            self._readings = [self._readings[at] for at in kept]
            self._offsets = [self._offsets[at] for at in kept]
            self._marks = [self._marks[at] for at in kept]
            self._sizes, self._total = [], self._given_bytes
            for size in sizes:
                self._total += size
                self._sizes.append(self._total)
        return dropped

    def _give(self, rows: int, readings: Iterable[Reading], *, whole: bool) -> Batch:
        events, offsets, marks = self.events[:rows], self._offsets[:rows], self._marks[:rows]
        runs = groupby(self._readings[:rows])
        size = self._sizes[rows - 1] - self._given_bytes
        self._given_bytes += size
        del self.events[:rows], self._readings[:rows], self._offsets[:rows], self._sizes[:rows], self._marks[:rows]
        last = events[-1].transaction
        number = last.at or 0
        transactions = [event.transaction for event in events]
        numbers = [one.at or 0 for one in transactions]
        at = 0
        for reading, run in runs:
            end = at + len(list(run))
            reading.pending -= end - at
            reading.noted = offsets[end - 1]
            self._yielded.note_run(numbers[at:end], reading.partition, offsets[at:end], marks[at:end])
            at = end
        for done in [one for one in self._ends if one < number or (whole and one == number)]:
            reading, next_offset = self._ends.pop(done)
            reading.pending -= 1
            reading.noted = next_offset
            self._yielded.note(done, reading.partition, next_offset)
        if whole:
            self._note((one for one in readings if not one.pending and one.read > one.noted), number)
        times = [one.commit_time for one in transactions]
        return Batch(
            events,
            Position(number + 1) if whole else Position(number, events[-1].ordinal),
            complete=whole,
            transactions=self._count(events),
            commit_time=max(times),
            first_commit_time=min(times),
            bytes=size,
        )

    def _count(self, events: Sequence[ChangeEvent]) -> int:
        """How many source transactions these events are the first of; a snapshot's rows are of none.

        Events of one come by several partitions, near each other. Without an id those that come together are one.
        """
        xids = dict.fromkeys([event.transaction.xid for event in events if event.op is not Op.READ])
        nameless, counted = 0, self._counted
        if 0 in xids:
            del xids[0]
            nameless = sum(not e.transaction.xid and e.ordinal == 1 and e.op is not Op.READ for e in events)
        new = xids.keys() - counted.keys()
        for xid in xids:
            counted.pop(xid, None)
        counted.update(xids)
        if len(counted) > 2 * _COUNTED:
            self._counted = dict.fromkeys(list(counted)[-_COUNTED:])
        return nameless + len(new)

    def _note(self, readings: Iterable[Reading], number: int) -> None:
        for reading in readings:
            reading.noted = reading.read
            self._yielded.note(number, reading.partition, reading.read)
