"""`replicator wait`: for scripts that go on when the daemon is so far."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from replicator.commands import exits
from replicator.commands.durations import Duration
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.daemon.inspection import wait_until_streaming


@click.command("wait")
@file_argument
@click.option("--for", "wanted", type=click.Choice(["streaming", "caught-up"]), default="caught-up", show_default=True)
@click.option("--timeout", "timeout_seconds", type=Duration(), default="60s", show_default=True)
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path, *, wanted: str, timeout_seconds: float, as_json: bool) -> None:
    """Return when the running daemon has applied what is committed on the old side at this moment.

    With `--for streaming`, when it has passed the backfill. Exit code 1 when the time is up.
    """
    connector = connector_of(file)
    waited = asyncio.run(wait_until_streaming(connector, timeout_seconds, caught_up=wanted == "caught-up"))
    if as_json:
        print_json({"reached": waited.reached, "seconds": round(waited.seconds, 3), "waits_for": waited.waits_for})
    elif waited.reached:
        click.echo(f"{connector.name} is {wanted} after {waited.seconds:.1f} s")
        next_step(f"replicator status {file}")
    else:
        click.echo(f"{connector.name} is not {wanted} after {waited.seconds:.1f} s: {waited.waits_for}", err=True)
        next_step(f"replicator status {file}", "says more")
    ctx.exit(exits.DONE if waited.reached else exits.FINDINGS)
