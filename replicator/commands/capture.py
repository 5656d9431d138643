"""`replicator capture`: the old database's changes into Kafka, in Debezium's format."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import uvloop

from replicator.commands.collecting import collect_seldom
from replicator.commands.options import connector_of, file_argument, logging_options
from replicator.config import Address, Connector
from replicator.daemon.capturing import CAPTURE, CaptureLifecycle
from replicator.daemon.logs import configure_logging
from replicator.daemon.notify import Notifier
from replicator.daemon.supervisor import Daemon, RunOptions

if TYPE_CHECKING:
    from replicator.daemon.logs import LogFormat


_M_TRIM_THRESHOLD: Final = -1  # of glibc's malloc.h
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 128 << 20
_KEPT_BLOCK_BYTES: Final = 4 << 20


@click.command("capture")
@file_argument
@click.option(
    "--until",
    type=click.Choice(["caught-up"]),
    help="End with 0 once everything is in Kafka that was committed when this began.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8651",
    show_default=True,
    metavar="HOST:PORT",
    help="For its own /metrics, /livez, /readyz and API; port 0 takes a free one.",
)
@logging_options
@click.pass_context
def command(
    ctx: click.Context, file: Path, *, until: str | None, listen: str, log_format: LogFormat, verbose: bool
) -> None:
    """Put the old database's changes into Kafka, in Debezium's format: for one without Kafka Connect.

    FILE is a connector with a section stream.capture; `replicator run` on the same file reads what this writes. SIGTERM
    or SIGINT ends it and undoes the Kafka transaction at hand, which the next start makes again; a second one ends it
    at once. Nothing is lost or doubled.
    """
    connector = _listening(connector_of(file), listen)
    configure_logging(log_format, verbose=verbose)
    options = RunOptions(until_caught_up=until is not None)

    def attempt(connector: Connector) -> CaptureLifecycle:
        return CaptureLifecycle(connector, until_caught_up=options.until_caught_up)

    async def run() -> int:
        daemon = Daemon([connector], attempt, Notifier.from_environment(os.environ), options)
        daemon.statuses[0].forward.feed = CAPTURE
        return await daemon.run()

    collect_seldom()
    keep_freed_memory()
    ctx.exit(uvloop.run(run()))


def keep_freed_memory() -> None:
    """Tell the C library to keep what is freed for what comes next: records come and go by the megabyte, and each of
    their pages would be asked of the kernel anew, for a tenth of a row's CPU time. Without glibc nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)


def _listening(connector: Connector, listen: str) -> Connector:
    """The connector with this process's own address in place of the daemon's."""
    try:
        address = Address.parse(listen)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--listen") from error
    if not address.loopback and connector.http.token is None:
        raise click.BadParameter("an address beyond loopback needs http.token in the connector", param_hint="--listen")
    return connector.model_copy(update={"http": connector.http.model_copy(update={"listen": address})})
