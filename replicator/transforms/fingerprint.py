"""What a file of transforms works with besides its own text: values that it has read, and packages that it uses.

A table of roles may come from a JSON file, a region from the environment, the form of a phone number from a package:
when those change, rows come out otherwise, though no line of the user's has changed. So the plain data among a module's
names counts as its text does, and the version of each package that one of its names comes from. What a function reads
by itself when it is called, nobody sees: that isn't pure.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from types import ModuleType
from typing import Any, Final
from uuid import UUID

_PLAIN: Final = (
    type(None), bool, int, float, complex, str, bytes,
    Decimal, Fraction, UUID, date, datetime, time, timedelta,
)  # fmt: skip
_DEPTH_MAX: Final = 20  # a structure that holds itself ends somewhere


def fingerprint(namespaces: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The plain data of modules, by name, and the packages that they use; the same in every process and version.

    Args:
        namespaces: of the user's modules: what each name stands for.

    """
    lines = [
        f"{module}.{name}={text}"
        for module, names in sorted(namespaces.items())
        for name, value in sorted(names.items())
        if not name.startswith("__") and (text := _text(value, 0)) is not None
    ]
    values = (value for names in namespaces.values() for value in names.values())
    lines += [f"{package} {version}" for package, version in sorted(_packages(values, namespaces.keys()))]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _text(value: object, depth: int) -> str | None:
    """None of what isn't plain data."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, re.Pattern):
        return f"{value.pattern!r}/{value.flags}"
    if depth > _DEPTH_MAX:
        return "..."
    if isinstance(value, Mapping):
        pairs = [f"{_inner(key, depth)}: {_inner(each, depth)}" for key, each in value.items()]
        return f"{{{', '.join(sorted(pairs))}}}"
    if isinstance(value, AbstractSet):
        return f"{{{', '.join(sorted(_inner(each, depth) for each in value))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inner(each, depth) for each in value)}]"
    return None


def _inner(value: object, depth: int) -> str:
    text = _text(value, depth + 1)
    return type(value).__qualname__ if text is None else text


def _packages(values: Iterable[object], own: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The packages that these come from, with their versions; neither Python's nor ours nor the user's."""
    tops = {_home(value).partition(".")[0] for value in values}
    for top in tops.difference(own, sys.stdlib_module_names, ("", "replicator", "builtins")):
        version = _version(top)
        if version is not None:
            yield top, version


def _home(value: object) -> str:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""


def _version(top: str) -> str | None:
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        pass
    names = importlib.metadata.packages_distributions().get(top, ())
    return ", ".join(sorted(f"{name} {importlib.metadata.version(name)}" for name in set(names))) or None
