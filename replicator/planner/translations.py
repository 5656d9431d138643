"""Which columns of a write hold keys that must be translated first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.errors import ErrorKind, ReplicatorError
from replicator.writes import Translation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.mapping import Mapping, Side


def translations(mapping: Mapping, side: Side, columns: Sequence[str]) -> tuple[Translation, ...]:
    """The translations of rows with these columns: the aggregate's own key, then references to other keys.

    A reference over columns that hold the aggregate's own translated key is translated with it.

    Raises:
        ReplicatorError: TRANSFORM, when only a part of a translated key is among the columns.

    """
    positions = {name: at for at, name in enumerate(columns)}
    found: list[Translation] = []
    own: set[str] = set()
    if mapping.key_map is not None and own.union(side.key) & positions.keys():
        own.update(side.key)
        found.append(Translation(_at(mapping, side, side.key, positions), mapping.key_map))
    for reference in mapping.references:
        if reference.table not in (None, side.table.name) or own.intersection(reference.columns):
            continue
        if any(name in positions for name in reference.columns):
            found.append(Translation(_at(mapping, side, reference.columns, positions), reference.keys))
    return tuple(found)


def whole_keys(mapping: Mapping, side: Side, columns: Sequence[str]) -> tuple[str, ...]:
    """These columns, and what lacks of the translated keys that they hold a part of: half a key can't be translated."""
    wanted = list(columns)
    keys = [reference.columns for reference in mapping.references if reference.table in (None, side.table.name)]
    if mapping.key_map is not None:
        keys.append(side.key)
    for key in keys:
        if any(name in wanted for name in key):
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
