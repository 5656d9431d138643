"""What Kafka Connect tells of a real Debezium, and that its committed offset proves what it is taken to prove."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from replicator.demo.kafka_parts.rest import ConnectRest
from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.connect import ConnectClient
from replicator.kafka.proof import DebeziumProof
from replicator.postgres.marker import MESSAGE_PREFIX, LogMarker
from tests.fix_kafka import Kafka, MakeConnector
from tests.fix_postgres import Database, MakeDatabase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PASSES_OVER = {"message.prefix.exclude.list": MESSAGE_PREFIX}


@pytest.fixture
def source(make_database: MakeDatabase) -> Database:
    """An old database with one table."""
    database = make_database()
    database.execute("CREATE TABLE public.users (id int PRIMARY KEY, name text)")
    return database


@pytest.fixture
async def marker(source: Database) -> AsyncIterator[LogMarker]:
    """Marks by a message: no heartbeat's table is published, and none is there."""
    marker = LogMarker(source.dsn, "crm/forward", message=True)
    yield marker
    await marker.close()


def records(kafka: Kafka, topic: str) -> int:
    """Records of a topic's first partition, those of open transactions included."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": topic, "isolation.level": "read_uncommitted"}
    )
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        return int(high - low)
    finally:
        consumer.close()


async def test_a_real_connect_is_understood(
    kafka_connect: ConnectRest,
    make_connector: MakeConnector,
    source: Database,
    marker: LogMarker,
    topic_prefix: str,
) -> None:
    """Configuration, state, version, and an offset of its prefix once something was committed."""
    name = await asyncio.to_thread(make_connector, source, tables="public.users", config=PASSES_OVER)
    client = ConnectClient(kafka_connect.url, name)
    absent = ConnectClient(kafka_connect.url, "nobody")
    try:
        config: dict[str, Any] = await client.config()
        assert name == config["slot.name"]
        assert await client.plugin_version(config["connector.class"]) is not None
        assert (await client.worker()).cluster
        assert (await client.status()).trouble is None
        with pytest.raises(ReplicatorError, match=name) as caught:
            await absent.config()
        assert ErrorKind.CONFIG is caught.value.kind
        source.execute("INSERT INTO public.users VALUES (1, 'a')")
        lsn = await marker.beat()
        await asyncio.wait_for(DebeziumProof(client, topic_prefix, marker, beat_seconds=0).produced(lsn), 60)
        (offset,) = await client.offsets()
        assert (topic_prefix, False) == (offset.server, offset.snapshot)
        assert offset.lsn_commit is not None
        assert offset.lsn_commit > lsn
    finally:
        await client.close()
        await absent.close()


async def test_the_committed_offset_proves_what_was_committed_before(
    kafka: Kafka,
    kafka_connect: ConnectRest,
    *,
    make_connector: MakeConnector,
    source: Database,
    marker: LogMarker,
    topic_prefix: str,
) -> None:
    """Again and again, beside a transaction that is open all the time: no row is missing once it is proven."""
    name = await asyncio.to_thread(make_connector, source, tables="public.users", config=PASSES_OVER)
    client = ConnectClient(kafka_connect.url, name)
    proof = DebeziumProof(client, topic_prefix, marker, beat_seconds=60)
    topic = f"{topic_prefix}.public.users"
    try:
        with source.connect() as held:
            held.execute("INSERT INTO public.users VALUES (0, 'open')")
            for round_ in range(5):
                source.execute(
                    "INSERT INTO public.users SELECT g, repeat('x', 100) FROM generate_series(%s::int, %s::int) g",
                    [1 + round_ * 1000, 1000 + round_ * 1000],
                )
                await asyncio.wait_for(proof.produced(await marker.beat()), 60)
                assert await asyncio.to_thread(records, kafka, topic) >= 1000 * (round_ + 1)
    finally:
        await client.close()


async def test_an_idle_database_is_proven_by_a_beat(
    kafka_connect: ConnectRest,
    make_connector: MakeConnector,
    source: Database,
    marker: LogMarker,
    topic_prefix: str,
) -> None:
    """Of the end of the WAL, which no commit of the application follows. No message makes a record."""
    name = await asyncio.to_thread(make_connector, source, tables="public.users", config=PASSES_OVER)
    client = ConnectClient(kafka_connect.url, name)
    silent = DebeziumProof(client, topic_prefix, marker, beat_seconds=0)
    proof = DebeziumProof(client, topic_prefix, marker, beat_seconds=60)
    try:
        source.execute("INSERT INTO public.users VALUES (1, 'a')")
        lsn = await marker.head()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent.produced(lsn), 5)
        await asyncio.wait_for(proof.produced(lsn), 60)
        assert (await client.status()).trouble is None
    finally:
        await client.close()
