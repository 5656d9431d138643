"""The proof that our capture has put into Kafka what was committed on the source: its slot has confirmed it."""

from __future__ import annotations

import asyncio
from typing import Final

from replicator.postgres.probe import Probe
from replicator.postgres.slots import lost_slot, read_slot

_POLL_SECONDS: Final = 0.05


class CaptureProof:
    """`partitions.ProducerProof` by the slot of `replicator capture`, which confirms only what Kafka has committed.

    Args:
        dsn: of the source.
        feed: `connector/direction`.
        slot: the capture's.

    """

    def __init__(self, dsn: str, feed: str, slot: str) -> None:
        self._probe = Probe(dsn, feed)
        self._slot = slot

    async def produced(self, lsn: int) -> None:
        """See `partitions.ProducerProof`.

        Raises:
            ReplicatorError: SLOT_LOST when the slot is gone or was invalidated, CONFIG when it isn't a capture's.

        """
        while True:
            slot = await read_slot(await self._probe.session(), self._slot)
            if slot is None:
                raise lost_slot(self._slot, "it does not exist", "since the capture last confirmed")
            if slot.confirmed_lsn >= lsn:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def close(self) -> None:
        """End its session. Idempotent."""
        await self._probe.close()
