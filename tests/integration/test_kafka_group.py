"""Several processes share the partitions of one connector: nothing is lost, doubled or reordered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from confluent_kafka import Consumer

from replicator.errors import ErrorKind, ReplicatorError
from tests.fix_kafka_source import ITEMS, KafkaWorld, Reader, keys_of
from tests.polling import looped

PARTITIONS = 6


@contextlib.asynccontextmanager
async def running(*readers: Reader) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.ensure_future(reader.run()) for reader in readers]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def shares(*readers: Reader) -> list[int]:
    return [len(reader.member.ledger.held) for reader in readers]


def write_everywhere(world: KafkaWorld, first: int, rounds: int) -> None:
    """Write rising keys: key modulo PARTITIONS is the partition."""
    for key in range(first * PARTITIONS, (first + rounds) * PARTITIONS):
        world.say({"table": str(ITEMS), "id": key}, partition=key % PARTITIONS)


def in_order(keys: list[int]) -> bool:
    """Each partition's keys rise."""
    by_partition = [[key for key in keys if key % PARTITIONS == one] for one in range(PARTITIONS)]
    return all(sorted(set(part)) == part for part in by_partition)


async def test_a_second_process_takes_its_share(kafka_world: KafkaWorld) -> None:
    """Partitions move while both apply: every event is applied once, in the order of its partition."""
    kafka_world.make_topic(partitions=PARTITIONS)
    write_everywhere(kafka_world, 0, 50)
    one = await kafka_world.started()
    async with running(one):
        await looped(lambda: shares(one) == [PARTITIONS])
        two = await kafka_world.started()
        async with running(two):
            await asyncio.to_thread(write_everywhere, kafka_world, 50, 50)
            await looped(lambda: shares(one, two) == [3, 3])
            await asyncio.to_thread(write_everywhere, kafka_world, 100, 50)
            await looped(lambda: len(one.applied) + len(two.applied) >= 150 * PARTITIONS)

    assert sorted(one.applied + two.applied) == list(range(150 * PARTITIONS))
    assert in_order(one.applied)
    assert in_order(two.applied)
    assert two.applied


async def test_what_was_given_out_is_committed_before_it_is_given_up(kafka_world: KafkaWorld) -> None:
    """A process keeps a partition while a batch of it is in hand, and the next one begins behind that batch."""
    kafka_world.make_topic(partitions=2)
    for partition in (0, 1):
        kafka_world.write(partition, partition=partition)
    one = await kafka_world.started()
    await looped(lambda: one.source.ready_rows == 2)
    in_hand = await one.take()
    two = await kafka_world.started()
    taking = asyncio.ensure_future(two.take())
    await asyncio.wait({taking}, timeout=3)
    assert [2, 0] == shares(one, two)

    await one.commit(in_hand)

    await looped(lambda: shares(one, two) == [1, 1])
    given = next(iter(two.member.ledger.held))[1]
    kafka_world.write(2 + given, partition=given)
    assert [2 + given] == keys_of(await taking)


async def test_a_process_that_leaves_gives_its_partitions_up(kafka_world: KafkaWorld) -> None:
    """After `close` the other one has all partitions at once, and goes on behind what was committed."""
    kafka_world.make_topic(partitions=PARTITIONS)
    one, two = await kafka_world.started(), await kafka_world.started()
    async with running(two):
        async with running(one):
            await looped(lambda: shares(one, two) == [3, 3])
            write_everywhere(kafka_world, 0, 10)
            await looped(lambda: len(one.applied) + len(two.applied) >= 10 * PARTITIONS)
        await one.close()
        write_everywhere(kafka_world, 10, 10)
        await looped(lambda: len(one.applied) + len(two.applied) >= 20 * PARTITIONS)

    assert sorted(one.applied + two.applied) == list(range(20 * PARTITIONS))
    assert in_order(two.applied)


async def test_two_processes_of_one_name(kafka_world: KafkaWorld) -> None:
    """A process whose `stream.instance` another one takes ends, and says so."""
    kafka_world.make_topic()
    kafka_world.write(1)
    one = await kafka_world.started(instance="pod-0")
    await one.take()
    usurper = Consumer(
        {
            "bootstrap.servers": kafka_world.kafka.bootstrap,
            "group.id": kafka_world.prefix,
            "group.instance.id": "pod-0",
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    usurper.subscribe([kafka_world.topic()])
    taking = asyncio.ensure_future(one.take())
    while not taking.done():
        await asyncio.to_thread(usurper.poll, 0.1)
    await asyncio.to_thread(usurper.close)
    with pytest.raises(ReplicatorError) as caught:
        await taking

    assert ErrorKind.SUPERSEDED is caught.value.kind
    assert "stream.instance" in str(caught.value)


async def test_another_holder_of_a_partition_makes_the_commit_fail(kafka_world: KafkaWorld) -> None:
    """A process that doesn't know yet that another one has its partition commits nothing."""
    kafka_world.make_topic()
    kafka_world.write(1)
    one = await kafka_world.started()
    batch = await one.take()
    thief = kafka_world.reader()
    await thief.member.target.take_over(1)
    await thief.member.ledger.take_over([(kafka_world.topic(), 0)])

    with pytest.raises(ReplicatorError) as caught:
        await one.commit(batch)

    assert ErrorKind.REASSIGNED is caught.value.kind
    await thief.source.start(None)
    await one.source.close()
    assert [1] == await thief.apply(1)
