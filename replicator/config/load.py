"""Reading connector files: every problem of every file in one error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from replicator.config.document import FILE_BYTES_MAX, Document, DocumentError, read_document
from replicator.config.environment import Environment
from replicator.config.explain import dotted, mark_of, problems_of
from replicator.config.models import Connector
from replicator.config.problems import ConfigError, Problem

SUFFIXES: Final = (".yaml", ".yml")


def load_connector(path: Path, environ: Mapping[str, str]) -> Connector:
    """Read one connector file.

    Args:
        path: the YAML file; `transforms` and `${file:...}` are relative to its folder.
        environ: where `${NAME}` is looked up.

    Raises:
        ConfigError: with every problem of the file, in order of position; never with a secret.

    """
    return _checked([_read(path, environ)])[0]


def load_connectors(path: Path, environ: Mapping[str, str]) -> list[Connector]:
    """Read one connector file, or all `*.yaml` and `*.yml` of a folder by name (hidden ones left out).

    Connectors of one folder run in one daemon: they may share `http.listen`, with one token, but no name.

    Args:
        path: file or folder.
        environ: where `${NAME}` is looked up.

    Raises:
        ConfigError: with every problem of all files, in order of files and positions; also for a
            folder without connectors.

    """
    return _checked([_read(file, environ) for file in _files(path)])


def parse_connector(raw: bytes, path: Path, environ: Mapping[str, str]) -> Connector:
    """Read one connector from the content of its file; like `load_connector` otherwise."""
    return _checked([_parse(raw, path, environ)])[0]


class _Loaded:
    """One file after reading: a connector, or problems."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document = Document()
        self.problems: list[Problem] = []
        self.connector: Connector | None = None

    def add(self, key: tuple[str | int, ...], message: str) -> None:
        """A problem at a key of the file."""
        mark = mark_of(self.document, key)
        text = f"{dotted(key)}: {message}"
        self.problems.append(Problem(str(self.path), mark.line, mark.column, dotted(key), text))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        names, reason = [], f"can't read the folder: {error.strerror}"
    else:
        reason = "no connector here: expected files named *.yaml or *.yml"
    found = [path / name for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    if not found:
        raise ConfigError([Problem(str(path), 0, 0, "", reason)])
    return found


def _read(path: Path, environ: Mapping[str, str]) -> _Loaded:
    try:
        with path.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        loaded = _Loaded(path)
        loaded.problems.append(Problem(str(path), 0, 0, "", f"can't read the file: {reason}"))
        return loaded
    return _parse(raw, path, environ)


def _parse(raw: bytes, path: Path, environ: Mapping[str, str]) -> _Loaded:
    loaded, file = _Loaded(path), str(path)
    try:
        loaded.document = read_document(raw, Environment(environ, path.parent))
    except DocumentError as error:
        mark, message, suggestion, _ = error.finding
        loaded.problems.append(Problem(file, mark.line, mark.column, "", message, suggestion))
        return loaded
    document = loaded.document
    for mark, message, suggestion, at in document.findings:
        loaded.problems.append(Problem(file, mark.line, mark.column, dotted(at), message, suggestion))
    try:
        connector = Connector.model_validate(document.value, context={"folder": path.parent})
    except ValidationError as error:
        loaded.problems += problems_of(error.errors(include_url=False), document, file)
    else:
        loaded.connector = connector
    return loaded


def _checked(files: list[_Loaded]) -> list[Connector]:
    """The connectors of all files, or every problem at once."""
    _across(files)
    problems = [
        problem
        for loaded in files
        for problem in sorted(loaded.problems, key=lambda problem: (problem.line, problem.column))
    ]
    if problems:
        raise ConfigError(problems)
    return [loaded.connector for loaded in files if loaded.connector is not None]


def _across(files: list[_Loaded]) -> None:
    """Rules between the connectors of one daemon."""
    names: dict[str, _Loaded] = {}
    listeners: dict[str, tuple[_Loaded, Connector]] = {}
    for loaded in files:
        connector = loaded.connector
        # a name counts also where the rest of its file is wrong
        name = loaded.document.value.get("name") if isinstance(loaded.document.value, dict) else None
        if isinstance(name, str) and ("name",) not in loaded.document.failed:
            first = names.setdefault(name, loaded)
            if first is not loaded:
                line, column = mark_of(first.document, ("name",))
                loaded.add(("name",), f"the same as in {first.path}:{line}:{column}")
        if connector is not None:
            other, neighbour = listeners.setdefault(str(connector.http.listen), (loaded, connector))
            if neighbour.http.token != connector.http.token:
                loaded.add(("http",), f"another token than {other.path} at the same address")
