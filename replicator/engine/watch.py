"""Watches the tables of a running feed for what its stream doesn't tell: see `changes`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from replicator.engine.changes import Change, ChangeKind, Effect, compare_catalogs, watched_tables

if TYPE_CHECKING:
    from replicator.mapping import Mappings
    from replicator.ports import Reader, Target
    from replicator.tables import Catalog

INTERVAL_SECONDS: Final = 5.0
BUSY_SHARE: Final = 20  # of a thousand tables a look takes a fifth of a second: it has one part in so many of the time


class SchemaWatch:
    """Looks at both ends of a feed again and again, and reports what has changed since the look before.

    A change is reported once. Errors of a look (a lost connection) leave `run`; a new watch that is given the same
    first catalogs reports again what it finds.

    Args:
        reader: of the source.
        target: of the feed.
        mappings: compiled from `source` and `target_catalog`.
        source: the source's catalog at that moment.
        target_catalog: likewise the target's.
        report: is awaited with the changes of one look, those of the source first; never with none.
        interval: seconds between two looks.

    """

    def __init__(
        self,
        *,
        reader: Reader,
        target: Target,
        mappings: Mappings,
        source: Catalog,
        target_catalog: Catalog,
        report: Callable[[list[Change]], Awaitable[None]],
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._reader = reader
        self._target = target
        self._at_source = watched_tables(mappings, source=True)
        self._at_target = watched_tables(mappings, source=False)
        self._source = source
        self._target_catalog = target_catalog
        self._report = report
        self._interval = interval

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION; and whatever `report` raises.

        """
        while True:
            began = time.monotonic()
            await self.look()
            await asyncio.sleep(max(self._interval, BUSY_SHARE * (time.monotonic() - began)))

    async def look(self) -> None:
        """Compare once, and report what is new."""
        source, target = await self._reader.catalog(), await self._target.catalog()
        changes = [
            *await self._settled(compare_catalogs(self._source, source, self._at_source), source),
            *compare_catalogs(self._target_catalog, target, self._at_target),
        ]
        self._source, self._target_catalog = source, target
        if changes:
            await self._report(changes)

    async def _settled(self, changes: list[Change], source: Catalog) -> list[Change]:
        """Most partitions are attached as they are made, empty: those ask for nothing."""
        settled = []
        for change in changes:
            partition = None if change.partition is None else source.tables.get(change.partition)
            if (
                change.kind is ChangeKind.PARTITION_ATTACHED
                and partition is not None
                and not await self._reader.held_rows_when_attached(partition)
            ):
                message = f"partition {partition.name} was attached, and held no rows before"
                settled.append(replace(change, effect=Effect.FITS, message=message))
            else:
                settled.append(change)
        return settled
