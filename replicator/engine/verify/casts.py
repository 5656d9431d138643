"""Keys of one side as keys of the other, where their columns have other types: not every one of them can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replicator.engine.verify.compare import printed_texts
from replicator.engine.verify.keys import translates_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import Key
    from replicator.mapping import Mapping, Side
    from replicator.tables import Column
    from replicator.verification import VersionedReader

_BITS: Final = {"smallint": 16, "integer": 32, "bigint": 64}
_TEXTS: Final = frozenset({"text", "character varying"})


class Casts:
    """Takes keys of one table into another one's types.

    Args:
        reader: of the database that takes them.
        there: the table that takes them.
        of: the table that they come from.

    """

    def __init__(self, reader: VersionedReader, there: Side, of: Side) -> None:
        self._reader = reader
        pairs: list[tuple[int, Column, str, str]] = []
        for at, (name, other) in enumerate(zip(there.key, of.key, strict=True)):
            column = there.table.by_name[name]
            pairs.append((at, column, _type(column), _type(of.table.by_name[other])))
        self._narrow = [
            (at, 1 << (_BITS[kind] - 1))
            for at, _, kind, other in pairs
            if kind in _BITS and other in _BITS and _BITS[kind] < _BITS[other]
        ]
        self._unlike = [
            (at, one)
            for at, one, kind, other in pairs
            if kind not in _TEXTS and kind != other and not (kind in _BITS and other in _BITS)
        ]

    async def possible(self, keys: Sequence[Key]) -> Sequence[Key]:
        """Those that a row may have there: a statement with any other would fail."""
        for at, limit in self._narrow:
            keys = [key for key in keys if -limit <= int(key[at]) < limit]
        for at, column in self._unlike:
            values = await printed_texts(self._reader, column, list(dict.fromkeys(key[at] for key in keys)))
            keys = [key for key in keys if key[at] in values]
        return keys

    def bound(self, key: Key | None) -> Key | None:
        """A boundary that divides the rows there as this one would; integers apart, types must be the same."""
        if key is None or not self._narrow:
            return key
        made = list(key)
        for at, limit in self._narrow:
            made[at] = b"%d" % max(-limit, min(limit - 1, int(key[at])))
        return tuple(made)


def to_source(mapping: Mapping, source: VersionedReader) -> Casts:
    """Keys of the target's root to the source's types; where they are translated, they have these types already."""
    return Casts(source, mapping.root, mapping.root if translates_keys(mapping) else mapping.target)


def to_target(mapping: Mapping, target: VersionedReader, side: Side) -> Casts:
    """Keys of the source to the types of one target table, likewise."""
    return Casts(target, side, side if translates_keys(mapping) else mapping.root)


def _type(column: Column) -> str:
    return column.cast_type.removeprefix("pg_catalog.")
