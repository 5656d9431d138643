"""What operators ask of a running feed: dead letters again or away, a table once more.

    command line ──row + NOTIFY──▶ replicator.request ──▶ here, one after the other ──▶ outcome in the row

A request that a dead daemon had begun is carried out again: each can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.postgres.state import Request, open_state

if TYPE_CHECKING:
    from replicator.engine.feed import Feed

LOOK_SECONDS: Final = 10.0
"""Requests are looked for this often even when nobody has told of one."""


class LetterWatch:
    """Keeps the parked keys of one process of a group as the queue in the target has them.

    Args:
        dsn: the target.
        connector: its name.
        feed: running.

    """

    def __init__(self, dsn: str, connector: str, feed: Feed) -> None:
        self._dsn = dsn
        self._connector = connector
        self._feed = feed

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            ReplicatorError: CONNECTION.

        """
        woken = asyncio.Event()

        async def listen() -> None:
            async with open_state(self._dsn, self._connector) as state:
                async for _ in state.woken():
                    woken.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            while True:
                await wait_at_most(woken, LOOK_SECONDS)
                woken.clear()
                await self._feed.reload_letters()


class RequestDesk:
    """Carries out requests beside a running feed.

    Args:
        dsn: the target.
        connector, feed_name: whose requests.
        feed: running.
        resync: copies tables again, and returns what was done when the target agrees.

    """

    def __init__(
        self, dsn: str, connector: str, feed_name: str, feed: Feed, resync: Callable[[Sequence[str]], Awaitable[str]]
    ) -> None:
        self._dsn = dsn
        self._connector = connector
        self._feed_name = feed_name
        self._feed = feed
        self._resync = resync
        self._woken = asyncio.Event()
        self._log = structlog.get_logger("replicator.daemon").bind(connector=connector, feed=feed_name)

    async def serve(self) -> None:
        """Until cancelled.

        Raises:
            ReplicatorError: a kind that needs a new session; a request that was begun is then begun again.

        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._work())

    async def _listen(self) -> None:
        async with open_state(self._dsn, self._connector) as state:
            async for _ in state.woken():
                self._woken.set()

    async def _work(self) -> None:
        async with open_state(self._dsn, self._connector) as state:
            while True:
                self._woken.clear()
                for request in await state.requests(self._feed_name):
                    await state.start(request)
                    message, failed = await self._outcome(request)
                    await state.end(request, message, failed=failed)
                    self._log.info("request carried out", request=request.kind, outcome=message, failed=failed)
                await wait_at_most(self._woken, LOOK_SECONDS)

    async def _outcome(self, request: Request) -> tuple[str, bool]:
        """What to answer, and whether it failed."""
        try:
            return await self._carry_out(request), False
        except ReplicatorError as error:
            if error.action in (Action.RETRY, Action.YIELD):
                raise
            return str(error), True

    async def _carry_out(self, request: Request) -> str:
        if request.kind == "retry":
            return await self._feed.retry(request.payload["ids"])
        if request.kind == "discard":
            return await self._feed.discard(request.payload["ids"])
        if request.kind == "resync":
            return await self._resync(request.payload["mappings"])
        raise ReplicatorError(f"this daemon knows no request of kind {request.kind!r}", kind=ErrorKind.CONFIG)


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or the time is up."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()
