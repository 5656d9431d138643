"""Resync: a mapping is copied again beside the running feed.

    pass 1   source key ranges: gate ▸ snapshot ▸ rows that differ are written, missing ones inserted
    pass 2   target keys that the source no longer has: found without the gate, looked at again behind it, deleted

Lock taken: the gate advisory lock, alone, for one chunk (tens of milliseconds); meanwhile every lane stands at a batch
boundary. So a snapshot is newer than anything applied, and whatever the feed applies afterwards is newer than the
snapshot, or older and converges until the position has passed it: that LSN is what `run` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog

from replicator.copies import Chunk, MultisetCut
from replicator.engine.chunk_copy import RETRIED_HERE, ChunkCopier, Way, first_way, next_way
from replicator.engine.chunks import Walk
from replicator.engine.extras import delete_extras, extra_keys
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Key
from replicator.tables import TableName
from replicator.telemetry import TableBackfill

if TYPE_CHECKING:
    from replicator.copies import BackfillStore, ChunkTarget
    from replicator.engine.apply import Applier
    from replicator.engine.recent import RecentTransactions
    from replicator.mapping import Mapping, Mappings, Side
    from replicator.ports import Reader, Target, TargetTransaction
    from replicator.telemetry import FeedStatus

JOB: Final = "resync"
CHUNK_ROWS: Final = 2_000
"""Rows of one pause: some tens of milliseconds; a backfill's chunk would hold the lanes for half a second."""
_PAUSE_SECONDS: Final = 0.5  # before a chunk is tried again that lost a deadlock, say

Between = Callable[[Callable[[], Awaitable[str]]], Awaitable[str]]
"""Carries out work while the feed has no batch in hand (`Feed.between`)."""


@dataclass(frozen=True)
class Resynced:
    """What a resync did.

    Attributes:
        rows: rows of the source's root that were read.
        deleted: rows of the target whose aggregate the source no longer has.
        insert_lsn: the feed's position must pass it before the target agrees with the source.

    """

    rows: int
    deleted: int
    insert_lsn: int


class Resync:
    """Copies one mapping at a time again.

    Args:
        mappings: of the feed.
        applier: the feed's: what was written from a snapshot may no longer be inserted blindly.
        copier: copies a chunk.
        chunks: of the target.
        reader: of the source.
        target: taken over by the feed.
        store: progress in the target: a resync that was interrupted goes on.
        recent: told by the feed what it applies.
        status: filled in while it runs.
        clock: seconds since the epoch.
        between, add_cut: the feed's, for tables without a key.
        hold: sees that this process alone applies a mapping's changes until the transaction ends, likewise; None where
            no other does.

    """

    def __init__(
        self,
        *,
        mappings: Mappings,
        applier: Applier,
        copier: ChunkCopier,
        chunks: ChunkTarget,
        reader: Reader,
        target: Target,
        store: BackfillStore,
        recent: RecentTransactions,
        status: FeedStatus,
        clock: Callable[[], float],
        between: Between,
        add_cut: Callable[[MultisetCut], None],
        hold: Callable[[TargetTransaction, Mapping], Awaitable[None]] | None = None,
        chunk_rows: int = CHUNK_ROWS,
    ) -> None:
        self._mappings = mappings
        self._applier = applier
        self._copier = copier
        self._chunks = chunks
        self._reader = reader
        self._target = target
        self._store = store
        self._recent = recent
        self._status = status
        self._clock = clock
        self._between = between
        self._add_cut = add_cut
        self._hold = hold
        self._chunk_rows = chunk_rows
        self._log = structlog.get_logger("replicator.resync").bind(connector=status.connector, feed=status.feed)

    def find(self, name: str) -> Mapping:
        """The mapping of this name, or with this source or target table.

        Raises:
            ReplicatorError: CONFIG, when there is none.

        """
        try:
            wanted = str(TableName.parse(name))
        except ValueError:
            wanted = name
        for mapping in self._mappings.all:
            tables = (str(side.table.name) for side in (*mapping.sources, *mapping.targets))
            if mapping.name in (name, wanted) or wanted in tables:
                return mapping
        raise ReplicatorError(
            f"the connector maps no table {name!r}",
            kind=ErrorKind.CONFIG,
            table=name,
            hint="nothing was done; `replicator plan` lists the mapped tables of both sides",
        )

    async def run(self, name: str) -> Resynced:
        """Copy the mapping of this table again.

        Raises:
            ReplicatorError: what a chunk could not be copied for; chunks before it are done, and the same call goes on
                with what is left.

        """
        mapping = self.find(name)
        copied = (await self._store.load(JOB)).get(mapping.name)
        if copied is None or copied.complete:
            copied = None
            async with self._target.job(JOB) as tx:
                await self._store.forget(tx, JOB, mapping.name)
                await self._store.begin(tx, JOB, [mapping.name])
        self._log.info("resync started", mapping=mapping.name, resumed=copied is not None)
        walk = Walk(mapping, copied)
        progress = TableBackfill(
            str(mapping.root.table.name),
            rows_estimate=mapping.root.table.rows_estimate if mapping.root.table.rows_estimate >= 0 else None,
            rows_done=copied.rows if copied else 0,
        )
        progress.start(self._clock())
        self._status.backfill[progress.table] = progress
        with self._recent.watch() as xids:
            await self._reader.wait_for_running()
            deleted = await self._passes(walk, progress, xids)
        await self._finish(mapping)
        progress.finish(self._clock())
        done = (await self._store.load(JOB))[mapping.name]
        self._log.info("resync complete", mapping=mapping.name, rows=done.rows, deleted=deleted)
        return Resynced(done.rows, deleted, done.insert_lsn)

    async def _passes(self, walk: Walk, progress: TableBackfill, xids: set[int]) -> int:
        mapping = walk.mapping
        if mapping.multiset:
            await self._multiset(walk, progress, xids)
            return 0
        while walk.takeable:
            await self._chunk(walk, progress, xids)
        deleted = 0
        for side in reversed(mapping.targets):
            deleted += await self._prune(mapping, side, xids)
        return deleted

    async def _finish(self, mapping: Mapping) -> None:
        async with self._target.job(JOB) as tx:
            await self._store.finish(tx, JOB, mapping.name)

    # -- pass 1 ------------------------------------------------------------------------------------------------------

    async def _chunk(self, walk: Walk, progress: TableBackfill, xids: set[int]) -> None:
        mapping, gap = walk.mapping, walk.take()
        root = mapping.root
        seen = frozenset(xids)
        async with self._reader.snapshot(seen) as snapshot:  # whatever takes time is done before the lanes have to wait
            upto = await snapshot.count_before(
                root.table, root.key, gap.chunk.after, self._chunk_rows, upto=gap.chunk.upto
            )
        xids.difference_update(seen)
        chunk = walk.cut(gap, upto)
        progress.advance(self._clock(), await self._written(chunk, mapping, xids))
        walk.done(chunk)

    async def _written(self, chunk: Chunk, mapping: Mapping, xids: set[int]) -> int:
        """Copy a chunk by the way that works; returns its rows."""
        way = first_way(mapping, rows_there=True)
        while True:
            try:
                return await self._copy(way, chunk, mapping, xids)
            except ReplicatorError as error:
                following = next_way(mapping, way, error)
                if following is None and error.kind not in RETRIED_HERE:
                    raise
                if following is None:
                    self._status.retried(error, self._clock(), self._clock() + _PAUSE_SECONDS)
                    await asyncio.sleep(_PAUSE_SECONDS)
                way = following or way

    async def _copy(self, way: Way, chunk: Chunk, mapping: Mapping, xids: set[int]) -> int:
        async with self._target.job(JOB) as tx:
            await tx.lock_all()  # first: what is read now is newer than anything applied
            seen = frozenset(xids)
            async with self._reader.snapshot(seen) as snapshot:
                self._applier.raise_floor(snapshot.insert_lsn, mapping)
                copied = await self._copier.copy(way, tx, snapshot, mapping, chunk)
                done = replace(chunk, rows=copied.rows, insert_lsn=snapshot.insert_lsn)
            await self._store.record(tx, JOB, done)
        xids.difference_update(seen)
        return copied.rows

    async def _multiset(self, walk: Walk, progress: TableBackfill, xids: set[int]) -> None:
        """A table without a key: emptied and copied in one transaction, with no batch in hand.

        A batch that is in hand was compared with the earlier cut already.
        """
        mapping, chunk = walk.mapping, walk.take().chunk

        async def work() -> str:
            async with self._target.job(JOB) as tx:
                await tx.lock_all()
                if self._hold is not None:
                    await self._hold(tx, mapping)
                async with self._reader.snapshot(frozenset(xids)) as snapshot:
                    copied = await self._copier.copy(first_way(mapping), tx, snapshot, mapping, chunk)
                    cut = MultisetCut(mapping.root.table.name, snapshot.text, snapshot.insert_lsn)
                    done = replace(chunk, rows=copied.rows, insert_lsn=snapshot.insert_lsn)
                await self._store.record(tx, JOB, done)
            self._add_cut(cut)
            progress.advance(self._clock(), copied.rows, bytes_copied=copied.bytes)
            return ""

        await self._between(work)
        walk.done(chunk)

    # -- pass 2 ------------------------------------------------------------------------------------------------------

    async def _prune(self, mapping: Mapping, side: Side, xids: set[int]) -> int:
        """Delete the rows of one target table whose aggregate the source no longer has; returns how many."""
        after: Key | None = None
        deleted = 0
        where = mapping.owns if side is mapping.target else None
        while True:
            async with self._target.job(JOB) as tx:
                keys = await self._chunks.keys_after(tx, side.table, side.key, after, self._chunk_rows, where=where)
                extra = await self._extra(tx, mapping, side, keys, frozenset())
            if not keys:
                return deleted
            if extra:
                deleted += await self._delete(mapping, side, extra, xids)
            after = keys[-1]

    async def _delete(self, mapping: Mapping, side: Side, keys: Sequence[Key], xids: set[int]) -> int:
        async with self._target.job(JOB) as tx:
            await tx.lock_all()
            seen = frozenset(xids)
            extra = await self._extra(tx, mapping, side, keys, seen)
            deleted = await delete_extras(tx, mapping, side, extra) if extra else 0
        xids.difference_update(seen)
        return deleted

    async def _extra(
        self, tx: TargetTransaction, mapping: Mapping, side: Side, keys: Sequence[Key], xids: frozenset[int]
    ) -> list[Key]:
        """Those keys in a target table that no root row of the source stands behind (or that are in no key map)."""
        if not keys:
            return []
        async with self._reader.snapshot(xids) as snapshot:
            return await extra_keys(tx, snapshot, mapping, side, keys, chunks=self._chunks)
