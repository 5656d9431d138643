"""`${NAME}`, `${NAME:-default}` and `${file:path}` inside the scalar values of a connector.

Substitution happens after YAML is parsed and only inside a value, so nothing that comes from
outside can add a key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from replicator.config.problems import closest

FILE_BYTES_MAX: Final = 65_536

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?P<body>[^}]*)\}|\$\{")
_VARIABLE: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_NOT_TEXT: Final = re.compile("[\0\ud800-\udfff]")


class Failure(NamedTuple):
    """A reference that can't be resolved; never holds a value."""

    message: str
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class Substituted:
    """A scalar after substitution.

    Attributes:
        text: the result; failed references are left out of it.
        changed: at least one reference stood in it, so the text must not be shown.
        failures: what could not be resolved, in order.

    """

    text: str
    changed: bool
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """Where references get their values.

    Attributes:
        variables: environment variables.
        folder: where relative paths of `${file:...}` begin: the connector's own folder.

    """

    variables: Mapping[str, str]
    folder: Path

    def substitute(self, text: str) -> Substituted:
        """Replace every reference in one scalar; `$${` stands for a literal `${`."""
        if "${" not in text:
            return Substituted(text, changed=False)
        failures: list[Failure] = []
        changed = False

        def resolve(match: re.Match[str]) -> str:
            nonlocal changed
            if match[0] == "$${":
                return "${"
            changed = True
            value = self._value(match["body"])
            if isinstance(value, str):
                return value
            failures.append(value)
            return ""

        return Substituted(_REFERENCE.sub(resolve, text), changed, tuple(failures))

    def _value(self, body: str | None) -> str | Failure:
        if body is None:
            return Failure("'${' without '}'; a literal '${' is written '$${'")
        if body.startswith("file:"):
            return self._content(body.removeprefix("file:"))
        match = _VARIABLE.fullmatch(body)
        if match is None:
            return Failure("expected ${NAME}, ${NAME:-default} or ${file:path}")
        name, default = match["name"], match["default"]
        value = self.variables.get(name)
        if default is not None and not value:
            return default
        if value is None:
            return Failure(f"environment variable {name} is not set", closest(name, self.variables))
        if _NOT_TEXT.search(value):
            return Failure(f"environment variable {name} is not UTF-8 text")
        return value

    def _content(self, name: str) -> str | Failure:
        path = self.folder / name
        if not name or not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on long names
            return Failure(f"no such file: {name!r}")
        try:
            with path.open("rb") as stream:
                raw = stream.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            return Failure(f"can't read {name!r}: {error.strerror}")
        if len(raw) > FILE_BYTES_MAX:
            return Failure(f"file {name!r} is larger than {FILE_BYTES_MAX} bytes")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if _NOT_TEXT.search(text):
            return Failure(f"file {name!r} is not UTF-8 text")
        return text.rstrip("\r\n")
