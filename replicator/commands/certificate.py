"""`replicator certificate`: is it proven that both databases agree, and if not, what is missing?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from replicator.commands import exits
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.commands.show import counted, span
from replicator.daemon.certifying import read_certificate

if TYPE_CHECKING:
    from replicator.certificate import Assessment, Missing


@click.command("certificate")
@file_argument
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path, *, as_json: bool) -> None:
    """Show the proof that both databases agree, or say exactly what is missing.

    `replicator verify` issues it. It is void once a transform, the connector or a schema changes, a difference or a
    dead letter appears, a check fails, rows are written anew, or a database is another one. Exit code 1 without one.
    """
    assessment = asyncio.run(read_certificate(connector_of(file)))
    if as_json:
        print_json(certificate_document(assessment, file))
    else:
        for line in certificate_lines(assessment, file):
            click.echo(line)
        if assessment.valid:
            next_step(f"replicator status {file}", "it is void as soon as something puts it in doubt")
        else:
            first = assessment.missing[0]
            next_step(command_line(first, file), first.message)
    ctx.exit(exits.DONE if assessment.valid else exits.FINDINGS)


def command_line(missing: Missing, file: Path) -> str:
    """What to do about it: `replicator resync crm.yaml public.users`."""
    words = missing.command.split()
    at = 2 if words[0] == "dlq" else 1
    return " ".join(["replicator", *words[:at], str(file), *words[at:]])


def certificate_document(assessment: Assessment, file: Path) -> dict[str, Any]:
    """As JSON: `valid`, `missing`, `certificate`."""
    stored = assessment.certificate
    return {
        "valid": assessment.valid,
        "missing": [
            {"lack": str(one.lack), "message": one.message, "command": command_line(one, file)}
            for one in assessment.missing
        ],
        "certificate": None
        if stored is None
        else {
            "id": stored.id,
            "issued_at": stored.issued_at,
            "verified_since": stored.verified_since,
            "run": stored.run,
            "void_at": stored.void_at,
            "void_reason": stored.void_reason,
            **stored.content,
        },
    }


def certificate_lines(assessment: Assessment, file: Path) -> Iterator[str]:
    """For people."""
    stored = assessment.certificate
    if not assessment.valid:
        state = "no certificate" if stored is None else f"certificate {stored.id} of {_when(stored.issued_at)} is void"
        yield click.style(f"✘ {state}", fg="red")
        for one in assessment.missing:
            yield f"  {one.message}"
            yield f"      {command_line(one, file)}"
        return
    assert stored is not None
    age = span(max(0.0, time.time() - stored.verified_since))
    yield click.style(f"✔ certificate {stored.id}, issued {_when(stored.issued_at)}", fg="green")
    yield f"  both sides agree, as verification {stored.run} proved, which began {age} ago"
    tables = stored.content["tables"]
    width = max(map(len, tables), default=0)
    for table, counts in sorted(tables.items()):
        within = counts["within_tolerance"]
        note = f", {counted(within, 'value')} within tolerance" if within else ""
        yield f"  {table:<{width}}  {counted(counts['rows'], 'row')}{note}"
    checks = stored.content["checks"]
    failed = [check["name"] for check in checks if check["ok"] is not True]
    yield f"  {counted(len(checks) - len(failed), 'check')} ok" + (
        f", warned of: {', '.join(failed)}" if failed else ""
    )
    if stored.content["position"]:
        yield f"  position: {stored.content['position']['from']} to {stored.content['position']['upto']}"
    databases = stored.content["things"]["databases"]
    for side, name in (("old", "source"), ("upgraded", "target")):
        one = databases[name]
        yield f"  {side}: cluster {one['system']}, timeline {one['timeline']}, database {one['database']}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
