"""A Kafka source beside broken brokers, broken networks, odd records and a slow target."""

import asyncio

import pytest

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Op, Position
from tests.fix_kafka import Kafka, MakeKafka
from tests.fix_kafka_source import ITEMS, ORDERS, KafkaWorld, MakeKafkaWorld, Refusing
from tests.fix_proxy import MakeProxy, TcpProxy
from tests.polling import looped


class Cut(KafkaWorld):
    """A world whose readers reach the broker through a proxy; whoever writes doesn't."""

    server: KafkaServer
    proxy: TcpProxy


@pytest.fixture
async def own_broker(make_proxy: MakeProxy, make_kafka: MakeKafka, make_kafka_world: MakeKafkaWorld) -> Cut:
    server = make_kafka(start=False, listeners={"PROXIED": "PLAINTEXT"})
    proxy = make_proxy(server.port_of("PROXIED"))
    server.advertised["PROXIED"] = f"{proxy.host}:{proxy.port}"
    await asyncio.to_thread(server.start)
    world = await make_kafka_world(Kafka(server.bootstrap, mock=False))
    world.__class__ = Cut
    assert isinstance(world, Cut)
    world.server, world.proxy = server, proxy
    world.bootstrap = f"{proxy.host}:{proxy.port}"
    return world


PATIENT = {"session.timeout.ms": "45000"}
"""As by default: the group keeps a member that long."""


@pytest.mark.fault
async def test_a_broker_that_is_stopped_and_started(own_broker: Cut) -> None:
    """Reading goes on by itself where it was, in the same session."""
    own_broker.make_topic()
    own_broker.write(1, 2)
    reader = await own_broker.started(settings=PATIENT)
    await reader.apply(2)
    await asyncio.to_thread(own_broker.server.kill)
    await asyncio.to_thread(own_broker.server.start)
    await asyncio.to_thread(own_broker.write, 3, 4)

    assert [1, 2, 3, 4] == await reader.apply(4)


@pytest.mark.fault
@pytest.mark.slow
async def test_a_broker_that_stays_away(own_broker: Cut) -> None:
    """The session ends with an error that asks for another one; what was applied before is kept, and not repeated."""
    own_broker.make_topic()
    own_broker.write(1)
    reader = await own_broker.started(settings=PATIENT)
    await reader.apply(1)
    await asyncio.to_thread(own_broker.server.kill)
    with pytest.raises(ReplicatorError) as caught:
        await reader.apply(2)
    assert ErrorKind.CONNECTION is caught.value.kind
    with pytest.raises(ReplicatorError) as again:
        await reader.source.start(None)
    assert ErrorKind.CONNECTION is again.value.kind
    await asyncio.to_thread(own_broker.server.start)
    await asyncio.to_thread(own_broker.write, 2)

    await reader.source.start(None)

    assert [1, 2] == await reader.apply(2)


@pytest.mark.fault
async def test_the_network_is_cut_in_the_middle_of_a_fetch(own_broker: Cut) -> None:
    """Again and again while much is read: every record arrives once, in order."""
    own_broker.make_topic()
    count = 400
    for key in range(count):
        own_broker.producer.produce(
            own_broker.topic(), b'{"table": "public.items", "id": %d, "body": "%s"}' % (key, b"x" * 20_000)
        )
    own_broker.producer.flush(20)
    reader = await own_broker.started(buffer_bytes_max=1 << 20)
    while len(reader.applied) < count:
        await reader.commit(await reader.take(rows_max=20))
        if len(reader.applied) % 60 == 0:
            own_broker.proxy.cut()

    assert list(range(count)) == reader.applied


@pytest.mark.fault
async def test_a_silent_network_beyond_the_session(own_broker: Cut) -> None:
    """The group goes on without a member that is not heard of: back again, it has lost its partitions."""
    own_broker.make_topic()
    own_broker.write(1)
    reader = await own_broker.started()
    await reader.apply(1)
    own_broker.write(2)
    in_hand = await reader.take()
    await asyncio.to_thread(own_broker.proxy.stall)
    own_broker.bootstrap, proxied = own_broker.kafka.bootstrap, own_broker.bootstrap
    other = await own_broker.started()
    own_broker.bootstrap = proxied
    assert [2] == await other.apply(1)
    own_broker.proxy.resume()

    with pytest.raises(ReplicatorError) as caught:
        await reader.commit(in_hand)
    assert ErrorKind.REASSIGNED is caught.value.kind
    with pytest.raises(ReplicatorError) as taking:
        await reader.run()
    assert ErrorKind.REASSIGNED is taking.value.kind


async def test_nobody_there(kafka_world: KafkaWorld) -> None:
    """A start without any broker says so, and whom it asked."""
    kafka_world.bootstrap = "127.0.0.1:1"
    with pytest.raises(ReplicatorError) as caught:
        await kafka_world.started()

    assert ErrorKind.CONNECTION is caught.value.kind


async def test_reading_is_bounded_while_the_target_is_busy(kafka_world: KafkaWorld) -> None:
    """Beyond `max.poll.interval.ms` nothing is taken: no more than the buffer is held, and the partitions stay."""
    kafka_world.make_topic(partitions=2)
    count, body = 2_000, "x" * 10_000
    for key in range(count):
        kafka_world.producer.produce(
            kafka_world.topic(),
            b'{"table": "public.items", "id": %d, "body": "%s"}' % (key, body.encode()),
            partition=key % 2,
        )
        kafka_world.producer.poll(0)
    kafka_world.producer.flush(20)
    reader = await kafka_world.started(
        buffer_bytes_max=2 << 20, settings={"session.timeout.ms": "6000", "max.poll.interval.ms": "6000"}
    )
    await looped(lambda: reader.source.ready_rows > 50)
    busy = asyncio.get_running_loop().time() + 8
    most = 0

    def waited() -> bool:
        nonlocal most
        most = max(most, reader.source.ready_rows)
        return asyncio.get_running_loop().time() > busy

    await looped(waited)
    await reader.apply(count, bytes_max=500_000)

    assert most * len(body) < 3 << 20
    assert list(range(count)) == sorted(reader.applied)
    assert 2 == len(reader.member.ledger.held)


async def test_only_mapped_tables_and_changes_count(kafka_world: KafkaWorld) -> None:
    """Tombstones, heartbeats, messages and changes of other tables move the offset, and nothing else."""
    kafka_world.make_topic()
    topic = kafka_world.topic()
    for value in (None, {"kind": "beat", "at": 5.0}, {"kind": "message", "lsn": 7}, {"table": "public.other", "id": 1}):
        kafka_world.say(value)
    reader = await kafka_world.started()

    batch = await reader.take()

    assert [] == batch.events
    assert f"{topic}/0:4" == reader.source.progress(batch.position)
    assert batch.position > Position(0)


async def test_events_carry_what_the_record_says(kafka_world: KafkaWorld) -> None:
    """Operation, transaction, LSN and time; deletes their old tuple."""
    kafka_world.make_topic()
    kafka_world.write(1, op="r", xid=77, lsn=1234, time=99.5)
    kafka_world.write(1, op="d", time=98.5)
    reader = await kafka_world.started()
    await looped(lambda: reader.source.ready_rows == 2)
    batch = await reader.take()

    first, second = batch.events
    assert (Op.READ, 77, 1234, 99.5) == (
        first.op,
        first.transaction.xid,
        first.transaction.commit_lsn,
        first.transaction.commit_time,
    )
    assert (Op.DELETE, (b"1", None), None) == (second.op, second.before, second.after)
    assert (99.5, 98.5, True, 1) == (batch.commit_time, batch.first_commit_time, batch.complete, batch.transactions)


async def test_truncate_in_a_topic_of_one_partition_is_in_order(kafka_world: KafkaWorld) -> None:
    """It comes between the changes between which it lies."""
    kafka_world.make_topic()
    kafka_world.write(1)
    kafka_world.write(0, op="t")
    kafka_world.write(2)
    reader = await kafka_world.started()
    await looped(lambda: reader.source.ready_rows == 3)
    batch = await reader.take()

    assert [Op.INSERT, Op.TRUNCATE, Op.INSERT] == [event.op for event in batch.events]


async def test_truncate_in_a_topic_of_several_partitions_stops(kafka_world: KafkaWorld) -> None:
    """It can't be ordered: what came before it in its partition is given out, then it says what to do."""
    kafka_world.make_topic(partitions=2)
    kafka_world.write(1)
    kafka_world.write(0, op="t")
    kafka_world.write(2)
    reader = await kafka_world.started()
    with pytest.raises(ReplicatorError) as caught:
        await reader.run()

    assert [1] == reader.applied
    assert "truncated" in caught.value.message
    assert f"{kafka_world.topic()}/0:1" in caught.value.message
    assert caught.value.hint
    assert "resync" in caught.value.hint


async def test_a_replay_is_passed_over_and_a_late_record_stops(kafka_world: KafkaWorld) -> None:
    """By `source.sequence`: what Debezium sends again is not applied again, what a frozen worker sends is refused."""
    kafka_world.make_topic()
    for key in (1, 2, 3, 2, 3, 4, 2, 5):
        kafka_world.write(key, sequence=[key, key])
    reader = await kafka_world.started()
    with pytest.raises(ReplicatorError) as caught:
        await reader.run()

    assert [1, 2, 3, 4] == reader.applied
    assert ErrorKind.LOG_LOST is caught.value.kind
    assert f"{kafka_world.topic()}/0:6" in caught.value.message


async def test_what_cannot_be_decoded_stops_after_what_came_before(kafka_world: KafkaWorld) -> None:
    """Everything before the record is given out, nothing behind it, however often one starts."""
    kafka_world.make_topic()
    kafka_world.write(1, 2)
    kafka_world.say({"kind": "change", "table": "not a table", "id": 1})
    kafka_world.write(3)
    reader = await kafka_world.started(decoder=Refusing())
    for _ in range(2):
        with pytest.raises(ReplicatorError) as caught:
            await reader.run()
        assert ErrorKind.DECODE is caught.value.kind
        assert [1, 2] == reader.applied
        await reader.source.start(None)


async def test_a_feed_with_a_copy_begins_at_the_end(kafka_world: KafkaWorld) -> None:
    """`mark_beginning` has partitions that exist then begin behind what they hold; later ones from their start."""
    kafka_world.make_topic(partitions=2)
    kafka_world.write(1, 2)
    reader = kafka_world.reader(ITEMS, ORDERS)
    await reader.member.target.take_over(1)
    await reader.source.mark_beginning([ITEMS, ORDERS])
    kafka_world.write(3)
    kafka_world.make_topic(ORDERS)
    kafka_world.write(4, table=ORDERS)
    await reader.source.mark_beginning([ITEMS, ORDERS])
    kafka_world.write(5, partition=1)
    kafka_world.write(6, table=ORDERS)

    await reader.source.start(None)

    assert [3, 5, 6] == sorted(await reader.apply(3))


async def test_lag_counts_what_is_not_applied(kafka_world: KafkaWorld) -> None:
    """Records of this process's partitions behind what the target has committed; unknown before there are any."""
    kafka_world.make_topic(partitions=2)
    reader = await kafka_world.started()
    kafka_world.write(1, 2, 3)
    assert (await reader.source.lag()).backlog_offsets in {None, 3}
    await looped(lambda: reader.source.ready_rows == 3)
    assert 3 == (await reader.source.lag()).backlog_offsets
    await reader.commit(await reader.take(rows_max=2))

    lag = await reader.source.lag()

    assert 1 == lag.backlog_offsets
    assert lag.retained_wal_bytes is None
