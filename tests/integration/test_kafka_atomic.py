"""Whole source transactions by Kafka (`stream.atomic`), on a real broker: memory, restarts, several processes."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import ChangeEvent
from replicator.tables import TableName
from tests.fix_kafka_source import ITEMS, ORDERS, KafkaWorld, Reader
from tests.polling import looped


def commit(world: KafkaWorld, name: str, *changes: tuple[TableName, int], body: str = "") -> None:
    """Write one source transaction, as Debezium does: begin, its changes in order, end."""
    topic = f"{world.prefix}.transaction"
    world.say({"kind": "mark", "id": name, "events": None, "tables": {}}, topic=topic, producer=world.producer)
    for order, (table, key) in enumerate(changes, 1):
        said: dict[str, Any] = {"table": str(table), "id": key, "transaction": name, "order": order, "body": body}
        world.say(said, table=table, producer=world.producer)
        world.producer.poll(0)
    counts = {str(table): sum(one == table for one, _ in changes) for table in (ITEMS, ORDERS)}
    world.say({"kind": "mark", "id": name, "events": len(changes), "tables": counts}, topic=topic)


@pytest.fixture
def topics(kafka_world: KafkaWorld) -> KafkaWorld:
    kafka_world.make_topic()
    kafka_world.make_topic(ORDERS)
    commit(kafka_world, "x")
    return kafka_world


async def take_whole(reader: Reader, events: int, **limits: int) -> int:
    """Apply until so many events are applied, committing complete batches only; returns how many parts there were."""
    parts = 0
    waiting: list[ChangeEvent] = []
    while len(reader.applied) < events:
        batch = await reader.take(**limits)
        parts += 1
        if not batch.complete:
            waiting += batch.events
            continue
        batch = replace(batch, events=[*waiting, *batch.events])
        waiting.clear()
        await reader.commit(batch)
    return parts


async def test_a_transaction_over_several_topics_is_one(topics: KafkaWorld) -> None:
    """Its events come in their order, in one batch, with one transaction."""
    reader = await topics.started(ITEMS, ORDERS, atomic=True)
    commit(topics, "x1", (ITEMS, 1), (ORDERS, 2), (ITEMS, 3))
    commit(topics, "x2", (ORDERS, 4))

    await take_whole(reader, 4)

    assert [1, 2, 3, 4] == reader.applied


async def test_a_transaction_larger_than_the_buffer(topics: KafkaWorld) -> None:
    """One topic's part comes wholly before the other's, and neither fits: parts come, in order, within the memory."""
    commit(topics, "x0", (ITEMS, -2), (ORDERS, -1))
    half, body = 3_000, "x" * 1_000
    changes = [*((ITEMS, key) for key in range(half)), *((ORDERS, key) for key in range(half, 2 * half))]
    commit(topics, "x1", *changes, body=body)
    commit(topics, "x2", (ITEMS, 2 * half))
    reader = await topics.started(ITEMS, ORDERS, atomic=True, buffer_bytes_max=1 << 20)

    parts = await take_whole(reader, 2 * half + 3, rows_max=500)

    assert list(range(-2, 2 * half + 1)) == reader.applied
    assert parts >= 2 * half // 500


async def test_restarts_between_transactions(topics: KafkaWorld) -> None:
    """Whatever was read beyond: the next session begins with the next whole transaction."""
    for number in range(30):
        commit(topics, f"x{number}", (ITEMS, 2 * number), (ORDERS, 2 * number + 1))
    applied: list[int] = []
    for _ in range(6):
        reader = await topics.started(ITEMS, ORDERS, atomic=True)
        await looped(lambda reader=reader: reader.source.ready_rows >= 10)  # type: ignore[misc]  # a default
        batch = await reader.take(rows_max=10)
        assert batch.complete
        await reader.commit(batch)
        applied += reader.applied
        await reader.close()

    assert list(range(60)) == applied


async def test_a_second_process_stands_by(topics: KafkaWorld) -> None:
    """All partitions are one process's; when it leaves, the other goes on behind it."""
    one = await topics.started(ITEMS, ORDERS, atomic=True)
    commit(topics, "x1", (ITEMS, 1), (ORDERS, 2))
    await take_whole(one, 2)
    two = await topics.started(ITEMS, ORDERS, atomic=True)
    commit(topics, "x2", (ITEMS, 3), (ORDERS, 4))
    taking = [asyncio.ensure_future(take_whole(reader, 9)) for reader in (one, two)]

    def applied() -> list[int]:
        return one.applied + two.applied

    async def rejoin(reader: Reader, at: int) -> None:
        """A rebalance takes all partitions away, which ends a session."""
        if taking[at].done():
            error = taking[at].exception()
            assert isinstance(error, ReplicatorError)
            assert ErrorKind.REASSIGNED is error.kind
            await reader.source.start(None)
            taking[at] = asyncio.ensure_future(take_whole(reader, 9))

    while len(applied()) < 4:
        await asyncio.wait(taking, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        await rejoin(one, 0)
        await rejoin(two, 1)
    for task in taking:
        task.cancel()

    assert [1, 2, 3, 4] == sorted(applied())


async def test_a_topic_of_several_partitions_is_refused(kafka_world: KafkaWorld) -> None:
    """At the start, by name."""
    kafka_world.make_topic(partitions=2)
    with pytest.raises(ReplicatorError) as caught:
        await kafka_world.started(atomic=True)

    assert ErrorKind.CONFIG is caught.value.kind
    assert kafka_world.topic() in caught.value.message


async def test_the_drain_waits_for_the_end_of_a_transaction(topics: KafkaWorld) -> None:
    """A position behind all that is in the log is there when nothing is held any more."""
    reader = await topics.started(ITEMS, ORDERS, atomic=True)
    commit(topics, "x1", (ITEMS, 1), (ORDERS, 2))
    await take_whole(reader, 2)
    topics.write(3, transaction="x2", order=1)
    passing = asyncio.ensure_future(reader.source.passed(1))
    await asyncio.wait({passing}, timeout=1.5)
    assert not passing.done()
    topics.say(
        {"kind": "mark", "id": "x2", "events": 1, "tables": {str(ITEMS): 1}}, topic=f"{topics.prefix}.transaction"
    )

    position = await asyncio.wait_for(passing, 20)

    batch = await reader.take()
    assert position <= batch.position
    assert 1 == len(batch.events)
