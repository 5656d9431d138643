"""Rewrite: some aggregates of the target are derived again beside the running feed, and nothing else is touched.

    gate (alone) ▸ snapshot of the source ▸ transform ▸ plan ▸ write, under the feed's epoch          one chunk

What is read behind the gate is newer than anything applied, once the source shows all of that (`recent`). Later events
of the aggregates are applied over it, and converge; rows of theirs that were born before are no plain INSERTs any more.
An aggregate that the source doesn't have, by that snapshot, is deleted, within what the mapping owns.

A chunk that is refused is cut in halves, down to the aggregate that is: one that meets a unique value on its way is
settled together with whatever stands in its way (`unique.py`); what is refused even then is reported, and left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from replicator.engine.apply import Applied
from replicator.engine.chunk_copy import RETRIED_HERE
from replicator.engine.chunks import Portion
from replicator.engine.derive import AggregateReader
from replicator.engine.extras import delete_extras, extra_keys
from replicator.engine.translation import translated
from replicator.errors import Action, ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from replicator.copies import ChunkTarget
    from replicator.engine.feed import Feed
    from replicator.events import Key
    from replicator.mapping import Mapping, Side, SourceAggregate
    from replicator.ports import Reader, Target
    from replicator.telemetry import FeedStatus

CHUNK_KEYS: Final = 500
"""Of one chunk: the lanes stand still meanwhile, for tens of milliseconds."""
BYTES_MAX: Final = 4 * 1024 * 1024
"""Of root rows that one chunk holds in memory, about."""
_SETTLED_TOGETHER: Final = 100
_PAUSE_SECONDS: Final = 0.5  # before a chunk is tried again that lost a deadlock, say
_JOB: Final = "repair"


@dataclass
class Rewritten:
    """What became of some aggregates.

    Attributes:
        aggregates: that were derived again, and written.
        deleted: keys of the target without any at the source, whose rows were deleted.
        refused: keys at the source, with the target's or the transform's reason.
        waiting: keys at the source of which a change waits in the dead letter queue; nothing was done.

    """

    aggregates: int = 0
    deleted: int = 0
    refused: dict[Key, ReplicatorError] = field(default_factory=dict)
    waiting: set[Key] = field(default_factory=set)


class Rewriter:
    """Derives aggregates again, within `watching`.

    Args:
        feed: running: its applier, its resolver, and what it applies.
        reader: of the source.
        target: taken over by the feed.
        chunks: of the target.
        status: of the feed.

    """

    def __init__(self, feed: Feed, *, reader: Reader, target: Target, chunks: ChunkTarget, status: FeedStatus) -> None:
        self._feed = feed
        self._applier = feed.applier
        self._reader = reader
        self._aggregates = AggregateReader(reader)
        self._target = target
        self._chunks = chunks
        self._status = status
        self._portions: dict[str, Portion] = {}
        self._xids: set[int] = set()
        self._log = structlog.get_logger("replicator.repair").bind(connector=status.connector, feed=status.feed)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Within the block every snapshot sees what the feed applies; begins when what runs on the source has ended."""
        with self._feed.recent.watch() as xids:
            self._xids = xids
            self._log.info("waiting for the transactions that run on the source")
            await self._reader.wait_for_running()
            yield

    async def write(self, mapping: Mapping, keys: Sequence[Key]) -> Rewritten:
        """Derive these aggregates again, by their keys at the source.

        Raises:
            ReplicatorError: SUPERSEDED, REASSIGNED, CONNECTION and whatever else isn't about one aggregate. Chunks
                before it are done.

        """
        done = Rewritten()
        parked = {one.key for one in await self._target.dead_letters() if one.mapping == mapping.name}
        done.waiting.update(key for key in keys if key in parked)
        free = [key for key in keys if key not in parked]
        portion = self._portions.setdefault(mapping.name, Portion(mapping.root.table, BYTES_MAX))
        while free:
            size = min(portion.rows, CHUNK_KEYS)
            some, free = free[:size], free[size:]
            await self._halves(mapping, some, portion, done)
        return done

    async def delete(self, mapping: Mapping, side: Side, keys: Sequence[Key], *, respelled: bool = False) -> Rewritten:
        """Delete rows of one target table whose aggregates no key map has, or which the source doesn't have.

        What a map has by now, and the source, stays; but `respelled` rows go that are under another text of a key than
        the source's own, for those under that one are there already.
        """
        done = Rewritten()

        async def attempt() -> None:
            async with self._target.job(_JOB) as tx:
                await tx.lock_all()
                seen = frozenset(self._xids)
                async with self._reader.snapshot(seen) as snapshot:
                    extra = await extra_keys(
                        tx, snapshot, mapping, side, keys, chunks=self._chunks, respelled=respelled
                    )
                done.deleted = await delete_extras(tx, mapping, side, extra) if extra else 0
            self._xids.difference_update(seen)

        await self._retried(attempt)
        return done

    # -- one chunk ---------------------------------------------------------------------------------------------------

    async def _halves(self, mapping: Mapping, keys: Sequence[Key], portion: Portion, done: Rewritten) -> None:
        error = await self._tried(lambda: self._chunk(mapping, keys, portion))
        if error is not None and error.kind is ErrorKind.UNIQUE and len(keys) <= _SETTLED_TOGETHER:
            error = await self._tried(lambda: self._settle(mapping, keys))
        if error is None:
            done.aggregates += len(keys)
        elif len(keys) == 1:
            done.refused[keys[0]] = error
        else:
            middle = len(keys) // 2
            await self._halves(mapping, keys[:middle], portion, done)
            await self._halves(mapping, keys[middle:], portion, done)

    async def _tried(self, attempt: Callable[[], Awaitable[None]]) -> ReplicatorError | None:
        """What one of the aggregates was refused with."""
        try:
            await self._retried(attempt)
        except ReplicatorError as error:
            if error.action is not Action.ISOLATE:
                raise
            return error
        return None

    async def _retried(self, attempt: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await attempt()
            except ReplicatorError as error:
                if error.kind not in RETRIED_HERE:
                    raise
                now = time.time()
                self._status.retried(error, now, now + _PAUSE_SECONDS)
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _chunk(self, mapping: Mapping, keys: Sequence[Key], portion: Portion) -> None:
        async with self._target.job(_JOB) as tx:
            await tx.lock_all()  # first: what is read now is newer than anything applied
            seen = frozenset(self._xids)
            async with self._reader.snapshot(seen) as snapshot:
                aggregates, absent = await self._aggregates.by_key(snapshot, mapping, keys)
                portion.saw(len(aggregates), sum(map(_size, aggregates)))
                for write in self._applier.order(self._applier.plan_aggregates(mapping, aggregates, absent)):
                    await tx.write(await translated(tx, write))
                for side in mapping.targets:
                    await tx.check(side.table)
                self._applier.raise_floor(snapshot.insert_lsn, mapping)
        self._xids.difference_update(seen)

    async def _settle(self, mapping: Mapping, keys: Sequence[Key]) -> None:
        async with self._target.job(_JOB) as tx:
            # Not a copy of them: what is applied until it has the gate counts, too.
            await self._feed.resolver.settle(tx, mapping, keys, self._xids, Applied())


def _size(aggregate: SourceAggregate) -> int:
    rows = (row for table in aggregate.tables for row in table.rows)
    return sum(len(value) for row in rows for value in row if isinstance(value, bytes))
