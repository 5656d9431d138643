"""A histogram with fixed buckets: what Prometheus shows, without its library in the engine."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Histogram:
    """Counts of observations up to each bound; memory does not grow with their number.

    Args:
        bounds: upper bounds, ascending, in the unit of what is observed; +Inf is added.

    """

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float, times: int = 1) -> None:
        """Count one value, or the same value several times."""
        self._counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """Observations so far."""
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Pairs of upper bound and observations at or below it, the last one for infinity."""
        total = 0
        for bound, count in zip((*self.bounds, math.inf), self._counts, strict=True):
            total += count
            yield bound, total

    def quantile(self, q: float) -> float | None:
        """The value below which a share `q` of the observations lies, by linear interpolation in its bucket.

        None without observations. Beyond the last bound the answer is that bound: "at least this".
        """
        total = self.count
        if not total:
            return None
        rank = q * total
        low = 0.0
        seen = 0
        for bound, count in zip(self.bounds, self._counts, strict=False):
            if count and seen + count >= rank:
                return low + (bound - low) * max(0.0, rank - seen) / count
            seen += count
            low = bound
        return low
