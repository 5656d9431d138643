"""The drain proof where it is hardest: Debezium's last write on one partition is acknowledged after the marker."""

import contextlib
import json
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # exported, not in __all__

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.connect import ConnectServer
from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.pins import JAVA_MIN
from replicator.demo.kafka_parts.rest import ConnectRest
from tests.fix_capture import read_all
from tests.fix_kafka import DEBEZIUM, Kafka, lacking
from tests.fix_pipeline import MakePipeline, Pipeline
from tests.fix_proxy import TcpProxy
from tests.fix_require import missing
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

PRODUCERS = "PRODUCERS"
"""The listener of whoever writes; readers use the plain one."""
MARKED = """SELECT 1 FROM pg_stat_activity WHERE datname = %s AND application_name LIKE '%%/status/source%%'
    AND state = 'idle'"""
"""Whether `replicator wait` has its mark on the old side."""


class SecondBroker(KafkaServer):
    """A broker in the cluster of a first one, which controls it. Producers reach it by `way` alone."""

    def __init__(self, first: KafkaServer) -> None:
        controller = {"controller.quorum.voters": f"1@{first.address('CONTROLLER')}"}
        super().__init__(
            Parts.here(),
            listeners={PRODUCERS: "PLAINTEXT"},
            settings={"process.roles": "broker", "node.id": "2", **controller},
        )
        self.cluster_id = first.cluster_id
        names = ("PLAINTEXT", PRODUCERS)
        self._settings["listeners"] = ",".join(f"{name}://{self.address(name)}" for name in names)
        self.way = TcpProxy(self.port_of(PRODUCERS))
        self.advertised[PRODUCERS] = f"{self.way.host}:{self.way.port}"

    def close(self) -> None:
        self.way.close()
        super().close()


@pytest.fixture(scope="module")
def first() -> Iterator[KafkaServer]:
    if reason := lacking(JAVA_MIN, *DEBEZIUM):
        missing("debezium", reason)
    with KafkaServer(Parts.here(), listeners={PRODUCERS: "PLAINTEXT"}) as server:
        yield server


@pytest.fixture(scope="module")
def kafka(first: KafkaServer) -> Kafka:
    """In place of the broker that all tests share."""
    return Kafka(first.bootstrap, mock=False)


@pytest.fixture(scope="module")
def kafka_connect(first: KafkaServer) -> Iterator[ConnectRest]:
    """A worker without transactions: those would hide a partition's records from readers until all are there."""
    with ConnectServer(Parts.here(), first.address(PRODUCERS), exactly_once=False) as worker:
        yield worker.rest


@pytest.fixture
def second(first: KafkaServer, kafka_connect: ConnectRest) -> Iterator[SecondBroker]:
    """It joins when Connect's own topics are there: they lie on the first one."""
    del kafka_connect
    with contextlib.closing(SecondBroker(first)) as server:
        server.start()
        yield server


def partition_of(made: Pipeline) -> dict[int, int]:
    """The partition of each row, as its records lie."""
    records = read_all(made.bootstrap, [f"{made.prefix}.public.parts"])
    return {json.loads(one.key() or b"")["payload"]["id"]: one.partition() or 0 for one in records}


def test_the_last_write_is_acknowledged_after_the_marker(
    pipeline: MakePipeline, second: SecondBroker, topic_prefix: str
) -> None:
    """While one partition's leader takes no writes, everything later is applied, and `wait` doesn't return; when it
    does, the late row is there.
    """
    prefix = f"{topic_prefix}_0"
    admin = AdminClient({"bootstrap.servers": second.bootstrap})
    topics = {f"{prefix}.public.parts": [[1], [2]], f"__debezium-heartbeat.{prefix}": [[1]]}
    made_topics = [NewTopic(name, len(leaders), replica_assignment=leaders) for name, leaders in topics.items()]
    for answer in admin.create_topics(made_topics).values():
        answer.result(30)
    made = pipeline("debezium-json", "CREATE TABLE parts (id int PRIMARY KEY, n int)", stream="heartbeat_interval: 1s")
    assert prefix == made.prefix
    shop, old = made.shop, made.shop.old
    shop.streaming()
    old.execute("INSERT INTO parts SELECT n, 0 FROM generate_series(1, 20) n")
    shop.catch_up()
    held = partition_of(made)
    assert {0, 1} == set(held.values())
    fast, slow = (next(key for key, partition in held.items() if partition == wanted) for wanted in (0, 1))

    def write(key: int, number: int) -> None:
        old.execute("UPDATE parts SET n = %s WHERE id = %s", [number, key])

    def applied(key: int, number: int) -> bool:
        return shop.upgraded.execute("SELECT n FROM parts WHERE id = %s", [key]) == [(number,)]

    second.way.stall("to_server")
    write(slow, 1)
    write(fast, 1)
    wait_until(lambda: applied(fast, 1), 60)
    waiting = shop.command("wait", "FILE", "--for", "caught-up", "--timeout", "120s")
    wait_until(lambda: old.execute(MARKED, [old.name]), 60)
    for number in (2, 3):  # each of them behind the marker, by two beats of the daemon
        write(fast, number)
        wait_until(lambda number=number: applied(fast, number), 60)  # type: ignore[misc]  # a default
    assert waiting.running, waiting.story()
    assert applied(slow, 0)

    second.way.resume()
    assert 0 == waiting.wait(120), waiting.story()
    assert applied(slow, 1)
    shop.catch_up()
    shop.same_tables("parts")
