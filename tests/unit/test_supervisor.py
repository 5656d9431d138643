"""The daemon around its connectors: neighbours, signals, exit codes, addresses."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession

from replicator.config import Connector, parse_connector
from replicator.daemon.notify import Notifier
from replicator.daemon.report import summary_line
from replicator.daemon.runner import Attempt
from replicator.daemon.supervisor import Daemon, RunOptions
from replicator.errors import ErrorKind, ReplicatorError
from replicator.telemetry import ConnectorStatus, State


def connector(name: str, listen: str) -> Connector:
    text = f"""
name: {name}
old: {{dsn: "host=nowhere"}}
upgraded: {{dsn: "host=nowhere"}}
tables: [{{old: "public.*"}}]
http: {{listen: "{listen}"}}
"""
    return parse_connector(text.encode(), Path(f"{name}.yaml"), {})


@pytest.fixture
def address() -> str:
    """An address that is free (until somebody else takes it)."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


async def streams(status: ConnectorStatus, stop: asyncio.Event) -> None:
    status.forward.enter(State.STREAMING, 0.0)
    await stop.wait()


async def fails(status: ConnectorStatus, stop: asyncio.Event) -> None:
    raise ReplicatorError("no such table", kind=ErrorKind.SCHEMA)


async def ends(status: ConnectorStatus, stop: asyncio.Event) -> None:
    status.forward.enter(State.STREAMING, 0.0)


def daemon(address: str, options: RunOptions | None = None, **attempts: Attempt) -> Daemon:
    return Daemon(
        [connector(name, address) for name in attempts],
        lambda one: attempts[one.name],
        Notifier(None),
        options or RunOptions(),
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not await condition():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)


async def answers(url: str) -> int | None:
    try:
        async with ClientSession() as client, client.get(url) as answer:
            return answer.status
    except OSError:
        return None


async def test_a_failing_connector_leaves_its_neighbour_alone(address: str) -> None:
    """One fails at once, the other streams on until the signal; the daemon is live, not ready, and ends with 1."""
    one = daemon(address, good=streams, bad=fails)
    running = asyncio.create_task(one.run())
    good, bad = one.statuses

    async def settled() -> bool:
        return bad.state is State.FAILED and good.state is State.STREAMING

    await until(settled)
    assert (200, 503) == (await answers(f"http://{address}/livez"), await answers(f"http://{address}/readyz"))
    os.kill(os.getpid(), signal.SIGTERM)

    assert 1 == await asyncio.wait_for(running, 10)
    assert State.STOPPED is good.state
    assert "good: stopped; bad: failed" == summary_line(one.statuses, 0.0)


async def test_a_daemon_whose_connectors_all_failed_still_answers(address: str) -> None:
    """Its operator can ask why; it doesn't vanish and come back in a loop."""
    one = daemon(address, bad=fails)
    running = asyncio.create_task(one.run())

    async def failed() -> bool:
        return await answers(f"http://{address}/readyz") == 503

    await until(failed)
    assert not running.done()
    os.kill(os.getpid(), signal.SIGINT)

    assert 1 == await asyncio.wait_for(running, 10)


async def test_one_address_serves_all_its_connectors(address: str) -> None:
    """Two connectors of one http.listen share a server, each with its own label."""
    one = daemon(address, a=streams, b=streams)
    running = asyncio.create_task(one.run())

    async def up() -> bool:
        return await answers(f"http://{address}/readyz") == 200

    await until(up)
    async with ClientSession() as client, client.get(f"http://{address}/metrics") as answer:
        text = await answer.text()
    os.kill(os.getpid(), signal.SIGTERM)

    assert 0 == await asyncio.wait_for(running, 10)
    assert 'replicator_ready{connector="a"} 1.0' in text
    assert 'replicator_ready{connector="b"} 1.0' in text


@pytest.mark.parametrize("last, code", [(ends, 0), (fails, 1)])
async def test_until_caught_up_ends_with_its_connectors(address: str, last: Attempt, code: int) -> None:
    """It needs no signal: 0 when all have caught up, 1 when one failed."""
    one = daemon(address, RunOptions(until_caught_up=True), a=ends, b=last)

    assert code == await asyncio.wait_for(one.run(), 10)


async def test_a_taken_address_ends_the_daemon_before_it_begins(address: str) -> None:
    """No connector is touched when nobody could watch it."""
    begun: list[str] = []

    async def begins(status: ConnectorStatus, stop: asyncio.Event) -> None:
        begun.append(status.name)

    host, _, port = address.rpartition(":")
    with (
        socket.create_server((host, int(port))),
        pytest.raises(ReplicatorError, match="can't listen on") as caught,
    ):
        await daemon(address, a=begins).run()

    assert ErrorKind.CONFIG is caught.value.kind
    assert [] == begun
