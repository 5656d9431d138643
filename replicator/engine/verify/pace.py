"""How fast verification reads: no more rows a second than the connector says."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """A limit of rows a second, over all that share it.

    Args:
        rows_per_second_max: None: no limit.

    """

    def __init__(self, rows_per_second_max: int | None) -> None:
        self._limit = rows_per_second_max
        self._free_at = time.monotonic()

    async def spend(self, rows: int) -> None:
        """Say that so many rows were read; returns when the next ones may be."""
        if self._limit is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + rows / self._limit
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
