"""Verification beside a feed: what it waits for before it decides anything."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from replicator.daemon.streaming import Streaming, StreamingOptions
from replicator.events import Position
from replicator.telemetry import FeedStatus, State
from tests.polling import looped


class FeedDouble:
    """A feed whose position the test moves."""

    def __init__(self) -> None:
        self.position = Position(0)
        self.moved = asyncio.Event()
        self.beats = 0

    async def reach(self, position: Position) -> None:
        while self.position < position:
            self.moved.clear()
            await self.moved.wait()

    def move(self, lsn: int) -> None:
        self.position = Position(lsn)
        self.moved.set()

    async def passed(self, lsn: int) -> Position:
        return Position(lsn)

    async def beat(self) -> int:
        self.beats += 1
        return 0

    def nudge(self) -> None:
        """Ask the server."""


async def never(*_: Any) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def world() -> SimpleNamespace:
    """A feed that streams, and what runs beside it."""
    feed, status = FeedDouble(), FeedStatus("shop")
    streaming = Streaming(
        cast("Any", feed),
        cast("Any", feed),
        status,
        StreamingOptions(heartbeat_seconds=10, caught_up_at=0),
        enter=never,
        lead=never,
        settle=never,
        serve=never,
        watch=never,
        verify=never,
    )
    return SimpleNamespace(feed=feed, status=status, streaming=streaming)


async def test_it_waits_for_the_position_and_for_the_state(world: SimpleNamespace) -> None:
    """Nothing is decided before the feed has passed what was read, nor while a copy is being caught up with; an idle
    source is helped by a heartbeat.
    """
    world.status.enter(State.CATCHING_UP, 0.0)
    waiting = asyncio.ensure_future(world.streaming._streams_past(100))
    await looped(lambda: world.feed.beats == 1)
    world.feed.move(100)
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done, "the copy is still being caught up with"
    world.status.enter(State.STREAMING, 0.0)

    await asyncio.wait_for(waiting, 60)
