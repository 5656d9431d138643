"""Recent transactions: what the feed has applied and a new snapshot of the source might still not see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from replicator.runs import xids_of

if TYPE_CHECKING:
    from replicator.events import Batch


class RecentTransactions:
    """Tells jobs beside a feed which transactions it applies.

    A commit is in the WAL before it is visible. Who writes what a snapshot shows over what the feed has applied must
    see at least as much; else the older state is written, and no later event mends it. So a job watches, waits once
    for all that was running when it began (`Reader.wait_for_running`), and has every snapshot see what it has been
    told since (`Reader.snapshot`).
    """

    def __init__(self) -> None:
        self._watchers: list[set[int]] = []

    def note(self, batch: Batch) -> None:
        """This batch is going to be applied; called before its target transaction begins. Costs nothing unwatched."""
        if self._watchers:
            noted = xids_of(batch.events)
            for watcher in self._watchers:
                watcher.update(noted)

    @contextmanager
    def watch(self) -> Iterator[set[int]]:
        """A set that grows by what the feed applies; its owner takes out what a snapshot has seen."""
        watcher: set[int] = set()
        self._watchers.append(watcher)
        try:
            yield watcher
        finally:
            self._watchers[:] = [one for one in self._watchers if one is not watcher]
