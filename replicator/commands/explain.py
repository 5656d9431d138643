"""`replicator explain`: one row's story, from both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import uvloop

from replicator.commands import exits
from replicator.commands.durations import Duration
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.commands.show import counted, span
from replicator.daemon.explaining import Question, explain
from replicator.daemon.logs import configure_logging

_SIGNS = {"equal": ("✔", "green"), "differs": ("✘", "red"), "undecided": ("?", "yellow")}


@click.command("explain")
@file_argument
@click.argument("table")
@click.argument("key", nargs=-1, required=True)
@click.option("--values", is_flag=True, help="Show the rows' values, not only which columns differ.")
@click.option(
    "--patience",
    type=Duration(),
    default="10s",
    show_default=True,
    help="Look so long at a row that differs until it is decided.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, file: Path, *, table: str, key: tuple[str, ...], values: bool, patience: float, as_json: bool
) -> None:
    """Tell one row's story: where it comes from, what is made of it, who wrote it, and whether it is right.

    TABLE is of either side; KEY is `id=5`, or the plain values of the key's columns in order. Reads both sides and
    changes neither. Exit code 1 when the row differs now, or can't be decided.
    """
    connector = connector_of(file)
    configure_logging()
    document = uvloop.run(explain(connector, Question(table, key, patience, values)))
    if as_json:
        print_json(document)
    else:
        for line in _lines(document):
            click.echo(line)
        next_step(*_next(document, file))
    ctx.exit(exits.DONE if document["equal"] else exits.FINDINGS)


def _next(document: dict[str, Any], file: Path) -> tuple[str, str]:
    stories = document["stories"]
    letters = [letter for one in stories for letter in one["dead_letters"]]
    if letters:
        return f"replicator dlq show {file} {letters[0]['id']}", "a change of it waits there"
    if document["equal"]:
        return f"replicator verify {file} --table {document['table']}", "to look at the whole table"
    if any(one["verdict"] == "differs" for one in stories):
        return f"replicator verify {file} --table {document['table']}", "is it alone? Then `replicator repair`"
    return f"replicator status {file}", "how far the feed is"


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for one in document["stories"]:
        yield from _story(one)
    last = document["last_verification"]
    if last is None:
        yield "last verification of everything: none yet"
    else:
        found = "found nothing" if last["ok"] else "found something"
        yield f"last verification of everything: run {last['run']}, {span(last['age_seconds'])} ago, {found}"


def _story(one: dict[str, Any]) -> Iterator[str]:
    sign, colour = _SIGNS[one["verdict"]]
    because = f": {one['because']}" if one["because"] else ""
    yield f"{click.style(sign, fg=colour)} {one['mapping']}  {one['verdict']}{because}"
    transform = one["transform"]
    yield f"  transform   {transform['function']}, digest {transform['digest'][:12]}"
    if transform["rows_from_before"]:
        yield f"              rows from before {_moment(transform['changed_at'])} may be by another one"
    source = one["source"]
    key = "unknown" if source["key"] is None else f"({', '.join(source['key'])})"
    there = "" if source["exists"] else ", which isn't there"
    yield f"  source      key {key}{there}" + (f", read at {source['lsn']}" if source["lsn"] else "")
    for table in source["tables"]:
        for row in table["rows"]:
            yield f"    {table['table']} {_named(row['key'])}: xmin {row['xmin']}{_at(row)}"
            yield from _values(row.get("values"))
    for table in one["target"]:
        expected = counted(table["expected"], "row")
        yield f"  target      {table['table']}: {expected} expected, {len(table['rows'])} there"
        for row in table["rows"]:
            by = f", written by {row['written_by']}" if row["written_by"] else ""
            why = f" (writer unknown: {row['unknown_because']})" if row["unknown_because"] else ""
            owned = "" if row["owned"] else ", not this mapping's own"
            yield f"    {_named(row['key'])}: xmin {row['xmin']}{_at(row)}{by}{owned}{why}"
            yield from _values(row.get("values"))
        for row in table.get("expected_values", ()):
            yield "    expected:"
            yield from _values(row)
        for each in table["differences"]:
            columns = f" in {', '.join(each['columns'])}" if each["columns"] else ""
            yield click.style(f"    {each['kind']} ({', '.join(each['key'])}){columns}", fg="red")
    yield from _known(one)


def _known(one: dict[str, Any]) -> Iterator[str]:
    for finding in one["findings"]:
        evidence = ", ".join(f"{name} {value}" for name, value in finding["evidence"].items())
        yield f"  cause       {finding['cause'].replace('_', ' ')} ({evidence})"
    if one["deferred"]:
        yield "  deferred    it waits for a unique value that is moving, or for a row that it refers to"
    for letter in one["dead_letters"]:
        yield f"  dead letter {letter['id']} at {letter['position']}, {letter['kind']}: {letter['message']}"
    for known in one["divergences"]:
        columns = f" in {', '.join(known['columns'])}" if known["columns"] else ""
        ended = "open" if known["closed_at"] is None else f"closed {_moment(known['closed_at'])}"
        since = _moment(known["first_seen"])
        yield f"  divergence  {known['id']}: {known['kind']}{columns}, {known['cause']}, since {since}, {ended}"


def _named(key: dict[str, Any]) -> str:
    return "(" + ", ".join(f"{name}={value}" for name, value in key.items()) + ")"


def _at(row: dict[str, Any]) -> str:
    return f", committed {_moment(row['committed_at'])}" if row["committed_at"] is not None else ""


def _values(values: dict[str, str | None] | None) -> Iterator[str]:
    for name, value in (values or {}).items():
        yield f"      {name} = {'NULL' if value is None else repr(value)}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
