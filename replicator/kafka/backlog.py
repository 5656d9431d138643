"""What was read and nobody has taken yet: cut into batches at the ends of transactions. Pure, no I/O, no clock.

Sizes are an estimate of memory in bytes, so the events' Python objects are counted, not only the values.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Final, NamedTuple

from replicator.events import Batch, Op, Position
from replicator.kafka.offsets import parse_mark
from replicator.kafka.replays import Sequences
from replicator.runs import Events, LogRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replicator.events import ChangeEvent
    from replicator.kafka.offsets import Yielded
    from replicator.kafka.replays import Mark
    from replicator.partitions import Partition
    from replicator.runs import Run
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


@dataclass(slots=True, eq=False)
class _Part:
    """Consecutive events of one partition, that wait.

    Attributes:
        reading: the partition.
        events: as they are given out.
        offsets: what is to be read after each.
        marks: what is known of the order up to each.
        sizes: estimated memory of each; of a run only when it is cut: till then the whole's is known.
        size: of all.

    """

    reading: Reading
    events: list[ChangeEvent] | LogRun = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    marks: list[Mark | None] = field(default_factory=list)
    sizes: list[int] | None = None
    size: int = 0

    def number(self, at: int) -> int:
        """Of an event's transaction."""
        events = self.events
        return events.number + at if isinstance(events, LogRun) else events[at].transaction.at or 0

    def numbers(self) -> Sequence[int]:
        """Of all."""
        events = self.events
        if isinstance(events, LogRun):
            return range(events.number, events.number + len(events))
        return [event.transaction.at or 0 for event in events]

    def before(self, number: int) -> int:
        """How many belong to transactions before this one."""
        events = self.events
        if isinstance(events, LogRun):
            return min(max(0, number - events.number), len(events))
        return bisect_left(events, number, key=lambda event: event.transaction.at or 0)

    def times(self) -> Sequence[float]:
        """When they were committed."""
        events = self.events
        return events.origins.times if isinstance(events, LogRun) else [one.transaction.commit_time for one in events]

    def fitting(self, size: int) -> int:
        """How many of the first take at most so much."""
        if self.sizes is None:
            assert isinstance(self.events, LogRun)
            self.sizes = _shares(self.events, self.size)
        return bisect_right(list(accumulate(self.sizes)), size)

    def cut(self, rows: int) -> _Part:
        """Take the first ones off."""
        events, offsets, marks = self.events, self.offsets, self.marks
        self.fitting(0)
        assert self.sizes is not None
        size = sum(self.sizes[:rows])
        front = _Part(self.reading, events[:rows], offsets[:rows], marks[:rows], self.sizes[:rows], size)
        self.events, self.offsets, self.marks = events[rows:], offsets[rows:], marks[rows:]
        self.sizes = self.sizes[rows:]
        self.size -= size
        return front


def _shares(run: LogRun, size: int) -> list[int]:
    """What each row takes of a run's memory, by the length of its values."""
    lengths = [sum([len(value) for value in row if type(value) is bytes]) for row in run.rows]
    each, rest = divmod(size - sum(lengths), len(lengths))
    shares = [each + length for length in lengths]
    shares[-1] += rest
    return shares


class Backlog:
    """Events in the order in which they were read.

    Attributes:
        number: of the next transaction.
        rows: how many events wait.
        bytes: estimated memory of what waits.
        open: more events of the last transaction are to come.

    """

    def __init__(self, yielded: Yielded) -> None:
        self.number = 0
        self.open = False
        self.rows = 0
        self.bytes = 0
        self._yielded = yielded
        self._parts: deque[_Part] = deque()
        self._ends: dict[int, tuple[Reading, int]] = {}
        self._counted: dict[int, None] = {}  # source transactions, the newest last

    def add(self, event: ChangeEvent, reading: Reading, next_offset: int, size: int, mark: Mark | None) -> None:
        """Add one event; the caller has numbered its transaction.

        Args:
            event: after all that is there.
            reading: the partition that it is of.
            next_offset: what is to be read after it.
            size: estimated memory.
            mark: its place in the producer's sequence, where it has one.

        """
        self.add_all([event], reading, [next_offset], [size], [mark])

    def add_all(
        self,
        events: Sequence[ChangeEvent],
        reading: Reading,
        next_offsets: Sequence[int],
        sizes: Sequence[int],
        marks: Sequence[Mark | None],
    ) -> None:
        """Add events of one partition, each with what `add` is told of one."""
        last = self._parts[-1] if self._parts else None
        if last is None or last.reading is not reading or not isinstance(last.events, list):
            last = _Part(reading, sizes=[])
            self._parts.append(last)
        assert isinstance(last.events, list)
        assert last.sizes is not None
        last.events += events
        last.offsets += next_offsets if reading.late is None else map(reading.upto, next_offsets)
        last.marks += marks
        last.sizes += sizes
        size = sum(sizes)
        last.size += size
        self._grow(reading, len(events), size)

    def add_run(self, run: LogRun, reading: Reading, next_offsets: list[int], marks: list[Mark | None]) -> None:
        """Add events of one partition, each with what `add` is told of one; the run knows its size."""
        if reading.late is not None:
            next_offsets = list(map(reading.upto, next_offsets))
        self._parts.append(_Part(reading, run, next_offsets, marks, size=run.size))
        self._grow(reading, len(run), run.size)

    def _grow(self, reading: Reading, rows: int, size: int) -> None:
        reading.pending += rows
        self.rows += rows
        self.bytes += size

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
        if not self.rows:
            return None
        rows = max(1, self._fitting(rows_max, bytes_max))
        whole = True
        last = self._number(rows - 1)
        if self._number(rows) == last if rows < self.rows else self.open:
            start = self._before(last)
            whole = start > 0
            if not whole and rows == self.rows and rows < rows_max and not forced:
                return None
            rows = start or rows
        return self._give(rows, readings, whole=whole)

    def _fitting(self, rows_max: int, bytes_max: int) -> int:
        rows = size = 0
        for part in self._parts:
            count = len(part.events)
            if rows + count > rows_max or size + part.size > bytes_max:
                return rows + min(rows_max - rows, count, part.fitting(bytes_max - size))
            rows += count
            size += part.size
        return rows

    def _number(self, at: int) -> int:
        for part in self._parts:
            if at < len(part.events):
                return part.number(at)
            at -= len(part.events)
        raise IndexError(at)

    def _before(self, number: int) -> int:
        """How many events belong to transactions before this one, which is there."""
        rows = 0
        for part in self._parts:
            before = part.before(number)
            rows += before
            if before < len(part.events):
                break
        return rows

    def idle(self, readings: Iterable[Reading]) -> Batch | None:
        """A batch without events that only moves the position; None while events wait, or where nothing was read."""
        if self.rows or self.open:
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
        dropped = None
        kept: deque[_Part] = deque()
        for part in self._parts:
            if part.reading.partition in partitions:
                dropped = part.number(len(part.events) - 1)
                part.reading.pending = 0
                self.rows -= len(part.events)
                self.bytes -= part.size
            else:
                kept.append(part)
        self._parts = kept
        return dropped

    def _give(self, rows: int, readings: Iterable[Reading], *, whole: bool) -> Batch:
        given = self._take(rows)
        for part in given:
            reading = part.reading
            reading.pending -= len(part.events)
            reading.noted = part.offsets[-1]
            self._yielded.note_run(part.numbers(), reading.partition, part.offsets, part.marks)
        number = given[-1].number(len(given[-1].events) - 1)
        for done in [one for one in self._ends if one < number or (whole and one == number)]:
            reading, next_offset = self._ends.pop(done)
            reading.pending -= 1
            reading.noted = next_offset
            self._yielded.note(done, reading.partition, next_offset)
        if whole:
            self._note((one for one in readings if not one.pending and one.read > one.noted), number)
        times = [part.times() for part in given]
        return Batch(
            _events(given, rows),
            Position(number + 1) if whole else Position(number, given[-1].events[-1].ordinal),
            complete=whole,
            transactions=self._count(given),
            commit_time=max(map(max, times)),
            first_commit_time=min(map(min, times)),
            bytes=sum(part.size for part in given),
        )

    def _take(self, rows: int) -> list[_Part]:
        given: list[_Part] = []
        self.rows -= rows
        while rows:
            part = self._parts[0]
            part = part.cut(rows) if len(part.events) > rows else self._parts.popleft()
            given.append(part)
            rows -= len(part.events)
            self.bytes -= part.size
        return given

    def _count(self, given: Sequence[_Part]) -> int:
        """How many source transactions these events are the first of; a snapshot's rows are of none.

        Events of one come by several partitions, near each other. Without an id those that come together are one.
        """
        xids: dict[int, None] = {}
        nameless = 0
        for events in [part.events for part in given]:
            if isinstance(events, list):
                read = [event.transaction.xid for event in events if event.op is not Op.READ]
                if 0 in read:
                    nameless += sum(not e.transaction.xid and e.ordinal == 1 and e.op is not Op.READ for e in events)
                xids |= dict.fromkeys(read)
            elif events.op is not Op.READ:
                nameless += events.origins.xids.count(0)
                xids |= dict.fromkeys(events.origins.xids)
        xids.pop(0, None)
        new, counted = xids.keys() - self._counted.keys(), self._counted
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


def _events(parts: Sequence[_Part], rows: int) -> Sequence[ChangeEvent]:
    """The events of these parts, in runs where they are."""
    if any(isinstance(part.events, LogRun) for part in parts):
        found: list[ChangeEvent | Run] = []
        for part in parts:
            if isinstance(part.events, LogRun):
                found.append(part.events)
            else:
                found += part.events
        return Events(found, rows)
    return list(chain.from_iterable(part.events for part in parts))
