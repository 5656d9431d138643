"""Waiting for something that sends no signal: polled, with a deadline."""

import asyncio
from collections.abc import Callable


async def eventually(check: Callable[[], bool], seconds: float = 20) -> None:
    """Poll in a thread until it holds; the loop gets its turn meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await asyncio.to_thread(check):
        assert loop.time() < deadline, f"not within {seconds} s"
