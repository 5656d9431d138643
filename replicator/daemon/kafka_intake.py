"""Kafka as a feed's intake: one process of a consumer group, on topics that Debezium or our capture fills."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from replicator.assess.debezium_settings import (
    DEFAULT_PUBLICATION,
    DEFAULT_SLOT,
    marks_by_message,
    value_settings,
)
from replicator.codecs.avro.decoder import DebeziumAvroDecoder
from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.modes import CAPTURED, Modes
from replicator.daemon.databases import FORWARD, old_dsn
from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.connect import ConnectClient
from replicator.kafka.proof import DebeziumProof
from replicator.kafka.registry import SchemaRegistry
from replicator.kafka.source import KafkaSource
from replicator.kafka.topics import Topics
from replicator.postgres.capture_proof import CaptureProof
from replicator.postgres.catalog import read_catalog
from replicator.postgres.marker import LogMarker
from replicator.postgres.publication import publication_gaps
from replicator.postgres.session import connect
from replicator.postgres.slots import read_slot
from replicator.tables import Catalog, TableName, quote_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from replicator.config import Connector, KafkaStream
    from replicator.mapping import Mapping, Mappings
    from replicator.partitions import Partition, ProducerProof, RecordDecoder
    from replicator.ports import Checkpoint, TargetTransaction
    from replicator.postgres.partition_ledger import PartitionLedger
    from replicator.tables import TableName


class Arrived:
    """No proof: for a producer that nobody can ask. What has arrived is all that is known."""

    async def produced(self, lsn: int) -> None:
        """See `partitions.ProducerProof`."""


class KafkaIntake:
    """See `Intake`.

    Args:
        connector: the file.
        stream: its section.
        ledger: in the target.

    """

    group = True
    lanes = 1

    def __init__(self, connector: Connector, stream: KafkaStream, ledger: PartitionLedger) -> None:
        self._connector = connector
        self._stream = stream
        self._ledger = ledger
        self._feed = f"{connector.name}/{FORWARD}"
        self._source: KafkaSource
        captures = stream.capture is not None
        self._slot = connector.slot_name if captures else stream.slot
        self._publication = connector.publication_name if captures else None
        self._stack = AsyncExitStack()
        self._log = structlog.get_logger("replicator.daemon").bind(connector=connector.name, feed=FORWARD)

    @property
    def heartbeat_seconds(self) -> float:
        """See `Intake`."""
        return self._stream.heartbeat_interval.total_seconds()

    @property
    def proves(self) -> bool:
        """See `Intake`: our capture's slot does, and Debezium's offset where Kafka Connect can be asked."""
        return self._stream.capture is not None or self._stream.connect_url is not None

    @property
    def publication(self) -> str | None:
        """See `Intake`: our capture's, or Debezium's, where Kafka Connect tells it."""
        return self._publication

    async def source(self, mappings: Mappings) -> KafkaSource:
        """See `Intake`."""
        stream = self._stream
        client = self._connect()
        told = {} if client is None else await client.config()
        if told:
            self._slot = self._slot or told.get("slot.name", DEFAULT_SLOT)
            self._publication = told.get("publication.name", DEFAULT_PUBLICATION)
        marker = LogMarker(
            old_dsn(self._connector), self._feed, slot=self._slot, message=bool(told) and marks_by_message(told)
        )
        self._stack.push_async_callback(marker.close)
        tables = [table.name for table in mappings.source_tables]
        written = CAPTURED if stream.capture is not None else Modes.of(value_settings(told, stream.debezium))
        modes = replace(written, unread=_unread(mappings))
        registry = None
        if stream.schema_registry is not None:
            registry = SchemaRegistry(stream.schema_registry)
            self._stack.push_async_callback(registry.close)
        self._source = KafkaSource(
            stream,
            connector=self._connector.name,
            tables=tables,
            decoder=await self._decoder(mappings, Topics(stream, tables), modes),
            ledger=self._ledger,
            marker=marker,
            proof=self._proof(client, marker),
            registry=registry,
        )
        return self._source

    def _connect(self) -> ConnectClient | None:
        if self._stream.connect_url is None or self._stream.connect_name is None:
            return None
        client = ConnectClient(str(self._stream.connect_url), self._stream.connect_name)
        self._stack.push_async_callback(client.close)
        return client

    def _proof(self, client: ConnectClient | None, marker: LogMarker) -> ProducerProof:
        if self._stream.capture is not None:
            proof = CaptureProof(old_dsn(self._connector), self._feed, self._connector.slot_name)
            self._stack.push_async_callback(proof.close)
            return proof
        if client is None:
            self._log.warning(
                "nothing proves that Debezium has put everything into Kafka",
                hint="freshness stays unknown, and a cutover is refused; give stream.connect_url and connect_name",
            )
            return Arrived()
        return DebeziumProof(client, self._stream.topic_prefix, marker, beat_seconds=self.heartbeat_seconds)

    async def _decoder(self, mappings: Mappings, topics: Topics, modes: Modes) -> RecordDecoder:
        async with await connect(old_dsn(self._connector), f"{self._feed}/setup") as connection:
            known = await read_catalog(connection)
        # Without schemas only the catalog tells an enum's values from those of a type that Debezium doesn't know.
        catalog = Catalog(known.server_version, {table.name: table for table in mappings.source_tables}, known.enums)
        kind = DebeziumAvroDecoder if self._stream.format == "debezium-avro" else DebeziumJsonDecoder
        return kind(catalog, topics.of_one_table, modes, self._stream.topic_prefix)

    async def ready(
        self, mappings: Mappings, checkpoints: Sequence[Checkpoint], *, copied: Collection[str], copies: bool
    ) -> bool:
        """See `Intake`. Of a new feed's copy: the producer's slot holds back what happens from now on. Partitions of
        what is to be copied begin at their end, whatever was deleted before; of a table that is added later, too.
        """
        del checkpoints
        if not copies:
            return False
        if not copied and not await self._ledger.offsets():
            await self._see_slot()
        tables = {side.table.name for one in mappings.all if one.name not in copied for side in one.sources}
        if tables:
            await self._see_tables(tables)
            await self._source.mark_beginning(tables)
        return not copied

    async def applied(self, mappings: Mappings, lsn: int) -> None:
        """Wait until the group has applied what was committed on the source before `lsn`, by the target's word alone:
        for one who isn't a member. Cancel-safe.
        """
        await (await self.source(mappings)).applied(lsn)

    async def _see_slot(self) -> None:
        """Whoever fills the topics must have begun: else what is written from now on is in no copy and no topic."""
        if self._slot is None:
            self._log.warning(
                "the producer's slot is not known: that Debezium runs already is taken on trust",
                hint="give stream.connect_url and connect_name, or stream.slot",
            )
            return
        async with await connect(old_dsn(self._connector), f"{self._feed}/setup") as connection:
            slot = await read_slot(connection, self._slot)
        if slot is None:
            fills = "Debezium's connector" if self._stream.capture is None else "replicator capture"
            raise ReplicatorError(
                f"replication slot {self._slot} does not exist on the old database: {fills} has not begun",
                kind=ErrorKind.CONFIG,
                hint=f"Nothing was copied. Start {fills} first: what it doesn't see during the copy would be lost",
            )

    async def _see_tables(self, tables: Collection[TableName]) -> None:
        """Likewise of each table to be copied: a capture adds those that it finds in the file when it starts, Debezium
        mostly those of its `table.include.list`, or somebody else does.
        """
        if self._publication is None or not tables:
            return
        gaps = await publication_gaps(old_dsn(self._connector), self._publication, tables)
        if gaps:
            table, why = min(gaps.items())
            captures = self._stream.capture is not None
            fills, begin = (
                ("replicator capture", "Restart replicator capture with this file first")
                if captures
                else ("Debezium", f"Add it: ALTER PUBLICATION {quote_identifier(self._publication)} ADD TABLE {table};")
            )
            raise ReplicatorError(
                f"{table} {why}: {fills} has not begun with it",
                kind=ErrorKind.CONFIG,
                table=str(table),
                hint=f"Nothing of it was copied: what {fills} doesn't see during the copy would be lost. {begin}",
            )

    async def may_copy_again(self, mapping: Mapping) -> None:
        """See `Intake`: of a table without a key, another process would not know what the copy holds already."""
        if mapping.multiset:
            self._see_alone(mapping, await self._ledger.offsets())

    async def hold(self, transaction: TargetTransaction, mapping: Mapping) -> None:
        """See `Intake`. Whoever takes the topic over waits until the copy is committed, and reads what it holds."""
        self._see_alone(mapping, await self._ledger.hold(transaction, self._topics(mapping)))

    def _topics(self, mapping: Mapping) -> set[str]:
        return {self._source.topics.by_table[side.table.name] for side in mapping.sources}

    def _see_alone(self, mapping: Mapping, begun: Collection[Partition]) -> None:
        topics = self._topics(mapping)
        if any(topic in topics for topic, _ in set(begun) - self._ledger.held):
            raise ReplicatorError(
                f"{mapping.root.table.name} has no key, and another daemon of the group applies its topic",
                kind=ErrorKind.CONFIG,
                table=str(mapping.root.table.name),
                hint="Nothing was copied. Stop the other daemons of the group, then ask again",
            )

    async def close(self) -> None:
        """See `Intake`."""
        await self._stack.aclose()


def _unread(mappings: Mappings) -> frozenset[tuple[TableName, str]]:
    """Columns that nobody carries: not a transform, which may read any, nor a predicate."""
    return frozenset(
        (side.table.name, column)
        for mapping in mappings.all
        if mapping.function is None and mapping.owns_source is None and not mapping.multiset
        for side in mapping.sources
        for column in side.table.column_names
        if column not in mapping.columns and column not in side.key and column not in side.table.identity_columns
    )
