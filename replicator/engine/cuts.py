"""Cuts: events of tables without a key that the copy already holds, by the transactions that its snapshot saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replicator.copies import MultisetCut
    from replicator.events import Batch
    from replicator.tables import TableName


class SnapshotText:
    """`pg_current_snapshot()` as the server prints it, `xmin:xmax:xip,...`, asked about 32-bit xids.

    https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
    """

    def __init__(self, text: str) -> None:
        xmin, xmax, running = text.split(":")
        self._xmin = int(xmin)
        self._xmax = int(xmax)
        self._running = frozenset(int(xid) for xid in running.split(",") if xid)

    def sees(self, xid: int) -> bool:
        """Whether a transaction that has committed is visible; `xid` is the near one of its 32-bit name."""
        full = self._xmax + _signed(xid - self._xmax)
        return full < self._xmin or (full < self._xmax and full not in self._running)


def _signed(difference: int) -> int:
    """A difference of xids modulo 2^32, taken as the nearer of the two ways."""
    low = difference & 0xFFFFFFFF
    return low - (1 << 32) if low >= 1 << 31 else low


class Cuts:
    """Drops events that a copy's one snapshot has seen, until the position has passed the copy."""

    def __init__(self, cuts: Sequence[MultisetCut]) -> None:
        self._cuts: dict[TableName, tuple[SnapshotText, int]] = {}
        for cut in cuts:
            self.add(cut)

    def add(self, cut: MultisetCut) -> None:
        """The table was copied (again)."""
        self._cuts[cut.table] = (SnapshotText(cut.snapshot), cut.lsn)

    def drop(self, batch: Batch) -> None:
        """Take such events out of the batch; forget the cuts that it has passed."""
        if not self._cuts:
            return
        kept = []
        for event in batch.events:
            cut = self._cuts.get(event.relation.table)
            if cut is None or event.transaction.commit_lsn >= cut[1] or not cut[0].sees(event.transaction.xid):
                kept.append(event)
        batch.events = kept
        self._cuts = {table: cut for table, cut in self._cuts.items() if batch.position.at <= cut[1]}
