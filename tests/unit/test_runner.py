"""One connector's supervision: which error is tried again, which one ends it, and how."""

import asyncio
from collections.abc import Callable

import pytest

from replicator.config import Retry
from replicator.daemon.runner import ConnectorRunner, principal
from replicator.errors import ErrorKind, ReplicatorError
from replicator.telemetry import ConnectorStatus, State

QUICK = Retry.model_validate({"initial": "1ms", "max": "2ms"})


def failure(kind: ErrorKind) -> ReplicatorError:
    return ReplicatorError(f"a {kind} failure", kind=kind, table="crm.accounts", hint="Do something")


class Attempts:
    """Raises what it is given, one error an attempt, then runs until it is stopped."""

    def __init__(self, *errors: Exception, work: Callable[[ConnectorStatus], None] = lambda _: None) -> None:
        self.errors = list(errors)
        self.begun = 0
        self.working = asyncio.Event()
        self._work = work

    async def __call__(self, status: ConnectorStatus, stop: asyncio.Event) -> None:
        self.begun += 1
        self._work(status)
        if self.errors:
            raise self.errors.pop(0)
        self.working.set()
        await stop.wait()


def runner_of(attempts: Attempts, retry: Retry = QUICK) -> ConnectorRunner:
    return ConnectorRunner(ConnectorStatus.new("crm", 0.0), attempts, retry)


async def test_an_error_that_may_pass_is_tried_again() -> None:
    """A lost connection begins the lifecycle again, as often as it takes, and is counted."""
    attempts = Attempts(*(failure(ErrorKind.CONNECTION) for _ in range(3)))
    runner = runner_of(attempts)
    task = asyncio.create_task(runner.run())
    await asyncio.wait_for(attempts.working.wait(), 5)
    runner.stop.set()
    await task

    assert (State.STOPPED, 4, 3) == (runner.status.state, attempts.begun, runner.status.restarts)
    assert {"connection": 3} == runner.status.forward.retries


@pytest.mark.parametrize(
    "kind", [ErrorKind.SCHEMA, ErrorKind.DATA, ErrorKind.SLOT_LOST, ErrorKind.PERMISSION, ErrorKind.DECODE]
)
async def test_an_error_that_a_person_decides_ends_as_failed(kind: ErrorKind) -> None:
    """It isn't tried again, and status keeps it with its table and hint."""
    attempts = Attempts(failure(kind))
    runner = runner_of(attempts)
    await runner.run()
    trouble = runner.status.forward.trouble

    assert (State.FAILED, 1) == (runner.status.state, attempts.begun)
    assert trouble is not None
    assert {"error_kind": str(kind), "table": "crm.accounts", "hint": "Do something"} == trouble.facts


async def test_another_holder_ends_it_as_superseded() -> None:
    """A process that lost its epoch yields; it doesn't fight for it."""
    runner = runner_of(Attempts(failure(ErrorKind.SUPERSEDED)))
    await runner.run()

    assert State.SUPERSEDED is runner.status.state


async def test_what_nobody_foresaw_ends_as_failed() -> None:
    """An error of another kind than ours is an internal one, of this connector alone."""
    runner = runner_of(Attempts(ZeroDivisionError("oops")))
    await runner.run()
    trouble = runner.status.forward.trouble

    assert State.FAILED is runner.status.state
    assert trouble is not None
    assert "internal" == trouble.kind
    assert "oops" not in trouble.message  # a message that we didn't write may hold a row's values


async def test_attempts_in_a_row_can_be_bounded() -> None:
    """With `apply.retry.attempts` the last one fails the connector."""
    retry = Retry.model_validate({"initial": "1ms", "max": "2ms", "attempts": "3"})
    attempts = Attempts(*(failure(ErrorKind.CONNECTION) for _ in range(5)))
    runner = runner_of(attempts, retry)
    await runner.run()

    assert (State.FAILED, 3) == (runner.status.state, attempts.begun)


async def test_progress_begins_a_new_row_of_attempts() -> None:
    """A connector that works between two failures isn't given up."""

    def work(status: ConnectorStatus) -> None:
        status.forward.transactions_applied += 1

    retry = Retry.model_validate({"initial": "1ms", "max": "2ms", "attempts": "2"})
    attempts = Attempts(*(failure(ErrorKind.CONNECTION) for _ in range(5)), work=work)
    runner = runner_of(attempts, retry)
    task = asyncio.create_task(runner.run())
    await asyncio.wait_for(attempts.working.wait(), 5)
    runner.stop.set()
    await task

    assert 6 == attempts.begun


async def test_stop_ends_a_pause() -> None:
    """A connector that waits for its next attempt ends at once when asked."""
    runner = runner_of(Attempts(failure(ErrorKind.CONNECTION)), Retry.model_validate({"initial": "1h", "max": "1h"}))
    task = asyncio.create_task(runner.run())
    async with asyncio.timeout(5):
        while runner.status.forward.retry_at is None:
            await asyncio.wait([task], timeout=0.001)
        runner.stop.set()
        await task

    assert State.STOPPED is runner.status.state


def test_of_several_errors_one_decides() -> None:
    """Superseded before what stops, what stops before what passes: the others follow from it."""
    lost, schema = failure(ErrorKind.CONNECTION), failure(ErrorKind.SCHEMA)
    superseded = failure(ErrorKind.SUPERSEDED)

    assert schema is principal(ExceptionGroup("", [lost, ExceptionGroup("", [schema])]))[0]
    assert superseded is principal(ExceptionGroup("", [schema, superseded]))[0]
    assert ErrorKind.INTERNAL is principal(ExceptionGroup("", [lost, KeyError("x")]))[0].kind
