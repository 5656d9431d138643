"""Waiting for something that sends no signal: polled, with a deadline."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable


async def eventually(check: Callable[[], bool], seconds: float = 20) -> None:
    """Poll in a thread until it holds; the loop gets its turn meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await asyncio.to_thread(check):
        assert loop.time() < deadline, f"not within {seconds} s"


def wait_until(check: Callable[[], object], seconds: float = 20) -> None:
    """The same where no loop runs: poll until it is true."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        pause.wait(0.02)


async def looped(check: Callable[[], object], seconds: float = 40) -> None:
    """The same for what the loop itself does: poll on it, with turns for everybody else."""
    loop, never = asyncio.get_running_loop(), asyncio.Event()
    deadline = loop.time() + seconds
    while not check():
        assert loop.time() < deadline, f"not within {seconds} s"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(never.wait(), 0.02)
