"""`replicator rederive`: after a transform has changed, what it makes otherwise is derived again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from replicator.commands import exits
from replicator.commands.durations import Duration
from replicator.commands.jobs import shown
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.commands.show import counted
from replicator.daemon.logs import configure_logging
from replicator.daemon.mending import ask_job, compare_derived, digests_of

if TYPE_CHECKING:
    from replicator.daemon.mending import JobAnswer


@click.command("rederive")
@file_argument
@click.option(
    "--table",
    "tables",
    metavar="TABLE",
    multiple=True,
    help="An old or upgraded table; repeatable. [default: all whose transform has changed]",
)
@click.option("--dry-run", is_flag=True, help="Count what would be written, and write nothing.")
@click.option(
    "--timeout", "timeout_seconds", type=Duration(), default="24h", show_default=True, help="Wait so long for its end."
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, file: Path, *, tables: tuple[str, ...], dry_run: bool, timeout_seconds: float, as_json: bool
) -> None:
    """Find the rows that a changed transform makes otherwise than they are, and derive these aggregates again.

    For after a transform was changed and the daemon restarted: beside the running feed, at the rate of verification,
    and nothing else is touched. What it leaves out now is removed. Ctrl-C ends the waiting, not the work, which goes on
    where it was when the daemon is restarted. With --dry-run the file is compared as it is now, also before the daemon
    runs it. Exit code 1 when something could not be derived.
    """
    connector = connector_of(file)
    on = sys.stderr.isatty() and not as_json
    if dry_run:
        configure_logging()
        with shown("compared", None, on=on) as watch:
            detail = asyncio.run(compare_derived(connector, tables, watch))
        _show_comparison(detail, file, tables, as_json=as_json)
        ctx.exit(exits.DONE)
    digests = asyncio.run(digests_of(connector, tables))
    if not digests:
        _show_nothing(file, as_json=as_json)
        ctx.exit(exits.DONE)
    with shown("compared", None, on=on) as watch:
        answer = asyncio.run(ask_job(connector, "rederive", {"mappings": digests}, timeout_seconds, watch))
    if as_json:
        print_json({"dry_run": False, **answer.to_json()})
    else:
        click.echo(answer.message, err=not answer.done)
        next_step(*_next(answer, file))
    ctx.exit(exits.DONE if answer.ok else exits.FINDINGS)


def _show_nothing(file: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"ok": True, "dry_run": False, "mappings": {}})
        return
    click.echo("no transform has changed since its rows were written")
    next_step(f"replicator verify {file}", "to prove that both sides agree")


def _show_comparison(detail: Mapping[str, Any], file: Path, tables: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": True, **detail})
        return
    if not detail["mappings"]:
        _show_nothing(file, as_json=False)
        return
    for line in comparison_lines(detail):
        click.echo(line)
    options = "".join(f" --table {table}" for table in tables)
    next_step(f"replicator rederive {file}{options}", "once the daemon runs these files")


def comparison_lines(detail: Mapping[str, Any]) -> Iterator[str]:
    """What would be written, for people."""
    for name, one in detail["mappings"].items():
        if one["without_key"]:
            yield f"{click.style(name, bold=True)}  has no key: only a resync writes it again"
            continue
        yield (
            f"{click.style(name, bold=True)}  {one['missing']:,} INSERT, {one['different']:,} UPDATE, "
            f"{one['extra']:,} DELETE, of what {counted(one['done'], 'row')} of the old side make"
        )


def _next(answer: JobAnswer, file: Path) -> tuple[str, str]:
    if not answer.done:
        return f"replicator status {file}", "what the daemon does"
    mappings: dict[str, dict[str, Any]] = (answer.detail or {}).get("mappings") or {}
    if any(one["dead_letters"] for one in mappings.values()):
        return f"replicator dlq list {file}", "changes wait there, and are derived when they are retried"
    keyless = [name for name, one in mappings.items() if one["without_key"]]
    if keyless:
        return f"replicator resync {file} {keyless[0]}", "without a key there is no row to derive again"
    if not answer.ok:
        return f"replicator rederive {file} --table {next(iter(mappings))}", "again, when what was refused is mended"
    return f"replicator verify {file}", "to prove that both sides agree"
