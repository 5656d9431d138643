"""The Kafka of demo and tests keeps what it promises."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from replicator.demo.kafka_parts.fetch import PartsError
from tests.fix_kafka import Kafka, MakeKafka, certificate
from tests.fix_require import missing
from tests.polling import wait_until
from tests.shared_parts import ROOT, borrow

SASL = {
    "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
    "listener.name.secure.plain.sasl.jaas.config": (
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="s3cret";'
    ),
}


def write(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert 0 == producer.flush(20)


def read(topic: str, count: int, settings: Mapping[str, str | float | bool]) -> list[bytes | None]:
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


@pytest.mark.slow
def test_a_listener_of_its_own(make_kafka: MakeKafka, tmp_path: Path, topic_prefix: str) -> None:
    """A further listener asks for TLS and a password, and turns away who hasn't both."""
    if shutil.which("openssl") is None:
        missing("openssl", "there is no openssl to make a certificate")
    settings, authority = certificate("secure", tmp_path)
    kafka = make_kafka(listeners={"SECURE": "SASL_SSL"}, settings=SASL | settings)
    write(kafka.bootstrap, topic_prefix, b"one")
    client: dict[str, str | int | float | bool] = {
        "bootstrap.servers": kafka.address("SECURE"),
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(authority),
        "sasl.mechanism": "PLAIN",
        "sasl.username": "app",
    }
    assert [b"one"] == read(topic_prefix, 1, client | {"sasl.password": "s3cret"})
    for wrong in ({"sasl.password": "guessed"}, {"security.protocol": "SASL_PLAINTEXT", "sasl.password": "s3cret"}):
        with pytest.raises(KafkaException):
            AdminClient({**client, **wrong}).list_topics(timeout=2)


@pytest.mark.slow
def test_a_broker_that_cannot_start_says_why(make_kafka: MakeKafka) -> None:
    """The error of a failed start holds the server's complaint; where the cause is gone, it starts."""
    kafka = make_kafka(start=False)
    with socket.create_server((kafka.host, kafka.port)), pytest.raises(PartsError, match="Address already in use"):
        kafka.start()
    kafka.start()
    assert kafka.running


SCRIPT = """
from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.fetch import Parts
server = KafkaServer(Parts.here())
server.start()
print(server.pid, server.home, flush=True)
input()
"""


@pytest.mark.slow
@pytest.mark.fault
def test_nothing_is_left_behind_by_a_killed_process(real_kafka: Kafka) -> None:
    """Even SIGKILL of the process that owns a broker ends the broker and removes its files."""
    owner = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, home = owner.stdout.readline().split()
    java = psutil.Process(int(pid))
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    wait_until(lambda: not java.is_running() and not Path(home).exists())


USER = """
import sys
from collections.abc import Mapping
from pathlib import Path
from tests.shared_parts import borrow
with borrow(Path(sys.argv[1]), "kafka") as address:
    print(address["bootstrap"], flush=True)
    input()
"""


@pytest.mark.slow
@pytest.mark.fault
def test_one_broker_for_all_workers(real_kafka: Kafka, tmp_path: Path, topic_prefix: str) -> None:
    """Several processes share one broker; it ends when the last has gone, killed or not, and may come again."""
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(tmp_path)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    addresses = {user.stdout.readline() for user in users if user.stdout is not None}
    assert 1 == len(addresses)
    server = psutil.Process(int((tmp_path / "kafka" / "pid").read_text()))
    users[0].kill()
    users[0].communicate()
    with borrow(tmp_path, "kafka") as address:
        assert addresses == {address["bootstrap"] + "\n"}
        users[1].communicate("\n")
        assert server.is_running()
    with borrow(tmp_path, "kafka") as address:  # the same, or one that waited for its end
        write(address["bootstrap"], topic_prefix, b"one")
    wait_until(lambda: not server.is_running())
