"""Two databases and a backfill between them, put together as the daemon does."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.compile import compile_mappings
from replicator.config.models import TableMapping
from replicator.engine.apply import Applier
from replicator.engine.backfill import Backfill, BackfillSettings
from replicator.engine.chunk_copy import ChunkCopier
from replicator.engine.deferred import DeferredAggregates
from replicator.engine.feed import Feed, FeedSettings
from replicator.engine.lane import LaneSettings
from replicator.engine.resync import Resync
from replicator.events import Position
from replicator.mapping import Mappings
from replicator.postgres.backfill_state import PostgresBackfillStore
from replicator.postgres.copying import PostgresChunkTarget
from replicator.postgres.lsn import format_lsn
from replicator.postgres.publication import ensure_publication
from replicator.postgres.reader import PostgresReader
from replicator.postgres.slot import SlotSource
from replicator.postgres.slots import ensure_slot
from replicator.postgres.target import PostgresTarget
from replicator.telemetry import FeedStatus
from replicator.transforms import Transform
from tests.fix_postgres import Database

ALL = ({"old": "public.*"},)


class Place(Protocol):
    """Where a database is."""

    @property
    def name(self) -> str: ...

    @property
    def dsn(self) -> str: ...


class World:
    """What a feed and its copies are made of; open only within `open_world`."""

    def __init__(self, old: Place, upgraded: Place, mappings: Mappings, **settings: Any) -> None:
        self.old = old
        self.mappings = mappings
        self.dead_letters = settings.pop("dead_letters", False)
        self.settings = BackfillSettings(retry_initial=0.01, **settings)
        self.reader = PostgresReader(old.dsn, "crm", connections_max=self.settings.workers + 4)
        self.target = PostgresTarget(upgraded.dsn, connector="crm", feed="forward", source_dsn=old.dsn)
        self.store = PostgresBackfillStore(upgraded.dsn, "crm", "forward")
        self.chunks = PostgresChunkTarget()
        self.status = FeedStatus("crm")
        self._source: SlotSource | None = None

    def copier(self, applier: Applier) -> ChunkCopier:
        return ChunkCopier(
            applier=applier,
            reader=self.reader,
            chunks=self.chunks,
            store=self.store,
            format_lsn=format_lsn,
            dead_letters=self.dead_letters,
        )

    @property
    def backfill(self) -> Backfill:
        return Backfill(
            mappings=self.mappings,
            copier=self.copier(Applier(self.mappings, self.reader)),
            reader=self.reader,
            target=self.target,
            store=self.store,
            status=self.status,
            settings=self.settings,
            clock=time.time,
        )

    # -- the feed ------------------------------------------------------------------------------------------------------

    async def hold_back(self) -> None:
        """Make slot and publication: what happens from now on will be in the stream."""
        await ensure_publication(self.old.dsn, "crm", self.mappings.source_tables, create=True, heartbeat=True)
        await ensure_slot(self.old.dsn, self.old.name, create=True)
        await self.reader.wait_for_running()

    async def feed(self) -> Feed:
        """Make the feed, not running."""
        self._source = SlotSource(
            self.old.dsn,
            connector="crm",
            feed="forward",
            slot=self.old.name,
            publication="crm",
            decoder=PgoutputDecoder(),
            tables=[table.name for table in self.mappings.source_tables],
        )
        return Feed(
            source=self._source,
            reader=self.reader,
            target=self.target,
            rows=self.chunks,
            store=self.store,
            mappings=self.mappings,
            settings=FeedSettings(lane=LaneSettings(dead_letters=self.dead_letters)),
            status=self.status,
            cuts=await self.store.cuts(),
        )

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[Feed]:
        """Run the feed within the block; it has caught up, deferred aggregates too, when the block begins."""
        feed, stop = await self.feed(), asyncio.Event()
        running = asyncio.ensure_future(feed.run(stop))
        try:
            await self._beside(running, self._catch_up(feed))
            yield feed
        finally:
            stop.set()
            await running
            assert self._source is not None
            await self._source.close()

    async def _catch_up(self, feed: Feed) -> None:
        async def reach(lsn: int) -> None:
            await self.reach(feed, Position(lsn))

        await reach(await self.store.caught_up_lsn())
        await self.deferred(feed).settle(reach)
        await self.reach(feed)

    async def reach(self, feed: Feed, position: Position | None = None) -> None:
        """Wait until the feed has passed this, or what is committed now."""
        assert self._source is not None
        wanted = position or Position(await self._source.beat())
        reached = asyncio.ensure_future(feed.reach(wanted))
        while not reached.done():
            self._source.nudge()
            await asyncio.wait([reached], timeout=0.05)

    @staticmethod
    async def _beside(running: asyncio.Future[None], work: Coroutine[Any, Any, None]) -> None:
        working = asyncio.ensure_future(work)
        await asyncio.wait([running, working], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            working.cancel()
            await running
        await working

    def deferred(self, feed: Feed) -> DeferredAggregates:
        return DeferredAggregates(
            mappings=self.mappings,
            resolver=feed.resolver,
            reader=self.reader,
            target=self.target,
            store=self.store,
            recent=feed.recent,
            format_lsn=format_lsn,
            dead_letters=self.dead_letters,
        )

    def resync(self, feed: Feed, **options: Any) -> Resync:
        return Resync(
            mappings=self.mappings,
            applier=feed.applier,
            copier=self.copier(feed.applier),
            chunks=self.chunks,
            reader=self.reader,
            target=self.target,
            store=self.store,
            recent=feed.recent,
            status=self.status,
            clock=time.time,
            between=feed.between,
            add_cut=feed.add_cut,
            **options,
        )

    async def close(self) -> None:
        if self._source is not None:
            await self._source.close()
        await self.reader.close()
        await self.target.close()


@asynccontextmanager
async def open_world(
    old: Place,
    upgraded: Place,
    entries: Sequence[Mapping[str, Any]] = ALL,
    transforms: Sequence[Transform[Any, Any]] = (),
    **settings: Any,
) -> AsyncIterator[World]:
    """Take over the forward feed, and end with all connections closed."""
    reader, target = PostgresReader(old.dsn, "crm"), PostgresTarget(upgraded.dsn, connector="crm", feed="forward")
    try:
        catalogs = await reader.catalog(), await target.catalog()
    finally:
        await reader.close()
        await target.close()
    tables = [TableMapping.model_validate(entry) for entry in entries]
    world = World(old, upgraded, compile_mappings(tables, transforms, *catalogs, forward=True), **settings)
    try:
        await world.target.take_over(1)
        yield world
    finally:
        await world.close()


def rows_of(database: Database, table: str = "public.t", columns: str = "*") -> list[str]:
    """All rows as the server prints them, in one order."""
    return [row for (row,) in database.execute(f"SELECT t::text FROM (SELECT {columns} FROM {table}) t ORDER BY 1")]
