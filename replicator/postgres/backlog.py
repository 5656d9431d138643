"""What a slot has sent and nobody has taken yet: cut into batches at transaction ends. Pure, no I/O, no clock.

Sizes are an estimate of memory in bytes, so the events' Python objects are counted, not only the values.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, islice
from typing import TYPE_CHECKING, cast

from replicator.events import Batch, Position
from replicator.runs import Events, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replicator.events import ChangeEvent


class Backlog:
    """Events in order, single ones and runs, and where transactions end among them.

    Counts of events and bytes are cumulative since the beginning, so that a cut is a few binary searches.

    Attributes:
        position: the end of what was given out; later positions only.
        urgent: idle progress is worth a batch at once.

    """

    def __init__(self, position: Position) -> None:
        self.position = position
        self.urgent = False
        # What waits, and how many events and bytes lie before the end of each part.
        self._parts: list[ChangeEvent | Run] = []
        self._rows: list[int] = []
        self._bytes: list[int] = []
        self._came_rows = 0
        self._came_bytes = 0
        self._given_rows = 0
        self._given_bytes = 0
        # Transaction ends: how many events and bytes lie before, since the beginning; position; commit time.
        self._end_rows: list[int] = []
        self._end_bytes: list[int] = []
        self._end_positions: list[Position] = []
        self._end_times: list[float | None] = []
        self._open = False
        self._idle: tuple[Position, float | None] | None = None

    def add(self, events: Sequence[ChangeEvent], sizes: Iterable[int], overhead: int) -> None:
        """Add events of the open transaction.

        Args:
            events: at least one, in order.
            sizes: of their messages, bytes.
            overhead: memory that each of them takes beside.

        """
        self._parts.extend(events)
        first = self._came_rows + 1
        self._came_rows += len(events)
        self._rows.extend(range(first, self._came_rows + 1))
        self._bytes.extend(islice(accumulate(map(overhead.__add__, sizes), initial=self._came_bytes), 1, None))
        self._came_bytes = self._bytes[-1]

    def add_run(self, run: Run, overhead: int) -> None:
        """Add a run of the open transaction; each of its events takes so much memory beside its size."""
        self._parts.append(_part(run))
        self._came_rows += len(run)
        self._came_bytes += run.size + overhead * len(run)
        self._rows.append(self._came_rows)
        self._bytes.append(self._came_bytes)

    @property
    def rows(self) -> int:
        """The events that wait."""
        return self._came_rows - self._given_rows

    @property
    def pending_bytes(self) -> int:
        """Estimated memory of what waits."""
        return self._came_bytes - self._given_bytes

    @property
    def idle(self) -> bool:
        """Whether the position moved, and nothing else."""
        return self._idle is not None and not self._parts and not self._open

    def end(self, position: Position, commit_time: float | None) -> None:
        """Mark that a transaction ends here, or that the server is known to have sent everything before `position`."""
        rows = self._came_rows
        if self._end_rows and self._end_rows[-1] == rows:
            # Nothing came since the last end: it moves on, so that a flood of dropped transactions takes no memory.
            self._end_positions[-1] = max(self._end_positions[-1], position)
            self._end_times[-1] = commit_time or self._end_times[-1]
        elif self._parts or self._open:
            self._end_rows.append(rows)
            self._end_bytes.append(self._came_bytes)
            self._end_positions.append(position)
            self._end_times.append(commit_time)
        elif position > (self._idle[0] if self._idle else self.position):
            self._idle = position, commit_time or (self._idle[1] if self._idle else None)

    def cut(self, rows_max: int, bytes_max: int, *, parts: bool, forced: bool) -> Batch | None:
        """The next batch with events, or the end of a transaction that was given out in part.

        Args:
            rows_max: limit of events, at least 1.
            bytes_max: limit of estimated memory; one event is given out whatever its size.
            parts: a transaction above the limits may be given out in parts.
            forced: nothing more can arrive before something is given out, so a part smaller than the limits will do.

        Returns:
            None when there is nothing, or only the beginning of a transaction that is within the limits.

        """
        if self._open:
            # What follows a large transaction waits for the next batch, so that the target can commit this one.
            whole = 1 if self._fits(1, rows_max, bytes_max) else 0
        else:
            whole = min(
                bisect_right(self._end_rows, self._given_rows + rows_max),
                bisect_right(self._end_bytes, self._given_bytes + bytes_max),
            )
        if not whole and self._parts:
            rows = min(rows_max, max(1, self._rows_within(bytes_max)))
            if self._end_rows and rows >= self._end_rows[0] - self._given_rows:
                whole = 1  # one event, larger than the limit
            elif parts and (forced or rows < self.rows or rows == rows_max):
                return self._part(min(rows, self.rows))
        return self._whole(whole) if whole else None

    def idle_batch(self) -> Batch | None:
        """A batch without events that only moves the position."""
        if self._idle is None or not self.idle:
            return None
        (self.position, commit_time), self._idle = self._idle, None
        self.urgent = False
        return Batch([], self.position, commit_time=commit_time)

    def _fits(self, ends: int, rows_max: int, bytes_max: int) -> bool:
        if len(self._end_rows) < ends:
            return False
        rows, size = self._end_rows[ends - 1] - self._given_rows, self._end_bytes[ends - 1] - self._given_bytes
        return rows <= rows_max and (size <= bytes_max or rows == 0)

    def _rows_within(self, size: int) -> int:
        """How many of the events that wait take so many bytes; those of a run are taken for equally large."""
        last = self._given_bytes + size
        at = bisect_right(self._bytes, last)
        rows, used = (self._rows[at - 1], self._bytes[at - 1]) if at else (self._given_rows, self._given_bytes)
        if at < len(self._parts):
            rows += (self._rows[at] - rows) * (last - used) // (self._bytes[at] - used)
        return rows - self._given_rows

    def _whole(self, ends: int) -> Batch:
        size = self._end_bytes[ends - 1] - self._given_bytes
        events = self._give(self._end_rows[ends - 1] - self._given_rows)
        self.position = self._end_positions[ends - 1]
        commit_time = self._end_times[ends - 1]
        for column in (self._end_rows, self._end_bytes, self._end_positions, self._end_times):
            del column[:ends]
        self._open = False
        self._idle = None
        first = events[0].transaction.commit_time if events else commit_time
        return Batch(
            events,
            self.position,
            transactions=ends,
            commit_time=commit_time,
            first_commit_time=first,
            bytes=size,
        )

    def _part(self, rows: int) -> Batch:
        before = self._given_bytes
        events = self._give(rows)
        last = events[-1]
        self.position = Position(last.transaction.commit_lsn, last.ordinal)
        self._open = True
        self._idle = None
        return Batch(
            events,
            self.position,
            complete=False,
            commit_time=last.transaction.commit_time,
            first_commit_time=events[0].transaction.commit_time,
            bytes=self._given_bytes - before,
        )

    def _give(self, rows: int) -> Sequence[ChangeEvent]:
        if not rows:
            return []
        upto = self._given_rows + rows
        at = bisect_left(self._rows, upto)
        if self._rows[at] > upto:
            self._split(at, upto)
        self._given_rows, self._given_bytes = upto, self._bytes[at]
        given = self._parts[: at + 1]
        for column in (self._parts, self._rows, self._bytes):
            del column[: at + 1]
        return cast("list[ChangeEvent]", given) if len(given) == rows else Events(given, rows)

    def _split(self, at: int, upto: int) -> None:
        """Make two of the run that holds the event of this number."""
        run = self._parts[at]
        assert isinstance(run, Run)
        before = self._rows[at] - len(run)
        size = self._bytes[at - 1] if at else self._given_bytes
        self._parts[at : at + 1] = [_part(run[: upto - before]), _part(run[upto - before :])]
        self._rows.insert(at, upto)
        self._bytes.insert(at, size + (self._bytes[at] - size) * (upto - before) // len(run))


def _part(run: Run) -> ChangeEvent | Run:
    """A run of one is its event: so there are runs where there are fewer parts than events."""
    return run if len(run) > 1 else run[0]
