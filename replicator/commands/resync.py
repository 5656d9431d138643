"""`replicator resync`: a table once more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from replicator.commands import exits
from replicator.commands.durations import Duration
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.daemon.asking import ask_resync


@click.command("resync")
@file_argument
@click.argument("tables", metavar="TABLE...", nargs=-1, required=True)
@click.option(
    "--timeout", "timeout_seconds", type=Duration(), default="24h", show_default=True, help="Wait so long for its end."
)
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path, *, tables: tuple[str, ...], timeout_seconds: float, as_json: bool) -> None:
    """Copy tables again beside the running feed: what differs is written, what is too much is deleted.

    TABLE is the name of an old or an upgraded table; an aggregate of several is copied whole. Ctrl-C ends the waiting,
    not the copying.
    """
    answer = asyncio.run(ask_resync(connector_of(file), tables, timeout_seconds))
    if as_json:
        print_json({"done": answer.done, "message": answer.message, "request": answer.request})
    else:
        click.echo(answer.message, err=not answer.done)
        next_step(f"replicator status {file}")
    ctx.exit(exits.DONE if answer.done else exits.FINDINGS)
