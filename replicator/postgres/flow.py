"""How a stream's messages come: now and then, or by the ten thousand a second. Pure, but for its caller's clock."""

from __future__ import annotations

from typing import Final

GATHER_SECONDS: Final = 0.016  # 160 messages or more
GATHERINGS: Final = 2  # at most, before half a batch has come: transactions of few rows cost more a row
_LOOK_SECONDS: Final = 0.02
_MESSAGES: Final = 200  # between two looks


class Flow:
    """Each message that wakes its reader as it comes costs the server as much again, and the reader more.

    So while a stream flows it is looked at at intervals; one that rests wakes its reader at once. Long intervals: once
    what was sent fills the reader's window, the server's rows gather in its kernel and go in large packs (the server's
    CPU time a row, measured for one of 130 bytes: 5.6 µs where we look every 2 ms, 4.2 every 8 ms, 2.9 every 20 ms).

    Attributes:
        flowing: 10,000 messages a second or more have come lately.

    """

    __slots__ = ("_count", "_looked_at", "flowing")

    def __init__(self) -> None:
        self.flowing = False
        self._count = 0
        self._looked_at = 0.0

    def saw(self, count: int, now: float) -> None:
        """So many messages were found in one look; `now` is of any clock, in seconds."""
        self._count += count
        seconds = now - self._looked_at
        if seconds >= _LOOK_SECONDS:
            self.flowing = self._count * _LOOK_SECONDS >= _MESSAGES * seconds
            self._looked_at, self._count = now, 0
