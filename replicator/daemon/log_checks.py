"""What a plan needs of Kafka, of Kafka Connect and of the registry: read, nothing changed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from replicator.assess.debezium_settings import DEFAULT_PUBLICATION, DEFAULT_SLOT, Settings
from replicator.assess.log_facts import DebeziumFacts, LogFacts, StreamFacts, Unreachable
from replicator.errors import ReplicatorError
from replicator.kafka.admin import Admin
from replicator.kafka.connect import ConnectClient
from replicator.kafka.facts import read_debezium, read_log
from replicator.kafka.logs import Log
from replicator.kafka.registry import SchemaRegistry
from replicator.kafka.settings import client_settings, consumer_settings, scrub_of
from replicator.kafka.topics import Topics

if TYPE_CHECKING:
    from replicator.config import Connector, KafkaStream
    from replicator.mapping import Mappings
    from replicator.partitions import Partition


@dataclass(frozen=True)
class _Producer:
    """Who fills the log.

    Attributes:
        debezium: its connector, where it can be asked.
        slot, publication: what it reads, where the names are known.

    """

    debezium: DebeziumFacts | Unreachable | None
    slot: str | None
    publication: str | None


async def _read_producer(connector: Connector, stream: KafkaStream) -> _Producer:
    """Ask who fills the log; that Connect can't be asked is an answer."""
    if stream.capture is not None:
        return _Producer(None, connector.slot_name, connector.publication_name)
    if stream.connect_url is None or stream.connect_name is None:
        return _Producer(None, stream.slot, None)
    client = ConnectClient(stream.connect_url, stream.connect_name)
    try:
        found = await read_debezium(client)
    except ReplicatorError as error:
        return _Producer(_unreachable(error), stream.slot, None)
    finally:
        await client.close()
    settings = Settings(found.config)
    return _Producer(
        found,
        settings.text("slot.name", DEFAULT_SLOT),
        settings.text("publication.name", DEFAULT_PUBLICATION),
    )


async def read_stream(
    connector: Connector,
    stream: KafkaStream,
    mappings: Mappings,
    *,
    applied: dict[Partition, int],
    money_digits: int,
) -> StreamFacts:
    """Everything around the log; who can't be asked is an answer.

    Args:
        connector: the file.
        stream: its stream.
        mappings: of the forward feed.
        applied: the next offset of each partition that the feed has begun.
        money_digits: fractional digits of `money` on the old database.

    Raises:
        ReplicatorError: CONFIG for settings that no client takes.

    """
    consumer_settings(stream, connector.name)
    producer = await _read_producer(connector, stream)
    topics = Topics(stream, [table.name for table in mappings.source_tables])
    return StreamFacts(
        topics=topics.by_table,
        transactions=topics.transactions,
        log=await _read_log(stream, topics, connector.name, applied),
        debezium=producer.debezium,
        registry=await _read_registry(stream),
        slot=producer.slot,
        publication=producer.publication,
        money_digits=money_digits,
    )


async def _read_log(
    stream: KafkaStream, topics: Topics, connector: str, applied: dict[Partition, int]
) -> LogFacts | Unreachable:
    scrub = scrub_of(stream)
    admin = Admin(client_settings(stream), scrub, Log(scrub, connector=connector))
    try:
        return await read_log(admin, topics, applied)
    except ReplicatorError as error:
        return _unreachable(error)


async def _read_registry(stream: KafkaStream) -> Unreachable | None:
    if stream.schema_registry is None:
        return None
    async with AsyncExitStack() as stack:
        try:
            registry = SchemaRegistry(stream.schema_registry, patience_seconds=0)
            stack.push_async_callback(registry.close)
            await registry.check()
        except ReplicatorError as error:
            return _unreachable(error)
    return None


def _unreachable(error: ReplicatorError) -> Unreachable:
    return Unreachable(error.message, error.hint or "")
