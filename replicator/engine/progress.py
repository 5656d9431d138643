"""What one target transaction of a lane has done so far."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from replicator.engine.apply import Applied

if TYPE_CHECKING:
    from collections.abc import Collection

    from replicator.engine.parking import Parked
    from replicator.events import Batch


class Progress:
    """Counted only once the transaction has committed.

    Attributes:
        batch: what it applies, or the newest part of it.
        beside: other lanes have applied their part of the batch already, to its end.
        applied: rows.
        parked: how many changes entered the dead letter queue, by key.
        voided: mappings whose keys left it by a TRUNCATE.
        deferred: whether an aggregate was left to `DeferredAggregates`.
        started: by the monotonic clock.
        transactions: of the source, that ended in it.
        locked: whether it holds the gate alone.

    """

    __slots__ = ("applied", "batch", "beside", "deferred", "locked", "parked", "started", "transactions", "voided")

    def __init__(self, batch: Batch, *, beside: bool = False) -> None:
        self.batch = batch
        self.beside = beside
        self.deferred = False
        self.applied = Applied()
        self.parked: Counter[Parked] = Counter()
        self.started = time.monotonic()
        self.transactions = 0
        self.locked = False
        self.voided: set[str] = set()

    def void(self, mappings: Collection[str]) -> None:
        """What has waited of these mappings, since before or by this transaction, waits no longer."""
        self.voided.update(mappings)
        for one in [one for one in self.parked if one[0] in mappings]:
            del self.parked[one]
