"""`replicator validate`: are the connector files right, as far as that can be said without a database?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from replicator.commands import exits
from replicator.commands.options import connectors_of, file_argument, json_option, next_step, print_json
from replicator.config import ConfigError, Connector
from replicator.errors import ReplicatorError
from replicator.transforms import load_transforms


@click.command("validate")
@file_argument
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path, *, as_json: bool) -> None:
    """Check connector files and the Python of their transforms, without any database.

    FILE is one connector or a folder of them. Problems are printed as file:line:column, one a line; exit code 78.
    """
    described: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    try:
        connectors = connectors_of(file)
    except ConfigError as error:
        connectors = []
        problems += [_problem(str(one), one.path, one.line, one.column, one.key) for one in error.problems]
    for connector in connectors:
        try:
            described.append(_describe(connector))
        except ReplicatorError as error:
            problems.append(_problem(str(error), str(connector.transforms), 0, 0, "transforms"))
    if as_json:
        print_json({"valid": not problems, "problems": problems, "connectors": described})
    elif problems:
        for problem in problems:
            click.echo(problem["text"], err=True)
    else:
        _show(described)
        next_step(f"replicator plan {file}", "reads both databases and says what would happen")
    ctx.exit(exits.CONFIG if problems else exits.DONE)


def _problem(text: str, path: str, line: int, column: int, key: str) -> dict[str, Any]:
    return {"text": text, "file": path, "line": line, "column": column, "key": key}


def _describe(connector: Connector) -> dict[str, Any]:
    """What the connector says, secrets masked; loads its transforms.

    Raises:
        ReplicatorError: CONFIG, with file and line of the Python that is wrong.

    """
    transforms = () if connector.transforms is None else load_transforms(connector.transforms)
    return {
        "name": connector.name,
        "old": connector.old.dsn.masked(),
        "upgraded": connector.upgraded.dsn.masked(),
        "stream": connector.stream.kind,
        "tables": [str(entry.old) for entry in connector.tables],
        "transforms": [transform.name for transform in transforms],
        "without_inverse": [transform.name for transform in transforms if transform.backward is None],
        "listen": str(connector.http.listen),
    }


def _show(described: list[dict[str, Any]]) -> None:
    for one in described:
        click.echo(f"{one['name']}: right, as far as can be said without a database")
        click.echo(f"  old         {one['old']}")
        click.echo(f"  upgraded    {one['upgraded']}")
        click.echo(f"  stream      {one['stream']}")
        click.echo(f"  tables      {', '.join(one['tables']) or 'none but those of the transforms'}")
        click.echo(f"  transforms  {', '.join(one['transforms']) or 'none'}")
        if one["without_inverse"]:
            click.echo(f"  no inverse  {', '.join(one['without_inverse'])} (no way back for these)")
