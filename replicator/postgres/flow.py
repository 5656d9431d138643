"""How a stream's messages come: now and then, or by the ten thousand a second. Pure, but for its caller's clock."""

from __future__ import annotations

from typing import Final

GATHER_SECONDS: Final = 0.008  # 80 messages or more
GATHERINGS: Final = 3  # at most, before half a batch has come: transactions of few rows cost more a row
_LOOK_SECONDS: Final = 0.02
_MESSAGES: Final = 200  # between two looks


class Flow:
    """Each message that wakes its reader as it comes costs the server as much again, and the reader more.

    So while a stream flows it is looked at every few milliseconds; one that rests wakes its reader at once.

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
