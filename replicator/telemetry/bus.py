"""What happens, told to all who look: a bounded list of events that each reader follows at its own speed. Pure.

A finding of verification is a row first (whichever process finds it), then, in the daemon that leads, a metric and an
event here, from which the API's stream takes it. Its line in the log is written by the process that found it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

KEPT: Final = 1_000
"""Events; who reads more slowly is told how many it has missed. They are all in the upgraded database's tables."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        number: counts up from 1.
        name: `finding`, `pass`, `check` or `certificate`.
        at: when it was told, seconds since the epoch.
        facts: as JSON; keys of rows are fine, values of rows are not.

    """

    number: int
    name: str
    at: float
    facts: Mapping[str, Any]


@dataclass(slots=True)
class Bus:
    """Events of one connector in this process.

    Attributes:
        newest: number of the newest event; 0 before the first.

    """

    newest: int = 0
    _events: deque[Event] = field(default_factory=lambda: deque(maxlen=KEPT))

    def publish(self, name: str, at: float, facts: Mapping[str, Any]) -> None:
        """Tell it."""
        self.newest += 1
        self._events.append(Event(self.newest, name, at, facts))

    def after(self, number: int) -> tuple[list[Event], int]:
        """Events with a higher number, and how many of those are not kept any more."""
        found = [event for event in self._events if event.number > number]
        return found, self.newest - number - len(found)
