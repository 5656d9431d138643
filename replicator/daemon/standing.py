"""Having the feed stand still for checks: those of the daemon itself, and those of whoever asks it.

    replicator verify ──request──▶ daemon: both snapshots, exported under names ──▶ taken by these names ──▶ let go

The feed goes on as soon as both are open; they stay open until they are taken, TAKEN_SECONDS at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from replicator.checks import Standstill
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.inspection import open_ends
from replicator.daemon.requests import Done
from replicator.engine.standing import Standing
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.check_reads import PostgresCheckReader
from replicator.postgres.job_state import JobState

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.daemon.parts import Parts
    from replicator.daemon.requests import Tell
    from replicator.engine.feed import Feed
    from replicator.ports import Source

TAKEN_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.05
ASKED_SECONDS: Final = 15.0
"""How long whoever asks waits: the daemon may be at another request."""
STAND: Final = "stand"
"""The kind of the request."""


class StandingDesk:
    """Has this process's feed stand still.

    Args:
        parts: of the connector.
        feed: running, from a slot.
        source: the feed's.

    """

    def __init__(self, parts: Parts, feed: Feed, source: Source) -> None:
        self._parts = parts
        self._feed = feed
        self._source = source

    @asynccontextmanager
    async def both(self) -> AsyncIterator[Standstill | str]:
        """See `checks.StandStill`."""
        connector = self._parts.connector
        async with open_readers(connector) as (old, upgraded):
            standing = Standing(
                self._feed,
                self._parts.reader,
                source=old,
                target=upgraded,
                nudge=self._source.nudge,
                mark=self._source.beat if self._parts.intake.heartbeat_seconds > 0 else None,
            )
            async with standing.both() as still:
                yield still

    async def job(self, payload: Mapping[str, Any], tell: Tell) -> Done:
        """Give both snapshots to whoever asks, by their names."""
        del payload
        if (await tell.told()).get("taken"):
            return Done("nobody waits for it any more", {"taken": True})
        async with self.both() as still:
            if isinstance(still, str):
                return Done(still, {"why": still})
            names = {"old": await still.source.export(), "upgraded": await still.target.export()}
            await tell({**names, "position": still.position}, last=True)
            until = asyncio.get_running_loop().time() + TAKEN_SECONDS
            while not (await tell.told()).get("taken"):
                if asyncio.get_running_loop().time() > until:
                    return Done("both snapshots were given, and not taken", {"taken": True})
                await asyncio.sleep(POLL_SECONDS)
        return Done("both snapshots were taken at one position", {"taken": True})


@asynccontextmanager
async def open_readers(connector: Connector) -> AsyncIterator[tuple[PostgresCheckReader, PostgresCheckReader]]:
    """Readers of both databases for checks, one snapshot at a time each; their sessions end with the block."""
    async with AsyncExitStack() as stack:
        old, upgraded = (
            PostgresCheckReader(
                dsn, f"{connector.name}/checks", connector=connector.name, feed=FORWARD, connections_max=1
            )
            for dsn in (old_dsn(connector), upgraded_dsn(connector))
        )
        for reader in (old, upgraded):
            stack.push_async_callback(reader.close)
        yield old, upgraded


class AskedStanding:
    """Has the running daemon's feed stand still.

    Args:
        connector: its file.

    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    @asynccontextmanager
    async def both(self) -> AsyncIterator[Standstill | str]:
        """See `checks.StandStill`."""
        connector = self._connector
        async with open_readers(connector) as (old, upgraded), open_ends(connector) as ends:
            request = (await ends.state.ask(FORWARD, STAND, {})).id
            jobs = JobState(upgraded_dsn(connector), connector.name)
            try:
                given = await self._given(jobs, request)
                if isinstance(given, str):
                    yield given
                    return
                async with AsyncExitStack() as snapshots:
                    try:
                        source = await snapshots.enter_async_context(old.checking(exported=given["old"]))
                        target = await snapshots.enter_async_context(upgraded.checking(exported=given["upgraded"]))
                    except ReplicatorError as error:
                        if error.kind not in (ErrorKind.DATA, ErrorKind.SCHEMA):
                            raise
                        yield f"the daemon's snapshots could not be taken: {error.message}"
                        return
                    await jobs.tell(request, {"taken": True})
                    yield Standstill(source, target, given["position"])
            finally:
                await jobs.tell(request, {"taken": True})

    @staticmethod
    async def _given(jobs: JobState, request: int) -> dict[str, Any] | str:
        until = asyncio.get_running_loop().time() + ASKED_SECONDS
        while True:
            detail = await jobs.detail(request) or {}
            if "old" in detail:
                return detail
            if "why" in detail:
                return str(detail["why"])
            if asyncio.get_running_loop().time() > until:
                return f"the daemon did not answer within {ASKED_SECONDS:.0f} s: it is at another request, or older"
            await asyncio.sleep(POLL_SECONDS)
