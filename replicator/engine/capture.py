"""The capture: a source's transactions into a log, whole, in order, and exactly once for who reads what is committed.

    take ──▶ whatever arrived while the last one was being committed
      ▼
    one transaction of the log: begin ── records ── progress (the source's LSN) ── commit
      ▼
    confirm to the source

The progress lies in the log, in the transaction that holds the records: killed anywhere, the next process finds there
what was committed, and begins after it. The source's own confirmed position is a hint, and always behind. A source
transaction that is larger than what is taken at once stays in one transaction of the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.captures import Progress
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.captures import ChangeLog, Portion, TransactionalLog
    from replicator.engine.recording import Recording
    from replicator.telemetry import FeedStatus

_CHUNK: Final = 500
"""Records that are encoded before somebody else gets his turn on the loop: 5 ms."""


@dataclass(frozen=True)
class CaptureSettings:
    """How it is done.

    Attributes:
        owner: names this process, and no other one, in the log.
        heartbeat_seconds: between two records of the heartbeat topic; 0 for none.

    """

    owner: str
    heartbeat_seconds: float


class Capture:
    """One attempt.

    Args:
        source: not begun.
        log: not opened.
        recording: of both.
        settings: see `CaptureSettings`.
        status: filled in.
        clock: seconds since the epoch.
        format_lsn: for people.

    """

    def __init__(
        self,
        source: ChangeLog,
        log: TransactionalLog,
        recording: Recording,
        *,
        settings: CaptureSettings,
        status: FeedStatus,
        clock: Callable[[], float],
        format_lsn: Callable[[int], str],
    ) -> None:
        self._source = source
        self._log = log
        self._recording = recording
        self._settings = settings
        self._status = status
        self._clock = clock
        self._format_lsn = format_lsn
        self._position = 0
        self._moved = asyncio.Event()
        self._beaten_at = 0.0
        self._open = False  # a transaction of the log
        self._began = 0.0

    @property
    def position(self) -> int:
        """Everything that was committed on the source before this LSN is committed in the log."""
        return self._position

    async def open(self, *, held_before: bool) -> None:
        """Take over the source and the log, and agree on where to begin.

        Args:
            held_before: an earlier attempt of this process did; then a successor is not displaced.

        Raises:
            ReplicatorError: SUPERSEDED; SLOT_LOST when the source no longer has what comes next; as the ports say.

        """
        if held_before:
            self._still_mine(await self._log.progress())
        begin = await self._source.take_over()
        progress = await self._log.open()
        if held_before:
            self._still_mine(progress)
        self._position = begin if progress is None else progress.lsn
        await self._source.skip(self._position)
        await self._recording.begin(self._position)
        # From here on it can be seen who fills the log.
        await self._log.begin()
        await self._log.commit(Progress(self._position, self._settings.owner))
        self._source.confirm(self._position)

    def _still_mine(self, progress: Progress | None) -> None:
        if progress is not None and progress.owner != self._settings.owner:
            raise ReplicatorError(
                "another process has taken over the capture",
                kind=ErrorKind.SUPERSEDED,
                hint="It goes on where this one was; nothing is lost, and nothing was produced twice",
            )

    async def run(self, stop: asyncio.Event) -> None:
        """Put everything into the log, until stopped; what is open by then is left to the next process.

        Raises:
            ReplicatorError: as the ports say; after any, the attempt is over.

        """
        stopping = asyncio.ensure_future(stop.wait())
        taking = asyncio.ensure_future(self._source.take())
        try:
            while True:
                timeout = None if self._open else self._until_beat()
                await asyncio.wait({stopping, taking}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    return
                if taking.done():
                    portion = taking.result()
                    taking = asyncio.ensure_future(self._source.take())
                    await self._put(portion, stop)
                elif timeout is not None:
                    await self._begin()
                    await self._commit(self._position)
        finally:
            stopping.cancel()
            taking.cancel()
            await asyncio.gather(stopping, taking, return_exceptions=True)

    async def reach(self, lsn: int) -> None:
        """Until everything that was committed on the source before this LSN is committed in the log."""
        while self._position < lsn:
            self._moved.clear()
            await self._moved.wait()

    def _until_beat(self) -> float | None:
        if not self._settings.heartbeat_seconds:
            return None
        return max(0.0, self._beaten_at + self._settings.heartbeat_seconds - self._clock())

    # --- a transaction of the log ---------------------------------------------------------------------------------

    async def _put(self, portion: Portion, stop: asyncio.Event) -> None:
        if not self._open:
            await self._begin()
        recording, now = self._recording, self._clock()
        for item in portion.items:
            await recording.add(item, now)
            if recording.count >= _CHUNK:
                await recording.flush()
                await asyncio.sleep(0)
                if stop.is_set():
                    return
                now = self._clock()
        if portion.position is not None:
            await self._commit(portion.position)

    async def _begin(self) -> None:
        await self._log.begin()
        self._open = True
        self._began = self._clock()
        self._recording.clear()

    async def _commit(self, position: int) -> None:
        beats = self._until_beat() == 0
        if beats:
            self._recording.beat(self._clock())
        await self._recording.flush()
        await self._log.commit(Progress(position, self._settings.owner))
        if beats:
            self._beaten_at = self._clock()  # not from before: a slow commit must not be followed by beats alone
        self._open = False
        self._position = position
        self._source.confirm(position)
        self._moved.set()
        now = self._clock()
        self._status.position = self._format_lsn(position)
        self._status.produced(self._recording.produced_records, self._recording.produced_bytes)
        self._recording.produced_records = self._recording.produced_bytes = 0
        commits = self._recording.commits
        if commits:
            self._status.applied(
                now,
                position=self._format_lsn(position),
                rows=self._recording.rows,
                transactions=len(commits),
                commit_time=commits[-1],
                first_commit_time=commits[0],
                seconds=now - self._began,
            )
