"""The decorator `@transform`, and the object that it makes of a function."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from replicator.errors import ErrorKind, ReplicatorError
from replicator.rows import Aggregate, Row
from replicator.transforms.declared import (
    DeclarationError,
    DeclaredSide,
    KeyMap,
    SideSpec,
    declared_lossy,
    declared_predicate,
    declared_references,
    declared_sides,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Made = Row | Iterable[Row] | None
"""What a transform returns: one row, several, or nothing to leave the aggregate out."""

A = TypeVar("A", Row, Aggregate)
R = TypeVar("R", bound=Made)
InverseFunction = TypeVar("InverseFunction", bound=Callable[[Any], Made])

_LOADING: Final[ContextVar[list[Transform[Any, Any]] | None]] = ContextVar("transforms being loaded", default=None)


class Place:
    """Where a user's function stands, for errors."""

    __slots__ = ("file", "line", "name")

    def __init__(self, function: Callable[..., Any]) -> None:
        plain = inspect.unwrap(function)
        plain = getattr(plain, "__func__", plain)
        code = getattr(plain, "__code__", None)
        self.name: str = getattr(plain, "__qualname__", type(plain).__qualname__)
        self.file: str = code.co_filename if code is not None else ""
        self.line: int = code.co_firstlineno if code is not None else 0

    def __str__(self) -> str:
        """`account (crm.py:12)`."""
        return f"{self.name} ({Path(self.file).name}:{self.line})"


class Transform(Generic[A, R]):
    """A declared transform. Calling it calls the function, so that it can be tested like any other.

    Attributes:
        name: of its mapping: the old root table's qualified name, where `name=` doesn't say otherwise.
        function: old aggregate to upgraded rows.
        backward: upgraded aggregate to old rows, where `@....inverse` gave it.
        old, upgraded: the tables of each side, the root first.
        owns, owns_old: SQL predicates on the upgraded and on the old tables.
        lossy: columns that need not survive the round trip.
        key: how the key changes; None where it doesn't.
        references: columns that hold keys of other mappings.
        source: the text of the user's file, of what lies beside it and is imported, and what these work with.
        digest: changes with `source`, and with the declaration.

    """

    def __init__(
        self,
        function: Callable[[A], R],
        *,
        old: SideSpec,
        upgraded: SideSpec,
        owns: str | None,
        owns_old: str | None,
        lossy: str | Collection[str],
        key: KeyMap | None,
        references: Mapping[Any, Any] | None,
        name: str | None,
    ) -> None:
        self.function: Callable[[A], R] = function
        self.backward: Callable[[Any], Made] | None = None
        self.backward_place: Place | None = None
        self.backward_takes_aggregate = False
        self.old = declared_sides(old, "old=")
        self.upgraded = declared_sides(upgraded, "upgraded=")
        self.owns = declared_predicate(owns, "owns=")
        self.owns_old = declared_predicate(owns_old, "owns_old=")
        self.lossy = declared_lossy(lossy)
        self.key = _declared_key(key)
        self.references = declared_references(references)
        self.name = str(self.old[0].table) if name is None else _declared_name(name)
        self.place = Place(function)
        self.takes_aggregate = _takes_aggregate(function, self.old)
        self.source = _source(self.place.file)
        functools.update_wrapper(self, function)

    def __call__(self, aggregate: A) -> R:
        """What the function makes of it: nothing added, nothing checked."""
        made: R = self.function(aggregate)
        return made

    def __repr__(self) -> str:
        return f"<transform {self.name}: {self.place}>"

    def inverse(self, function: InverseFunction) -> InverseFunction:
        """Decorate the function that leads back: it takes the upgraded aggregate and returns the old row(s).

        It is needed to replicate backwards after a cutover, and checked by `replicator test`.

        Raises:
            ReplicatorError: kind CONFIG; it can't be an inverse, or there is one already.

        """
        try:
            _check_function(function, self)
            self.backward_takes_aggregate = _takes_aggregate(function, self.upgraded)
        except DeclarationError as error:
            _refuse(function, error)
        self.backward = function
        self.backward_place = Place(function)
        return function

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over `source` and the declaration."""
        declared = (
            self.name, self.old, self.upgraded, self.owns, self.owns_old, sorted(self.lossy), self.references,
            self.key and (self.key.sequence, self.key.upgraded_sequence),
        )  # fmt: skip
        return hashlib.sha256(self.source + repr(declared).encode()).hexdigest()


def transform(
    *,
    old: SideSpec,
    upgraded: SideSpec,
    owns: str | None = None,
    owns_old: str | None = None,
    lossy: str | Collection[str] = (),
    key: KeyMap | None = None,
    references: Mapping[Any, Any] | None = None,
    name: str | None = None,
) -> Callable[[Callable[[A], R]], Transform[A, R]]:
    """Declare that a function makes upgraded rows of an old aggregate.

    The function gets a `Row` where `old` is one table, an `Aggregate` where it is several (or where its annotation says
    so), and returns a row, several rows, or None to leave the aggregate out. It must be pure: the same aggregate, the
    same rows. It is never called for a delete.

    Args:
        old: `schema.table`, or `{"schema.table": "key column", ...}`: the root first, then the tables whose rows
            belong to it; a tuple of columns for a composite key.
        upgraded: likewise. Rows for several tables say which by `row.to("schema.table")` or `Row.of`.
        owns: SQL predicate on the upgraded tables, where several transforms share one: only such rows are its own.
        owns_old: SQL predicate on the old tables: other rows are none of its business, in both directions.
        lossy: columns that the inverse can't restore, or may round.
        key: how the key changes (integer to UUID, say).
        references: columns of the upgraded rows that hold a key which another transform changes: `{"order_id":
            orders}`; a tuple of columns for a composite key; `schema.table.column` where only one table's is meant.
            Where the column has another name on the old side: `{"order_ref": (orders, "order_id")}`. In place of a
            transform that is declared later, or of this one, the name of its old root table.
        name: of the mapping, where two transforms share an old root table.

    Raises:
        ReplicatorError: kind CONFIG, naming file and line.

    """

    def decorate(function: Callable[[A], R]) -> Transform[A, R]:
        try:
            _check_function(function)
            made = Transform(
                function, old=old, upgraded=upgraded, owns=owns, owns_old=owns_old, lossy=lossy, key=key,
                references=references, name=name,
            )  # fmt: skip
        except DeclarationError as error:
            _refuse(function, error)
        _collect(made)
        return made

    return decorate


def _collect(made: Transform[Any, Any]) -> None:
    loading = _LOADING.get()
    if loading is not None:
        loading.append(made)


@contextmanager
def collected() -> Iterator[list[Transform[Any, Any]]]:
    """Within the block, every transform that is declared is added to the list."""
    found: list[Transform[Any, Any]] = []
    token = _LOADING.set(found)
    try:
        yield found
    finally:
        _LOADING.reset(token)


def _refuse(function: Callable[..., Any], error: DeclarationError) -> NoReturn:
    place = Place(function)
    raise ReplicatorError(
        f"{place.file}:{place.line}: transform {place.name}: {error}", kind=ErrorKind.CONFIG
    ) from None


def _declared_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise DeclarationError("name= expected a text")
    return name


def _declared_key(key: object) -> KeyMap | None:
    if key is not None and not isinstance(key, KeyMap):
        raise DeclarationError(f"key= expected a KeyMap, not {type(key).__name__}")
    return key


def _check_function(function: object, inverse_of: Transform[Any, Any] | None = None) -> None:
    if inverse_of is not None and inverse_of.backward is not None:
        raise DeclarationError(f"{inverse_of.place} has an inverse already: {inverse_of.backward_place}")
    if isinstance(function, Transform):
        raise DeclarationError("it is a transform already: declare each on a function of its own")
    if not callable(function) or inspect.isclass(function):
        raise DeclarationError(f"expected a function, not {type(function).__name__}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise DeclarationError("a transform is pure and must not be async: it waits for nothing")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise DeclarationError("a transform takes exactly one argument: the row or the aggregate") from None


def _takes_aggregate(function: Callable[..., Any], sides: tuple[DeclaredSide, ...]) -> bool:
    """Whether the function wants an Aggregate: as its annotation says, else where there are several tables."""
    annotation = _first_annotation(function)
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    last = name.rpartition(".")[2]
    if last == "Row" and len(sides) > 1:
        raise DeclarationError(f"it is declared on {len(sides)} tables, so it takes an Aggregate, not a Row")
    return last == "Aggregate" or len(sides) > 1


def _first_annotation(function: Callable[..., Any]) -> object:
    if sys.version_info >= (3, 14):
        from annotationlib import Format  # noqa: PLC0415 - new in 3.14: names may be known to a type checker only

        signature = inspect.signature(function, annotation_format=Format.STRING)
    else:
        signature = inspect.signature(function)
    return next(iter(signature.parameters.values())).annotation


def _source(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError:
        return b""  # typed into an interpreter
