"""`replicator test`: do the transforms keep their laws?"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from replicator.commands import exits
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.daemon.checks import check_laws

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.lawcheck import LawFailure, LawReport


@click.command("test")
@file_argument
@json_option
@click.option("--rows", default=1000, show_default=True, help="Rows of each table to sample from the old database.")
@click.option("--generated", default=200, show_default=True, help="Aggregates to generate for each transform.")
@click.option("--seed", type=int, help="Repeat an earlier run: its seed was printed.")
@click.option("--values", is_flag=True, help="Show values of rows that break a law.")
@click.pass_context
def command(
    ctx: click.Context, file: Path, *, as_json: bool, rows: int, generated: int, seed: int | None, values: bool
) -> None:
    """Check a connector's transforms: that they are pure, and that their inverse gives back what there was.

    Rows are generated from both catalogs and sampled from the old database; nothing is written. Exit code 1 when a law
    is broken.
    """
    connector = connector_of(file)
    chosen = secrets.randbelow(1 << 31) if seed is None else seed
    reports = asyncio.run(_reports(connector, rows, generated, chosen, values=values, quiet=as_json))
    broken = [report for report in reports if not report.ok]
    if as_json:
        print_json({"seed": chosen, "ok": not broken, "transforms": [_facts(report) for report in reports]})
    elif not reports:
        click.echo("no transform to check: tables of the same shape are their own inverse")
        next_step(f"replicator run {file}")
    elif broken:
        next_step(f"replicator test {file} --seed {chosen} --values", "the same rows again, with what they hold")
    else:
        next_step(f"replicator run {file}")
    ctx.exit(exits.FINDINGS if broken else exits.DONE)


async def _reports(
    connector: Connector, rows: int, generated: int, seed: int, *, values: bool, quiet: bool
) -> list[LawReport]:
    reports: list[LawReport] = []
    async for report in check_laws(connector, rows=rows, generated=generated, seed=seed, show_values=values):
        reports.append(report)
        if not quiet:
            for line in report_lines(report):
                click.echo(line)
    return reports


def _facts(report: LawReport) -> dict[str, Any]:
    return {"ok": report.ok, **asdict(report)}


def report_lines(report: LawReport) -> Iterator[str]:
    """One transform's report for people."""
    sign = click.style("✔", fg="green") if report.ok else click.style("✘", fg="red")
    left_out = f", {report.filtered:,} left out by it" if report.filtered else ""
    yield (
        f"{sign} {click.style(report.mapping, bold=True)}  {report.label}: {report.sampled:,} sampled and "
        f"{report.generated:,} generated aggregates{left_out}"
    )
    for failure in report.failures:
        yield from _failure(failure)
    for reason, count in report.refused.items():
        yield f"    · {count:,} generated aggregates weren't taken: {reason}"
    for reason in report.unknown:
        yield f"    · not checked: {reason}"


def _failure(failure: LawFailure) -> Iterator[str]:
    columns = f" ({', '.join(failure.columns)})" if failure.columns else ""
    kind = "sampled" if failure.sampled else "generated"
    broken = click.style(f"broken: {failure.law}", fg="red")
    yield f"    {broken}: {failure.table}{columns}: {failure.message}"
    yield f"        {failure.count:,} times, first with the {kind} key ({', '.join(failure.key)})"
    for difference in failure.differences:
        yield f"        {difference.column}: {difference.before!r} became {difference.after!r}"
