"""A Kafka source on a real broker, and its ledger in a real target: order, restarts, and the drain proof."""

import asyncio

import pytest

from replicator.engine.parking import position_of
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Position
from tests.fix_kafka_source import ORDERS, KafkaWorld, keys_of
from tests.polling import looped


async def test_events_come_in_the_order_of_their_partition(kafka_world: KafkaWorld) -> None:
    """What is in the log before and after the start arrives, in order, numbered in the order in which it was read."""
    kafka_world.make_topic()
    kafka_world.write(1, 2)
    reader = await kafka_world.started()
    first = await reader.take()
    kafka_world.write(3)
    second = await reader.take()

    events = [*first.events, *second.events]
    assert [1, 2, 3] == keys_of(first, second)
    places = [position_of(event) for event in events]
    assert sorted(set(places)) == places
    assert second.position > places[-1] > first.position
    assert f"{kafka_world.topic()}/0:3" == reader.source.progress(second.position)
    assert f"{kafka_world.topic()}/0:2" == reader.source.format(second.position)


async def test_a_restart_goes_on_where_the_target_is(kafka_world: KafkaWorld) -> None:
    """What was taken and not committed comes again; what was committed doesn't, whatever Kafka's offsets say."""
    kafka_world.make_topic()
    kafka_world.write(*range(10))
    reader = await kafka_world.started()
    await reader.commit(await reader.take(rows_max=4))
    await reader.take(rows_max=4)

    await reader.source.start(None)

    assert list(range(10)) == await reader.apply(10)
    await reader.close()
    again = await kafka_world.started()
    kafka_world.write(10)
    assert [10] == await again.apply(1)


async def test_the_drain_proof_waits_for_the_end_of_every_partition(kafka_world: KafkaWorld) -> None:
    """`passed` returns a position behind everything that was in the log when the producer had proven it."""
    kafka_world.make_topic(partitions=3)
    kafka_world.make_topic(ORDERS)
    reader = await kafka_world.started(ORDERS, *(kafka_world.reader().source.topics.by_table))
    for number in range(3):
        kafka_world.write(number, partition=number)
    kafka_world.write(7, table=ORDERS)
    reader.plain.produced_upto.clear()
    passing = asyncio.ensure_future(reader.source.passed(1))
    kafka_world.write(9, partition=2)
    reader.plain.produced_upto.set()
    position = await asyncio.wait_for(passing, 20)

    reached = Position(0)
    while reached < position:
        batch = await reader.take()
        reached = batch.position
        await reader.commit(batch)

    assert {0, 1, 2, 7, 9} == set(reader.applied)


async def test_a_source_that_was_not_started_says_so(kafka_world: KafkaWorld) -> None:
    """A take before the start, and after the end, is an error of ours; closing twice is closing."""
    reader = kafka_world.reader()
    with pytest.raises(ReplicatorError) as caught:
        await reader.take()
    await reader.source.close()
    await reader.source.close()

    assert ErrorKind.INTERNAL is caught.value.kind


async def test_a_session_that_failed_ends(kafka_world: KafkaWorld) -> None:
    """What was read before is given out, then the error is raised, however much arrives meanwhile."""
    kafka_world.make_topic()
    kafka_world.write(1, 2)
    reader = await kafka_world.started()
    await looped(lambda: reader.source.ready_rows == 2)
    session = reader.source._session
    assert session is not None
    session.fail(ReplicatorError("lost", kind=ErrorKind.REASSIGNED))
    kafka_world.write(*range(3, 50))
    assert 2 == reader.source.ready_rows

    with pytest.raises(ReplicatorError) as caught:
        await reader.run()

    assert ErrorKind.REASSIGNED is caught.value.kind
    assert [1, 2] == reader.applied
    await reader.source.start(None)
    assert list(range(1, 50)) == await reader.apply(49)
