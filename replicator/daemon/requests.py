"""What operators ask of a running feed: dead letters again or away, a table once more, what differs derived again.

    command line ──row + NOTIFY──▶ replicator.request ──▶ here, one after the other ──▶ outcome in the row

A request that a dead daemon had begun is carried out again: each can be repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.postgres.job_state import JobState
from replicator.postgres.state import Request, open_state

if TYPE_CHECKING:
    from replicator.engine.feed import Feed

LOOK_SECONDS: Final = 10.0
"""Requests are looked for this often even when nobody has told of one."""
TELL_SECONDS: Final = 0.5
"""Between two reports of how far a job is."""


class Tell:
    """Says how far a job is, to whoever has asked for it; not more often than anybody reads it.

    Args:
        jobs: where it is said.
        request: its number.

    """

    def __init__(self, jobs: JobState, request: int) -> None:
        self._jobs = jobs
        self._request = request
        self._told_at = -TELL_SECONDS

    async def told(self) -> Mapping[str, Any]:
        """What was said last, by either side."""
        return await self._jobs.detail(self._request) or {}

    async def __call__(self, detail: Mapping[str, Any], *, last: bool = False) -> None:
        """Say it; what came of it (`last`) in any case."""
        now = time.monotonic()
        if last or now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            await self._jobs.tell(self._request, detail)


@dataclass(frozen=True)
class Done:
    """What came of a job.

    Attributes:
        message: for people.
        detail: for scripts.

    """

    message: str
    detail: Mapping[str, Any]


Job = Callable[[Mapping[str, Any], Tell], Awaitable[Done]]
"""Carries out a request with this payload."""


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
        jobs: what else can be asked for, by kind.

    """

    def __init__(
        self,
        dsn: str,
        connector: str,
        feed_name: str,
        feed: Feed,
        *,
        resync: Callable[[Sequence[str]], Awaitable[str]],
        jobs: Mapping[str, Job],
    ) -> None:
        self._dsn = dsn
        self._connector = connector
        self._feed_name = feed_name
        self._feed = feed
        self._resync = resync
        self._jobs = jobs
        self._told = JobState(dsn, connector)
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
        job = self._jobs.get(request.kind)
        if job is not None:
            tell = Tell(self._told, request.id)
            done = await job(request.payload, tell)
            await tell(done.detail, last=True)
            return done.message
        raise ReplicatorError(f"this daemon knows no request of kind {request.kind!r}", kind=ErrorKind.CONFIG)


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or the time is up."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()
