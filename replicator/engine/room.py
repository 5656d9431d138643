"""Room: unique values that rows of one batch give each other, or take from rows that are newer than the batch.

A reduced batch can fail on a unique index where its replay would not: row 1 takes the value that row 2 gives up, and
the statement meets them in the wrong order. Rows in the way that the same statement writes are taken away before, and
come back whole (`exchange.py`). Behind a copy, a row in the way may not be in the batch at all: it was copied in a
newer state. Then it and the row that is refused are settled from one snapshot of the source (`unique.py`), which has
seen all of the batch. Either way the rest of the batch needs no replay.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from replicator.engine.exchange import exchanged
from replicator.engine.translation import source_keys
from replicator.writes import Write, WriteAction

if TYPE_CHECKING:
    from replicator.copies import ChunkTarget
    from replicator.engine.apply import Applied
    from replicator.engine.unique import UniqueResolver
    from replicator.errors import ReplicatorError
    from replicator.events import Key
    from replicator.mapping import Mapping, Mappings
    from replicator.ports import TargetTransaction
    from replicator.tables import Table


_ROWS: Final = frozenset({WriteAction.UPSERT, WriteAction.UPDATE})


class Room:
    """What a batch has met so far: unique indexes in which rows stood in each other's way, by table.

    Args:
        resolver: settles aggregates.
        mappings: of the feed.
        rows: asks the target what is in the way.
        xids: the batch's transactions: a snapshot that settles its aggregates has to see them. None: nothing is
            settled here, as other lanes hold the gate, which that takes alone.

    """

    def __init__(
        self, resolver: UniqueResolver, mappings: Mappings, rows: ChunkTarget, xids: Collection[int] | None
    ) -> None:
        self._resolver = resolver
        self._mappings = mappings
        self._rows = rows
        self._xids = xids
        self._constraints: dict[str, dict[str, None]] = {}
        self._unsettled: dict[Mapping, dict[Key, None]] = {}

    def learn(self, error: ReplicatorError) -> bool:
        """Remember the index of a UNIQUE error; False when it is known already, or the error doesn't name it."""
        self._unsettled.clear()  # that attempt was rolled back
        if error.table is None or error.constraint is None:
            return False
        known = self._constraints.setdefault(error.table, {})
        if error.constraint in known:
            return False
        known[error.constraint] = None
        return True

    def _of(self, table: Table) -> dict[str, None]:
        return self._constraints.get(f"{table.name.schema}.{table.name.name}", {})

    async def make(self, tx: TargetTransaction, planned: Write, write: Write) -> list[tuple[Write, Write]]:
        """Make room for a write, and return what is left of both, in parts.

        Args:
            tx: the batch's.
            planned: the write with the source's keys.
            write: the same with the target's.

        """
        arbiter = write.table.arbiter(write.key)
        constraints = [name for name in self._of(write.table) if arbiter is None or name != arbiter.name]
        if not constraints:
            return [(planned, write)]
        (mapping,) = self._mappings.named((write.mapping,))
        if self._xids is not None and write.action in _ROWS and write.table.name == mapping.target.table.name:
            for constraint in constraints:
                columns = next((one.columns for one in write.table.unique_keys if one.name == constraint), ())
                if columns and set(columns) <= set(write.columns):
                    planned, write = await self._apart(tx, mapping, (planned, write), constraint, columns)
        apart = await exchanged(tx, self._rows, write, constraints)
        if apart is None:
            return [(planned, write)]
        return [(_without(planned, apart.moved), apart.rest), (apart.whole, apart.whole)]

    async def _apart(
        self,
        tx: TargetTransaction,
        mapping: Mapping,
        writes: tuple[Write, Write],
        constraint: str,
        columns: tuple[str, ...],
    ) -> tuple[Write, Write]:
        """Leave out the rows that want what rows hold which the write doesn't have: they are settled at the end."""
        planned, write = writes
        width = len(write.key)
        there = await self._rows.in_the_way(tx, write, constraint, (*write.key, *columns))
        holders = [(row[:width], row[width:]) for row in there]
        places = {key: at for at, key in enumerate(_picked(write, write.key))}
        wanted: dict[Key, int] = {values: at for at, values in enumerate(_picked(write, columns))}
        refused: set[int] = set()
        more = {wanted[values] for key, values in holders if key not in places and values in wanted}
        while more:  # a row that is left out still holds what it holds
            refused |= more
            left = {key for key, at in places.items() if at in refused}
            more = {wanted[values] for key, values in holders if key in left and values in wanted} - refused
        if not refused:
            return writes
        own = _picked(planned, mapping.target.key)
        unsettled = self._unsettled.setdefault(mapping, {})
        unsettled.update(dict.fromkeys(own[at] for at in refused))
        others = [key for key, _ in holders if key not in places]
        back = await source_keys(self._rows, tx, mapping, mapping.target, list(dict.fromkeys(others)))
        unsettled.update(dict.fromkeys(back.values()))
        return _without(planned, refused), _without(write, refused)

    async def settle(self, tx: TargetTransaction, applied: Applied) -> None:
        """Write what was left out, and what stood in its way, as the source has them now.

        Raises:
            ReplicatorError: as `UniqueResolver.settle`.

        """
        unsettled, self._unsettled = self._unsettled, {}
        for mapping, keys in unsettled.items():
            await self._resolver.settle(tx, mapping, list(keys), set(self._xids or ()), applied)


def _picked(write: Write, columns: tuple[str, ...]) -> list[Key]:
    """These columns of each row; a None in them equals no key."""
    at = [write.columns.index(name) for name in columns]
    return [tuple(row[place] for place in at) for row in write.rows]  # type: ignore[misc] # compared only


def _without(write: Write, left_out: Collection[int]) -> Write:
    return replace(write, rows=[row for at, row in enumerate(write.rows) if at not in left_out])
