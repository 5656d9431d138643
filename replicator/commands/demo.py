"""`replicator demo`: a live migration on this machine, in under a minute."""

from __future__ import annotations

import click

from replicator.demo.pipe import Via
from replicator.demo.run import ROWS, SECONDS, run_demo


@click.command("demo")
@click.option("--seconds", type=float, default=SECONDS, show_default=True, help="How long to stream.")
@click.option("--rows", type=int, default=ROWS, show_default=True, help="Rows of the old database, about.")
@click.option("--keep", is_flag=True, help="Leave servers and daemon running at the end, until Ctrl-C.")
@click.option(
    "--kafka",
    "via",
    type=click.Choice(["capture", "debezium"]),
    help="Through a real Kafka and registry (by Java and Maven), filled by `replicator capture` or by Debezium.",
)
@click.pass_context
def command(ctx: click.Context, *, seconds: float, rows: int, keep: bool, via: Via | None) -> None:
    """Watch a live migration: two PostgreSQL servers, an application that never stops, and the proof at the end."""
    ctx.exit(run_demo(seconds=seconds, rows=rows, keep=keep, via=via))
