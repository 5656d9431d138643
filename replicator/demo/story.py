"""What the demo has done so far: the steps of its story and the numbers that a screen shows. No I/O."""

import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Self

from replicator.demo.lag import Lag


class Step(Enum):
    """The steps, in the order in which they begin."""

    SERVERS = "two PostgreSQL servers"
    PIPE = "a Kafka broker and a schema registry"
    SCHEMAS = "two schemas, and rows in the old database"
    WRITER = "an application that never stops writing"
    FILL = "the topics are filled from now on"
    PLAN = "replicator plan"
    COPY = "replicator run: copy"
    CATCH_UP = "replicator run: catch up"
    STREAM = "replicator run: stream"
    DRAIN = "the application stops; replicator wait"
    COMPARE = "compare every row of both databases"


BY_KAFKA: Final = frozenset({Step.PIPE, Step.FILL})
"""Steps of the way through Kafka alone."""


class Progress(Enum):
    """How far a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Line:
    """One step as a screen shows it.

    Attributes:
        progress: how far it is.
        note: what there is to say about it now.
        began, ended: seconds of the monotonic clock.

    """

    progress: Progress = Progress.WAITING
    note: str = ""
    began: float = 0.0
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return (self.ended or time.monotonic()) - self.began


@dataclass(slots=True)
class Story:
    """Everything that a screen shows. Written by the demo's main thread alone.

    Attributes:
        began: seconds of the monotonic clock.
        lines: one a step.
        status: the daemon's newest answer; None before the first.
        lag: measured by the demo itself; None before the first arrival.
        lags: the newest of them, in seconds.

    """

    began: float = field(default_factory=time.monotonic)
    lines: dict[Step, Line] = field(default_factory=dict)
    status: dict[str, Any] | None = None
    lag: Lag | None = None
    lags: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, *, kafka: bool) -> Self:
        """The story of one way or the other."""
        return cls(lines={step: Line() for step in Step if kafka or step not in BY_KAFKA})

    @property
    def seconds(self) -> float:
        """How long the demo runs."""
        return time.monotonic() - self.began

    def begin(self, step: Step, note: str = "") -> None:
        """A step begins."""
        line = self.lines[step]
        line.progress, line.note, line.began = Progress.RUNNING, note, time.monotonic()

    def note(self, step: Step, note: str) -> None:
        """There is something new to say about a step."""
        self.lines[step].note = note

    def finish(self, step: Step, note: str) -> None:
        """A step is done."""
        line = self.lines[step]
        line.progress, line.note, line.ended = Progress.DONE, note, time.monotonic()

    def fail(self) -> None:
        """Whatever runs has failed."""
        for line in self.lines.values():
            if line.progress is Progress.RUNNING:
                line.progress, line.ended = Progress.FAILED, time.monotonic()

    def hear(self, status: dict[str, Any] | None) -> None:
        """The daemon has answered, or not."""
        if status is not None:
            self.status = status

    def running(self, step: Step) -> bool:
        """Whether a step has begun and not ended."""
        return self.lines[step].progress is Progress.RUNNING


def milliseconds(seconds: float) -> str:
    """A lag for people: 4.2 ms, 31 ms, 1.20 s."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
