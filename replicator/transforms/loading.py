"""Imports a user's file of transforms by its path."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from replicator.errors import ErrorKind, ReplicatorError
from replicator.transforms.declared import DeclarationError
from replicator.transforms.fingerprint import fingerprint
from replicator.transforms.transform import Transform, collected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replicator.tables import TableName


def load_transforms(path: Path) -> tuple[Transform[Any, Any], ...]:
    """The transforms that a Python file declares, in order, with those of modules beside it that it imports.

    The file is always read anew. Modules beside it can be imported at its top; they are its own: another file's module
    of the same name is another module.

    Args:
        path: the `.py` file.

    Raises:
        ReplicatorError: kind CONFIG, with file and line: the file can't be read, has a syntax error, raises, declares
            nothing, or two transforms claim one table.

    """
    file = path.resolve()
    try:
        source = file.read_bytes()
    except OSError as error:
        raise ReplicatorError(f"{path}: {error.strerror}", kind=ErrorKind.CONFIG) from error
    name = f"replicator_transforms_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = str(file)
    with collected() as transforms, _importable(file.parent) as beside:
        sys.modules[name] = module  # dataclasses and typing look their module up there
        _execute(source, module, file)
    if not transforms:
        raise ReplicatorError(
            f"{path}: declares no transform", kind=ErrorKind.CONFIG, hint="Decorate a function with @transform(...)"
        )
    values = fingerprint({"": module.__dict__, **{name: each.namespace for name, each in beside.items()}})
    code = b"\0".join([source, *(each.source for _, each in sorted(beside.items())), values])
    for transform in transforms:
        transform.source = code
    _refuse_shared(transforms)
    return tuple(transforms)


def _execute(source: bytes, module: ModuleType, file: Path) -> None:
    try:
        code = compile(source, str(file), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - running the user's file is what it is for
    except ReplicatorError:
        raise
    except SyntaxError as error:
        place = f"{error.filename or file}:{error.lineno or 0}"
        raise ReplicatorError(f"{place}: syntax error: {error.msg}", kind=ErrorKind.CONFIG) from error
    except (Exception, SystemExit) as error:
        what = str(error) if isinstance(error, DeclarationError) else f"{type(error).__name__}: {error}"
        place = user_place(error, file.parent) or f"{file}:0"
        raise ReplicatorError(f"{place}: {what}", kind=ErrorKind.CONFIG) from error


def user_place(error: BaseException, folder: Path) -> str | None:
    """`file:line` of the innermost frame of the user's own code; None where there is none."""
    frames = traceback.extract_tb(error.__traceback__, limit=-100)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None


@dataclass(frozen=True)
class _Beside:
    """A module that lies beside a user's file."""

    source: bytes
    namespace: dict[str, Any]


@contextmanager
def _importable(folder: Path) -> Iterator[dict[str, _Beside]]:
    """Within the block modules of this folder can be imported; yields those that were."""
    found: dict[str, _Beside] = {}
    before = set(sys.modules)
    writes_bytecode = sys.dont_write_bytecode
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # the folder is the user's
    try:
        yield found
    finally:
        sys.dont_write_bytecode = writes_bytecode
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in sorted(set(sys.modules) - before):
            file = _beside(name, folder)
            if file is not None:
                module = sys.modules.pop(name)
                found[name] = _Beside(file.read_bytes() if file.is_file() else b"", vars(module))


def _beside(name: str, folder: Path) -> Path | None:
    """The file of a module that lies in the folder, or in a package of it; not in a virtual environment below it."""
    top = folder / name.partition(".")[0]
    if top.name == "replicator":
        return None
    module = sys.modules[name]
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    own = [
        Path(place) for place in places if place and (Path(place) == top.with_suffix(".py") or top in _parents(place))
    ]
    return own[0] if own else None


def _parents(place: str) -> tuple[Path, ...]:
    return (Path(place), *Path(place).parents)


def _refuse_shared(transforms: list[Transform[Any, Any]]) -> None:
    """Two transforms may share a table only where predicates say which rows are whose."""
    names: dict[str, Transform[Any, Any]] = {}
    for transform in transforms:
        other = names.setdefault(transform.name, transform)
        if other is not transform:
            _clash(transform, other, f"have one name, {transform.name}", "Give each a name=")
    for side, predicate in (("old", "owns_old"), ("upgraded", "owns")):
        claimed: dict[TableName, Transform[Any, Any]] = {}
        for transform in transforms:
            for declared in getattr(transform, side):
                other = claimed.setdefault(declared.table, transform)
                if other is transform or (getattr(transform, predicate) and getattr(other, predicate)):
                    continue
                hint = f"Say in {predicate}= of both which of its rows are whose, or make one transform of the two"
                _clash(transform, other, f"claim {side} table {declared.table}", hint)


def _clash(transform: Transform[Any, Any], other: Transform[Any, Any], what: str, hint: str) -> None:
    raise ReplicatorError(
        f"{transform.place.file}:{transform.place.line}: transforms {other.place} and {transform.place} both {what}",
        kind=ErrorKind.CONFIG,
        hint=hint,
    )
