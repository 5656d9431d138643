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
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from replicator.daemon.checks import refuse_losses
from replicator.daemon.parts import FORWARD, Parts, old_dsn, open_parts, upgraded_dsn
from replicator.daemon.requests import RequestDesk
from replicator.daemon.schema import SchemaGuard
from replicator.daemon.streaming import Streaming, StreamingOptions, unless_stopped
from replicator.engine.apply import Applier
from replicator.engine.backfill import JOB, Backfill, BackfillSettings
from replicator.engine.chunk_copy import ChunkCopier
from replicator.engine.deferred import DeferredAggregates
from replicator.engine.feed import Feed
from replicator.engine.pace import Pace
from replicator.engine.resync import Resync
from replicator.events import Position
from replicator.postgres.clock import clock_offset
from replicator.postgres.lsn import format_lsn
from replicator.postgres.publication import ensure_publication
from replicator.postgres.session import connect
from replicator.postgres.slots import ensure_slot, lost_slot, read_slot
from replicator.telemetry import ConnectorStatus, FeedStatus, State

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.mapping import Mappings
    from replicator.postgres.slot import SlotSource
    from replicator.postgres.takeover import Holder


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
            session = _Session(parts, status.forward, self._pace, self._log)
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

    def __init__(self, parts: Parts, status: FeedStatus, pace: Pace, log: structlog.stdlib.BoundLogger) -> None:
        self._parts = parts
        self._status = status
        self._pace = pace
        self._log = log
        self._source: SlotSource
        self._mappings: Mappings
        self._schema: SchemaGuard

    async def prepare(self) -> None:
        """Compile, take over, and see that publication and slot are there."""
        parts, connector = self._parts, self._parts.connector
        self._status.enter(State.PREPARING, time.time())
        self._mappings = await parts.mappings()
        await refuse_losses(connector)
        self._source = parts.source(self._mappings)
        self._status.declare(str(table.name) for table in self._mappings.target_tables)
        self._status.clock_offset = await clock_offset(old_dsn(connector), connector.name)
        checkpoints = await parts.target.take_over(connector.apply.lanes)
        await self._enter(State.PREPARING)
        copies = await parts.store.load(JOB)
        known = [self._source.parse(one.position) for one in checkpoints if one.position is not None]
        begun = bool(copies or known)
        self._schema = SchemaGuard(parts, self._mappings, self._status)
        without_copy = (
            () if connector.backfill.enabled or not begun else [mapping.name for mapping in self._mappings.all]
        )
        await self._schema.begin((*copies, *without_copy))
        extended = await self._publish()
        await self._hold_back(begun=begun, since=min(known, default=None))
        if extended or (
            connector.backfill.enabled
            and not all(mapping.name in copies and copies[mapping.name].complete for mapping in self._mappings.all)
        ):
            # What they commit later is in the stream; what they committed before a chunk's snapshot has to be in it.
            self._log.info("waiting for the transactions that run on the source")
            await parts.reader.wait_for_running()

    async def _publish(self) -> bool:
        """See that the publication carries all mapped tables; returns whether something was added to it now."""
        connector, stream = self._parts.connector, self._parts.stream
        found = await ensure_publication(
            old_dsn(connector),
            connector.publication_name,
            self._mappings.source_tables,
            create=stream.create,
            heartbeat=stream.heartbeat_interval.total_seconds() > 0,
        )
        if found.created or found.added:
            self._log.info(
                "publication made" if found.created else "publication extended",
                publication=connector.publication_name,
                tables=len(found.added),
            )
        return found.created or bool(found.added)

    async def _hold_back(self, *, begun: bool, since: Position | None) -> None:
        """See that the slot holds back what happens from now on; one that has gone missing is never made again."""
        connector = self._parts.connector
        dsn, name = old_dsn(connector), connector.slot_name
        if begun:
            async with await connect(dsn, f"{connector.name}/{FORWARD}/setup") as connection:
                if await read_slot(connection, name) is None:
                    lost = "since the copy began" if since is None else f"after {self._source.format(since)}"
                    raise lost_slot(name, "it does not exist", lost)
            return
        lsn, made = await ensure_slot(dsn, name, create=self._parts.stream.create)
        self._log.info("slot made" if made else "slot found", slot=name, position=format_lsn(lsn))

    async def copy(self) -> None:
        """The rest of the backfill, where one is wanted."""
        parts, settings = self._parts, self._parts.connector.backfill
        if not settings.enabled:
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
        options = StreamingOptions(
            heartbeat_seconds=parts.stream.heartbeat_interval.total_seconds(),
            caught_up_at=await parts.store.caught_up_lsn(),
            until_caught_up=until_caught_up,
        )
        resync = self._resync(feed)

        async def copy_again(tables: Sequence[str]) -> str:
            for table in tables:
                resync.find(table)  # an unknown one is told before anything is done
            return "; ".join([await self._copy_again(table, resync, streaming) for table in tables])

        desk = RequestDesk(upgraded_dsn(connector), connector.name, FORWARD, feed, copy_again)
        streaming = Streaming(
            feed,
            source,
            self._status,
            options,
            enter=self._enter,
            settle=self._deferred(feed).settle,
            serve=desk.serve,
            watch=self._schema.run,
        )
        await self._enter(State.CATCHING_UP)
        try:
            await streaming.run(stop)
        finally:
            await source.close()

    async def _copy_again(self, table: str, resync: Resync, streaming: Streaming) -> str:
        """A resync of one table; returns what was done, when the target agrees."""
        answer = ""

        async def copy() -> None:
            nonlocal answer
            done = await resync.run(table)
            await self._enter(State.CATCHING_UP)
            await streaming.settled(done.insert_lsn)
            answer = f"{table}: {done.rows:,} rows copied again, {done.deleted:,} deleted"

        await self._schema.resynced(resync.find(table).name, copy)
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

    async def _enter(self, state: State) -> None:
        """Change the state, here and in the target, where scripts read it."""
        self._status.enter(state, time.time())
        self._status.epoch = self._parts.target.epoch
        await self._parts.target.tell(str(state))
