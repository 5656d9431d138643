"""Asking the running daemon through the target, and waiting for what becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.daemon.databases import FORWARD
from replicator.daemon.inspection import Ends, open_ends, served
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.ports import DeadLetter
    from replicator.postgres.state import Request

POLL_SECONDS: Final = 0.1
UNHEARD_SECONDS: Final = 5.0
"""A running daemon begins with a request at once; after so long somebody asks whether there is one."""


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        done: it was carried out.
        message: what was done, why not, or what it waits for.
        request: its number.

    """

    done: bool
    message: str
    request: int


async def dead_letters(connector: Connector) -> list[DeadLetter]:
    """What waits in the dead letter queue, in order.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    async with open_ends(connector) as ends:
        return [] if await ends.feed() is None else await ends.state.dead_letters(FORWARD)


async def ask_letters(connector: Connector, ids: Collection[int], kind: str, timeout_seconds: float) -> Answer:
    """Have dead letters applied again ('retry') or forgotten ('discard').

    Raises:
        ReplicatorError: CONFIG, naming ids that don't wait; CONNECTION, PERMISSION.

    """
    async with open_ends(connector) as ends:
        await begun(ends)
        request = await ends.state.ask_letters(FORWARD, ids, kind)
        return await _answer(ends, request, timeout_seconds)


async def ask_resync(connector: Connector, tables: Collection[str], timeout_seconds: float) -> Answer:
    """Have tables copied again.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION; CONFIG before the feed has begun.

    """
    async with open_ends(connector) as ends:
        await begun(ends)
        request = await ends.state.ask(FORWARD, "resync", {"mappings": list(tables)})
        return await _answer(ends, request, timeout_seconds)


async def begun(ends: Ends) -> None:
    """Refuse to ask where nobody has begun, so that nobody would answer.

    Raises:
        ReplicatorError: CONFIG.

    """
    if await ends.feed() is None:
        raise ReplicatorError(
            f"connector {ends.connector.name} has not begun: the upgraded database knows nothing of it",
            kind=ErrorKind.CONFIG,
            hint="Start it with `replicator run`",
        )


def unserved(request: int) -> str:
    """What is said then."""
    return (
        f"no daemon runs this connector, or it has failed: request {request} waits, and the next start carries it out"
    )


async def _answer(ends: Ends, request: Request, timeout_seconds: float) -> Answer:
    began = time.monotonic()
    unheard = False
    while True:
        now = await ends.state.request(request.id)
        if now is None:
            return Answer(done=False, message="the request was removed", request=request.id)
        if now.status in ("done", "failed"):
            return Answer(done=now.status == "done", message=now.message or "", request=request.id)
        seconds = time.monotonic() - began
        if now.status == "new" and seconds >= UNHEARD_SECONDS and not unheard:
            unheard = True
            if not await served(ends):
                return Answer(done=False, message=unserved(request.id), request=request.id)
        if seconds >= timeout_seconds:
            what = "has not been begun" if now.status == "new" else "is being carried out"
            return Answer(done=False, message=f"request {request.id} {what}; it goes on", request=request.id)
        await asyncio.sleep(POLL_SECONDS)
