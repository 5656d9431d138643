"""Taking over a feed: one process writes, and a former one, frozen or cut off, can't any more.

Each lane's row holds the epoch, which its every transaction compares under that row's lock; jobs compare the feed's,
under a shared one. A successor first ends the backends that the former holder has registered (a frozen one's open
transaction holds that lock, its slot and its origin), then raises the epoch.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.ports import Checkpoint
from replicator.postgres import state_sql
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch

if TYPE_CHECKING:
    from psycopg import AsyncConnection

# Longer than `idle_in_transaction_session_timeout` of our sessions: a holder whose backends may not be ended (another
# role's) ends by itself within it.
_PATIENCE_SECONDS: Final = 90.0
_ENDING_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02
_ANY_EPOCH: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes: a connector's feed under an epoch."""

    connector: str
    feed: str
    epoch: int

    @property
    def parameters(self) -> tuple[bytes, bytes, bytes]:
        """As parameters `$1` to `$3` of the statements that compare the epoch."""
        return self.connector.encode(), self.feed.encode(), b"%d" % self.epoch


async def take_over(
    connection: AsyncConnection[Any], connector: str, feed: str, lanes: int, *, former: Holder | None = None
) -> tuple[Holder, list[Checkpoint]]:
    """Become the one holder of a feed.

    Args:
        connection: a session on the target, in autocommit.
        connector: its name.
        feed: 'forward' or 'reverse'.
        lanes: number of lanes from now on.
        former: what this process held before, when it takes over again after losing its connections: it must not take
            the feed back from a successor.

    Raises:
        ReplicatorError: SUPERSEDED, when another process has taken over from `former`; CONFIG when the number of lanes
            changes while they stand at different positions; TIMEOUT when somebody keeps the feed's row locked;
            CONNECTION, PERMISSION.

    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    doing = f"taking over feed {connector}/{feed}"
    if former is not None:
        await check_held(connection, former)
    while True:
        await _end_backends(connection, connector, feed, _ANY_EPOCH if former is None else former.epoch + 1)
        try:
            with driver_errors(doing):
                holder, checkpoints = await _raise_epoch(connection, connector, feed, lanes, former)
        except ReplicatorError as error:
            if error.kind is not ErrorKind.TIMEOUT or time.monotonic() > deadline:
                raise
            continue
        # One that registered between the two can't write any more, but may hold an origin or a slot.
        await _end_backends(connection, connector, feed, holder.epoch)
        return holder, checkpoints


async def check_held(connection: AsyncConnection[Any], holder: Holder) -> None:
    """See whether a holder still holds its feed.

    Raises:
        ReplicatorError: SUPERSEDED, CONNECTION.

    """
    with driver_errors(f"comparing the epoch of feed {holder.connector}/{holder.feed}"):
        rows = await fetch(connection, state_sql.FEED_EPOCH, holder.connector, holder.feed)
    _compare(holder, rows[0][0] if rows else 0)


def _compare(holder: Holder, epoch: int) -> None:
    if epoch != holder.epoch:
        raise superseded(holder)


def superseded(holder: Holder) -> ReplicatorError:
    """The error for a holder that is none any more."""
    return ReplicatorError(
        f"another process has taken over feed {holder.connector}/{holder.feed}",
        kind=ErrorKind.SUPERSEDED,
        hint="this process wrote nothing since; `SELECT holder FROM replicator.feed` in the target says which",
    )


async def _raise_epoch(
    connection: AsyncConnection[Any], connector: str, feed: str, lanes: int, former: Holder | None
) -> tuple[Holder, list[Checkpoint]]:
    who = f"{platform.node()} process {os.getpid()}"
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '2s'")
        await fetch(connection, state_sql.FEED_NEW, connector, feed, lanes, who)
        ((epoch, _),) = await fetch(connection, state_sql.FEED_LOCK, connector, feed)
        if former is not None:
            _compare(former, epoch)
        rows = await fetch(connection, state_sql.CHECKPOINTS_LOCK, connector, feed)  # waits for their transactions
        checkpoints = [Checkpoint(*row) for row in rows]
        if [one.lane for one in checkpoints] != list(range(lanes)):
            checkpoints = await _lay_lanes(connection, connector, feed, lanes, checkpoints)
        ((epoch,),) = await fetch(connection, state_sql.FEED_TAKE, connector, feed, lanes, who)
        await fetch(connection, state_sql.CHECKPOINTS_TAKE, connector, feed, epoch)
        await fetch(connection, state_sql.BACKENDS_FORGET, connector, feed)
    return Holder(connector, feed, epoch), checkpoints


async def _lay_lanes(
    connection: AsyncConnection[Any], connector: str, feed: str, lanes: int, checkpoints: list[Checkpoint]
) -> list[Checkpoint]:
    """Change the number of lanes, which have to stand at one position: a key may move to another lane."""
    if lanes and await fetch(connection, state_sql.FROM_LOG, connector, feed):
        raise ReplicatorError(
            f"feed {connector}/{feed} has begun from Kafka, and its offsets say nothing about a slot",
            kind=ErrorKind.CONFIG,
            hint="set stream.kind back to kafka, or give the connector another name and let it copy all tables anew",
        )
    positions = {one.position for one in checkpoints}
    if len(positions) > 1:
        places = ", ".join(f"lane {one.lane} at {one.position}" for one in checkpoints)
        raise ReplicatorError(
            f"feed {connector}/{feed} was left with {len(checkpoints)} lanes at different positions ({places}), so it "
            f"can't go on with {lanes}",
            kind=ErrorKind.CONFIG,
            hint=(
                f"set apply.lanes back to {len(checkpoints)} and run it once with --until caught-up, or stop it with "
                "SIGTERM, which lets all lanes end at one position; then change apply.lanes"
            ),
        )
    position = checkpoints[0].position if checkpoints else None
    times = [one.commit_time for one in checkpoints if one.commit_time is not None]
    await fetch(connection, state_sql.CHECKPOINTS_FORGET, connector, feed)
    newest = max(times, default=None)
    await fetch(connection, state_sql.CHECKPOINTS_LAY, connector, feed, lanes, position, newest)
    return [Checkpoint(lane, position, newest) for lane in range(lanes)]


async def _end_backends(connection: AsyncConnection[Any], connector: str, feed: str, epoch: int) -> None:
    """End the registered backends of earlier epochs, and wait until they are gone."""
    await end_sessions(connection, f"{connector}/{feed}", state_sql.HOLDERS, connector, feed, epoch)


async def end_sessions(connection: AsyncConnection[Any], name: str, query: str, *parameters: object) -> None:
    """End the backends whose pids the query tells, and wait until it tells none.

    Args:
        connection: a session on the target, in autocommit.
        name: connector/feed.
        query: its first column is a pid.
        parameters: the query's.

    Raises:
        ReplicatorError: CONNECTION, RESOURCES.

    """
    deadline = time.monotonic() + _ENDING_SECONDS
    with driver_errors(f"ending the former holder's sessions of feed {name}"):
        while holders := await fetch(connection, query, *parameters):
            for pid, *_ in holders:
                try:
                    with driver_errors("ending a session"):
                        await fetch(connection, state_sql.TERMINATE, pid)
                except ReplicatorError as error:
                    if error.kind is not ErrorKind.PERMISSION:
                        raise
                    return  # another role's: its locks, if it has any, end with its idle timeout
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(_POLL_SECONDS)
