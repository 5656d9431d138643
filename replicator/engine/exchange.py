"""Exchange: rows of one write that hold each other's unique values, so that no order of the rows would do.

    write ──▶ those in the way of others: taken away ──▶ the rest as it was ──▶ those again, whole

What is taken away comes back in the same transaction with all its columns: those that the write carries as they are
given, the others (a surrogate key, say) as they were. Foreign keys must not act on the delete: in role replica.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from replicator.writes import Write, WriteAction

if TYPE_CHECKING:
    from replicator.copies import ChunkTarget
    from replicator.events import Key, Values
    from replicator.ports import TargetTransaction

_ROWS: Final = frozenset({WriteAction.UPSERT, WriteAction.UPDATE, WriteAction.MERGE})


@dataclass(frozen=True)
class Exchanged:
    """A write, taken apart.

    Attributes:
        rest: the write without the rows that were taken away.
        whole: those, to be inserted after it.
        moved: their places in the write's rows.

    """

    rest: Write
    whole: Write
    moved: frozenset[int]


async def exchanged(
    tx: TargetTransaction, rows: ChunkTarget, write: Write, constraints: Iterable[str]
) -> Exchanged | None:
    """Take away the rows of a write that stand in its own way by these constraints; None where none does."""
    if write.action not in _ROWS or write.multiset:
        return None
    places = {key: at for at, key in enumerate(_keys(write, write.columns, write.rows))}
    again: dict[Key, None] = {}
    for constraint in constraints:
        there = await rows.in_the_way(tx, write, constraint, write.key)
        again.update(dict.fromkeys(key for key in there if key in places))
    if not again:
        return None
    columns = write.table.writable
    taken = await rows.take_away(tx, write.table, write.key, list(again))
    moved = {places[key]: row for key, row in zip(_keys(write, columns, taken), taken, strict=True)}
    given = {name: at for at, name in enumerate(write.columns)}
    whole = [
        tuple(write.rows[at][given[name]] if name in given else old for name, old in zip(columns, row, strict=True))
        for at, row in moved.items()
    ]
    return Exchanged(
        replace(write, rows=[row for at, row in enumerate(write.rows) if at not in moved]),
        Write(write.table, WriteAction.INSERT, columns=columns, key=write.key, rows=whole, mapping=write.mapping),
        frozenset(moved),
    )


def _keys(write: Write, columns: tuple[str, ...], rows: Iterable[Values]) -> list[Key]:
    at = [columns.index(name) for name in write.key]
    return [tuple(row[place] for place in at) for row in rows]  # type: ignore[misc]  # a key holds no None
