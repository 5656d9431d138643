"""The Kafka of demo and tests keeps what it promises."""

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.fix_kafka import Kafka, MakeKafka


def write(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert 0 == producer.flush(20)


def read(topic: str, count: int, settings: dict[str, str]) -> list[bytes | None]:
    consumer = Consumer({"group.id": topic, "auto.offset.reset": "error", **settings})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        records: list[bytes | None] = []
        while len(records) < count:
            record = consumer.poll(20)
            assert record is not None, f"{len(records)} of {count} records"
            assert record.error() is None
            records.append(record.value())
        return records
    finally:
        consumer.close()


def test_a_broker_for_every_test(kafka: Kafka, topic_prefix: str) -> None:
    """What is written to the broker, real or mock, is read from it."""
    write(kafka.bootstrap, topic_prefix, b"one", b"two")
    assert [b"one", b"two"] == read(topic_prefix, 2, {"bootstrap.servers": kafka.bootstrap})


@pytest.mark.slow
@pytest.mark.fault
def test_a_broker_comes_back_with_its_data(make_kafka: MakeKafka, topic_prefix: str) -> None:
    """Stopped or killed, the same broker starts again on its port with everything that it acknowledged."""
    kafka = make_kafka()
    write(kafka.bootstrap, topic_prefix, b"one")
    before = kafka.bootstrap
    kafka.stop()
    assert not kafka.running
    kafka.start()
    write(kafka.bootstrap, topic_prefix, b"two")
    kafka.kill()
    kafka.start()
    assert before == kafka.bootstrap
    assert [b"one", b"two"] == read(topic_prefix, 2, {"bootstrap.servers": kafka.bootstrap})
