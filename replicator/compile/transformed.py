"""Mappings of transforms, in one direction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replicator.compile.function import TransformFunction
from replicator.compile.keys import Translated, key_mapping, reference
from replicator.compile.sides import aligned, resolved_sides
from replicator.mapping import KeyMapping, Mapping, Reference, Side

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping as MappingType

    from replicator.compile.problems import Problems
    from replicator.tables import Catalog
    from replicator.transforms import Transform


@dataclass(frozen=True)
class Resolved:
    """A transform whose tables and key columns are known, in one direction."""

    transform: Transform[Any, Any]
    sources: tuple[Side, ...]
    targets: tuple[Side, ...]
    keys: KeyMapping | None


def resolved(
    transforms: Iterable[Transform[Any, Any]], old: Catalog, upgraded: Catalog, problems: Problems, *, forward: bool
) -> list[Resolved]:
    """The transforms whose tables and columns are as declared; a problem for each other one."""
    found = []
    for transform in transforms:
        old_sides = resolved_sides(transform.name, transform.old, old, "old", problems)
        upgraded_sides = resolved_sides(transform.name, transform.upgraded, upgraded, "upgraded", problems)
        if old_sides is None or upgraded_sides is None:
            continue
        upgraded_sides = aligned(transform, old_sides, upgraded_sides, problems)
        if len(old_sides[0].key) != len(upgraded_sides[0].key):
            continue
        sources, targets = (old_sides, upgraded_sides) if forward else (upgraded_sides, old_sides)
        keys = key_mapping(transform, sources[0], targets[0], forward=forward, problems=problems)
        found.append(Resolved(transform, sources, targets, keys))
    return found


def translated_keys(transforms: Iterable[Resolved]) -> dict[str, Translated]:
    """Every mapping whose key changes, by its name, and by its old root table's."""
    found: dict[str, Translated] = {}
    for each in transforms:
        if each.transform.key is not None:
            made = Translated(each.keys, len(each.sources[0].key))
            found.setdefault(str(each.transform.old[0].table), made)
            found[each.transform.name] = made
    return found


def transformed(
    each: Resolved, translated: MappingType[str, Translated], problems: Problems, *, forward: bool
) -> Mapping | None:
    """The mapping of one transform; None where there were problems."""
    transform = each.transform
    _check_lossy(each, problems)
    references = _references(each, translated, problems, forward=forward)
    own = set(each.targets[0].key)
    keyed = {column for one in references if own.issuperset(one.columns) for column in one.columns}
    if transform.key is not None and keyed:
        problems.add(
            transform.name,
            each.targets[0].table.name,
            f"its key ({', '.join(sorted(keyed))}) is translated twice: by key= and by references=",
            "Remove one: key= where this transform changes the key, references= where another one does",
        )
    function, place, takes_aggregate = transform.function, transform.place, transform.takes_aggregate
    if not forward:
        if transform.backward is None or transform.backward_place is None:
            problems.add(
                transform.name,
                each.sources[0].table.name,
                f"{transform.place} has no inverse, so nothing can replicate backwards",
                f"Write one and decorate it with @{transform.place.name}.inverse; or set cutover.reverse to off",
            )
            return None
        function, place = transform.backward, transform.backward_place
        takes_aggregate = transform.backward_takes_aggregate
    return Mapping(
        name=transform.name,
        sources=each.sources,
        targets=each.targets,
        function=TransformFunction(function, place, each.sources, each.targets, takes_aggregate=takes_aggregate),
        key_map=each.keys,
        references=references,
        owns=transform.owns if forward else transform.owns_old,
        owns_source=transform.owns_old if forward else transform.owns,
        lossy=transform.lossy,
        label=str(place),
        digest=_digest(each, forward=forward),
    )


def _digest(each: Resolved, *, forward: bool) -> str:
    """Of the transform, and of the tables between which it stands: a column that was added goes into the rows."""
    old, upgraded = (each.sources, each.targets) if forward else (each.targets, each.sources)
    tables = [
        (str(side.table.name), side.key, sorted((one.name, one.type_name, one.generated) for one in side.table.columns))
        for side in (*old, *upgraded)
    ]
    return hashlib.sha256(f"{each.transform.digest} {tables!r}".encode()).hexdigest()


def _references(
    each: Resolved, translated: MappingType[str, Translated], problems: Problems, *, forward: bool
) -> tuple[Reference, ...]:
    made = []
    for declared in each.transform.references:
        columns, table = (declared.upgraded, declared.upgraded_table) if forward else (declared.old, declared.old_table)
        found = reference(
            each.transform.name,
            columns=columns,
            table=table,
            to=declared.to,
            targets=each.targets,
            translated=translated,
            problems=problems,
        )
        if found is not None:
            made.append(found)
    return tuple(made)


def _check_lossy(each: Resolved, problems: Problems) -> None:
    tables = [side.table for side in (*each.sources, *each.targets)]
    for name in sorted(each.transform.lossy):
        if not any(name in table.by_name for table in tables):
            problems.columns(each.transform.name, tables[0], (name,), "lossy")
