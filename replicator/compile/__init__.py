"""Compiles a connector's tables and its transforms, with both catalogs, into what one feed does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from replicator.compile.keys import check_foreign_keys
from replicator.compile.problems import CompileError, Problem, Problems
from replicator.compile.same_shape import TableEntry, TablePattern, pairs_of, same_shape
from replicator.compile.sides import check_key_types
from replicator.compile.transformed import resolved, transformed, translated_keys
from replicator.mapping import Mappings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from replicator.mapping import Mapping
    from replicator.tables import Catalog, Table, TableName
    from replicator.transforms import Transform

__all__ = [
    "CompileError",
    "Problem",
    "Problems",
    "TableEntry",
    "TablePattern",
    "compile_mappings",
    "compile_partly",
    "old_tables",
]


def compile_mappings(
    tables: Iterable[TableEntry],
    transforms: Iterable[Transform[Any, Any]],
    old: Catalog,
    upgraded: Catalog,
    *,
    forward: bool,
) -> Mappings:
    """What one feed does with every aggregate.

    Args:
        tables: the connector's entries for tables of the same shape (and wildcards).
        transforms: what `load_transforms` found.
        old: the old database's catalog.
        upgraded: the upgraded database's.
        forward: true for the feed from old to upgraded, false for the reverse feed.

    Raises:
        CompileError: kind CONFIG, with all problems that were found.

    """
    mappings, problems = compile_partly(tables, transforms, old, upgraded, forward=forward)
    problems.refuse()
    return mappings


def compile_partly(
    tables: Iterable[TableEntry],
    transforms: Iterable[Transform[Any, Any]],
    old: Catalog,
    upgraded: Catalog,
    *,
    forward: bool,
) -> tuple[Mappings, Problems]:
    """Like `compile_mappings`, but what compiles is returned beside the problems of the rest."""
    problems = Problems()
    declared = tuple(transforms)
    pairs = pairs_of(tables, declared, old, problems)
    found = resolved(declared, old, upgraded, problems, forward=forward)
    translated = translated_keys(found)
    made = [transformed(each, translated, problems, forward=forward) for each in found]
    made += [same_shape(pair, old, upgraded, translated, problems, forward=forward) for pair in pairs]
    mappings = tuple(mapping for mapping in made if mapping is not None)
    _check_shared(mappings, problems)
    lacking = check_foreign_keys(mappings, problems)
    for mapping in mappings:
        if mapping not in lacking and (mapping.key_map is not None or mapping.name not in translated):
            check_key_types(mapping, problems)
    return Mappings(mappings), problems


def old_tables(tables: Iterable[TableEntry], transforms: Iterable[Transform[Any, Any]], old: Catalog) -> list[Table]:
    """The old tables that the mappings read; for who has nothing to do with the upgraded database.

    Raises:
        CompileError: kind CONFIG, when one of them doesn't exist.

    """
    problems = Problems()
    declared = tuple(transforms)
    names = [pair.old for pair in pairs_of(tables, declared, old, problems)]
    for transform in declared:
        for side in transform.old:
            names.append(side.table)
            if side.table not in old.tables:
                problems.add(transform.name, side.table, "the old database has no such table", "Correct the decorator")
    problems.refuse()
    return [old.tables[name] for name in dict.fromkeys(names)]


def _check_shared(mappings: tuple[Mapping, ...], problems: Problems) -> None:
    """A source table feeds one mapping; a target table has rows of several only where each says which are its own."""
    sources: dict[TableName, Mapping] = {}
    targets: dict[TableName, Mapping] = {}
    for mapping in mappings:
        for side in mapping.sources:
            other = sources.setdefault(side.table.name, mapping)
            if other is not mapping:
                problems.add(
                    mapping.name,
                    side.table.name,
                    f"mapping {other.name} reads this table too, and a change can go only one way",
                    "Make one transform of the two, which returns the rows of both; or, if it is about the way back, "
                    "set cutover.reverse to off",
                )
        for side in mapping.targets:
            other = targets.setdefault(side.table.name, mapping)
            if other is not mapping and not (mapping.owns and other.owns):
                problems.add(
                    mapping.name,
                    side.table.name,
                    f"mapping {other.name} writes this table too, and each would delete the other's rows",
                    "Say in owns= (owns_old= for an old table) of both which rows are whose, or exclude one",
                )
