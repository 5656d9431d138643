"""Documents say what the code has: every key, metric, error, state and command, and no other."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from replicator.cli import COMMANDS, cli
from replicator.config import parse_connector
from replicator.config.models import Connector
from replicator.config.units import format_duration, format_size
from replicator.errors import ACTIONS, Action, ErrorKind
from replicator.telemetry import State, names
from tests.documents import ROOT, blocks, documents

CONNECTOR = ROOT / "docs" / "connector.md"
OPERATIONS = ROOT / "docs" / "operations.md"
IN_WORDS = {  # defaults that the document says in words
    "stream.slot": "`replicator_<name>`",
    "stream.publication": "`replicator_<name>`",
    "tables.upgraded": "the same name",
    "tables.key": "the primary key",
    "apply.retry.attempts": "unlimited",
    "cutover.router.database": "the old database's name",
}
KINDS = {"stream.kind": "`slot`", "cutover.router.kind": "`none`"}  # required in the other variants


def rows(document: Path) -> dict[str, list[str]]:
    """Rows of its tables whose first cell is code: that, and the other cells."""
    found = {}
    for line in document.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"`[^`]+`", cells[0]):
            found[cells[0].strip("`")] = cells[1:]
    return found


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections(part)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Paths of a model's keys and their defaults."""
    for name, field in model.model_fields.items():
        inner = list(sections(field.annotation))
        for one in inner:
            yield from keys(one, f"{prefix}{name}.")
        if not inner:
            yield prefix + name, field.get_default(call_default_factory=True)


def shown(key: str, value: Any) -> str:
    """A default as the document shows it."""
    if key in IN_WORDS:
        return IN_WORDS[key]
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    return f"`{format_size(value)}`" if key.endswith("bytes_max") else f"`{value}`"


def test_every_key_of_a_connector_is_told_with_its_default() -> None:
    """docs/connector.md has a row for each key of the model, and no row for any other."""
    wanted = {key: shown(key, value) for key, value in keys(Connector)} | KINDS
    told = {key: cells[0] for key, cells in rows(CONNECTOR).items()}

    assert wanted == told


def test_connectors_in_documents_are_right(tmp_path: Path) -> None:
    """Every whole connector among the examples can be read."""
    found = [block.text for one in documents() for block in blocks(one) if "\nname:" in block.text]
    for text in found:
        for transforms in re.findall(r"^transforms: (\S+)$", text, re.MULTILINE):
            (tmp_path / transforms).touch()
        parse_connector(text.encode(), tmp_path / "a.yaml", {"OLD_DSN": "host=a", "UPGRADED_DSN": "host=b"})

    assert len(found) >= 3


def test_every_metric_is_told() -> None:
    """docs/operations.md has a row for each metric, by the name and type that a scrape shows, and no other."""
    wanted = {
        metric.name + ("_total" if metric.kind is names.MetricKind.COUNTER else ""): str(metric.kind.value)
        for metric in names.ALL
    }
    told = {key: cells[0] for key, cells in rows(OPERATIONS).items() if key.startswith("replicator_")}

    assert wanted == told


def test_every_error_kind_is_told() -> None:
    """docs/operations.md says of each kind whether it is retried, and what to do."""
    told = {key: cells for key, cells in rows(OPERATIONS).items() if len(cells) == 3}

    assert set(ErrorKind) == told.keys()
    retried = {kind for kind, cells in told.items() if cells[1].startswith("retried")}
    assert {kind for kind, action in ACTIONS.items() if action is Action.RETRY} == retried


def test_every_state_is_told() -> None:
    """docs/operations.md explains each state."""
    assert set(State) <= rows(OPERATIONS).keys()


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_commands_in_documents_exist(document: Path) -> None:
    """Every `replicator COMMAND` that a document names can be called, with every option that it gives."""
    context = click.Context(cli)
    for line in re.findall(r"(?:`|^\$ |^)replicator ([a-z][^`\n#]*)", document.read_text(), re.MULTILINE):
        name, *rest = line.split()
        assert name in COMMANDS, line
        command: Any = cli.get_command(context, name)
        if rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, line


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_tests_in_documents_exist(document: Path) -> None:
    """A test that a document names as proof is there: `tests/….py::name`, or the file alone."""
    for name, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", document.read_text()):
        assert (ROOT / name).exists(), name
        assert not test or re.search(rf"\bdef {test}\(", (ROOT / name).read_text()), f"{name}::{test}"


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    """A link names a file of this repository, and a heading that is there."""
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)", document.read_text()):
        path = (document.parent / target) if target else document
        assert path.exists(), f"{document.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{document.name} links to {target}#{anchor}"
