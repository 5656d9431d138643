"""`replicator run`: the daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import uvloop

from replicator.commands.collecting import collect_seldom
from replicator.commands.options import connectors_of, file_argument, logging_options
from replicator.daemon.lifecycle import Lifecycle
from replicator.daemon.logs import configure_logging
from replicator.daemon.notify import Notifier
from replicator.daemon.supervisor import Daemon, RunOptions

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.daemon.logs import LogFormat


@click.command("run")
@file_argument
@click.option(
    "--until",
    type=click.Choice(["caught-up"]),
    help="End with 0 once everything is applied that was committed on the old side when it was reached.",
)
@logging_options
@click.pass_context
def command(ctx: click.Context, file: Path, *, until: str | None, log_format: LogFormat, verbose: bool) -> None:
    """Run connectors: copy, catch up, and stream until told to stop.

    FILE is one connector, or a folder of them for one daemon. SIGTERM or SIGINT drains and ends; a second one ends at
    once. A connector that fails doesn't end the daemon: see /readyz, /metrics, and `replicator status`.
    """
    connectors = connectors_of(file)
    configure_logging(log_format, verbose=verbose)
    options = RunOptions(
        until_caught_up=until is not None,
        progress=log_format != "json" and sys.stderr.isatty(),
    )

    def attempt(connector: Connector) -> Lifecycle:
        return Lifecycle(connector, until_caught_up=options.until_caught_up)

    async def run() -> int:
        return await Daemon(connectors, attempt, Notifier.from_environment(os.environ), options).run()

    collect_seldom()
    ctx.exit(uvloop.run(run()))
