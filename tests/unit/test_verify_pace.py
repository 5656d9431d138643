"""How fast verification reads."""

import asyncio
import time

from replicator.engine.verify.pace import Pace


async def spend(pace: Pace, parts: int, rows: int) -> float:
    begun = time.monotonic()
    await asyncio.gather(*(pace.spend(rows) for _ in range(parts)))
    return time.monotonic() - begun


async def test_rows_a_second_are_bounded_for_all_that_share_it() -> None:
    """Whoever reads waits for what all have read."""
    assert 0.2 <= await spend(Pace(10_000), 4, 500)


async def test_without_a_limit_nobody_waits() -> None:
    """`null` is unlimited."""
    assert await spend(Pace(None), 4, 10**9) < 5
