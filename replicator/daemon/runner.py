"""One supervised connector: runs its lifecycle, again after errors that may pass, and ends alone when it must.

An attempt connects, prepares, copies and streams. What an error means is its kind's `Action`: RETRY begins the attempt
again after a pause with jitter, YIELD ends it as superseded, everything else as failed. Nothing that happens to one
connector reaches its neighbours.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.telemetry import ConnectorStatus, State, Trouble

if TYPE_CHECKING:
    from replicator.config import Retry

Attempt = Callable[[ConnectorStatus, asyncio.Event], Awaitable[None]]
"""One run of the lifecycle; returns once it was asked to stop (the event) and has drained."""


class ConnectorRunner:
    """Runs one connector until it is stopped, failed or superseded.

    Args:
        status: filled in by the attempt and here.
        attempt: the lifecycle.
        retry: pauses and number of attempts.

    """

    def __init__(self, status: ConnectorStatus, attempt: Attempt, retry: Retry) -> None:
        self.status = status
        self.stop = asyncio.Event()
        self._attempt = attempt
        self._retry = retry
        self._log = structlog.get_logger("replicator.daemon").bind(connector=status.name)

    async def run(self) -> None:
        """Returns when it has ended; `status.state` says how. Never raises but for a cancellation."""
        pauses = self._pauses()
        tries = 0
        while not self.stop.is_set():
            began = time.monotonic()
            applied = self.status.forward.transactions_applied
            error = await self._once()
            if error is None:
                break
            if error.action is not Action.RETRY:
                self._end(error)
                return
            if self.status.forward.transactions_applied > applied or self._long(began):
                pauses, tries = self._pauses(), 0  # it had worked in between: the trouble is a new one
            tries += 1
            if self._retry.attempts is not None and tries >= self._retry.attempts:
                self._end(error, f"gave up after {tries} attempts in a row (apply.retry.attempts)")
                return
            await self._pause(error, next(pauses))
        self.status.forward.enter(State.STOPPED, time.time())
        self._log.info("connector stopped", position=self.status.forward.position)

    async def _once(self) -> ReplicatorError | None:
        try:
            await self._attempt(self.status, self.stop)
        except Exception as error:  # noqa: BLE001 - the one place: what nobody foresaw must not end a neighbour
            return known_error(error, self._log)
        return None

    def _end(self, error: ReplicatorError, why: str | None = None) -> None:
        now = time.time()
        feed = self.status.forward
        feed.trouble = Trouble.of(error, now)
        feed.retry_at = None
        superseded = error.action is Action.YIELD
        feed.enter(State.SUPERSEDED if superseded else State.FAILED, now)
        log = self._log.warning if superseded else self._log.error
        name = "connector superseded" if superseded else "connector failed"
        log(name, error=error.message, position=feed.position, **({"reason": why} if why else {}), **error.facts())

    async def _pause(self, error: ReplicatorError, seconds: float) -> None:
        now = time.time()
        self.status.restarts += 1
        self.status.forward.retried(error, now, now + seconds)
        self._log.warning("retrying", error=error.message, pause_seconds=round(seconds, 3), **error.facts())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)

    def _pauses(self) -> Iterator[float]:
        return pauses(self._retry.initial.total_seconds(), self._retry.max.total_seconds())

    def _long(self, began: float) -> bool:
        return time.monotonic() - began > max(60.0, 2 * self._retry.max.total_seconds())


def known_error(error: Exception, log: structlog.stdlib.BoundLogger) -> ReplicatorError:
    """The error that decides. What nobody foresaw is logged with where it happened.

    Neither its message nor any local variable is logged: they may hold a row's values.
    """
    known, unforeseen = principal(error)
    if unforeseen is not None:
        frames = traceback.extract_tb(unforeseen.__traceback__)
        places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        log.error("unexpected error", error_type=type(unforeseen).__qualname__, traceback=places)
    return known


def pauses(initial: float, longest: float) -> Iterator[float]:
    """Seconds between attempts: doubled each time; each between a half and the whole, so that a crowd spreads out."""
    pause = initial
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        pause = min(pause * 2, longest)


def principal(error: Exception) -> tuple[ReplicatorError, Exception | None]:
    """The error of a (possibly grouped) failure that decides what happens, and the first that nobody foresaw.

    Being superseded comes first: what else fails then fails because of it. Then what stops, then what may pass.
    """
    leaves = list(_leaves(error))
    unforeseen = next((leaf for leaf in leaves if not isinstance(leaf, ReplicatorError)), None)
    known = errors_of(error)
    if unforeseen is not None:
        known.append(
            ReplicatorError(
                f"unexpected {type(unforeseen).__name__}",
                kind=ErrorKind.INTERNAL,
                hint="The log has its traceback. Nothing is lost: the checkpoint stands where it stood; "
                "start again, and report it if it comes back",
            )
        )
    order = (Action.YIELD, Action.STOP, Action.ISOLATE, Action.RETRY)
    return min(known, key=lambda one: order.index(one.action)), unforeseen


def errors_of(error: Exception) -> list[ReplicatorError]:
    """Ours, of a possibly grouped failure."""
    return [leaf for leaf in _leaves(error) if isinstance(leaf, ReplicatorError)]


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
