"""The command line: one lazy group, and how errors become exit codes.

    0 done, or nothing found · 1 findings, failures, time is up · 2 wrong usage · 78 the connector can't work as written

`--help` imports nothing but click: what a command needs is imported when it is called.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Final

import click

from replicator import __version__
from replicator.commands import exits
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS: Final[Mapping[str, str]] = {
    "run": "Run connectors: copy, catch up, and stream until told to stop.",
    "validate": "Check connector files, without any database.",
    "plan": "Say what a connector would do, and what stands in its way.",
    "test": "Check its transforms: purity, and the way there and back.",
    "status": "Show where it stands: state, lag, position, progress.",
    "wait": "Return when the running daemon has caught up with now.",
    "verify": "Prove that both databases agree, row by row, while both are in use.",
    "certificate": "Show the proof that both databases agree, or what it lacks.",
    "repair": "Derive again what verify has found to differ, beside the running feed.",
    "rederive": "Derive again what a changed transform makes otherwise, and nothing else.",
    "explain": "Tell one row's story: source, transform, target, and what is known of it.",
    "dlq": "List, show, retry or discard dead letters.",
    "capture": "Put the old database's changes into Kafka, in Debezium's format.",
    "resync": "Copy a table again beside the running feed.",
    "demo": "Watch a live migration on two PostgreSQL servers of its own.",
}
"""Every command and its line in the overview; it is the object of this name in `replicator.commands.<name>`."""


class Commands(click.Group):
    """A group that imports a command when it is called, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of use, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Import it."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"replicator.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        """The overview, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="replicator", message="%(prog)s %(version)s")
def cli() -> None:
    """Move a live PostgreSQL database to one of another shape, exactly once, while it is written to.

    Begin with `replicator demo`, or with `replicator validate crm.yaml`.
    """


def main() -> None:
    """Entry point: errors of ours become one paragraph on stderr and an exit code, never a traceback."""
    try:
        cli()
    except ReplicatorError as error:
        click.echo(str(error), err=True)
        sys.exit(exits.CONFIG if error.kind is ErrorKind.CONFIG else exits.FINDINGS)
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)
