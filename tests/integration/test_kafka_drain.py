"""The drain proof by Kafka: a position behind all that was in the log, wherever it lies and however it came there."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # exported, not in __all__

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Position
from tests.fix_kafka_source import DEADLINE_SECONDS, ITEMS, ORDERS, KafkaWorld, Reader
from tests.polling import looped


async def drain(reader: Reader, position: Position) -> None:
    """Apply until the position is reached."""
    reached = Position(0)
    while reached < position:
        batch = await reader.take()
        reached = batch.position
        await reader.commit(batch)


async def passed(reader: Reader) -> Position:
    return await asyncio.wait_for(reader.source.passed(1), 40)


async def passed_again_and_again(reader: Reader) -> None:
    while True:
        await passed(reader)


async def test_an_open_transaction_of_the_producer_is_waited_for(kafka_world: KafkaWorld) -> None:
    """Records that are acknowledged within a transaction of Kafka count before its commit; aborted ones never come."""
    kafka_world.make_topic()
    producer = await asyncio.to_thread(kafka_world.transactional)
    reader = await kafka_world.started()
    producer.begin_transaction()
    kafka_world.write(1, 2, producer=producer)
    producer.abort_transaction(20)
    producer.begin_transaction()
    kafka_world.write(3, 4, producer=producer)
    producer.flush(20)
    passing = asyncio.ensure_future(passed(reader))
    await looped(lambda: bool(reader.member.ledger.held))
    await asyncio.wait({passing}, timeout=1)
    assert not passing.done()

    producer.commit_transaction(20)

    await drain(reader, await passing)
    assert [3, 4] == reader.applied


async def test_control_records_at_the_end_are_no_obstacle(kafka_world: KafkaWorld) -> None:
    """The end of a partition behind the last commit marker is reached, and stored, without any other record."""
    kafka_world.make_topic()
    producer = await asyncio.to_thread(kafka_world.transactional)
    producer.begin_transaction()
    kafka_world.write(1, producer=producer)
    producer.commit_transaction(20)
    reader = await kafka_world.started()

    await drain(reader, await passed(reader))

    assert [1] == reader.applied
    while (await reader.member.ledger.offsets())[kafka_world.topic(), 0] < 2:
        reader.source.nudge()
        await reader.commit(await reader.take())


async def test_idle_partitions_are_no_obstacle(kafka_world: KafkaWorld) -> None:
    """Of 64 partitions 60 never get a record."""
    kafka_world.make_topic(partitions=64)
    reader = await kafka_world.started()
    for key in range(40):
        kafka_world.say({"table": str(ITEMS), "id": key}, partition=(7, 21, 42, 63)[key % 4])

    await drain(reader, await passed(reader))

    assert list(range(40)) == sorted(reader.applied)
    assert await passed(reader) <= Position(41)


async def test_a_topic_that_appears_late(kafka_world: KafkaWorld) -> None:
    """A mapped table whose first event makes its topic is waited for, and applied from its first record."""
    kafka_world.make_topic()
    reader = await kafka_world.started(ITEMS, ORDERS)
    kafka_world.write(1)
    await reader.apply(1)
    kafka_world.make_topic(ORDERS, partitions=2)
    kafka_world.write(8, table=ORDERS, partition=1)

    await drain(reader, await passed(reader))

    assert [1, 8] == reader.applied


async def test_what_another_process_has_must_be_applied_there(kafka_world: KafkaWorld) -> None:
    """`passed` waits for the other process's commits, not only for its own reading."""
    kafka_world.make_topic(partitions=2)
    one, two = await kafka_world.started(), await kafka_world.started()
    await looped(lambda: len(one.member.ledger.held) == len(two.member.ledger.held) == 1)
    for partition in (0, 1):
        kafka_world.write(partition, partition=partition)
    theirs = await two.take()
    passing = asyncio.ensure_future(passed(one))
    await asyncio.wait({passing}, timeout=1)
    assert not passing.done()

    await two.commit(theirs)

    await drain(one, await passing)
    assert 1 == len(one.applied) == len(two.applied)


async def test_a_promise_is_not_kept_by_forgetting(kafka_world: KafkaWorld) -> None:
    """When a partition is given up before what was promised of it is given out, the session ends."""
    kafka_world.make_topic(partitions=2)
    for partition in (0, 1):
        kafka_world.write(partition, partition=partition)
    one = await kafka_world.started()
    position = await passed(one)
    assert Position(2) == position

    await kafka_world.started()
    await looped(lambda: one.source.ready_rows < 2)
    with pytest.raises(ReplicatorError) as caught:
        await one.run()

    assert ErrorKind.REASSIGNED is caught.value.kind


async def test_a_proof_asks_about_the_topics_once(kafka_world: KafkaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the log is the same is looked at closely only where the topics are others; then it is, at once."""
    kafka_world.make_topic()
    reader = await kafka_world.started()
    await asyncio.wait_for(reader.source.passed(1), DEADLINE_SECONDS)
    admin, asked = reader.source._admin, Counter[str]()
    for question in ("topics", "cluster"):
        answer = getattr(admin, question)

        def ask(*names: object, question: str = question, answer: Callable[..., Any] = answer) -> Any:
            asked[question] += 1
            return answer(*names)

        monkeypatch.setattr(admin, question, ask)
    for _ in range(3):
        await asyncio.wait_for(reader.source.passed(1), DEADLINE_SECONDS)
    assert asked["cluster"] + 3 <= asked["topics"]

    (done,) = kafka_world.admin.create_partitions([NewPartitions(kafka_world.topic(), 2)]).values()
    done.result(20)
    with pytest.raises(ReplicatorError, match="has 2 partitions"):
        await passed_again_and_again(reader)
