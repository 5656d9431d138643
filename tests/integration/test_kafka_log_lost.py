"""A log that isn't the one that was read before: the source stops, skips nothing, and says what to do.

Each test: one event applied, the source closed, the log changed, the source started again.
"""

import asyncio
import re

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # exported, not in __all__

from replicator.errors import ErrorKind, ReplicatorError
from tests.fix_kafka import Kafka, MakeKafka
from tests.fix_kafka_source import ITEMS, ORDERS, KafkaWorld, MakeKafkaWorld, Reader


@pytest.fixture
async def begun(kafka_world: KafkaWorld) -> KafkaWorld:
    """A world in which record 0 of the topic is applied."""
    kafka_world.make_topic()
    kafka_world.write(1)
    reader = await kafka_world.started()
    await reader.apply(1)
    await reader.close()
    return kafka_world


async def refused(reader: Reader) -> ReplicatorError:
    """What the start, or the first take, says."""

    async def begin() -> None:
        await reader.start()
        await reader.take()

    with pytest.raises(ReplicatorError) as caught:
        await begin()
    assert ErrorKind.LOG_LOST is caught.value.kind
    assert caught.value.hint
    return caught.value


def delete_records(world: KafkaWorld, offset: int) -> None:
    (done,) = world.admin.delete_records([TopicPartition(world.topic(), 0, offset)]).values()
    done.result(20)


def delete_topic(world: KafkaWorld) -> None:
    (done,) = world.admin.delete_topics([world.topic()]).values()
    done.result(20)


async def test_records_that_retention_has_deleted(begun: KafkaWorld) -> None:
    """The message names partition, stored offset, and where the log begins now; nothing is reset by a further start."""
    begun.write(2, 3, 4)
    delete_records(begun, 3)

    error = await refused(begun.reader())

    assert f"{begun.topic()}/0 was applied up to offset 1" in error.message
    assert "begins at 3" in error.message
    assert error.message == (await refused(begun.reader())).message


async def test_records_that_are_deleted_while_it_reads(kafka_world: KafkaWorld) -> None:
    """What is deleted under a running source that is behind stops it, after what it had read."""
    kafka_world.make_topic()
    kafka_world.write(*range(40), body="x" * 100_000)
    reader = await kafka_world.started(buffer_bytes_max=1 << 20, settings={"fetch.message.max.bytes": "200000"})
    await reader.commit(await reader.take(rows_max=1))
    delete_records(kafka_world, 40)

    with pytest.raises(ReplicatorError) as caught:
        await reader.run()

    assert ErrorKind.LOG_LOST is caught.value.kind
    assert "begins at 40" in caught.value.message
    assert list(range(len(reader.applied))) == reader.applied
    assert len(reader.applied) < 40


async def test_a_topic_whose_beginning_is_gone_when_it_is_first_seen(kafka_world: KafkaWorld) -> None:
    """Nobody has applied it, and no mark says that a copy holds it: it isn't begun with what is left, until a person
    says so.
    """
    kafka_world.make_topic(partitions=2)
    kafka_world.write(1, 2, 3)
    delete_records(kafka_world, 2)

    first = await refused(kafka_world.reader())
    again = await refused(kafka_world.reader())

    assert f"topic {kafka_world.topic()} is read for the first time, and its beginning is gone" in first.message
    assert f"{kafka_world.topic()}/0 begins at offset 2 now" in first.message
    assert first.message == again.message
    assert first.hint
    assert "resync" in first.hint
    (statement,) = re.findall("`(UPDATE .*?;)`", first.hint)
    kafka_world.targets.execute(statement)
    reader = await kafka_world.started()
    kafka_world.write(4, partition=1)
    assert [3, 4] == sorted(await reader.apply(2))


async def test_what_is_copied_needs_no_beginning(kafka_world: KafkaWorld) -> None:
    """Topics that are older than the feed begin at their end, marked before the copy; of a table added later, too."""
    kafka_world.make_topic()
    kafka_world.write(1, 2, 3)
    delete_records(kafka_world, 2)
    kafka_world.make_topic(ORDERS)
    kafka_world.write(7, 8, table=ORDERS)
    first = kafka_world.reader(ORDERS)
    await first.member.target.take_over(1)
    await first.source.mark_beginning([ORDERS])
    await first.source.start(None)
    kafka_world.write(9, table=ORDERS)
    assert [9] == await first.apply(1)
    await first.close()

    later = kafka_world.reader(ORDERS, ITEMS)
    await later.member.target.take_over(1)
    await later.source.mark_beginning([ITEMS])
    kafka_world.write(4)
    await later.source.start(None)

    assert [4] == await later.apply(1)


async def test_an_offset_past_the_end(begun: KafkaWorld) -> None:
    """A log that ends before the stored offset was cut: an unclean election, or a restored backup."""
    thief = begun.targets.member()
    await thief.ledger.take_over([(begun.topic(), 0)])
    await thief.target.take_over(1)
    async with thief.target.transaction(0) as transaction:
        await transaction.checkpoint(f"{begun.topic()}/0:9", None)

    error = await refused(begun.reader())

    assert "offset 9, but the log ends at 1" in error.message


async def test_a_topic_that_is_gone(begun: KafkaWorld) -> None:
    """A topic that had been begun must be there; one that never was is waited for."""
    delete_topic(begun)

    error = await refused(begun.reader(ITEMS, ORDERS))

    assert f"topic {begun.topic()} is gone" in error.message
    assert "orders" not in error.message


async def test_a_topic_that_is_deleted_while_it_reads(kafka_world: KafkaWorld) -> None:
    """It is noticed within seconds."""
    kafka_world.make_topic()
    kafka_world.write(1)
    reader = await kafka_world.started()
    await reader.apply(1)
    await asyncio.to_thread(delete_topic, kafka_world)

    with pytest.raises(ReplicatorError) as caught:
        await reader.apply(2)

    assert ErrorKind.LOG_LOST is caught.value.kind
    assert "is gone" in caught.value.message


async def test_a_topic_that_was_made_again(begun: KafkaWorld) -> None:
    """Its offsets may well lie within the new log: its id tells."""
    delete_topic(begun)
    while begun.topic() in begun.admin.list_topics(timeout=10).topics:
        pass
    begun.make_topic()
    begun.write(5, 6)

    assert begun.topic() in (await refused(begun.reader())).message


async def test_a_topic_that_got_partitions(begun: KafkaWorld) -> None:
    """Keys lie elsewhere from then on: their order is lost."""
    (done,) = begun.admin.create_partitions([NewPartitions(begun.topic(), 3)]).values()
    done.result(20)

    error = await refused(begun.reader())

    assert begun.topic() in error.message


async def test_another_cluster(begun: KafkaWorld, make_kafka: MakeKafka, make_kafka_world: MakeKafkaWorld) -> None:
    """Topics of the same names on other brokers are another log."""
    other = await asyncio.to_thread(make_kafka)
    world = await make_kafka_world(Kafka(other.bootstrap, mock=False))
    world.targets = begun.targets
    world.make_topic()
    world.write(1, 2)

    error = await refused(world.reader())

    assert "cluster" in error.message
