"""One attempt of a capture: the old database's slot into Kafka, in Debezium's envelope.

    preparing     publication and slot are there; the slot is taken, a former process fenced, its progress read
        ▼
    catching_up   what was committed before this attempt began is on its way into Kafka
        ▼
    streaming

Nothing of the upgraded database is asked: the capture goes on while that one is away.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import structlog

from replicator.assess.identity import see_keys_carried
from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.compile import old_tables
from replicator.config import KafkaStream
from replicator.daemon.databases import REVERSE, old_dsn
from replicator.daemon.encoders import encoder_of
from replicator.daemon.runner import errors_of
from replicator.daemon.slot_setup import SlotSetup
from replicator.daemon.streaming import LAG_SECONDS, PROOF_SECONDS, nudged
from replicator.engine.capture import Capture, CaptureSettings
from replicator.engine.recording import CaptureTopics, Recording
from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.filled import progress_topic
from replicator.kafka.producer import KafkaLog
from replicator.kafka.registry import SchemaRegistry
from replicator.kafka.topics import heartbeat_topic, message_topic, topic_of, transaction_topic
from replicator.postgres.catalog import read_catalog
from replicator.postgres.change_log import SlotChangeLog
from replicator.postgres.clock import clock_offset
from replicator.postgres.lsn import format_lsn
from replicator.postgres.session import connect
from replicator.postgres.sessions import origin_prefix
from replicator.telemetry import ConnectorStatus, FeedStatus, State
from replicator.transforms import load_transforms

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.config.streams import Capture as CaptureSection
    from replicator.tables import Table, TableName

CAPTURE: Final = "capture"
"""The name of this feed, in logs, metrics and sessions."""


class CaptureLifecycle:
    """The attempts of one connector's capture; see `runner.Attempt`.

    Args:
        connector: its file.
        until_caught_up: end once all is in Kafka that was committed when an attempt began.

    Raises:
        ReplicatorError: CONFIG for a connector without `stream.capture`.

    """

    def __init__(self, connector: Connector, *, until_caught_up: bool = False) -> None:
        stream = connector.stream
        if not isinstance(stream, KafkaStream) or stream.capture is None:
            raise ReplicatorError(
                f"connector {connector.name} has nothing to be captured into",
                kind=ErrorKind.CONFIG,
                hint="Give it stream.kind: kafka and a section stream.capture",
            )
        self._connector = connector
        self._stream = stream
        self._capture: CaptureSection = stream.capture
        self._until_caught_up = until_caught_up
        self._owner = uuid.uuid4().hex
        self._held = False
        self._reader: int | None = None
        self._log = structlog.get_logger("replicator.daemon").bind(connector=connector.name, feed=CAPTURE)

    async def __call__(self, status: ConnectorStatus, stop: asyncio.Event) -> None:
        """Run once, until stopped.

        Raises:
            ReplicatorError: as the parts say, perhaps in an ExceptionGroup.

        """
        feed = status.forward
        feed.enter(State.PREPARING, time.time())
        try:
            await self._run(feed, stop)
        except (ReplicatorError, ExceptionGroup) as error:
            for lost in errors_of(error):
                if lost.kind is ErrorKind.SLOT_LOST:
                    lost.hint = self._after_loss()
            raise

    async def _run(self, feed: FeedStatus, stop: asyncio.Event) -> None:
        connector, stream = self._connector, self._stream
        async with AsyncExitStack() as stack:
            tables, database = await self._publish()
            log = KafkaLog(stream, self._capture, connector.name)
            stack.push_async_callback(log.close)
            progress = await log.progress()
            await self._setup.hold_back(None if progress is None else f"after {format_lsn(progress.lsn)}")
            source = self._source(tables)
            stack.push_async_callback(source.close)
            registry = None
            if stream.schema_registry is not None:
                registry = SchemaRegistry(stream.schema_registry)
                stack.push_async_callback(registry.close)
            topics = self._topics()
            encoder = encoder_of(stream, self._capture, database)
            recording = Recording(source, log, encoder, registry, topics, tombstones=self._capture.tombstones)
            capture = Capture(
                source,
                log,
                recording,
                settings=CaptureSettings(self._owner, stream.heartbeat_interval.total_seconds()),
                status=feed,
                clock=time.time,
                format_lsn=format_lsn,
            )
            feed.clock_offset = await clock_offset(old_dsn(connector), connector.name)
            try:
                await capture.open(held_before=self._held)
                self._held = True
            finally:
                self._reader = source.holder
            self._log.info("capturing", position=format_lsn(capture.position), tables=len(tables))
            feed.enter(State.CATCHING_UP, time.time())
            await self._watched(capture, source, feed, stop)

    async def _watched(self, capture: Capture, source: SlotChangeLog, feed: FeedStatus, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            watches = [
                group.create_task(self._catch_up(capture, source, feed, stop)),
                group.create_task(_watch_lag(source, feed)),
            ]
            try:
                await capture.run(stop)
            finally:
                for watch in watches:
                    watch.cancel()

    async def _catch_up(self, capture: Capture, source: SlotChangeLog, feed: FeedStatus, stop: asyncio.Event) -> None:
        """Then prove again and again that nothing is left."""
        await _reach(capture, source, await source.head())
        feed.enter(State.STREAMING, time.time())
        self._log.info("streaming", position=feed.position)
        if self._until_caught_up:
            self._log.info("caught up", position=feed.position)
            stop.set()
        while True:
            began = time.time()
            await _reach(capture, source, await source.head())
            feed.proven(began + (feed.clock_offset or 0.0))
            await asyncio.sleep(PROOF_SECONDS)

    # --- what must be there -----------------------------------------------------------------------------------------

    async def _publish(self) -> tuple[list[TableName], str]:
        """See that the publication carries all tables of the connector; returns their names, and the database's."""
        connector = self._connector
        async with await connect(old_dsn(connector), f"{connector.name}/{CAPTURE}/setup") as connection:
            database = connection.info.dbname
            catalog = await read_catalog(connection)
        transforms = () if connector.transforms is None else load_transforms(connector.transforms)
        tables: list[Table] = old_tables(connector.tables, transforms, catalog)
        for table in tables:
            see_keys_carried(catalog, table)
        await self._setup.publish(tables)
        return [table.name for table in tables], database

    @property
    def _setup(self) -> SlotSetup:
        connector = self._connector
        return SlotSetup(
            old_dsn(connector),
            connector.name,
            CAPTURE,
            connector.slot_name,
            connector.publication_name,
            create=self._capture.create,
            heartbeat=self._stream.heartbeat_interval.total_seconds() > 0,
        )

    def _after_loss(self) -> str:
        name, slot = self._connector.name, self._connector.slot_name
        return (
            "Kafka keeps what it has. To go on: stop the capture; drop the slot (SELECT "
            f"pg_drop_replication_slot('{slot}')) if it is still there; delete topic {progress_topic(name)}; start the "
            "capture again, which makes a new slot; then have every reader copy its tables anew: for this connector, "
            "`replicator resync`"
        )

    def _source(self, tables: list[TableName]) -> SlotChangeLog:
        connector = self._connector
        return SlotChangeLog(
            old_dsn(connector),
            feed=f"{connector.name}/{CAPTURE}",
            slot=connector.slot_name,
            publication=connector.publication_name,
            decoder=PgoutputDecoder(),
            tables=tables if self._capture.create else None,
            buffer_bytes_max=self._stream.buffer_bytes_max,
            drop_origins=origin_prefix(connector.name, REVERSE),
            former=self._reader,
        )

    def _topics(self) -> CaptureTopics:
        prefix, named = self._stream.topic_prefix, self._stream.topics
        return CaptureTopics(
            of_table=lambda table: named.get(table) or topic_of(prefix, table),
            transactions=transaction_topic(prefix) if self._capture.transaction_metadata else None,
            messages=message_topic(prefix),
            heartbeats=heartbeat_topic(prefix) if self._stream.heartbeat_interval.total_seconds() > 0 else None,
        )


async def _reach(capture: Capture, source: SlotChangeLog, lsn: int) -> None:
    """Until everything that was committed before this LSN is in Kafka."""
    await nudged(capture.reach(lsn), source.nudge)


async def _watch_lag(source: SlotChangeLog, feed: FeedStatus) -> None:
    while True:
        feed.retained_wal_bytes = (await source.lag()).retained_wal_bytes
        await asyncio.sleep(LAG_SECONDS)
