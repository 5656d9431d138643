"""Room: rows of one batch that exchange unique values are taken away first, then all are written as they end.

A reduced batch can fail on a unique index where its replay would not: row 1 takes the value that row 2 gives up, and
the statement meets them in the wrong order. When all rows in the way are rewritten by the same statement, whole, they
may as well be deleted before: no replay is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.writes import Write, WriteAction

if TYPE_CHECKING:
    from replicator.copies import ChunkTarget
    from replicator.errors import ReplicatorError
    from replicator.ports import TargetTransaction
    from replicator.tables import Table


class Room:
    """What a batch has met so far: unique indexes in which its rows stood in each other's way, by table."""

    def __init__(self) -> None:
        self._constraints: dict[str, dict[str, None]] = {}

    def learn(self, error: ReplicatorError) -> bool:
        """Remember the index of a UNIQUE error; False when it is known already, or the error doesn't name it."""
        if error.table is None or error.constraint is None:
            return False
        known = self._constraints.setdefault(error.table, {})
        if error.constraint in known:
            return False
        known[error.constraint] = None
        return True

    def _of(self, table: Table) -> dict[str, None]:
        return self._constraints.get(f"{table.name.schema}.{table.name.name}", {})

    async def make(self, tx: TargetTransaction, rows: ChunkTarget, write: Write) -> None:
        """Delete the rows in the way of a write (its translations are done) that the write brings again, whole."""
        constraints = self._of(write.table)
        if not constraints or write.action is not WriteAction.UPSERT:
            return
        if not set(write.table.writable) <= set(write.columns):
            return  # a column that the write doesn't carry would be lost: the replay finds another way
        at = [write.columns.index(name) for name in write.key]
        brought = {tuple(row[place] for place in at) for row in write.rows}
        arbiter = write.table.arbiter(write.key)
        for constraint in constraints:
            if arbiter is not None and constraint == arbiter.name:
                continue
            there = await rows.in_the_way(tx, write, constraint, write.key)
            again = [key for key in there if key in brought]
            if again:
                await tx.write(
                    Write(
                        write.table,
                        WriteAction.DELETE,
                        columns=write.key,
                        key=write.key,
                        rows=again,
                        mapping=write.mapping,
                    )
                )
