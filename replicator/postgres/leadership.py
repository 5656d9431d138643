"""The leader of a group: one process of several that apply one feed, for what only one may do (copies, requests, ...).

It holds a session advisory lock in the target, on a session of its own on which it says something every few seconds. A
frozen process would hold that lock for ever: whoever waits for it ends a session that has been silent for too long.
What a woken one still tries to do as leader fails by the feed's epoch, which its successor has raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres import partition_sql
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_LOCK_SPACE: Final = zlib.crc32(b"replicator leader") - (1 << 31)
_POLL_SECONDS: Final = 1.0  # a blocking wait would hold a snapshot in the target, and vacuum back, for days
_POLLS_A_LOOK: Final = 4  # reading pg_locks holds up everybody who locks, for a moment
_BEAT_SECONDS: Final = 3.0
_SILENCE_SECONDS: Final = 15.0


class Leadership:
    """One process's part in it.

    Args:
        dsn: the target.
        connector, feed: of which feed.

    """

    def __init__(self, dsn: str, connector: str, feed: str) -> None:
        self._dsn = dsn
        self._name = f"{connector}/{feed}"
        self._lock = (_LOCK_SPACE, zlib.crc32(self._name.encode()) - (1 << 31))
        self._connection: AsyncConnection[Any] | None = None
        self._beating: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether this process leads, as far as it knows: what fences it is the feed's epoch."""
        return self._beating is not None and not self._beating.done()

    async def acquire(self) -> None:
        """Wait until this process holds the lock. Cancel-safe.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION, RESOURCES.

        """
        await self.close()
        # Its own until it holds the lock: one that was cancelled cleans up while the next may be under way.
        connection = await connect(self._dsn, f"{self._name}/leader")
        try:
            with driver_errors(f"waiting to lead feed {self._name}"):
                for attempt in count():
                    if (await fetch(connection, partition_sql.TRY_TO_LEAD, *self._lock))[0][0]:
                        break
                    if not attempt % _POLLS_A_LOOK:
                        await fetch(connection, partition_sql.END_SILENT_LEADER, *self._lock, _SILENCE_SECONDS)
                    await asyncio.sleep(_POLL_SECONDS)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._beating = asyncio.create_task(self._beat(connection))

    async def keep(self) -> None:
        """Wait until it is lost. Cancel-safe.

        Raises:
            ReplicatorError: REASSIGNED then; or at once when this process doesn't lead.

        """
        if self._beating is not None:
            await asyncio.wait({self._beating})
        raise self.lost()

    def lost(self) -> ReplicatorError:
        """The error of a process that doesn't lead any more."""
        return ReplicatorError(
            f"this process doesn't lead feed {self._name} any more",
            kind=ErrorKind.REASSIGNED,
            hint="what it had not committed as leader was not done, and whoever leads next does it",
        )

    async def _beat(self, connection: AsyncConnection[Any]) -> None:
        """Until the session fails; one that doesn't answer in time is being ended by a successor."""
        try:
            with contextlib.suppress(ReplicatorError), driver_errors(f"leading feed {self._name}"):
                while True:
                    await asyncio.sleep(_BEAT_SECONDS)
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        await fetch(connection, partition_sql.BEAT)
        finally:
            await connection.close()

    async def close(self) -> None:
        """Lead no longer: the lock goes with the session. Idempotent."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
