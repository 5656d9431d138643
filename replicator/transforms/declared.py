"""What a decorator's arguments say, checked as far as that goes without a database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from replicator.tables import TableName

SideSpec = str | Mapping[str, str | Sequence[str]]
"""`schema.table`; or tables with the column(s) that hold the aggregate's key, the root first."""

_SIDE_FORMS: Final = "'schema.table', or {'schema.table': 'key column', ...} with the root first"


class DeclarationError(Exception):
    """An argument of the decorator that can't be meant."""


@dataclass(frozen=True)
class DeclaredSide:
    """One table of an aggregate, and the columns that hold the aggregate's key; () for the table's own key."""

    table: TableName
    key: tuple[str, ...]


@dataclass(frozen=True)
class DeclaredReference:
    """Columns that hold the key of another mapping, on either side.

    Attributes:
        old, upgraded: the columns' names on each side, in the order of the referenced key.
        old_table, upgraded_table: only in rows of this table, where it was said.
        to: name of the referenced mapping, or its old root table.

    """

    old: tuple[str, ...]
    upgraded: tuple[str, ...]
    old_table: TableName | None
    upgraded_table: TableName | None
    to: str


class KeyMap:
    """How an aggregate's key changes on its way to the upgraded database, and back.

    The functions get the columns of the key as positional arguments, decoded, and return the other side's key: a
    value, or a tuple where the key has several columns. They must always give the same answer. The engine stores every
    pair, writes the translated key into the key columns of every row, and translates `references` to it.

    Args:
        function: the upgraded key of a row born on the old side.
        sequence: `schema.sequence` of the old database that gives an old key to a row born on the upgraded side.
        inverse: in place of a sequence, a function that gives it.
        upgraded_sequence: in place of `function`, `schema.sequence` of the upgraded database.

    Raises:
        DeclarationError: neither or both of `function` and `upgraded_sequence`, or `sequence` and `inverse` together.

    """

    __slots__ = ("function", "inverse", "sequence", "upgraded_sequence")

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        *,
        sequence: str | None = None,
        inverse: Callable[..., Any] | None = None,
        upgraded_sequence: str | None = None,
    ) -> None:
        if (function is None) == (upgraded_sequence is None):
            raise DeclarationError("KeyMap: give the function that makes the upgraded key, or upgraded_sequence=")
        if sequence is not None and inverse is not None:
            raise DeclarationError("KeyMap: sequence= and inverse= are two ways to the same: give one")
        for name, made in (("the function", function), ("inverse=", inverse)):
            if made is not None and not callable(made):
                raise DeclarationError(f"KeyMap: {name} isn't callable")
        for name, text in (("sequence=", sequence), ("upgraded_sequence=", upgraded_sequence)):
            if text is not None:
                parsed_table(text, f"KeyMap: {name}")
        self.function = function
        self.sequence = sequence
        self.inverse = inverse
        self.upgraded_sequence = upgraded_sequence


def parsed_table(text: object, what: str) -> TableName:
    """A qualified name.

    Raises:
        DeclarationError: something else.

    """
    if not isinstance(text, str):
        raise DeclarationError(f"{what} expected 'schema.name', not {type(text).__name__}")
    try:
        return TableName.parse(text)
    except ValueError as error:
        raise DeclarationError(f"{what} {error}") from None


def declared_sides(spec: object, what: str) -> tuple[DeclaredSide, ...]:
    """One side of a transform.

    Raises:
        DeclarationError: not a `SideSpec`.

    """
    if isinstance(spec, str):
        return (DeclaredSide(parsed_table(spec, what), ()),)
    if not isinstance(spec, Mapping) or not spec:
        raise DeclarationError(f"{what} expected {_SIDE_FORMS}")
    sides = tuple(
        DeclaredSide(parsed_table(table, what), _names(key, f"{what} {table}")) for table, key in spec.items()
    )
    if len({side.table for side in sides}) < len(sides):
        raise DeclarationError(f"{what} names a table twice")
    root = sides[0]
    for side in sides:
        if not side.key:
            raise DeclarationError(f"{what} {side.table} needs the column(s) that hold the aggregate's key")
        if len(side.key) != len(root.key):
            raise DeclarationError(
                f"{what} {side.table} has {len(side.key)} key column(s), its root {root.table} has {len(root.key)}"
            )
    return sides


def declared_lossy(lossy: object) -> frozenset[str]:
    """Names of columns.

    Raises:
        DeclarationError: something else.

    """
    return frozenset(_names(lossy, "lossy="))


def declared_predicate(predicate: object, what: str) -> str | None:
    """An SQL predicate.

    Raises:
        DeclarationError: not a text, or an empty one.

    """
    if predicate is None:
        return None
    if not isinstance(predicate, str) or not predicate.strip():
        raise DeclarationError(f"{what} expected an SQL predicate")
    return predicate.strip()


def declared_references(references: object) -> tuple[DeclaredReference, ...]:
    """The `references=` of a transform.

    Raises:
        DeclarationError: not of the documented form.

    """
    if references is None:
        return ()
    if not isinstance(references, Mapping):
        raise DeclarationError("references= expected {'column': transform}")
    return tuple(_reference(columns, to) for columns, to in references.items())


def _reference(columns: object, to: object) -> DeclaredReference:
    what = f"references= {columns!r}:"
    upgraded_table, upgraded = _columns(columns, what)
    old_table, old = (None, upgraded)
    if isinstance(to, tuple):
        if len(to) != 2:
            raise DeclarationError(f"{what} expected (transform, 'old column')")
        to, old_columns = to
        old_table, old = _columns(old_columns, what)
    if len(old) != len(upgraded):
        raise DeclarationError(f"{what} {len(upgraded)} column(s) on the upgraded side, {len(old)} on the old one")
    name = to if isinstance(to, str) else getattr(to, "name", None)
    if not isinstance(name, str):
        raise DeclarationError(f"{what} expected a transform, or the name of its old table; not {type(to).__name__}")
    return DeclaredReference(old, upgraded, old_table, upgraded_table, name)


def _columns(columns: object, what: str) -> tuple[TableName | None, tuple[str, ...]]:
    """Names of columns, each maybe as `schema.table.column`, all of the same table."""
    tables: set[TableName | None] = set()
    names = []
    for text in _names(columns, what):
        qualifier, _, name = text.rpartition(".")
        try:
            table = TableName.parse(qualifier) if qualifier else None
        except ValueError:
            table, name = None, text  # a column with a dot in its name
        tables.add(table)
        names.append(name)
    if len(tables) != 1:
        raise DeclarationError(f"{what} columns of different tables")
    return tables.pop(), tuple(names)


def _names(names: object, what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, Collection) or isinstance(names, bytes | Mapping):
        raise DeclarationError(f"{what} expected names of columns")
    listed = tuple(names)
    if not all(isinstance(name, str) and name for name in listed):
        raise DeclarationError(f"{what} expected names of columns")
    if len(set(listed)) < len(listed):
        raise DeclarationError(f"{what} names a column twice")
    return listed
