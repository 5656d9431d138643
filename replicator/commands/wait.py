"""`replicator wait`: for scripts that go on when the daemon is so far.

The databases tell how far it is; the daemon alone knows that it has given up, and then nobody need wait any longer.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from replicator.commands import exits
from replicator.commands.ask import ask_daemon
from replicator.commands.durations import Duration
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.daemon.inspection import Waited, wait_until_streaming
from replicator.errors import ReplicatorError

if TYPE_CHECKING:
    from replicator.config import Connector

ASK_SECONDS: Final = 1.0
_GIVEN_UP: Final = {"failed": "failed", "superseded": "been superseded"}


@click.command("wait")
@file_argument
@click.option("--for", "wanted", type=click.Choice(["streaming", "caught-up"]), default="caught-up", show_default=True)
@click.option("--timeout", "timeout_seconds", type=Duration(), default="60s", show_default=True)
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path, *, wanted: str, timeout_seconds: float, as_json: bool) -> None:
    """Return when the running daemon has applied what is committed on the old side at this moment.

    With `--for streaming`, when it has passed the backfill. Exit code 1 when the time is up, or the connector has
    failed.
    """
    connector = connector_of(file)
    waited = asyncio.run(_wait(connector, timeout_seconds, caught_up=wanted == "caught-up"))
    if as_json:
        print_json({"reached": waited.reached, "seconds": round(waited.seconds, 3), "waits_for": waited.waits_for})
    elif waited.reached:
        click.echo(f"{connector.name} is {wanted} after {waited.seconds:.1f} s")
        next_step(f"replicator status {file}")
    else:
        click.echo(f"{connector.name} is not {wanted} after {waited.seconds:.1f} s: {waited.waits_for}", err=True)
        next_step(f"replicator status {file}", "says more")
    ctx.exit(exits.DONE if waited.reached else exits.FINDINGS)


async def _wait(connector: Connector, timeout_seconds: float, *, caught_up: bool) -> Waited:
    """Wait, but no longer than there is somebody to wait for."""
    began = time.monotonic()
    waiting = asyncio.ensure_future(wait_until_streaming(connector, timeout_seconds, caught_up=caught_up))
    try:
        while True:
            await asyncio.wait([waiting], timeout=ASK_SECONDS)
            if waiting.done():
                return await waiting
            given_up = await asyncio.to_thread(_given_up, connector)
            if given_up is not None:
                return Waited(reached=False, seconds=time.monotonic() - began, waits_for=given_up)
    finally:
        waiting.cancel()


def _given_up(connector: Connector) -> str | None:
    """Why the daemon has stopped this connector; None while it works, and where no daemon of ours answers."""
    try:
        told = ask_daemon(connector)
    except ReplicatorError:
        return None  # somebody else's daemon: the databases are still right
    if told is None or told["state"] not in _GIVEN_UP:
        return None
    error = told.get("error") or {}
    return f"the connector has {_GIVEN_UP[told['state']]}: {error.get('message', 'see the log of the daemon')}"
