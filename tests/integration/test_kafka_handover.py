"""Partitions that come and go while something of them is in hand: nothing is lost, doubled, or stands still."""

import asyncio

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.consumer import GroupThread
from replicator.kafka.session import Session
from tests.fix_kafka_source import KafkaWorld, Reader
from tests.integration.test_kafka_faults import Cut, own_broker
from tests.polling import looped

__all__ = ["own_broker"]


def shares(*readers: Reader) -> list[int]:
    return [len(reader.member.ledger.held) for reader in readers]


def session_of(reader: Reader) -> Session:
    session = reader.source._session
    assert session is not None
    return session


def thread_of(reader: Reader) -> GroupThread:
    thread = session_of(reader)._thread
    assert thread is not None
    return thread


async def test_a_partition_that_was_given_up_while_nothing_could_be_read_is_read_when_it_comes_back(
    kafka_world: KafkaWorld,
) -> None:
    """A full buffer pauses partitions: one that leaves meanwhile isn't paused when it comes back."""
    kafka_world.make_topic(partitions=2)
    body = "x" * 10_000
    for key in range(400):
        kafka_world.write(key, partition=key % 2, body=body, producer=kafka_world.producer)
    kafka_world.producer.flush(20)
    one = await kafka_world.started(buffer_bytes_max=1 << 20)
    await looped(lambda: thread_of(one)._paused)

    two = await kafka_world.started()
    await looped(lambda: shares(one, two) == [1, 1])
    await one.apply(200)
    await two.close()
    await looped(lambda: shares(one) == [2])

    assert list(range(400)) == sorted(await one.apply(400))


async def test_a_commit_that_did_not_wait_for_the_disk_holds_nobody_up(kafka_world: KafkaWorld) -> None:
    """What is committed but not durable is made so when its partition is to be given up and nothing else follows."""
    kafka_world.make_topic(partitions=2)
    kafka_world.write(*range(10), partition=0)
    kafka_world.write(*range(10, 20), partition=1)
    one = await kafka_world.started()
    await looped(lambda: one.source.ready_rows == 20)
    first = await one.take(rows_max=20)
    kafka_world.write(20, 22, partition=0)
    kafka_world.write(21, 23, partition=1)
    await looped(lambda: one.source.ready_rows == 4)
    async with one.member.target.transaction(0) as transaction:  # as a lane commits while more waits
        await transaction.checkpoint(one.source.progress(first.position), first.commit_time, durable=False)
    second = await one.take()
    async with one.member.target.transaction(0) as transaction:
        await transaction.checkpoint(one.source.progress(second.position), second.commit_time, durable=False)

    two = await kafka_world.started()
    again = await one.take()
    assert [] == again.events
    await one.commit(again)
    await looped(lambda: shares(one, two) == [1, 1])


@pytest.mark.fault
async def test_what_is_in_hand_of_a_partition_that_was_lost_is_not_read_again_beside_it(own_broker: Cut) -> None:
    """A member that the group had given up, and would have its partition back, doubles nothing: its session ends."""
    own_broker.make_topic()
    own_broker.write(1)
    reader = await own_broker.started()
    await reader.apply(1)
    own_broker.write(2)
    in_hand = await reader.take()
    thread = thread_of(reader)._thread
    await asyncio.to_thread(own_broker.proxy.stall)
    silent = asyncio.get_running_loop().time() + 9  # the group's session is 6 s
    await looped(lambda: asyncio.get_running_loop().time() > silent)
    own_broker.proxy.resume()
    await looped(lambda: not thread.is_alive())  # it would have joined again, and read on from its last commit

    await reader.commit(in_hand)
    with pytest.raises(ReplicatorError) as caught:
        await reader.run()
    assert ErrorKind.REASSIGNED is caught.value.kind
    assert [1, 2] == reader.applied
