"""The key map of a check: pairs in memory, in place of `replicator.key_map` in two databases."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from replicator.events import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import Key
    from replicator.mapping import KeyMapping, Mapping, Side, TargetRow

_SEQUENCE_START: Final = 1_000_000_000


class TwoKeysBecomeOneError(Exception):
    """A key function gave one key for two: the rows of one would replace the other's."""


class KeyPairs:
    """Both keys of every row that was translated, by mapping."""

    def __init__(self) -> None:
        self._upgraded: dict[tuple[str, Key], Key] = {}
        self._old: dict[tuple[str, Key], Key] = {}
        self._sequence = itertools.count(_SEQUENCE_START)

    def translate(self, keys: KeyMapping, key: Key) -> Key:
        """The key at the target of this direction, the same for the same key.

        Raises:
            TwoKeysBecomeOneError: the function gave a key that another one has.
            ReplicatorError: the function raised.

        """
        known, back = (self._upgraded, self._old) if keys.forward else (self._old, self._upgraded)
        found = known.get((keys.name, key))
        if found is None:
            found = keys.function(key) if keys.function is not None else (str(next(self._sequence)).encode(),)
            if back.setdefault((keys.name, found), key) != key:
                raise TwoKeysBecomeOneError(keys.name)
            known[keys.name, key] = found
        return found

    def translated(self, mapping: Mapping, side: Side, row: TargetRow) -> TargetRow:
        """The row with the aggregate's key and its references translated, as the engine does it."""
        made = dict(row)
        own: set[str] = set()
        if mapping.key_map is not None:
            own.update(side.key)
            made.update(self._new(row, side.key, mapping.key_map))
        for reference in mapping.references:
            if reference.table in {None, side.table.name} and not own.issuperset(reference.columns):
                made.update(self._new(row, reference.columns, reference.keys))
        return made

    def _new(self, row: TargetRow, columns: Sequence[str], keys: KeyMapping) -> dict[str, bytes]:
        """The translated columns; none where the row has no such key."""
        values: list[Value] = [row.get(name) for name in columns]
        key = tuple(value for value in values if isinstance(value, bytes))
        return dict(zip(columns, self.translate(keys, key), strict=True)) if len(key) == len(columns) else {}
