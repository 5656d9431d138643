"""What several commands share: the connector argument, and how an answer ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from replicator.config import Connector, load_connector, load_connectors

_Command = TypeVar("_Command", bound=Callable[..., Any])

FILE: Final = click.Path(path_type=Path)


def file_argument(command: _Command) -> _Command:
    """The connector's YAML file. That it can't be read is a problem of the file (78), not of the usage (2)."""
    return click.argument("file", type=FILE)(command)


def json_option(command: _Command) -> _Command:
    """`--json`: facts for scripts, nothing else on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")(command)


def logging_options(command: _Command) -> _Command:
    """`--log-format` and `--verbose`, for what runs until it is stopped."""
    verbose = click.option("--verbose", is_flag=True, help="Log at DEBUG.")
    return click.option(
        "--log-format",
        type=click.Choice(["auto", "json", "console"]),
        default="auto",
        show_default=True,
        help="auto: console on a terminal, else JSON lines.",
    )(verbose(command))


def connector_of(file: Path) -> Connector:
    """The connector of a file.

    Raises:
        ConfigError: with every problem.

    """
    return load_connector(file, os.environ)


def connectors_of(path: Path) -> list[Connector]:
    """The connectors of a file or a folder.

    Raises:
        ConfigError: with every problem of every file.

    """
    return load_connectors(path, os.environ)


def print_json(facts: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False, default=str))


def next_step(command: str, why: str = "") -> None:
    """The line that ends an answer: what to call now."""
    click.echo(f"\nNext: {command}" + (f"   ({why})" if why else ""))
