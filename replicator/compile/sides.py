"""Which tables an aggregate has on each side, and which of their columns hold its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from replicator.mapping import Mapping, Side

if TYPE_CHECKING:
    from replicator.compile.problems import Problems
    from replicator.tables import Catalog, Column, Table
    from replicator.transforms import DeclaredSide, Transform

_NUMBERS: Final = frozenset(("smallint", "integer", "bigint", "numeric", "real", "double precision", "oid"))
_TEXTS: Final = frozenset(("text", "character varying", "bpchar", "name", '"char"'))


def resolved_sides(
    mapping: str, declared: tuple[DeclaredSide, ...], catalog: Catalog, where: str, problems: Problems
) -> tuple[Side, ...] | None:
    """The tables of one side of a transform, the root first; None where there were problems.

    The root's key is what the transform names, else the table's own; it must be unique and NOT NULL.
    """
    sides = []
    for at, side in enumerate(declared):
        table = problems.table(mapping, side.table, catalog, where)
        if table is None or not problems.columns(mapping, table, side.key, "its key"):
            continue
        key = side.key or table.key
        if at == 0 and not key:
            problems.add(
                mapping,
                table.name,
                "a transform's root table needs a key",
                "Add a primary key, or a unique index over columns that are NOT NULL",
            )
        elif at == 0 and not is_unique(table, key):
            names = ", ".join(key)
            problems.add(
                mapping,
                table.name,
                f"its key ({names}) isn't unique and NOT NULL in the {where} database",
                f"Add a unique index over ({names}), NOT NULL, or name other columns in the transform",
            )
        else:
            sides.append(Side(table, key))
    return tuple(sides) if len(sides) == len(declared) else None


def is_unique(table: Table, columns: tuple[str, ...]) -> bool:
    """Whether a unique index over exactly these columns gives every row a key of its own."""
    wanted = set(columns)
    return any(key.not_null and set(key.columns) == wanted for key in table.unique_keys)


def aligned(
    transform: Transform[Any, Any], old: tuple[Side, ...], upgraded: tuple[Side, ...], problems: Problems
) -> tuple[Side, ...]:
    """The upgraded sides with their key columns in the order of the old ones.

    Declared columns correspond by position. Two primary keys over columns of the same names correspond by name: their
    order in the index says nothing about their meaning.
    """
    old_key, upgraded_key = old[0].key, upgraded[0].key
    if len(old_key) != len(upgraded_key):
        problems.add(
            transform.name,
            upgraded[0].table.name,
            f"the key has {len(old_key)} column(s) in {old[0].table.name} and {len(upgraded_key)} here",
            "Name the columns that correspond: old={table: columns}, upgraded={table: columns}; a KeyMap changes their "
            "values, not their number",
        )
        return upgraded
    declared = transform.old[0].key or transform.upgraded[0].key
    if not declared and set(old_key) == set(upgraded_key):
        return (Side(upgraded[0].table, old_key), *upgraded[1:])
    return upgraded


def check_key_types(mapping: Mapping, problems: Problems) -> None:
    """A key that keeps its value must be able to: an integer is no UUID."""
    translated = {column for each in mapping.references for column in each.columns}
    if mapping.key_map is not None:
        return
    for name, new in zip(mapping.root.key, mapping.target.key, strict=True):
        source, target = mapping.root.table.by_name[name], mapping.target.table.by_name[new]
        if new not in translated and len({_kind(source), _kind(target)} - {"text", ""}) > 1:
            problems.add(
                mapping.name,
                mapping.target.table.name,
                f"key column {new} is {target.type_name}, and {mapping.root.table.name}'s {name} is {source.type_name}",
                "Declare how the key changes: a transform with key=KeyMap(...), or references to one",
            )


def _kind(column: Column) -> str:
    if column.cast_type in _NUMBERS:
        return "number"
    if column.cast_type in _TEXTS:
        return "text"
    return column.cast_type if column.cast_type in {"uuid", "date", "boolean", "bytea"} else ""
