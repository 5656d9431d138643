"""`replicator verify`: do both databases agree, while both are in use?"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import uvloop

from replicator.commands import exits
from replicator.commands.certificate import command_line
from replicator.commands.collecting import collect_seldom
from replicator.commands.durations import Duration
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.commands.show import counted, span
from replicator.daemon.certifying import Issued, certify
from replicator.daemon.checking import checks_of
from replicator.daemon.logs import configure_logging
from replicator.daemon.verifying import Wanted, report_document, verify_connector

if TYPE_CHECKING:
    from replicator.engine.verify.run import Report, Verification

REFRESH_SECONDS: Final = 0.25
SHOWN: Final = frozenset({"sql", "great_expectations"})
"""Kinds of checks that are told one by one."""
NOUNS: Final = {
    "rows": "row count",
    "foreign_key": "foreign key",
    "unique": "deferrable key",
    "sequence": "sequence",
}


class Percent(click.ParamType[float]):
    """`5%`, or `5`."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse it; click shows what is wrong, and ends with 2."""
        if isinstance(value, float):
            return value
        try:
            percent = float(str(value).removesuffix("%"))
        except ValueError:
            percent = 0.0
        if not 0 < percent <= 100:
            self.fail(f"{value!r} is no percentage above 0, up to 100%", param, ctx)
        return percent


@click.command("verify")
@file_argument
@click.option("--table", "tables", metavar="TABLE", multiple=True, help="Only this old or upgraded table; repeatable.")
@click.option("--where", metavar="SQL", help="Only rows of the old table for which this holds; with one --table.")
@click.option(
    "--sample", metavar="P%", type=Percent(), default="100%", show_default=True, help="Only some of the chunks."
)
@click.option(
    "--rate",
    type=click.IntRange(min=0),
    help="Rows a second, at most; 0 is unlimited. [default: verify.rows_per_second_max]",
)
@click.option(
    "--patience",
    type=Duration(),
    default="20s",
    show_default=True,
    help="Look so long at a row that never stands still; then it is unsettled.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    *,
    tables: tuple[str, ...],
    where: str | None,
    sample: float,
    rate: int | None,
    patience: float,
    as_json: bool,
) -> None:
    """Compare both databases, row by row, while both are in use; a difference is reported only when it is proven.

    Reads both sides and changes neither; findings are kept in replicator.divergence of the upgraded database. The
    daemon must be running. A run that was interrupted goes on where it was. Then its checks are looked at; when all of
    it is right, a certificate is issued. Exit code 1 when anything differs, or could not be decided, or a check that
    blocks is not ok.
    """
    if where is not None and len(tables) != 1:
        raise click.UsageError("--where is SQL on one old table: name it, or its upgraded one, with --table")
    connector = connector_of(file)
    configure_logging()
    limit = connector.verify.rows_per_second_max if rate is None else rate or None
    wanted = Wanted(tables, where, sample, limit, patience)
    watch = _bars if sys.stderr.isatty() and not as_json else None
    issued: list[Issued] = []
    collect_seldom()
    report = uvloop.run(
        verify_connector(
            connector,
            wanted,
            watch=watch,
            checks=checks_of(connector, wanted),
            finished=certify(connector, wanted, issued),
        )
    )
    if as_json:
        print_json({**report_document(report), "certificate": issued[0].id if issued else None})
    else:
        for line in report_lines(report):
            click.echo(line)
        for line in _certificate(issued):
            click.echo(line)
        next_step(*_next(report, issued, file))
    ctx.exit(exits.DONE if report.ok else exits.FINDINGS)


def report_lines(report: Report) -> Iterator[str]:
    """The report for people: a line a table, what was let pass, and a summary."""
    width = max((len(table) for table in report.tables), default=0)
    for table, counts in sorted(report.tables.items()):
        wrong = [
            f"{count:,} {what}"
            for what in ("missing", "extra", "different", "unsettled")
            if (count := getattr(counts, what))
        ]
        sign = click.style("✔", fg="green") if not wrong else click.style("✘", fg="red")
        words = ", ".join(wrong) or "equal"
        yield f"{sign} {table:<{width}}  {counted(counts.rows, 'row')}: {words}  ({span(counts.seconds)})"
        if counts.within:
            yield f"  {'':<{width}}  {counted(counts.within, 'value')} within the declared tolerance"
    yield from check_lines(report)
    for name, columns in report.tolerances.items():
        yield from (f"  tolerance: {name}.{column} may differ by {most}" for column, most in columns.items())
    document = report_document(report)
    if document["position"]:
        yield f"position: {document['position']['from']} to {document['position']['upto']} of the old side's WAL"
    if report.resumed:
        yield f"run {report.run} was interrupted, and went on here"


def check_lines(report: Report) -> Iterator[str]:
    """A line for each check that isn't ok, and for each of the business's own; the others are counted."""
    quiet: dict[str, int] = {}
    for check in report.checks:
        if check["ok"] and check["kind"] not in SHOWN:
            quiet[check["kind"]] = quiet.get(check["kind"], 0) + 1
            continue
        colour, sign = {True: ("green", "✔"), False: ("red", "✘"), None: ("yellow", "?")}[check["ok"]]
        if check["ok"] is False and check["severity"] == "warn":
            colour, sign = "yellow", "!"
        yield f"{click.style(sign, fg=colour)} {check['name']}: {check['message']}"
    if quiet:
        told = ", ".join(counted(number, NOUNS[kind]) for kind, number in quiet.items())
        yield f"{click.style('✔', fg='green')} {told}"


def _certificate(issued: list[Issued]) -> Iterator[str]:
    for one in issued:
        if one.id is not None:
            yield f"{click.style('✔', fg='green')} certificate {one.id} issued"
        yield from (f"no certificate: {lack.message}" for lack in one.missing)


def _next(report: Report, issued: list[Issued], file: Path) -> tuple[str, str]:
    for lack in (lack for one in issued for lack in one.missing):
        return command_line(lack, file), lack.message
    wrong = next((table for table, counts in sorted(report.tables.items()) if not counts.ok), None)
    if wrong is None and not report.ok:
        failed = next(check["name"] for check in report.checks if not check["ok"] and check["severity"] == "block")
        return f"replicator verify {file}", f"the rows agree; once {failed!r} is mended"
    if wrong is None:
        return f"replicator certificate {file}", "both sides agree"
    counts = report.tables[wrong]
    if not (counts.missing or counts.extra or counts.different):
        return f"replicator verify {file} --table {wrong}", "some rows never stood still; try them again"
    return f"replicator repair {file}", "its findings are in replicator.divergence of the upgraded database"


async def _bars(verification: Verification) -> None:
    """A bar a table that is being verified, with rate and time left; until cancelled."""
    from rich.console import Console  # noqa: PLC0415 - only where there is a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn  # noqa: PLC0415 - likewise

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        while True:
            now = time.time()
            for name, table in verification.progress.items():
                if table.started_at is None:
                    continue
                if name not in bars:
                    bars[name] = progress.add_task(table.table, total=None, note="")
                rate, eta = table.rate.per_second(now), table.eta_seconds(now)
                notes = [] if rate is None else [f"{rate:,.0f} rows/s"]
                if eta:
                    notes.append(f"{span(eta)} left")
                progress.update(bars[name], completed=table.rows_done, total=table.rows_estimate, note=", ".join(notes))
                if table.finished_at is not None:
                    progress.update(bars[name], visible=False)
            await asyncio.sleep(REFRESH_SECONDS)
