"""Records whose `source.sequence` goes back: a replay of Debezium is passed over, a late record stops the lane.

Also when the process that had seen the newest is gone.
"""

import re

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from tests.fix_kafka_source import KafkaWorld, Reader
from tests.polling import looped


def say(world: KafkaWorld, *keys: int) -> None:
    """One record each, of a transaction of its own."""
    for key in keys:
        world.write(key, sequence=[key, key])


async def restarted(world: KafkaWorld, reader: Reader, **options: object) -> Reader:
    await reader.close()
    return await world.started(**options)


async def refused(reader: Reader) -> ReplicatorError:
    with pytest.raises(ReplicatorError) as caught:
        await reader.run()
    assert ErrorKind.LOG_LOST is caught.value.kind
    return caught.value


async def test_a_late_record_right_after_a_restart_stops(kafka_world: KafkaWorld) -> None:
    """However often one starts, until a person has it forgotten; then the feed goes on with this record."""
    topic = kafka_world.make_topic()
    say(kafka_world, 1, 2, 3, 4, 5)
    reader = await kafka_world.started()
    await reader.apply(5)
    reader = await restarted(kafka_world, reader)
    say(kafka_world, 3, 6, 7)

    first = await refused(reader)
    reader = await restarted(kafka_world, reader)
    again = await refused(reader)

    assert [] == reader.applied
    assert f"{topic}/0:5 goes back in its partition: its source.sequence is 3/3, after 5/5" in first.message
    assert first.message == again.message
    assert again.hint
    (statement,) = re.findall("`(UPDATE .*?;)`", again.hint)
    kafka_world.targets.execute(statement)
    reader = await restarted(kafka_world, reader)
    assert [3, 6, 7] == await reader.apply(3)


async def test_a_replay_right_after_a_restart_is_passed_over(kafka_world: KafkaWorld) -> None:
    """Both were restarted: what Debezium repeats is passed over up to the newest, and what follows is applied."""
    kafka_world.make_topic()
    say(kafka_world, 1, 2, 3, 4, 5)
    reader = await kafka_world.started()
    await reader.apply(5)
    reader = await restarted(kafka_world, reader)
    say(kafka_world, 2, 3, 4, 5, 6)

    assert [6] == await reader.apply(1)


async def test_what_goes_back_holds_the_offset_until_it_is_told(kafka_world: KafkaWorld) -> None:
    """A lone late record is neither applied nor passed by: a process that starts later finds it again."""
    topic = kafka_world.make_topic()
    say(kafka_world, 1, 2, 3)
    reader = await kafka_world.started()
    await reader.apply(3)
    say(kafka_world, 2)
    session = reader.source._session
    assert session is not None
    reading = session.readings[topic, 0]
    await looped(lambda: reading.seen >= 4)
    assert (3, 1) == (reading.read, (await reader.source.lag()).backlog_offsets)

    reader = await restarted(kafka_world, reader)
    say(kafka_world, 3, 4)

    assert [4] == await reader.apply(1)


async def test_the_next_holder_of_a_partition_knows_its_order(kafka_world: KafkaWorld) -> None:
    """What one process of a group has seen of a partition's order counts for whoever gets the partition."""
    kafka_world.make_topic()
    say(kafka_world, 1, 2, 3)
    first = await kafka_world.started(instance="first")
    await first.apply(3)
    await first.close()
    second = await kafka_world.started(instance="second", settings={"session.timeout.ms": "6000"})
    say(kafka_world, 2, 9)

    error = await refused(second)

    assert "after 3/3" in error.message
