"""Pace: how many events may be transformed at once, so that a slow function doesn't hold up everything else.

A transform runs in the event loop. While it runs nobody tells the source that the feed is alive, answers a health
check, or hears a signal. So a feed with transforms takes no larger a batch than takes about a second of them.
"""

from __future__ import annotations

from typing import Final

_SECONDS: Final = 1.0
_EVENT_SECONDS_UNKNOWN: Final = 0.001


class Pace:
    """Learns from each batch; kept over the attempts of a process, for too large a batch may have ended one."""

    def __init__(self) -> None:
        self._event_seconds = _EVENT_SECONDS_UNKNOWN

    def rows(self, rows_max: int) -> int:
        """Events to take next: at least one, at most `rows_max`."""
        return max(1, min(rows_max, int(_SECONDS / self._event_seconds)))

    def saw(self, events: int, seconds: float) -> None:
        """So many events took transforms so long: a slower pace counts at once, a faster one by and by."""
        if events:
            seen = max(seconds / events, 1e-9)
            self._event_seconds = seen if seen > self._event_seconds else (self._event_seconds + seen) / 2
