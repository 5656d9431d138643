"""The drain proof: a position behind everything that was committed on the source before an LSN.

the producer has put all of it into the log ──▶ topics and ends of all partitions, as they are then ──▶
this process has read its own up to there, and others' are applied up to there
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from replicator.events import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from replicator.kafka.admin import Admin
    from replicator.kafka.backlog import Backlog, Reading
    from replicator.kafka.beginning import Beginning
    from replicator.partitions import Ledger, Partition, ProducerProof

_LEDGER_SECONDS: Final = 0.1


class Drain:
    """Of one session.

    Args:
        proof: of the producer.
        admin, beginning, ledger: as they are.
        readings: this process's partitions.
        backlog: numbers what was read.
        refresh: has the consumer look for new topics now.

    """

    def __init__(
        self,
        proof: ProducerProof,
        admin: Admin,
        beginning: Beginning,
        ledger: Ledger,
        *,
        readings: Mapping[Partition, Reading],
        backlog: Backlog,
        refresh: Callable[[], None],
    ) -> None:
        self._proof = proof
        self._admin = admin
        self._beginning = beginning
        self._ledger = ledger
        self._readings = readings
        self._backlog = backlog
        self._refresh = refresh
        self._moved = asyncio.Event()

    def progressed(self) -> None:
        """Something was read."""
        self._moved.set()

    async def passed(self, lsn: int) -> Position:
        """See `ports.Source`."""
        await self._proof.produced(lsn)
        await self._beginning.refresh()
        ends = await self._admin.ends(self._beginning.partitions())
        refreshed = False
        while left := {one: end for one, end in ends.items() if not self._read(one, end)}:
            if foreign := left.keys() - self._readings.keys():
                applied = await self._ledger.offsets()
                done = {one for one in foreign if applied.get(one, 0) >= left[one]}
                for one in done:
                    del ends[one]  # committed there, and it never goes back
                if not refreshed and any(one not in applied for one in foreign - done):
                    refreshed = True
                    self._refresh()
                if done == left.keys():
                    continue
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), _LEDGER_SECONDS)
            except TimeoutError:
                continue
        return Position(self._backlog.number)

    def _read(self, partition: Partition, end: int) -> bool:
        reading = self._readings.get(partition)
        return end == 0 if reading is None else reading.read >= end
