"""`${NAME}`, `${NAME:-default}` and `${file:path}` inside the scalar values of a connector.

Substitution happens after YAML is parsed and only inside a value, so nothing that comes from outside can add a key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replicator.config.problems import closest

FILE_BYTES_MAX: Final = 65_536

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?P<body>[^}]*)\}|\$\{")
_VARIABLE: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-.*)?", re.DOTALL)
_UNREADABLE: Final = re.compile("[\0\ud800-\udfff]")


class ReferenceError_(ValueError):
    """One reference that can't be resolved: text for a `Problem`, and a likely name."""

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion
