"""One attempt of one connector, from its file to a streaming feed.

    preparing     mappings compiled, feed taken over, publication and slot there
        ▼
    copying       what is left of the backfill, while the slot holds back what happens meanwhile
        ▼
    catching_up   the feed runs; it has not yet passed the newest snapshot that was copied
        ▼
    streaming

Every step can be repeated: killed anywhere, the next attempt finds what is done and goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from replicator.daemon.checks import refuse_losses
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.digests import DigestGuard
from replicator.daemon.parts import Parts, open_parts
from replicator.daemon.repairing import RepairDesk
from replicator.daemon.requests import LetterWatch, RequestDesk
from replicator.daemon.schema import SchemaGuard
from replicator.daemon.standing import STAND, StandingDesk
from replicator.daemon.streaming import Streaming, StreamingOptions, unless_stopped
from replicator.daemon.watching import VerificationBeside
from replicator.engine.apply import Applier
from replicator.engine.backfill import JOB, Backfill, BackfillSettings
from replicator.engine.chunk_copy import ChunkCopier
from replicator.engine.deferred import DeferredAggregates
from replicator.engine.feed import Feed
from replicator.engine.pace import Pace
from replicator.engine.resync import Resync
from replicator.postgres.clock import clock_offset
from replicator.postgres.lsn import format_lsn
from replicator.postgres.state import open_state
from replicator.telemetry import ConnectorStatus, State

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.copies import CopiedTable
    from replicator.mapping import Mappings
    from replicator.ports import Checkpoint, Source
    from replicator.postgres.takeover import Holder

FOLLOW_SECONDS: Final = 1.0
"""How often a process that doesn't lead its group looks whether there is something to follow."""


class Lifecycle:
    """The attempt of one connector; see `runner.Attempt`.

    Args:
        connector: its file.
        until_caught_up: end by itself once it has caught up.

    """

    def __init__(self, connector: Connector, *, until_caught_up: bool = False) -> None:
        self._connector = connector
        self._until_caught_up = until_caught_up
        self._holder: Holder | None = None
        self._pace = Pace()
        self._log = structlog.get_logger("replicator.daemon").bind(connector=connector.name, feed=FORWARD)

    async def __call__(self, status: ConnectorStatus, stop: asyncio.Event) -> None:
        """Run once, until stopped.

        Raises:
            ReplicatorError: as the parts say, perhaps in an ExceptionGroup.

        """
        async with open_parts(self._connector, self._holder) as parts:
            session = _Session(parts, status, self._pace, self._log)
            try:
                if not await unless_stopped(session.prepare(), stop):
                    return
                if not await unless_stopped(session.copy(), stop):
                    return
                await session.stream(stop, until_caught_up=self._until_caught_up)
            finally:
                # The next attempt must know whether another process has taken over in between.
                self._holder = parts.target.holder


class _Session:
    """What one attempt has found out so far."""

    def __init__(self, parts: Parts, status: ConnectorStatus, pace: Pace, log: structlog.stdlib.BoundLogger) -> None:
        self._parts = parts
        self._whole = status
        self._status = status.forward
        self._pace = pace
        self._log = log
        self._source: Source
        self._follows = False
        self._mappings: Mappings
        self._schema: SchemaGuard
        self._digests: DigestGuard

    async def prepare(self) -> None:
        """Compile, take over (in a group: lead it, or follow who does), and see that no change will be missed."""
        parts, connector = self._parts, self._parts.connector
        self._status.enter(State.PREPARING, time.time())
        self._mappings = await parts.mappings()
        await refuse_losses(connector)
        self._source = await parts.intake.source(self._mappings)
        self._status.declare(str(table.name) for table in self._mappings.target_tables)
        self._status.clock_offset = await clock_offset(old_dsn(connector), connector.name)
        self._schema = SchemaGuard(parts, self._mappings, self._status)
        self._digests = DigestGuard(parts, self._mappings, self._status)
        checkpoints = await parts.target.take_over(parts.intake.lanes)
        if parts.intake.group and not await self._lead_unless_copied():
            self._follows = True
            await self._digests.begin(await parts.store.load(JOB), begun=True, leads=False)
            return
        await self._enter(State.PREPARING)
        await self._make_ready(checkpoints)

    async def _lead_unless_copied(self) -> bool:
        """Become the group's leader; False as soon as another one leads and there is nothing left to copy.

        One with a table that the leader doesn't know waits until it leads itself: else nobody would copy it.
        """
        leading = asyncio.ensure_future(self._parts.target.lead())
        told = False
        try:
            while True:
                await asyncio.wait([leading], timeout=FOLLOW_SECONDS)
                if leading.done():
                    await leading
                    return True
                if await self._streams_already():
                    left = self._left(await self._parts.store.load(JOB))
                    if not left:
                        return False
                    if not told:
                        told = True
                        self._log.info("waiting to lead", tables=left)
        finally:
            leading.cancel()

    def _left(self, copies: Mapping[str, CopiedTable]) -> list[str]:
        """Mappings whose copy is wanted and not complete."""
        if not self._parts.connector.backfill.enabled:
            return []
        return [one.name for one in self._mappings.all if one.name not in copies or not copies[one.name].complete]

    async def _streams_already(self) -> bool:
        connector = self._parts.connector
        async with open_state(upgraded_dsn(connector), connector.name) as state:
            feeds = await state.feeds()
        return any(feed.feed == FORWARD and feed.state in (State.CATCHING_UP, State.STREAMING) for feed in feeds)

    async def _make_ready(self, checkpoints: Sequence[Checkpoint]) -> None:
        parts, connector = self._parts, self._parts.connector
        copies = await parts.store.load(JOB)
        begun = bool(copies) or any(one.position is not None for one in checkpoints)
        await self._look(copies, begun=begun)
        await self._digests.begin(copies, begun=begun)
        wanted = connector.backfill.enabled
        extended = await parts.intake.ready(self._mappings, checkpoints, copied=copies.keys(), copies=wanted)
        if extended or self._left(copies):
            # What they commit later is in the stream; what they committed before a chunk's snapshot has to be in it.
            self._log.info("waiting for the transactions that run on the source")
            await parts.reader.wait_for_running()

    async def _look(self, copies: Collection[str], *, begun: bool) -> None:
        """See what became of the mapped tables while nobody looked."""
        enabled = self._parts.connector.backfill.enabled
        without_copy = () if enabled or not begun else [mapping.name for mapping in self._mappings.all]
        await self._schema.begin((*copies, *without_copy))

    async def copy(self) -> None:
        """The rest of the backfill, where one is wanted."""
        parts, settings = self._parts, self._parts.connector.backfill
        if not settings.enabled or self._follows:
            return
        retry = parts.connector.apply.retry
        await self._enter(State.COPYING)
        backfill = Backfill(
            mappings=self._mappings,
            copier=self._copier(Applier(self._mappings, parts.reader)),
            reader=parts.reader,
            target=parts.target,
            store=parts.store,
            status=self._status,
            settings=BackfillSettings(
                workers=settings.workers,
                chunk_rows=settings.chunk_rows,
                foreign_keys=parts.target.role != "replica",
                retry_initial=retry.initial.total_seconds(),
                retry_max=retry.max.total_seconds(),
            ),
            clock=time.time,
        )
        await backfill.run()

    async def stream(self, stop: asyncio.Event, *, until_caught_up: bool) -> None:
        """Run the feed until it is stopped."""
        parts, source, connector = self._parts, self._source, self._parts.connector
        feed = Feed(
            source=source,
            reader=parts.reader,
            target=parts.target,
            rows=parts.chunks,
            store=parts.store,
            mappings=self._mappings,
            settings=parts.feed_settings,
            status=self._status,
            cuts=await parts.store.cuts(),
            pace=self._pace,
        )
        options = await self._options(until_caught_up=until_caught_up)
        resync = self._resync(feed)

        async def copy_again(tables: Sequence[str]) -> str:
            for table in tables:
                await parts.intake.may_copy_again(resync.find(table))  # refused, or unknown: before anything is done
            return "; ".join([await self._copy_again(table, resync, streaming) for table in tables])

        # What several partitions bring has no order in which anything could stand still.
        standing = None if parts.intake.group else StandingDesk(parts, feed, source)
        desk = self._desk(feed, copy_again, standing)
        letters = LetterWatch(upgraded_dsn(connector), connector.name, feed)
        streaming = Streaming(
            feed,
            source,
            self._status,
            options,
            enter=self._enter,
            lead=self._lead,
            settle=self._deferred(feed).settle,
            serve=desk.serve,
            watch=self._schema.run,
            keep=parts.target.keep_leading if parts.intake.group else None,
            follow=letters.run if parts.intake.group else None,
            verify=None if until_caught_up else self._verification(standing).run,
        )
        await self._enter(State.CATCHING_UP)
        try:
            await streaming.run(stop)
        finally:
            await source.close()

    async def _options(self, *, until_caught_up: bool) -> StreamingOptions:
        parts = self._parts
        return StreamingOptions(
            heartbeat_seconds=parts.intake.heartbeat_seconds,
            caught_up_at=await parts.store.caught_up_lsn(),
            until_caught_up=until_caught_up,
            follows=self._follows,
            proves=parts.intake.proves,
        )

    def _verification(self, standing: StandingDesk | None) -> VerificationBeside:
        stand = None if standing is None else standing.both
        return VerificationBeside(self._parts.connector, self._mappings, self._whole, stand)

    def _desk(
        self, feed: Feed, copy_again: Callable[[Sequence[str]], Awaitable[str]], standing: StandingDesk | None
    ) -> RequestDesk:
        parts = self._parts
        jobs = RepairDesk(parts, self._mappings, feed, self._digests, self._status).jobs
        if standing is not None:
            jobs[STAND] = standing.job
        return RequestDesk(
            upgraded_dsn(parts.connector),
            parts.connector.name,
            FORWARD,
            feed,
            resync=copy_again,
            jobs=jobs,
        )

    async def _copy_again(self, table: str, resync: Resync, streaming: Streaming) -> str:
        """A resync of one table; returns what was done, when the target agrees."""
        answer = ""
        mapping = resync.find(table).name

        async def copy() -> None:
            nonlocal answer
            done = await resync.run(table)
            await self._digests.complete(mapping)
            await self._enter(State.CATCHING_UP)
            await streaming.settled(done.insert_lsn)
            answer = f"{table}: {done.rows:,} rows copied again, {done.deleted:,} deleted"

        await self._schema.resynced(mapping, copy)
        return answer

    def _deferred(self, feed: Feed) -> DeferredAggregates:
        parts = self._parts
        return DeferredAggregates(
            mappings=self._mappings,
            resolver=feed.resolver,
            reader=parts.reader,
            target=parts.target,
            store=parts.store,
            recent=feed.recent,
            format_lsn=format_lsn,
            dead_letters=parts.dead_letters,
        )

    def _resync(self, feed: Feed) -> Resync:
        parts = self._parts
        return Resync(
            mappings=self._mappings,
            applier=feed.applier,
            copier=self._copier(feed.applier),
            chunks=parts.chunks,
            reader=parts.reader,
            target=parts.target,
            store=parts.store,
            recent=feed.recent,
            status=self._status,
            clock=time.time,
            between=feed.between,
            add_cut=feed.add_cut,
            hold=parts.intake.hold,
        )

    def _copier(self, applier: Applier) -> ChunkCopier:
        parts = self._parts
        return ChunkCopier(
            applier=applier,
            reader=parts.reader,
            chunks=parts.chunks,
            store=parts.store,
            format_lsn=format_lsn,
            dead_letters=parts.dead_letters,
        )

    async def _lead(self) -> None:
        """Returns once the jobs beside the feed are this process's: at once, but for one that follows a leader."""
        if not self._follows:
            return
        await self._parts.target.lead()
        self._follows = False
        self._log.info("leading")
        copies = await self._parts.store.load(JOB)
        await self._look(copies, begun=True)
        await self._digests.begin(copies, begun=True)
        await self._enter(self._status.state)

    async def _enter(self, state: State) -> None:
        """Change the state, here and in the target, where scripts read it."""
        self._status.enter(state, time.time())
        if not self._follows:
            self._status.epoch = self._parts.target.epoch
            await self._parts.target.tell(str(state))
