"""`replicator repair`: what verification has found to differ is derived again."""

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
from replicator.daemon.mending import RepairPlan, ask_job, plan_repair

if TYPE_CHECKING:
    from replicator.daemon.mending import JobAnswer, TableRepair

_LEFT_SHOWN = 20


@click.command("repair")
@file_argument
@click.option("--table", "tables", metavar="TABLE", multiple=True, help="Only this old or upgraded table; repeatable.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option(
    "--timeout", "timeout_seconds", type=Duration(), default="24h", show_default=True, help="Wait so long for its end."
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    *,
    tables: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Derive again what `replicator verify` has found to differ, and nothing else; then verify it again.

    The running daemon does it, beside the feed, while the application writes: each aggregate is read from the old side,
    transformed and written as a change of it would be. TABLE is the name of an old or an upgraded table; an aggregate
    of several is repaired whole. Exit code 1 when something is left.
    """
    connector = connector_of(file)
    plan = asyncio.run(plan_repair(connector, tables))
    if not as_json:
        for line in plan_lines(plan):
            click.echo(line)
    if dry_run or not plan.digests:
        if as_json:
            print_json({"ok": not plan.digests, "dry_run": True, **plan_document(plan)})
        else:
            next_step(*_after_plan(plan, file))
        ctx.exit(exits.DONE)
    _confirm(plan, yes=yes, asks=not as_json)
    payload = {"mappings": plan.digests, "upto": plan.upto}
    total = plan.rows + plan.left
    with shown("repaired", total, on=sys.stderr.isatty() and not as_json) as watch:
        answer = asyncio.run(ask_job(connector, "repair", payload, timeout_seconds, watch))
    if as_json:
        print_json({"dry_run": False, **plan_document(plan), **answer.to_json()})
    else:
        click.echo(answer.message, err=not answer.done)
        for line in _left(answer.detail or {}):
            click.echo(line)
        next_step(*_next(answer, file))
    ctx.exit(exits.DONE if answer.ok else exits.FINDINGS)


def _confirm(plan: RepairPlan, *, yes: bool, asks: bool) -> None:
    """Return when it is wanted; else end."""
    if yes:
        return
    if not asks or not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here whether this is wanted: say --yes (or --dry-run, to look)")
    click.confirm(f"\nWrite {counted(plan.rows, 'row')} of the upgraded side?", abort=True)


def plan_document(plan: RepairPlan) -> dict[str, Any]:
    """For scripts."""
    return {"tables": [table.to_json() for _, table in sorted(plan.tables.items())]}


def plan_lines(plan: RepairPlan) -> Iterator[str]:
    """For people: statements by table, and the keys of the first rows."""
    if not plan.tables:
        yield "no open difference: nothing to repair"
    for _, table in sorted(plan.tables.items()):
        yield from _table(table)


def _table(table: TableRepair) -> Iterator[str]:
    counts = ", ".join(f"{count:,} {statement}" for statement, count in sorted(table.statements.items()))
    yield f"{click.style(table.table, bold=True)}  {counts or 'nothing'}"
    for statement, keys in sorted(table.keys.items()):
        more = table.statements[statement] - len(keys)
        names = ", ".join(_key(key) for key in keys)
        yield f"    {statement} {names}{f', and {more:,} more' if more else ''}"
    if table.waiting:
        yield click.style(
            f"    {counted(table.waiting, 'row')} left alone: changes wait in the dead letter queue, which come first",
            fg="yellow",
        )
    if table.without_key:
        yield click.style(
            f"    {counted(table.without_key, 'row')} left alone: the table has no key, so only a resync mends it",
            fg="yellow",
        )


def _key(key: tuple[str, ...]) -> str:
    return key[0] if len(key) == 1 else f"({', '.join(key)})"


def _left(detail: Mapping[str, Any]) -> Iterator[str]:
    rows = detail.get("rows") or []
    for row in rows[:_LEFT_SHOWN]:
        reason = f": {row['message']}" if row["message"] else ""
        yield f"  left: {row['table']} {_key(tuple(row['key']))}, {row['kind']} ({row['why']}){reason}"
    if len(rows) > _LEFT_SHOWN:
        yield f"  and {len(rows) - _LEFT_SHOWN} more (--json shows them)"


def _after_plan(plan: RepairPlan, file: Path) -> tuple[str, str]:
    if not plan.tables:
        return f"replicator verify {file}", "to look once more"
    return f"replicator repair {file}", "to have it done"


def _next(answer: JobAnswer, file: Path) -> tuple[str, str]:
    left = (answer.detail or {}).get("left") or {}
    if not answer.done:
        return f"replicator status {file}", "what the daemon does"
    if "dead_letter" in left:
        return f"replicator dlq list {file}", "changes wait there, and come first"
    if "without_key" in left:
        table = next(row["mapping"] for row in (answer.detail or {})["rows"] if row["why"] == "without_key")
        return f"replicator resync {file} {table}", "without a key there is no row to repair"
    return f"replicator verify {file}", "the whole, once more"
