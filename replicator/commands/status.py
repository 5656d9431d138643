"""`replicator status`: where a connector stands."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from replicator.commands import exits
from replicator.commands.ask import ask_daemon
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.commands.show import status_lines
from replicator.daemon.inspection import read_status

if TYPE_CHECKING:
    from replicator.config import Connector

WATCH_SECONDS: Final = 1.0
_HOME: Final = "\x1b[H\x1b[J"  # cursor to the corner, clear what follows


@click.command("status")
@file_argument
@json_option
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.pass_context
def command(ctx: click.Context, file: Path, *, as_json: bool, watch: bool) -> None:
    """Show where a connector stands: state, lag, position, progress, dead letters.

    Asks the running daemon, and where none answers, the databases. Exit code 1 when the connector has failed.
    """
    connector = connector_of(file)
    while True:
        document = status_of(connector)
        if watch and sys.stdout.isatty() and not as_json:
            click.echo(_HOME, nl=False)
        if as_json:
            print_json(document)
        else:
            for line in status_lines(document):
                click.echo(line)
        if not watch:
            break
        time.sleep(WATCH_SECONDS)
    if not as_json:
        next_step(*_next(document, file))
    ctx.exit(exits.FINDINGS if document["state"] == "failed" else exits.DONE)


def status_of(connector: Connector) -> dict[str, Any]:
    """From the daemon, else from the databases; `told_by` says which.

    Raises:
        ReplicatorError: neither can be read.

    """
    told = ask_daemon(connector)
    if told is not None:
        return {"told_by": "daemon", **told}
    return {"told_by": "databases", **asyncio.run(read_status(connector))}


def _next(document: dict[str, Any], file: Path) -> tuple[str, str]:
    if document["dead_letters"]:
        return f"replicator dlq list {file}", "changes wait there, and block their keys"
    if document["told_by"] == "databases" and not document["running"]:
        return f"replicator run {file}", "no daemon runs"
    if document["state"] == "failed":
        return f"replicator plan {file}", "what stands in the way"
    if document.get("stale"):
        return f"replicator resync {file} {next(iter(document['stale']))}", "its rows may have changed without an event"
    if document.get("transform_changed"):
        return f"replicator rederive {file}", "rows are by a transform from before it was changed"
    if (document.get("verification") or {}).get("open_divergences"):
        return f"replicator repair {file}", "rows are proven to differ; `replicator explain` tells why"
    if document["state"] == "streaming":
        return f"replicator wait {file} --for caught-up", "for scripts"
    return f"replicator status {file} --watch", "to follow it"
