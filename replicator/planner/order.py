"""The order of a batch's writes: foreign keys first, then what frees a value before what takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from replicator.writes import Write, WriteAction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replicator.tables import ForeignKey, Table, TableName

_REMOVING: Final = {WriteAction.CLEAR: 0, WriteAction.PRUNE: 1, WriteAction.DELETE: 2, WriteAction.REMOVE: 3}
_ADDING: Final = {
    WriteAction.UPDATE: 0,
    WriteAction.UPSERT: 1,
    WriteAction.INSERT: 2,
    WriteAction.MERGE: 3,
    WriteAction.APPEND: 4,
}


@dataclass(frozen=True)
class TableOrder:
    """Tables sorted so that a referenced one comes before those that refer to it.

    Attributes:
        ranks: place of each table, parents first.
        cut: foreign keys that close a circle and were left out of the order. A deferrable one is served by SET
            CONSTRAINTS; any other needs the replica role.

    """

    ranks: Mapping[TableName, int]
    cut: tuple[ForeignKey, ...] = ()

    @classmethod
    def of(cls, tables: Sequence[Table]) -> TableOrder:
        """Sort tables; circles are cut at a deferrable foreign key where there is one, else anywhere."""
        known = {table.name for table in tables}
        waiting = {
            table.name: [key for key in table.foreign_keys if key.referenced in known and key.referenced != table.name]
            for table in tables
        }
        ranks: dict[TableName, int] = {}
        cut: list[ForeignKey] = []
        while waiting:
            free = [name for name, keys in waiting.items() if all(key.referenced in ranks for key in keys)]
            for name in free:
                ranks[name] = len(ranks)
                del waiting[name]
            if not free:
                key = _weakest(waiting, ranks)
                cut.append(key)
                for keys in waiting.values():
                    if key in keys:
                        keys.remove(key)
        return cls(ranks, tuple(cut))


def _weakest(waiting: Mapping[TableName, list[ForeignKey]], ranks: Mapping[TableName, int]) -> ForeignKey:
    """A foreign key on a circle, deferrable if any is. Each table that waits leads to a circle."""
    name = next(iter(waiting))
    path: list[TableName] = []
    steps: list[ForeignKey] = []
    while name not in path:
        path.append(name)
        steps.append(next(key for key in waiting[name] if key.referenced not in ranks))
        name = steps[-1].referenced
    circle = steps[path.index(name) :]
    return next((key for key in circle if key.deferrable), circle[0])


class _SameTables:
    """Tables compared by identity: a catalog's tables are hashed once an apply otherwise, column by column."""

    __slots__ = ("tables",)

    def __init__(self, tables: tuple[Table, ...]) -> None:
        self.tables = tables

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameTables) and other.tables is self.tables

    def __hash__(self) -> int:
        return id(self.tables)


@lru_cache(maxsize=64)
def _order_of(same: _SameTables) -> TableOrder:
    return TableOrder.of(same.tables)


def order_writes(writes: Sequence[Write], tables: tuple[Table, ...], *, deletes_last: bool = False) -> list[Write]:
    """Put a batch's writes in the order of execution. Stable: equal ones stay as they came.

    Deletes go children first, then the others parents first; within a table what is removed makes room for what is
    updated, and that for what is inserted. A delete that asks the root whose the rows are goes before the root's, with
    a foreign key or without. TRUNCATEs become one statement, as foreign keys between them demand.

    Args:
        writes: of one batch, in any order.
        tables: every target table of the feed (the same object each time: its order is computed once).
        deletes_last: under role `origin` a delete cascades; it waits until its children have moved away.

    """
    if len(writes) < 2:
        return list(writes)
    ranks = _order_of(_SameTables(tables)).ranks

    def place(write: Write) -> tuple[bool, float, int]:
        rank: float = ranks.get(write.table.name, len(ranks))
        removing = _REMOVING.get(write.action)
        if removing is not None:
            if write.owner is not None:
                rank = max(rank, ranks.get(write.owner.table.name, len(ranks)) + 0.5)
            return deletes_last, -rank, removing
        return not deletes_last, rank, _ADDING.get(write.action, -1)

    truncates = [write for write in writes if write.action is WriteAction.TRUNCATE]
    others = [write for write in writes if write.action is not WriteAction.TRUNCATE]
    return [*_together(truncates), *sorted(others, key=place)]


def _together(truncates: Sequence[Write]) -> list[Write]:
    if not truncates:
        return []
    tables = {table.name: table for write in truncates for table in (write.table, *write.also)}
    first = truncates[0]
    also = tuple(table for table in tables.values() if table.name != first.table.name)
    return [replace(first, also=also)]
