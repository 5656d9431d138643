"""Keys that change: their translation in one direction, and the columns elsewhere that hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import KeyMapping, Reference
from replicator.rows import RowError, dump, load, value_oid
from replicator.tables import TableName

if TYPE_CHECKING:
    from collections.abc import Mapping as MappingType

    from replicator.compile.problems import Problems
    from replicator.events import Key
    from replicator.mapping import Mapping, Side
    from replicator.tables import Table
    from replicator.transforms import Transform


@dataclass(frozen=True)
class Translated:
    """A mapping whose key changes: its translation in this direction (None: there is none), and its key's length."""

    keys: KeyMapping | None
    columns: int


def key_mapping(
    transform: Transform[Any, Any], source: Side, target: Side, *, forward: bool, problems: Problems
) -> KeyMapping | None:
    """How this transform's keys are translated; None where they don't change, or where they can't."""
    declared = transform.key
    if declared is None:
        return None
    function = declared.function if forward else declared.inverse
    sequence = declared.upgraded_sequence if forward else declared.sequence
    if function is None and sequence is None:
        problems.add(
            transform.name,
            source.table.name,
            "a row born on the upgraded side gets no old key",
            "Give the KeyMap a sequence= of the old database, or an inverse=; or set cutover.reverse to off",
        )
        return None
    if sequence is not None and len(target.key) != 1:
        problems.add(
            transform.name,
            target.table.name,
            f"a sequence gives one value, and the key has {len(target.key)} columns",
            "Give the KeyMap a function instead",
        )
        return None
    if function is None:
        return KeyMapping(transform.name, forward, sequence=str(TableName.parse(sequence or "")))
    return KeyMapping(transform.name, forward, function=KeyFunction(function, transform, source, target))


class KeyFunction:
    """Runs a KeyMap's function on a key's text, and gives the text of the other side's key."""

    def __init__(
        self, function: Callable[..., Any], transform: Transform[Any, Any], source: Side, target: Side
    ) -> None:
        self._function = function
        self._label = f"the key function of {transform.place}"
        self._table = str(source.table.name)
        self._source = [value_oid(source.table.by_name[name]) for name in source.key]
        self._target = [(name, value_oid(target.table.by_name[name])) for name in target.key]

    def __call__(self, key: Key) -> Key:
        """Translate.

        Raises:
            ReplicatorError: kind TRANSFORM; it raised, or returned what is no key.

        """
        try:
            made = self._function(*map(load, key, self._source))
        except RowError as error:
            raise self._error(key, str(error)) from None
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises; it goes on as an error of ours
            # Without its text, which may quote a value of the row.
            raise self._error(key, f"raised {type(error).__name__}") from None
        values = made if isinstance(made, tuple) else (made,)
        if len(values) != len(self._target):
            raise self._error(key, f"returned {len(values)} value(s) for {len(self._target)} column(s)")
        texts = []
        for value, (name, oid) in zip(values, self._target, strict=True):
            if value is None:
                raise self._error(key, f"returned None for column {name}")
            try:
                texts.append(dump(value, oid))
            except RowError as error:
                raise self._error(key, f"returned what column {name} can't hold: {error}") from None
        return tuple(texts)

    def _error(self, key: Key, what: str) -> ReplicatorError:
        return ReplicatorError(
            f"{self._label} {what}",
            kind=ErrorKind.TRANSFORM,
            table=self._table,
            key=tuple(value.decode() for value in key),
            hint="Nothing of this change was written. Correct the function and start again",
        )


def reference(
    mapping: str,
    *,
    columns: tuple[str, ...],
    table: TableName | None,
    to: str,
    targets: tuple[Side, ...],
    translated: MappingType[str, Translated],
    problems: Problems,
) -> Reference | None:
    """Columns of target rows that hold a key of another mapping; None where that can't be."""
    named = [side.table for side in targets if table in {None, side.table.name}]
    if not named:
        problems.add(mapping, table, "references names a table that it doesn't write", "Name one of its own tables")
        return None
    holding = [each for each in named if all(name in each.by_name for name in columns)]
    if not holding:
        for each in named[:1]:
            problems.columns(mapping, each, columns, "references")
        return None
    found = translated.get(to)
    if found is None:
        problems.add(
            mapping,
            holding[0].name,
            f"references {to}, which is no transform that changes its key",
            f"Name the old root table of a transform with key=KeyMap(...) ({', '.join(translated) or 'there is none'})",
        )
        return None
    if found.columns != len(columns):
        problems.add(
            mapping,
            holding[0].name,
            f"references {to} by {len(columns)} column(s), and its key has {found.columns}",
            "Name as many columns, in the order of its key",
        )
        return None
    return None if found.keys is None else Reference(columns, found.keys, table)


def check_foreign_keys(mappings: tuple[Mapping, ...], problems: Problems) -> set[Mapping]:
    """A foreign key to a table whose key changes needs a reference: its rows would point nowhere.

    Returns:
        The mappings that lack one.

    """
    lacking = set()
    changed: dict[TableName, list[Mapping]] = {}
    for mapping in mappings:
        if mapping.key_map is not None:
            changed.setdefault(mapping.target.table.name, []).append(mapping)
    for mapping in mappings:
        for side in mapping.targets:
            for columns, owners in _pointing(side.table, changed):
                own = mapping in owners and set(columns) <= set(side.key) and side is not mapping.target
                if own or _translated(mapping, side.table.name, columns):
                    continue
                to = owners[0]
                lacking.add(mapping)
                problems.add(
                    mapping.name,
                    side.table.name,
                    f"its column(s) {', '.join(columns)} point at {to.target.table.name}, whose key changes",
                    "Declare it: " + _declaration(mapping, columns, to),
                )
    return lacking


def _declaration(mapping: Mapping, columns: tuple[str, ...], to: Mapping) -> str:
    """What one would write: in the connector with the old column's name, in a decorator with the upgraded one's."""
    if mapping.function is not None or len(columns) > 1:
        return f"references={{{columns if len(columns) > 1 else columns[0]!r}: {to.name!r}}}"
    old = {new: name for name, new in mapping.columns.items()} if str(mapping.root.table.name) == mapping.name else {}
    return f"references: {{{old.get(columns[0], columns[0])}: {to.name}}}"


def _pointing(
    table: Table, changed: MappingType[TableName, list[Mapping]]
) -> list[tuple[tuple[str, ...], list[Mapping]]]:
    """Foreign keys to keys that change, and the mappings that change them: several may share a table."""
    found = []
    for foreign in table.foreign_keys:
        columns = set(foreign.referenced_columns)
        owners = [one for one in changed.get(foreign.referenced, ()) if columns & set(one.target.key)]
        if owners:
            found.append((foreign.columns, owners))
    return found


def _translated(mapping: Mapping, table: TableName, columns: tuple[str, ...]) -> bool:
    return any(
        declared.table in {None, table} and set(declared.columns) & set(columns) for declared in mapping.references
    )
