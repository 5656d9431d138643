"""Which commits of a lane wait for the target's disk, and what of them the source may give up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from replicator.events import Position
    from replicator.ports import Source

LAZY_SECONDS: Final = 0.5
"""So long a busy lane's commits may stay in the target's memory."""


class Durability:
    """While more waits to be applied, a commit doesn't wait for the disk: that took a fifth of a busy feed's time.

    The target writes commits in their order: what a crash undoes is the end of them, rows and checkpoints alike, and
    the source still has it, as only what is durable is confirmed. A durable commit makes those before it durable.

    Args:
        source: says whether more waits.
        stop: set when the feed is to stop; its last commits are durable.
        position: where the lane begins; who took over has committed since.

    Attributes:
        position: no crash of the target undoes what was committed up to it.

    """

    def __init__(self, source: Source, stop: asyncio.Event, position: Position | None) -> None:
        self.position = position
        self._source = source
        self._stop = stop
        self._at = time.monotonic()

    def wanted(self) -> bool:
        """Whether the next commit has to be durable: no other one may follow soon."""
        if self._stop.is_set() or not self._source.ready_rows:
            return True
        return time.monotonic() - self._at >= LAZY_SECONDS

    def committed(self, position: Position) -> None:
        """A durable commit has moved the checkpoint here."""
        self.position, self._at = position, time.monotonic()
