"""Work tried again by a lane with the batch in its hands, after errors that may pass and leave its session whole."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final

import structlog

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.telemetry import FeedStatus

WITH_THE_BATCH: Final = frozenset({ErrorKind.SERIALIZATION, ErrorKind.TIMEOUT, ErrorKind.RESOURCES})
"""Kinds that roll back one transaction; connections are made anew by whoever runs the feed."""
DRAIN_SECONDS: Final = 10.0
"""How long a drain tries on: lanes that met in a deadlock end together, a full disk is not waited for."""


class Retries:
    """Tries again with doubling pauses, until it works, or the feed is to stop and has had `DRAIN_SECONDS` for it.

    Args:
        status: counts them, and shows the error.
        initial: seconds of the first pause.
        longest: seconds of the longest.
        stop: set when the feed is to stop. What still fails then comes again at the next start.

    """

    def __init__(self, status: FeedStatus, initial: float, longest: float, stop: asyncio.Event) -> None:
        self._status = status
        self._initial = initial
        self._longest = longest
        self._stop = stop
        self._gives_up_at: float | None = None
        self._log = structlog.get_logger("replicator.feed").bind(connector=status.connector, feed=status.feed)

    async def run(self, attempt: Callable[[], Awaitable[None]], kinds: Collection[ErrorKind] = WITH_THE_BATCH) -> None:
        """Run an attempt until it succeeds.

        Raises:
            ReplicatorError: of another kind than `kinds`, or any once a drain has lasted too long.

        """
        pause = self._initial
        while True:
            try:
                await attempt()
            except ReplicatorError as error:
                if error.kind not in kinds or self._gives_up():
                    raise
                seconds = pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
                now = time.time()
                self._status.retried(error, now, now + seconds)
                self._log.warning("retrying", error=error.message, pause_seconds=round(seconds, 3), **error.facts())
                pause = min(pause * 2, self._longest) if await self._waited(seconds) else self._initial
            else:
                return

    def _gives_up(self) -> bool:
        if not self._stop.is_set():
            return False
        now = time.monotonic()
        if self._gives_up_at is None:
            self._gives_up_at = now + DRAIN_SECONDS
        return now >= self._gives_up_at

    async def _waited(self, seconds: float) -> bool:
        """Wait; False when the feed is to stop meanwhile: then short pauses begin anew."""
        if self._stop.is_set():
            await asyncio.sleep(min(seconds, DRAIN_SECONDS / 10))
            return True
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return True
        return False
