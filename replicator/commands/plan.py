"""`replicator plan`: what would happen, table by table, and what stands in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from replicator.assess import Assessment, Finding, Level, MappingPlan
from replicator.commands import exits
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.commands.show import counted, size
from replicator.daemon.checks import assess_connector

_SIGNS = {Level.STOP: ("✘", "red"), Level.WARN: ("!", "yellow"), Level.NOTE: ("·", "cyan")}


@click.command("plan")
@file_argument
@json_option
@click.option("--notes", is_flag=True, help="Show also what is only for the record.")
@click.pass_context
def command(ctx: click.Context, file: Path, *, as_json: bool, notes: bool) -> None:
    """Say what a connector would do, and what stands in its way. Reads both databases and changes nothing.

    Exit code 1 when something must be mended before it can run.
    """
    assessment = asyncio.run(assess_connector(connector_of(file)))
    if as_json:
        print_json(assessment.to_json())
    else:
        for line in plan_lines(assessment, notes=notes):
            click.echo(line)
        if assessment.stops:
            next_step(f"replicator plan {file}", "again, when what is marked ✘ is mended")
        else:
            next_step(f"replicator run {file}", "or first `replicator test`, for the transforms")
    ctx.exit(exits.FINDINGS if assessment.stops else exits.DONE)


def plan_lines(assessment: Assessment, *, notes: bool = False) -> Iterator[str]:
    """The plan for people: each mapping with its findings, then those about the whole, then a summary."""
    for plan in assessment.mappings:
        yield from _mapping(plan)
        yield from _findings(assessment.of(plan.name), notes=notes)
    named = {plan.name for plan in assessment.mappings}
    homeless = [one for one in assessment.findings if one.mapping is not None and one.mapping not in named]
    general = [*homeless, *assessment.general]
    if any(notes or one.level is not Level.NOTE for one in general):
        yield ""
        yield click.style("the whole", bold=True)
        yield from _findings(general, notes=notes)
    yield ""
    promise = "always" if assessment.whole_transactions else "not always"
    yield f"A reader of the upgraded side {promise} sees whole source transactions: {assessment.transactions_reason}."
    counts = {level: sum(one.level is level for one in assessment.findings) for level in Level}
    yield (
        f"{counted(len(assessment.mappings), 'mapping')}; {counts[Level.STOP]} to mend, {counts[Level.WARN]} to know, "
        f"{counted(counts[Level.NOTE], 'note')}{'' if notes else ' (--notes shows them)'}"
    )


def _mapping(plan: MappingPlan) -> Iterator[str]:
    old, upgraded = (" + ".join(map(str, tables)) for tables in (plan.old, plan.upgraded))
    yield f"{click.style(old, bold=True)} → {click.style(upgraded, bold=True)}"
    rows = "rows unknown" if plan.rows_estimate is None else f"about {plan.rows_estimate:,} rows"
    key = ", ".join(plan.key) or "none"
    target_key = ", ".join(plan.upgraded_key) or "none"
    keys = key if key == target_key else f"{key} → {target_key}"
    if plan.topics:
        yield f"    from {', '.join(f'{name} ({_partitions(count)})' for name, count in plan.topics)}"
    yield f"    {', '.join(plan.how)}; key {keys}; replica identity {plan.replica_identity}; {rows}, {size(plan.bytes)}"


def _partitions(count: int | None) -> str:
    return "not there yet" if count is None else counted(count, "partition")


def _findings(findings: Iterable[Finding], *, notes: bool) -> Iterator[str]:
    for finding in findings:
        if finding.level is Level.NOTE and not notes:
            continue
        sign, colour = _SIGNS[finding.level]
        yield f"  {click.style(f'{sign} {finding.subject}', fg=colour)}: {finding.message}"
        for line in finding.remedy.splitlines():
            yield f"      {line}"
