"""Watches the tables of a running feed for what its stream doesn't tell: see `changes`.

    look ──▶ compare with what was seen last ──▶ store what is seen, and which mappings need a resync ──▶ report

What was seen last is in the target, so that a change made while no process ran is found by the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from replicator.engine.changes import Change, ChangeKind, Effect, Watched, compare_catalogs, watched_tables
from replicator.engine.seen import from_text, to_text

if TYPE_CHECKING:
    from replicator.copies import SchemaStore, StaleMapping
    from replicator.mapping import Mappings
    from replicator.ports import Reader, Target
    from replicator.tables import Catalog, TableName

INTERVAL_SECONDS: Final = 5.0
BUSY_SHARE: Final = 20  # a look at a thousand tables takes a fifth of a second: no more than a twentieth of the time
_SOURCE: Final = "source"
_TARGET: Final = "target"


class SchemaWatch:
    """Looks at both ends of a feed again and again, and reports what has changed since the look before.

    A change is reported once, after it is stored; a look that fails stores nothing, and is done again by the next.

    Args:
        reader: of the source.
        target: of the feed, taken over.
        store: in the target.
        mappings: of the feed.
        report: is awaited with the changes of one look, those of the source first; never with none.
        interval: seconds between two looks.

    """

    def __init__(
        self,
        *,
        reader: Reader,
        target: Target,
        store: SchemaStore,
        mappings: Mappings,
        report: Callable[[Sequence[Change]], Awaitable[None]],
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._reader = reader
        self._target = target
        self._store = store
        self._watched = {
            _SOURCE: watched_tables(mappings, source=True),
            _TARGET: watched_tables(mappings, source=False),
        }
        self._report = report
        self._interval = interval
        self._seen: dict[str, str] | None = None
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION, SUPERSEDED; and whatever `report` raises.

        """
        while True:
            began = time.monotonic()
            await self.look()
            await asyncio.sleep(max(self._interval, BUSY_SHARE * (time.monotonic() - began)))

    async def look(self) -> None:
        """Compare once, store and report what is new. The first look of a new feed has nothing to compare with."""
        async with self._looking:
            if self._seen is None:
                self._seen = await self._store.seen()
            catalogs = {_SOURCE: await self._reader.catalog(), _TARGET: await self._target.catalog()}
            now = {end: to_text(catalog, self._watched[end]) for end, catalog in catalogs.items()}
            if now == self._seen:
                return
            changes: list[Change] = []
            for end, catalog in catalogs.items():
                if end in self._seen and self._seen[end] != now[end]:
                    changes += await self._compared(from_text(self._seen[end]), catalog, self._watched[end])
            async with self._target.job("schema") as transaction:
                await self._store.see(transaction, now, _stale(changes))
            self._seen = now
        if changes:
            await self._report(changes)

    async def resynced(self, mapping: str, copy: Callable[[], Awaitable[None]]) -> None:
        """Copy a mapping again; afterwards it is as it should be, but for what is noticed meanwhile.

        Raises:
            ReplicatorError: as `look`, and as `copy`.

        """
        await self.look()
        reasons = [stale for stale in await self._store.stale() if stale.mapping == mapping]
        await copy()
        if reasons:
            async with self._target.job("schema") as transaction:
                for stale in reasons:
                    await self._store.mended(transaction, stale)

    async def stale(self) -> list[StaleMapping]:
        """The mappings that need a resync."""
        return await self._store.stale()

    async def _compared(self, before: Catalog, after: Catalog, tables: Sequence[Watched]) -> list[Change]:
        changes = compare_catalogs(before, after, tables)
        if tables is not self._watched[_SOURCE]:
            return changes
        whole = _rewritten_whole(changes, before, after)
        return [await self._settled(change, after, whole) for change in changes]

    async def _settled(self, change: Change, after: Catalog, whole: Collection[TableName]) -> Change:
        """What only a look at a partition's rows can tell."""
        partition = None if change.partition is None else after.tables.get(change.partition)
        if partition is None:
            return change
        # Most partitions are attached as they are made, empty: those ask for nothing.
        if change.kind is ChangeKind.PARTITION_ATTACHED and not await self._reader.held_rows_when_attached(partition):
            message = f"partition {partition.name} was attached, and held no rows before"
            return replace(change, effect=Effect.FITS, message=message)
        # TRUNCATE of a partitioned table is in the stream; that of one partition alone is in none.
        alone = change.kind is ChangeKind.REWRITTEN and change.effect is Effect.FITS and change.table not in whole
        if alone and not await self._reader.holds_rows_from_before_rewrite(partition):
            message = f"partition {partition.name} was truncated or rewritten by itself: its rows may have gone "
            return replace(change, effect=Effect.RESYNC, message=f"{message}without an event")
        return change


def _rewritten_whole(changes: Sequence[Change], before: Catalog, after: Catalog) -> set[TableName]:
    """Partitioned tables whose partitions, more than one, were all rewritten: by a TRUNCATE of the whole."""
    rewritten: dict[TableName, set[TableName]] = {}
    for change in changes:
        if change.kind is ChangeKind.REWRITTEN and change.partition is not None:
            rewritten.setdefault(change.table, set()).add(change.partition)
    return {
        table
        for table, leaves in rewritten.items()
        if len(leaves) > 1 and leaves.issuperset(set(before.tables[table].leaves) & set(after.tables[table].leaves))
    }


def _stale(changes: Sequence[Change]) -> dict[str, str]:
    """Why each mapping needs a resync; a table that was made again does, once its new one is published."""
    return {
        change.mapping: f"{change.table}: {change.message}"
        for change in reversed(changes)
        if change.effect is Effect.RESYNC or change.kind is ChangeKind.TABLE_RECREATED
    }
