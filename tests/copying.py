"""Two databases and a backfill between them, put together as the daemon does."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from replicator.compile import compile_mappings
from replicator.config.models import TableMapping
from replicator.copies import MultisetCut
from replicator.engine.apply import Applier
from replicator.engine.backfill import Backfill, BackfillSettings
from replicator.engine.chunk_copy import ChunkCopier
from replicator.engine.recent import RecentTransactions
from replicator.engine.resync import Resync
from replicator.events import Position
from replicator.mapping import Mappings
from replicator.postgres.backfill_state import PostgresBackfillStore
from replicator.postgres.copying import PostgresChunkTarget
from replicator.postgres.lsn import format_lsn
from replicator.postgres.reader import PostgresReader
from replicator.postgres.target import PostgresTarget
from replicator.telemetry import FeedStatus
from replicator.transforms import Transform
from tests.fix_postgres import Database


ALL = ({"old": "public.*"},)


class World:
    """What a feed's copies are made of; open only within `open_world`."""

    def __init__(self, old: Database, upgraded: Database, mappings: Mappings, **settings: Any) -> None:
        self.mappings = mappings
        self.dead_letters = settings.pop("dead_letters", False)
        self.settings = BackfillSettings(retry_initial=0.01, **settings)
        self.reader = PostgresReader(old.dsn, "crm", connections_max=self.settings.workers + 2)
        self.target = PostgresTarget(upgraded.dsn, connector="crm", feed="forward")
        self.store = PostgresBackfillStore(upgraded.dsn, "crm", "forward")
        self.chunks = PostgresChunkTarget()
        self.status = FeedStatus("crm")
        self.applier = Applier(mappings, self.reader)
        self.recent = RecentTransactions()
        self.cuts: list[MultisetCut] = []

    @property
    def copier(self) -> ChunkCopier:
        return ChunkCopier(
            applier=self.applier,
            reader=self.reader,
            chunks=self.chunks,
            store=self.store,
            format_position=format_position,
            dead_letters=self.dead_letters,
        )

    @property
    def backfill(self) -> Backfill:
        return Backfill(
            mappings=self.mappings,
            copier=self.copier,
            reader=self.reader,
            target=self.target,
            store=self.store,
            status=self.status,
            settings=self.settings,
            clock=time.time,
        )

    def resync(self, **options: Any) -> Resync:
        return Resync(
            mappings=self.mappings,
            applier=self.applier,
            copier=self.copier,
            chunks=self.chunks,
            reader=self.reader,
            target=self.target,
            store=self.store,
            recent=self.recent,
            status=self.status,
            clock=time.time,
            between=lambda work: work(),
            add_cut=self.cuts.append,
            **options,
        )


@asynccontextmanager
async def open_world(
    old: Database,
    upgraded: Database,
    entries: Sequence[Mapping[str, Any]] = ALL,
    transforms: Sequence[Transform[Any, Any]] = (),
    **settings: Any,
) -> AsyncIterator[World]:
    """Take over the forward feed, and end with all connections closed."""
    reader, target = PostgresReader(old.dsn, "crm"), PostgresTarget(upgraded.dsn, connector="crm", feed="forward")
    try:
        await target.take_over(1)  # makes the schema
        catalogs = await reader.catalog(), await target.catalog()
    finally:
        await reader.close()
        await target.close()
    world = World(
        old,
        upgraded,
        compile_mappings(map(TableMapping.model_validate, entries), transforms, *catalogs, forward=True),
        **settings,
    )
    try:
        await world.target.take_over(1)
        yield world
    finally:
        await world.reader.close()
        await world.target.close()


def format_position(position: Position) -> str:
    return format_lsn(position.at)


def rows_of(database: Database, table: str = "public.t", columns: str = "*") -> list[str]:
    """All rows as the server prints them, in one order."""
    return [row for (row,) in database.execute(f"SELECT t::text FROM (SELECT {columns} FROM {table}) t ORDER BY 1")]
