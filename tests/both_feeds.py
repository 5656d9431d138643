"""Two feeds between two databases, one in each direction: parts of the product, put together as its daemon does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.compile import compile_mappings
from replicator.config import load_connector
from replicator.engine.feed import Feed, FeedSettings
from replicator.events import Position
from replicator.mapping import Mappings
from replicator.postgres.backfill_state import PostgresBackfillStore
from replicator.postgres.copying import PostgresChunkTarget
from replicator.postgres.publication import ensure_publication
from replicator.postgres.reader import PostgresReader
from replicator.postgres.sessions import origin_prefix
from replicator.postgres.slot import SlotSource
from replicator.postgres.slots import ensure_slot
from replicator.postgres.target import PostgresTarget
from replicator.telemetry import FeedStatus
from replicator.transforms import load_transforms
from tests.fix_postgres import Database

NAME = "shop"
OTHER = {"forward": "reverse", "reverse": "forward"}


@dataclass
class RunningFeed:
    """One direction, running."""

    feed: Feed
    source: SlotSource
    status: FeedStatus
    task: asyncio.Task[None]

    async def caught_up(self) -> None:
        """Return once it has applied everything that is committed at its source now."""
        position = Position(await self.source.beat())
        reached = asyncio.ensure_future(self.feed.reach(position))
        while not reached.done():
            self.source.nudge()
            await asyncio.wait([reached, self.task], timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
            if self.task.done():
                reached.cancel()
                self.task.result()
                raise AssertionError("the feed has ended")
        await reached


@contextlib.asynccontextmanager
async def both_feeds(
    file: Path, old: Database, upgraded: Database, **login: str
) -> AsyncIterator[tuple[RunningFeed, RunningFeed]]:
    """Run the forward and the reverse feed of a connector; what is committed after this has begun is replicated."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name, source, target in (("forward", old, upgraded), ("reverse", upgraded, old)):
            dsns = make_conninfo(source.dsn, **login), make_conninfo(target.dsn, **login)
            made.append(await stack.enter_async_context(_feed(name, file, f"{name}_{source.name}", *dsns)))
        stop = asyncio.Event()
        running = [
            RunningFeed(feed, source, status, asyncio.ensure_future(feed.run(stop))) for feed, source, status in made
        ]
        try:
            yield running[0], running[1]
        finally:
            stop.set()
            await asyncio.gather(*(one.task for one in running))


@contextlib.asynccontextmanager
async def _feed(
    name: str, file: Path, slot: str, source: str, target: str
) -> AsyncIterator[tuple[Feed, SlotSource, FeedStatus]]:
    reader = PostgresReader(source, f"{NAME}/{name}")
    into = PostgresTarget(target, connector=NAME, feed=name, source_dsn=source)
    try:
        mappings = await _mappings(file, reader, into, forward=name == "forward")
        await ensure_publication(source, NAME, mappings.source_tables, create=True, heartbeat=True)
        await ensure_slot(source, slot, create=True)
        changes = SlotSource(
            source,
            connector=NAME,
            feed=name,
            slot=slot,
            publication=NAME,
            decoder=PgoutputDecoder(),
            tables=[table.name for table in mappings.source_tables],
            drop_origins=origin_prefix(NAME, OTHER[name]),
        )
        status = FeedStatus(NAME, name)
        feed = Feed(
            source=changes,
            reader=reader,
            target=into,
            rows=PostgresChunkTarget(),
            store=PostgresBackfillStore(target, NAME, name),
            mappings=mappings,
            settings=FeedSettings(),
            status=status,
        )
        yield feed, changes, status
        await changes.close()
    finally:
        await into.close()
        await reader.close()


async def _mappings(file: Path, reader: PostgresReader, target: PostgresTarget, *, forward: bool) -> Mappings:
    connector = load_connector(file, {})
    transforms = () if connector.transforms is None else load_transforms(connector.transforms)
    catalogs = await reader.catalog(), await target.catalog()
    old, upgraded = catalogs if forward else catalogs[::-1]
    return compile_mappings(connector.tables, transforms, old, upgraded, forward=forward)
