"""What a feed by Kafka reads from breaks under load (broker, network, registry, Connect): it waits, and goes on."""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.connect import ConnectServer
from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.pins import JAVA_MIN
from replicator.demo.kafka_parts.rest import ConnectRest
from tests.churn import COUNTED, TABLES, Churn, assert_equal_and_once, churning, fill
from tests.fix_kafka import DEBEZIUM, Kafka, lacking
from tests.fix_migration import Migration
from tests.fix_pipeline import MakePipeline
from tests.fix_proxy import MakeProxy, TcpProxy
from tests.fix_require import missing
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

QUICK = "apply: {retry: {initial: 50ms, max: 500ms}}"
SEED = 11
ONCE = {"exactly.once.support": "required"}
"""Without it `plan` refuses tables that have no key."""


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaServer]:
    """A broker that these tests may kill, with a second listener that is advertised at a proxy's address."""
    if reason := lacking(JAVA_MIN, "kafka"):
        missing("kafka", reason)
    with contextlib.closing(KafkaServer(Parts.here(), listeners={"PROXIED": "PLAINTEXT"})) as server:
        yield server


@pytest.fixture(scope="module")
def network(broker: KafkaServer) -> Iterator[TcpProxy]:
    """The way to that broker; it runs from then on."""
    with contextlib.closing(TcpProxy(broker.port_of("PROXIED"))) as proxy:
        broker.advertised["PROXIED"] = f"{proxy.host}:{proxy.port}"
        broker.start()
        yield proxy


@pytest.fixture(scope="module")
def kafka(broker: KafkaServer, network: TcpProxy) -> Kafka:
    """In place of the broker that all tests share."""
    del network  # it runs
    return Kafka(broker.bootstrap, mock=False)


@pytest.fixture
def registry(kafka_registry: str, make_proxy: MakeProxy) -> TcpProxy:
    """A way to the registry that can be cut."""
    return make_proxy(urlsplit(kafka_registry).port or 80)


@pytest.fixture(scope="module")
def worker(kafka: Kafka) -> Iterator[ConnectServer]:
    """A worker of Kafka Connect that these tests may kill."""
    if reason := lacking(JAVA_MIN, *DEBEZIUM):
        missing("debezium", reason)
    with ConnectServer(Parts.here(), kafka.bootstrap) as server:
        yield server


@pytest.fixture(scope="module")
def kafka_connect(worker: ConnectServer) -> ConnectRest:
    """In place of the worker that all tests share."""
    return worker.rest


def applied(shop: Migration) -> int:
    """Transactions that the upgraded side has."""
    ((count,),) = shop.upgraded.execute("SELECT count(*) FROM watch.counted")
    return int(count)


def go_on(shop: Migration, churn: Churn) -> None:
    """Write more, and return once some of it has arrived."""
    churn.write_more(20)
    ((written,),) = shop.old.execute("SELECT count(*) FROM ledger")
    wait_until(lambda: applied(shop) >= written or shop.failures(), 90)
    assert not shop.failures()


def test_broker_network_and_registry(
    pipeline: MakePipeline, broker: KafkaServer, network: TcpProxy, registry: TcpProxy
) -> None:
    """The broker is killed and comes back; the network is cut in the middle of fetches; the registry is away when a new
    schema is needed, which is said, and nothing behind it is applied. All goes on by itself, whole and once.
    """
    made = pipeline(
        "capture-avro",
        old_schema=TABLES,
        upgraded_schema=TABLES + COUNTED,
        partitions=2,
        single=["public.bag"],
        options=QUICK,
    )
    shop, old = made.shop, made.shop.old
    fill(old, 500)
    text = shop.connector.read_text().replace(broker.bootstrap, f"{network.host}:{network.port}")
    shop.connector.write_text(text.replace(f":{registry.server[1]}", f":{registry.port}"))  # only the daemon's way
    daemon = shop.streaming()
    with churning(old, SEED, pause=0.02) as churn:
        go_on(shop, churn)
        broker.kill()
        churn.write_more(40)
        broker.start()
        go_on(shop, churn)

        random = "(SELECT string_agg(md5(random()::text || n || m), '') FROM generate_series(1, 600) m)"
        for number in range(1, 4):
            network.cut_after(300_000)
            old.execute(f"UPDATE accounts SET note = {random} FROM generate_series(1, 300) n WHERE id = n")
            wait_until(lambda number=number: network.cuts == number, 60)  # type: ignore[misc]  # a default
        go_on(shop, churn)

        registry.cut(refuse=True)
        for side in (shop.upgraded, old):
            side.execute("ALTER TABLE accounts ADD COLUMN late int DEFAULT 0")
        old.execute("UPDATE accounts SET late = id WHERE id <= 200")
        waiting = daemon.wait_for_log("waiting for the schema registry", 60)
        assert "connection" == waiting["error_kind"]
        assert "nothing is lost" in waiting["hint"]
        churn.write_more(20)
        assert [] == shop.upgraded.execute("SELECT 1 FROM accounts WHERE late > 0")
        registry.resume()
        daemon.wait_for_log("the schema registry answers again", 60)
        go_on(shop, churn)
    shop.catch_up()

    assert_equal_and_once(shop)


def test_connect(pipeline: MakePipeline, worker: ConnectServer) -> None:
    """Debezium's worker is killed, and then restarted in good order, while the feed runs: whole, and once."""
    made = pipeline("debezium-json", old_schema=TABLES, upgraded_schema=TABLES + COUNTED, options=QUICK, config=ONCE)
    shop, old = made.shop, made.shop.old
    fill(old, 500)
    shop.streaming()
    with churning(old, SEED, pause=0.02) as churn:
        go_on(shop, churn)
        for end in (worker.kill, worker.stop):
            end()
            churn.write_more(40)
            worker.start()
            go_on(shop, churn)
    shop.catch_up()

    assert_equal_and_once(shop)
