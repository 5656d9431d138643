"""Whether the brokers can be reached: librdkafka goes on by itself when they can't, and says nothing when they can."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.errors import Scrub, mapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

    from replicator.kafka.admin import Admin

_PATIENCE_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 1.0


class Probe:
    """Of one session.

    Args:
        admin: asks.
        scrub: takes secrets out of messages.
        fail: hears when nobody has answered for too long.

    """

    def __init__(self, admin: Admin, scrub: Scrub, fail: Callable[[ReplicatorError], None]) -> None:
        self._admin = admin
        self._scrub = scrub
        self._fail = fail
        self._task: asyncio.Task[None] | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether the brokers may be away."""
        return self._task is not None and not self._task.done()

    def doubt(self, error: KafkaError) -> None:
        """Something was reported that may go away by itself."""
        if not self.in_doubt:
            self._task = asyncio.ensure_future(self._reach(error))

    async def answers(self) -> bool:
        """Whether a broker answers now, at once."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._admin.cluster()
        except (TimeoutError, ReplicatorError):
            return False
        return True

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    async def _reach(self, error: KafkaError) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        while True:
            try:
                await self._admin.cluster()
            except ReplicatorError as failed:
                if loop.time() > deadline:
                    refused = failed.kind is ErrorKind.PERMISSION
                    self._fail(failed if refused else mapped(error, "reaching the brokers", scrub=self._scrub))
                    return
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return
