"""Keys of target rows, translated by the key maps as they are: read, never added to.

Verification's own reading of what `Mapping.key_map` and `Mapping.references` demand; the apply path has another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.events import Key, Value
    from replicator.mapping import KeyMapping, Mapping, Side
    from replicator.verification import VersionedReader, VersionedSnapshot

UNKNOWN: Final = b"\0"
"""In place of a key that nobody has made yet: equal to nothing that a server prints."""

Row = dict[str, "Value"]
Pairs = dict[str, dict["Key", "Key"]]
"""By name of the mapping whose keys they are: what it is translated from, to what."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key within rows of one target table.

    Attributes:
        columns: that hold it, in its order.
        keys: its translation.
        kept: those of the columns that stay as they are.

    """

    columns: tuple[str, ...]
    keys: KeyMapping
    kept: frozenset[str] = frozenset()


def changes(mapping: Mapping, side: Side) -> tuple[Change, ...]:
    """The keys that are translated in rows of this table."""
    own = frozenset(side.key)
    found = [] if mapping.key_map is None else [Change(side.key, mapping.key_map)]
    others = [one for one in mapping.references if one.table in (None, side.table.name)]
    if mapping.key_map is not None:
        others = [one for one in others if not own.issuperset(one.columns)]
        fixed: frozenset[str] = frozenset()
    else:
        fixed = own.difference(*(one.columns for one in others if own.issuperset(one.columns)))
    found += [Change(one.columns, one.keys, fixed.intersection(one.columns)) for one in others]
    return tuple(found)


def translates_keys(mapping: Mapping) -> bool:
    """Whether the aggregate's key is another one in the target, or a part of it."""
    translated = {name for one in mapping.references for name in one.columns}
    return mapping.key_map is not None or not translated.isdisjoint(mapping.target.key)


def key_of(row: Row, columns: Sequence[str]) -> Key | None:
    """The values of these columns; None where one is NULL, or isn't given."""
    values = tuple(row.get(name) for name in columns)
    return (
        tuple(value for value in values if isinstance(value, bytes))
        if all(isinstance(value, bytes) for value in values)
        else None
    )


class KeyMaps:
    """Looks keys up: in the target's map, then in the source's, and then asks the function.

    Args:
        source: where the other feed's map is.

    """

    def __init__(self, source: VersionedReader) -> None:
        self._source = source

    async def find(self, target: VersionedSnapshot, wanted: Iterable[tuple[KeyMapping, Key]]) -> Pairs:
        """Source keys to target keys, of all that there are or that a function gives."""
        by_map: dict[str, tuple[KeyMapping, dict[Key, None]]] = {}
        for keys, key in wanted:
            by_map.setdefault(keys.name, (keys, {}))[1][key] = None
        found: Pairs = {}
        for name, (keys, asked) in by_map.items():
            known = await target.pairs(keys, list(asked))
            missing = [key for key in asked if key not in known]
            if missing:
                async with self._source.versioned() as source:
                    known |= await source.pairs(keys, missing)
            made = {key: _made(keys, key) for key in missing if key not in known}
            found[name] = known | {key: new for key, new in made.items() if new is not None}
        return found

    async def back(
        self, target: VersionedSnapshot, mapping: Mapping, side: Side, keys: Sequence[Key]
    ) -> dict[Key, Key]:
        """Keys of aggregates in one target table to those at the source; what no map has is left out."""
        found = {key: dict(zip(side.key, key, strict=True)) for key in keys}
        own = frozenset(side.key)
        for change in changes(mapping, side):
            if not own.issuperset(change.columns):
                continue
            parts = {key: tuple(row[name] for name in change.columns) for key, row in found.items()}
            asked = list(dict.fromkeys(parts.values()))
            known = await target.pairs(change.keys, asked, back=True)
            missing = [part for part in asked if part not in known]
            if missing:
                async with self._source.versioned() as source:
                    known |= await source.pairs(change.keys, missing, back=True)
            found = {
                key: {**row, **dict(zip(change.columns, known[parts[key]], strict=True))}
                for key, row in found.items()
                if parts[key] in known
            }
        return {key: tuple(row[name] for name in side.key) for key, row in found.items()}


def _made(keys: KeyMapping, key: Key) -> Key | None:
    """What the mapping's function gives; None where it gives nothing, which is what the feed has written then."""
    if keys.function is None:
        return None
    try:
        return keys.function(key)
    except ReplicatorError as error:
        if error.kind is not ErrorKind.TRANSFORM:
            raise
        return None


def translated(row: Row, changed: Sequence[Change], pairs: Pairs) -> Row:
    """The row with its keys translated, each from what the source gave. Half a key, and one with a NULL, stays."""
    given: Row = {}
    for change in changed:
        key = key_of(row, change.columns)
        if key is None:
            continue
        new = pairs.get(change.keys.name, {}).get(key)
        for at, name in enumerate(change.columns):
            if name not in change.kept:
                given[name] = UNKNOWN if new is None else new[at]
    return {**row, **given} if given else row
