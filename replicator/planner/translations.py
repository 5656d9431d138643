"""Which columns of a write hold keys that must be translated first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.errors import ErrorKind, ReplicatorError
from replicator.writes import Translation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.mapping import Mapping, Reference, Side


def translations(mapping: Mapping, side: Side, columns: Sequence[str]) -> tuple[Translation, ...]:
    """The translations of rows with these columns: the aggregate's own key, then references to other keys.

    A reference over columns that hold the aggregate's own translated key is translated with it. Keys may share columns;
    one that a row's own key shares with a reference stays as it is, unless the own key is translated too, or the
    reference lies within it: a delete has only the key.

    Raises:
        ReplicatorError: TRANSFORM, when only a part of a translated key is among the columns.

    """
    positions = {name: at for at, name in enumerate(columns)}
    own = set(side.key)
    found: list[Translation] = []
    if mapping.key_map is not None and own & positions.keys():
        found.append(Translation(_at(mapping, side, side.key, positions), mapping.key_map))
    within = {name for one in _references(mapping, side) if own.issuperset(one.columns) for name in one.columns}
    fixed = set() if mapping.key_map is not None else own - within
    for reference in _references(mapping, side):
        if not set(reference.columns) & (positions.keys() - own) and not own.issuperset(reference.columns):
            continue  # what there is of it is a part of the row's own key
        if any(name in positions for name in reference.columns):
            at = _at(mapping, side, reference.columns, positions)
            kept = tuple(positions[name] for name in reference.columns if name in fixed)
            found.append(Translation(at, reference.keys, kept))
    return tuple(found)


def _references(mapping: Mapping, side: Side) -> list[Reference]:
    """The references that rows of this table hold, apart from those that are translated with their own key."""
    own = set(side.key) if mapping.key_map is not None else set()
    return [
        one for one in mapping.references if one.table in (None, side.table.name) and not own.issuperset(one.columns)
    ]


def whole_keys(mapping: Mapping, side: Side, columns: Sequence[str]) -> tuple[str, ...]:
    """These columns, and what lacks of the translated keys that they hold a part of: half a key can't be translated."""
    wanted = list(columns)
    own = set(side.key)
    keys = [one.columns for one in _references(mapping, side)]
    if mapping.key_map is not None:
        keys.append(side.key)
    for key in keys:
        if any(name in wanted and (name not in own or own.issuperset(key)) for name in key):
            wanted.extend(name for name in key if name not in wanted)
    return tuple(wanted)


def _at(mapping: Mapping, side: Side, key: Sequence[str], positions: dict[str, int]) -> tuple[int, ...]:
    missing = [name for name in key if name not in positions]
    if missing:
        raise ReplicatorError(
            f"{mapping.label} gives a part of a key that is to be translated: ({', '.join(key)}) lacks "
            f"{', '.join(missing)}",
            kind=ErrorKind.TRANSFORM,
            table=str(side.table.name),
            column=missing[0],
            hint="give all columns of the key, or none of them",
        )
    return tuple(positions[name] for name in key)
