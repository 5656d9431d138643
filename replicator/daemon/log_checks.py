"""What a plan needs of Kafka, of Kafka Connect and of the registry: read, nothing changed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from replicator.assess.debezium_settings import Settings
from replicator.assess.log_facts import DebeziumFacts, LogFacts, StreamFacts, Unreachable
from replicator.errors import ReplicatorError
from replicator.kafka.admin import Admin
from replicator.kafka.connect import ConnectClient
from replicator.kafka.facts import read_debezium, read_log
from replicator.kafka.logs import Log
from replicator.kafka.registry import SchemaRegistry
from replicator.kafka.settings import client_settings, consumer_settings, scrub_of
from replicator.kafka.topics import Topics
from replicator.postgres.facts import read_money_digits

if TYPE_CHECKING:
    from typing import Any

    from psycopg import AsyncConnection

    from replicator.config import Connector, KafkaStream
    from replicator.mapping import Mappings
    from replicator.partitions import Partition

_DEFAULT_SLOT: Final = "debezium"
_DEFAULT_PUBLICATION: Final = "dbz_publication"


@dataclass(frozen=True)
class Producer:
    """Who fills the log.

    Attributes:
        debezium: its connector, where it can be asked.
        slot, publication: what it reads, where the names are known.

    """

    debezium: DebeziumFacts | Unreachable | None
    slot: str | None
    publication: str | None


async def read_producer(connector: Connector, stream: KafkaStream) -> Producer:
    """Ask who fills the log; that Connect can't be asked is an answer."""
    if stream.capture is not None:
        return Producer(None, connector.slot_name, connector.publication_name)
    if stream.connect_url is None or stream.connect_name is None:
        return Producer(None, stream.slot, None)
    client = ConnectClient(stream.connect_url, stream.connect_name)
    try:
        found = await read_debezium(client)
    except ReplicatorError as error:
        return Producer(_unreachable(error), stream.slot, None)
    finally:
        await client.close()
    settings = Settings(found.config)
    return Producer(
        found,
        settings.text("slot.name", _DEFAULT_SLOT),
        settings.text("publication.name", _DEFAULT_PUBLICATION),
    )


async def read_stream(
    connector: Connector,
    stream: KafkaStream,
    producer: Producer,
    mappings: Mappings,
    *,
    old: AsyncConnection[Any],
    applied: dict[Partition, int],
) -> StreamFacts:
    """Everything around the log; who can't be asked is an answer.

    Args:
        connector: the file.
        stream: its stream.
        producer: who fills the log.
        mappings: of the forward feed.
        old: a session on the old database.
        applied: the next offset of each partition that the feed has begun.

    Raises:
        ReplicatorError: CONFIG for settings that no client takes; CONNECTION of the old database.

    """
    consumer_settings(stream, connector.name)
    topics = Topics(stream, [table.name for table in mappings.source_tables])
    facts = StreamFacts(
        topics=topics.by_table,
        transactions=topics.transactions,
        log=await _read_log(stream, topics, connector.name, applied),
        debezium=producer.debezium,
        registry=await _read_registry(stream),
        slot=producer.slot,
        publication=producer.publication,
    )
    money = any(
        column.cast_type.removesuffix("[]") == "money" for table in mappings.source_tables for column in table.columns
    )
    return replace(facts, money_digits=await read_money_digits(old)) if money else facts


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
