"""How fast verification reads: no more rows a second than the connector says, and less while somebody suffers.

    statements of ours ──seconds──▶ Latencies: against what is usual, learnt ──┐
    the feed's lag ──────────────────────────── against what is usual ─────────┤ once a second
                                                                               ▼
    Pace ◀──rows a second── Brake: half of it while anything is slow, a little more with each second in which statements
                            were not

`Brake` and `Latencies` decide without clock and I/O; `Pace` sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

SLOW_RATIO: Final = 2.0
"""So many times what is usual counts as slow: less is noise on any busy server."""
SHORT_SECONDS: Final = 0.01
"""A statement that is shorter by nature counts as one of this: nobody waits for its milliseconds."""
LATE_SECONDS: Final = 0.2
"""What this process may be late before it counts as too busy: a batch of transforms runs up to a second."""
SHARE_MIN: Final = 0.02
"""Of the full rate, at least: a pass must end some day."""
STEP: Final = 0.05
"""Of the full rate: what is given back each second."""
UNLIMITED_FLOOR: Final = 500.0
"""Rows a second, at least, where the connector names no rate."""
LEARNT: Final = 3
"""Seconds with samples before a kind of statement has a usual time."""
REMEMBERED: Final = 60
SPACING: Final = 5.0
"""Seconds between two samples that are kept, once there are enough: five minutes of slowness become usual, not five
seconds.
"""


class Pace:
    """A limit of rows a second, over all that share it.

    Args:
        rows_per_second_max: None: no limit.

    Attributes:
        limit: the one in force; the brake changes it.
        rows: that were read so far.

    """

    def __init__(self, rows_per_second_max: float | None) -> None:
        self.limit = rows_per_second_max
        self.rows = 0
        self._free_at = time.monotonic()

    async def spend(self, rows: int) -> None:
        """Say that so many rows were read; returns when the next ones may be."""
        self.rows += rows
        if self.limit is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + rows / self.limit
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Usual:
    """What a number usually is: the lower quartile of what was seen over some minutes.

    One sample a `SPACING`, once there are `LEARNT`: so neither a moment nor a single odd one counts, and what stays
    slow for long becomes usual.
    """

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=REMEMBERED)
        self._kept_at = 0.0

    @property
    def value(self) -> float | None:
        """None before it is known."""
        if len(self._kept) < LEARNT:
            return None
        return sorted(self._kept)[len(self._kept) // 4]

    def learn(self, now: float, sample: float) -> None:
        """One more."""
        if len(self._kept) >= LEARNT and now - self._kept_at < SPACING:
            return
        self._kept.append(sample)
        self._kept_at = now
        if len(self._kept) == LEARNT:  # what was learnt in a moment weighs as much as what comes in minutes
            self._kept.extend([min(self._kept)] * (REMEMBERED // 2))


class Latencies:
    """How long statements on one database take, beside what is usual for their kind."""

    def __init__(self) -> None:
        self._usual: defaultdict[Hashable, Usual] = defaultdict(Usual)
        self._new: defaultdict[Hashable, list[float]] = defaultdict(list)

    def add(self, kind: Hashable, seconds: float) -> None:
        """A statement of this kind took so long."""
        self._new[kind].append(seconds)

    def ratio(self, now: float, *, late: float = 0.0) -> float | None:
        """Of what came since the last call, in the middle: how many times the usual time; None: nothing to go by.

        Args:
            now: seconds of a clock that never goes back.
            late: how much later than it should this process does what it has to do: twice so much of a statement's
                time, for its sending and for its answer, is none of the database's.

        """
        ratios = []
        for kind, samples in self._new.items():
            usual, middle = self._usual[kind], max(0.0, median(samples) - 2 * late)
            known = usual.value
            usual.learn(now, middle)
            if known is None:
                continue
            ratios += [middle / max(known, SHORT_SECONDS)] * len(samples)
        self._new.clear()
        return median(ratios) if ratios else None


@dataclass(frozen=True, slots=True)
class Signals:
    """What one second showed.

    Attributes:
        latency: by database: see `Latencies.ratio`.
        lag: the feed's, in seconds; None: unknown.
        rows: that verification read in it, a second.
        late: how many seconds late this process, in which the feed runs too, was with what it had to do.

    """

    latency: Mapping[str, float | None]
    lag: float | None = None
    rows: float = 0.0
    late: float = 0.0


@dataclass
class Brake:
    """Additive increase, multiplicative decrease of the rate.

    Args:
        rows_per_second_max: the full rate; None: as fast as it goes.
        lag_max: the feed's lag in seconds that is nobody's trouble.

    Attributes:
        rate: rows a second now; None: no limit.
        reasons: why it was lowered last; empty once the rate is full again.

    """

    rows_per_second_max: float | None
    lag_max: float
    rate: float | None = field(init=False)
    reasons: tuple[str, ...] = field(default=(), init=False)
    _lag: Usual = field(default_factory=Usual, init=False)
    _most: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Begin at the full rate."""
        self.rate = self.rows_per_second_max

    @property
    def braked(self) -> bool:
        """Whether it goes slower than it might."""
        return self.rate is not None and self.rate != self.rows_per_second_max

    def decide(self, now: float, signals: Signals) -> float | None:
        """The rate from now on.

        Args:
            now: seconds of a clock that never goes back.
            signals: of the second before.

        """
        self._most = max(self._most, signals.rows)
        reasons = self._slow(now, signals)
        if reasons:
            self.reasons = reasons
            begin = self.rate if self.rate is not None else max(signals.rows, self._least)
            self.rate = max(self._least, begin / 2)
        elif self.rate is not None and self.braked and any(one is not None for one in signals.latency.values()):
            self.rate += STEP * self._full
            if self.rate >= self._full:
                self.rate, self.reasons = self.rows_per_second_max, ()
        return self.rate

    @property
    def _full(self) -> float:
        """What the rate grows to; without a limit that, with which nobody suffered before."""
        return self.rows_per_second_max if self.rows_per_second_max is not None else max(self._most, UNLIMITED_FLOOR)

    @property
    def _least(self) -> float:
        return max(1.0, SHARE_MIN * self._full) if self.rows_per_second_max is not None else UNLIMITED_FLOOR

    def _slow(self, now: float, signals: Signals) -> tuple[str, ...]:
        found = [
            f"{side} answers {ratio:.1f} times slower than usual"
            for side, ratio in signals.latency.items()
            if ratio is not None and ratio >= SLOW_RATIO
        ]
        if signals.lag is not None:
            usual = self._lag.value
            self._lag.learn(now, signals.lag)
            if usual is not None and signals.lag > max(self.lag_max, SLOW_RATIO * usual):
                found.append(f"the feed is {signals.lag:.1f} s behind")
        if signals.late > LATE_SECONDS:
            found.append(f"this process itself is busy ({signals.late:.1f} s late)")
        return tuple(found)


def parts(rows: int) -> int:
    """The order of magnitude of a number of rows: statements of one order are of one kind."""
    return rows.bit_length()
