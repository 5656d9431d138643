"""The backfill: every mapping's source root is copied in key ranges, by several workers, while the feed is held.

    walks (what is left of each table)
       │ take, cut by the snapshot's reader
       ▼
    worker 1…n ── source snapshot ──▶ target transaction: rows + chunk record, committed together (exactly once)

No snapshot lives longer than a chunk, but that of a table without a key, which is one chunk. Killed at any time, the
next run goes on with what is left. The feed, started at the position noted before, applies older events over newer rows
and converges once it has passed the newest snapshot: the LSN that `run` returns.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog

from replicator.engine.chunk_copy import RETRIED_HERE, ChunkCopier, Way, first_way, next_way
from replicator.engine.chunks import Walk, parents_first
from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.telemetry import BackfillState, FeedStatus, TableBackfill

if TYPE_CHECKING:
    from replicator.copies import BackfillStore, Chunk
    from replicator.engine.chunk_copy import Copied
    from replicator.events import Key
    from replicator.mapping import Mapping, Mappings
    from replicator.ports import Reader, SourceSnapshot, Target

JOB: Final = "backfill"
_ENDS: Final = frozenset({ErrorKind.CONNECTION, ErrorKind.COMMIT_UNKNOWN, ErrorKind.READ_ONLY, ErrorKind.SUPERSEDED})
_FAILED_MAX: Final = 10
"""Chunks of one table that may fail on data: a transform that fails everywhere need not say so for every chunk."""


@dataclass(frozen=True)
class BackfillSettings:
    """What a backfill is told by the connector.

    Attributes:
        workers: chunks copied at once, each on a source and a target session of its own.
        chunk_rows: rows of one chunk, about.
        foreign_keys: the target checks foreign keys (no replica role): a table waits for those that it refers to.
        retry_initial, retry_max: seconds, doubled between them, with jitter.

    """

    workers: int = 2
    chunk_rows: int = 20_000
    foreign_keys: bool = False
    retry_initial: float = 0.2
    retry_max: float = 30.0


class Backfill:
    """The initial copy of one feed.

    Args:
        mappings: of the feed.
        copier: copies a chunk.
        reader: of the source; it must allow `workers` snapshots at once.
        target: taken over before.
        store: progress in the target.
        status: filled in while it runs.
        settings: see `BackfillSettings`.
        clock: seconds since the epoch.

    """

    def __init__(
        self,
        *,
        mappings: Mappings,
        copier: ChunkCopier,
        reader: Reader,
        target: Target,
        store: BackfillStore,
        status: FeedStatus,
        settings: BackfillSettings,
        clock: Callable[[], float],
    ) -> None:
        self._mappings = mappings
        self._copier = copier
        self._reader = reader
        self._target = target
        self._store = store
        self._status = status
        self._settings = settings
        self._clock = clock
        self._changed = asyncio.Event()
        self._errors: list[ReplicatorError] = []
        self._ways: dict[str, Way] = {}
        self._walks: list[tuple[Walk, frozenset[str]]] = []
        self._log = structlog.get_logger("replicator.backfill").bind(connector=status.connector, feed=status.feed)

    async def run(self) -> int:
        """Copy what is left.

        Returns:
            The LSN that the feed's position must pass before the target agrees with the source.

        Raises:
            ReplicatorError: SUPERSEDED; a kind that needs new connections (start again: it goes on); or, once
                everything else is copied, the first error that a chunk could not be copied for.

        """
        await self._prepare()
        if any(not walk.complete for walk, _ in self._walks):
            async with asyncio.TaskGroup() as group:
                for number in range(1, self._settings.workers + 1):
                    group.create_task(self._work(f"backfill-{number}"), name=f"backfill worker {number}")
        if self._errors:
            raise self._failure()
        lsn = await self._store.caught_up_lsn()
        self._log.info("backfill complete", tables=len(self._walks), insert_lsn=lsn)
        return lsn

    async def _prepare(self) -> None:
        copied = await self._store.load(JOB)
        new = [mapping.name for mapping in self._mappings.all if mapping.name not in copied]
        if new:
            async with self._target.job("backfill-1") as tx:
                await self._store.begin(tx, JOB, new)
        self._walks = [
            (Walk(mapping, copied.get(mapping.name)), parents) for mapping, parents in parents_first(self._mappings.all)
        ]
        for walk, _ in self._walks:
            mapping = walk.mapping
            table = mapping.root.table
            before = copied.get(mapping.name)
            progress = TableBackfill(
                str(table.name),
                rows_estimate=table.rows_estimate if table.rows_estimate >= 0 else None,
                rows_done=before.rows if before else 0,
                chunks_done=len(before.chunks) if before else 0,
            )
            if walk.complete:
                progress.finish(self._clock())
            self._status.backfill[str(table.name)] = progress
        left = [walk for walk, _ in self._walks if not walk.complete]
        self._log.info("backfill started", tables=len(self._walks), tables_left=len(left))

    # -- workers -----------------------------------------------------------------------------------------------------

    async def _work(self, worker: str) -> None:
        while (walk := await self._next()) is not None:
            await self._chunk(walk, worker)
            self._changed.set()

    async def _next(self) -> Walk | None:
        """A table that has a range to take; None when all is settled."""
        while True:
            unsettled = {walk.mapping.name for walk, _ in self._walks if not walk.settled}
            for walk, parents in self._walks:
                if walk.takeable and not (self._settings.foreign_keys and parents & unsettled):
                    return walk
            if not unsettled:
                return None
            self._changed.clear()
            await self._changed.wait()

    async def _chunk(self, walk: Walk, worker: str) -> None:
        """Take a range, cut it, and copy the piece by the way that works."""
        mapping, gap = walk.mapping, walk.take()
        chunk: Chunk | None = None
        way = self._ways.get(mapping.name) or first_way(mapping)
        delay = self._settings.retry_initial
        progress = self._progress(mapping)
        if progress.state is BackfillState.WAITING:
            progress.start(self._clock())
        while True:
            try:
                async with self._reader.snapshot() as snapshot:
                    if chunk is None:
                        upto = await self._upto(snapshot, mapping, gap.chunk)
                        chunk = walk.cut(gap, upto)
                        self._changed.set()
                    await self._copy(way, worker, snapshot, walk, chunk)
            except ReplicatorError as error:
                if error.kind in _ENDS:
                    raise
                following = next_way(mapping, way, error)
                if following is not None:
                    if following is Way.OVER:  # rows are there, and will be in the other chunks too
                        self._ways[mapping.name] = following
                    way = following
                elif error.kind in RETRIED_HERE:
                    delay = await self._pause(error, delay)
                else:
                    self._failed(walk, chunk or gap.chunk, error)
                    return
            else:
                return

    async def _upto(self, snapshot: SourceSnapshot, mapping: Mapping, chunk: Chunk) -> Key | None:
        if mapping.multiset:
            return None
        root, rows = mapping.root, self._settings.chunk_rows
        return await snapshot.count_before(root.table, root.key, chunk.after, rows, upto=chunk.upto)

    async def _copy(self, way: Way, worker: str, snapshot: SourceSnapshot, walk: Walk, chunk: Chunk) -> None:
        mapping = walk.mapping
        async with self._target.job(worker) as tx:
            copied = await self._copier.copy(way, tx, snapshot, mapping, chunk)
            done = replace(chunk, rows=copied.rows, insert_lsn=snapshot.insert_lsn)
            await self._store.record(tx, JOB, done)
            completes = walk.last
            if completes:
                await self._store.finish(tx, JOB, mapping.name)
        walk.done(chunk)
        self._progress(mapping).advance(self._clock(), copied.rows, bytes_copied=copied.bytes)
        self._report(mapping, copied)
        if walk.settled and not walk.failed:
            if not completes:  # two last chunks were in hand at once
                async with self._target.job(worker) as tx:
                    await self._store.finish(tx, JOB, mapping.name)
            walk.complete = True
            self._complete(mapping)

    async def _pause(self, error: ReplicatorError, delay: float) -> float:
        pause = delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        now = self._clock()
        self._status.retried(error, now, now + pause)
        await asyncio.sleep(pause)
        return min(delay * 2, self._settings.retry_max)

    # -- reports -----------------------------------------------------------------------------------------------------

    def _progress(self, mapping: Mapping) -> TableBackfill:
        return self._status.backfill[str(mapping.root.table.name)]

    def _report(self, mapping: Mapping, copied: Copied) -> None:
        if copied.deferred:
            self._log.info("values moved between chunks", mapping=mapping.name, deferred=copied.deferred)
        if copied.parked:
            self._log.warning("rows parked in the dead letter queue", mapping=mapping.name, parked=copied.parked)

    def _complete(self, mapping: Mapping) -> None:
        progress = self._progress(mapping)
        progress.finish(self._clock())
        self._log.info("table copied", table=progress.table, rows=progress.rows_done, chunks=progress.chunks_done)

    def _failed(self, walk: Walk, chunk: Chunk, error: ReplicatorError) -> None:
        """The rest of the copy goes on; not that of the same table where it would fail in the same way."""
        walk.fail(chunk)
        if error.action is not Action.ISOLATE or len(walk.failed) >= _FAILED_MAX:
            walk.abandon()
        self._errors.append(error)
        self._progress(walk.mapping).state = BackfillState.FAILED
        self._log.error("chunk failed", mapping=walk.mapping.name, error=error.message, **error.facts())

    def _failure(self) -> ReplicatorError:
        """The error of the whole: the first one, and how much else."""
        first = self._errors[0]
        tables = sorted({walk.mapping.name for walk, _ in self._walks if walk.failed})
        count = len(self._errors)
        others = f" (and {count - 1} more chunks of {_listed(tables)})" if count > 1 else ""
        return ReplicatorError(
            f"{first.message}{others}",
            kind=first.kind,
            table=first.table or tables[0],
            key=first.key,
            column=first.column,
            constraint=first.constraint,
            hint=first.hint
            or "everything else is copied and kept; mend the cause and start again: only the rest is copied",
            sqlstate=first.sqlstate,
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more tables" if len(names) > 5 else "")
