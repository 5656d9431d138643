"""What a slot has sent and nobody has taken yet: cut into batches at transaction ends. Pure, no I/O, no clock.

Sizes are an estimate of memory in bytes, so the events' Python objects are counted, not only the values.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, islice
from typing import TYPE_CHECKING

from replicator.events import Batch, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replicator.events import ChangeEvent


class Backlog:
    """Events in order, and where transactions end among them.

    `events` and `sizes` grow in parallel; sizes and `total` are cumulative since the beginning, so that a cut is two
    binary searches.

    Attributes:
        position: the end of what was given out; later positions only.
        urgent: idle progress is worth a batch at once.

    """

    def __init__(self, position: Position) -> None:
        self.position = position
        self.events: list[ChangeEvent] = []
        self.sizes: list[int] = []
        self.total = 0
        self.urgent = False
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
        self.events.extend(events)
        self.sizes.extend(islice(accumulate(map(overhead.__add__, sizes), initial=self.total), 1, None))
        self.total = self.sizes[-1]

    @property
    def pending_bytes(self) -> int:
        """Estimated memory of what waits."""
        return self.total - self._given_bytes

    @property
    def idle(self) -> bool:
        """Whether the position moved, and nothing else."""
        return self._idle is not None and not self.events and not self._open

    def end(self, position: Position, commit_time: float | None) -> None:
        """Mark that a transaction ends here, or that the server is known to have sent everything before `position`."""
        rows = self._given_rows + len(self.events)
        if self._end_rows and self._end_rows[-1] == rows:
            # Nothing came since the last end: it moves on, so that a flood of dropped transactions takes no memory.
            self._end_positions[-1] = max(self._end_positions[-1], position)
            self._end_times[-1] = commit_time or self._end_times[-1]
        elif self.events or self._open:
            self._end_rows.append(rows)
            self._end_bytes.append(self.total)
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
        if not whole and self.events:
            rows = min(rows_max, max(1, bisect_right(self.sizes, self._given_bytes + bytes_max)))
            if self._end_rows and rows >= self._end_rows[0] - self._given_rows:
                whole = 1  # one event, larger than the limit
            elif parts and (forced or rows < len(self.events) or rows == rows_max):
                return self._part(min(rows, len(self.events)))
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
        size = self.sizes[rows - 1] - self._given_bytes
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
            bytes=size,
        )

    def _give(self, rows: int) -> list[ChangeEvent]:
        if not rows:
            return []
        self._given_rows += rows
        self._given_bytes = self.sizes[rows - 1]
        if rows == len(self.events):
            events = self.events[:]
            self.events.clear()  # in place: whoever adds events holds this very list
            self.sizes.clear()
            return events
        events = self.events[:rows]
        del self.events[:rows]
        del self.sizes[:rows]
        return events
