"""The parts of one connector's forward feed, made from its file: the composition root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.compile import compile_mappings
from replicator.config import SlotStream
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.intake import Intake, SlotIntake
from replicator.engine.feed import FeedSettings
from replicator.engine.lane import LaneSettings
from replicator.postgres.backfill_state import PostgresBackfillStore
from replicator.postgres.copying import PostgresChunkTarget
from replicator.postgres.digest_state import PostgresDigestStore
from replicator.postgres.partition_ledger import PartitionLedger
from replicator.postgres.reader import PostgresReader
from replicator.postgres.schema_state import PostgresSchemaStore
from replicator.postgres.target import PostgresTarget
from replicator.transforms import load_transforms

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.mapping import Mappings
    from replicator.postgres.takeover import Holder

_READS: Final = 4
"""Snapshots that a feed and its jobs may hold at once, beside the backfill's workers."""


@dataclass(frozen=True)
class Parts:
    """What a lifecycle works with.

    Attributes:
        connector: the file.
        intake: how changes are read.
        reader: of the old database.
        target: the upgraded one.
        store: progress of copies, in the target.
        chunks: writes of copies.
        schema: what the schema watch has seen, in the target.
        digests: by which transforms its rows are, in the target.

    """

    connector: Connector
    intake: Intake
    reader: PostgresReader
    target: PostgresTarget
    store: PostgresBackfillStore
    chunks: PostgresChunkTarget
    schema: PostgresSchemaStore
    digests: PostgresDigestStore

    async def mappings(self) -> Mappings:
        """What the forward feed does, from the connector, its transforms and both catalogs as they are now.

        Raises:
            ReplicatorError: CONFIG with all problems; CONNECTION, PERMISSION.

        """
        connector = self.connector
        transforms = () if connector.transforms is None else load_transforms(connector.transforms)
        old, upgraded = await self.reader.catalog(), await self.target.catalog()
        return compile_mappings(connector.tables, transforms, old, upgraded, forward=True)

    @property
    def feed_settings(self) -> FeedSettings:
        """As the connector says."""
        apply = self.connector.apply
        return FeedSettings(
            lanes=self.intake.lanes,
            batch_rows_max=apply.batch_rows_max,
            batch_bytes_max=apply.batch_bytes_max,
            visible_first=self.intake.group,
            lane=LaneSettings(
                dead_letters=self.dead_letters,
                unordered=self.intake.group,
                retry_initial=apply.retry.initial.total_seconds(),
                retry_max=apply.retry.max.total_seconds(),
            ),
        )

    @property
    def dead_letters(self) -> bool:
        """Whether what can't be applied is parked."""
        return self.connector.apply.on_error == "dlq"


@asynccontextmanager
async def open_parts(connector: Connector, former: Holder | None = None) -> AsyncIterator[Parts]:
    """The parts of one attempt; their connections end with the block.

    Args:
        connector: the file.
        former: who held the feed in an earlier attempt of this process: not taken back from a successor.

    Raises:
        ReplicatorError: CONFIG.

    """
    old, upgraded = old_dsn(connector), upgraded_dsn(connector)
    name = f"{connector.name}/{FORWARD}"
    reader = PostgresReader(old, name, connections_max=connector.backfill.workers + _READS)
    stream, ledger = connector.stream, None
    intake: Intake
    if isinstance(stream, SlotStream):
        intake = SlotIntake(connector, stream)
    else:
        # What only Kafka needs isn't loaded where there is none.
        from replicator.daemon.kafka_intake import KafkaIntake  # noqa: PLC0415 - see above

        ledger = PartitionLedger(upgraded, connector=connector.name, feed=FORWARD)
        intake = KafkaIntake(connector, stream, ledger)
    target = PostgresTarget(
        upgraded, connector=connector.name, feed=FORWARD, source_dsn=old, former=former, ledger=ledger
    )
    store = PostgresBackfillStore(upgraded, connector.name, FORWARD)
    schema = PostgresSchemaStore(upgraded, connector.name, FORWARD)
    digests = PostgresDigestStore(upgraded, connector.name, FORWARD)
    try:
        yield Parts(connector, intake, reader, target, store, PostgresChunkTarget(), schema, digests)
    finally:
        await intake.close()
        if ledger is not None:
            await ledger.close()
        await target.close()
        await reader.close()
