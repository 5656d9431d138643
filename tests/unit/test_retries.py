"""What fails and may pass is tried again, also while the feed drains, but then not for ever."""

import asyncio

import pytest

from replicator.engine import retries
from replicator.engine.retries import Retries
from replicator.errors import ErrorKind, ReplicatorError
from replicator.telemetry import FeedStatus

DEADLOCK = ReplicatorError("deadlock detected", kind=ErrorKind.SERIALIZATION)


class Failing:
    """Fails so many times, then works."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise DEADLOCK


def made(stop: asyncio.Event, *, initial: float = 0.001) -> Retries:
    return Retries(FeedStatus("shop", "forward"), initial, 30.0, stop)


async def test_a_drain_tries_again() -> None:
    """A lane that met another in a deadlock commits its part of the batch, though the feed is to stop."""
    stop = asyncio.Event()
    stop.set()
    attempt = Failing(3)

    await made(stop).run(attempt)

    assert 0 == attempt.left


async def test_a_stop_ends_a_long_pause() -> None:
    """Who waits long when the feed is to stop tries again at once."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)

    await asyncio.wait_for(made(stop, initial=20.0).run(Failing(1)), 5)


async def test_a_drain_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails for longer than a drain may last is raised, and comes again at the next start."""
    monkeypatch.setattr(retries, "DRAIN_SECONDS", 0.0)
    stop = asyncio.Event()
    stop.set()

    with pytest.raises(ReplicatorError, match="deadlock"):
        await made(stop).run(Failing(1))
