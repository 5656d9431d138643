"""A real Kafka for the tests, shared by all workers of a run; without Java or the parts, librdkafka's mock cluster.

How to use it:

- `kafka` is a broker: `kafka.bootstrap`. Topics of other tests are on it, so begin every topic, group and
  transactional id with `topic_prefix`, which is fresh in each test. Nobody may stop this broker. Topics are made when
  first written to (one partition), or with `AdminClient.create_topics`.
- `real_kafka` is the same for a test that needs what the mock lacks (transactions across restarts, ACLs, log
  deletion, admin requests, more than 5 MB a partition): skipped where there is only the mock.
- `make_kafka()` starts a broker for this test alone, to be stopped, killed, frozen or set up otherwise: settings,
  further listeners (`listeners={"SCRAM": "SASL_PLAINTEXT"}`, `.address("SCRAM")`; `certificate` is for TLS), an
  address to advertise in its place (a proxy's: make it with `start=False`, set `.advertised["PLAINTEXT"]`, then
  `.start()`). Two seconds each; five after a kill. Every broker has a cluster id of its own.
- `kafka_registry` is the URL of a registry (Apicurio with Confluent's interface), shared; `kafka_connect` is the
  client of a shared Connect worker with Debezium, on the broker of `kafka`.
- `make_connector(database, kind="avro", tables="public.rows")` makes Debezium stream from a test's database into
  topics below `topic_prefix`, and returns the connector's name once its task runs; the slot is there by then, and what
  is written from then on is streamed. Connector and slot are gone after the test. `config=` overrides;
  `kafka_connect` pauses, stops and resumes it, tells its offsets.
- What one test wants of Connect or the registry for itself, it builds: `ConnectServer(Parts.here(), bootstrap)`,
  `RegistryServer(Parts.here())`, as context managers.

All three are up six seconds after the first test asks. Their logs stay in pytest's temporary directory:
kafka/log, connect/log, registry/log.

The parts come by `make parts`, into the user's cache. REPLICATOR_REQUIRE=kafka,debezium,registry makes their absence
a failure. The classes are in replicator/demo/kafka_parts; their methods block, so a test with a loop calls them by
`asyncio.to_thread`.
"""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import Producer

from replicator.demo.kafka_parts import broker
from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.connect import PLUGINS
from replicator.demo.kafka_parts.debezium import Format, converters, source_config
from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.java import find_java
from replicator.demo.kafka_parts.pins import JAVA_MIN, REGISTRY_JAVA_MIN, Component
from replicator.demo.kafka_parts.rest import ConnectRest
from tests.fix_postgres import Database, MakeDatabase
from tests.fix_require import missing, promised
from tests.shared_parts import borrow

DEBEZIUM: tuple[Component, ...] = ("kafka", *PLUGINS)


@dataclass(frozen=True, slots=True)
class Kafka:
    """Where the broker is. `mock` is librdkafka's, in this process."""

    bootstrap: str
    mock: bool


class MakeKafka(Protocol):
    def __call__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, broker.Protocol] | None = None,
        start: bool = True,
    ) -> KafkaServer: ...


class MakeConnector(Protocol):
    def __call__(
        self,
        database: Database,
        *,
        tables: str,
        kind: Format = "json",
        config: Mapping[str, str] | None = None,
    ) -> str: ...


def lacking(java: int, *components: Component) -> str | None:
    """Return why the real part can't be had here, or None."""
    if find_java(java) is None:
        return f"no Java {java} or later"
    absent = [component for component in components if not Parts.here().has(component)]
    return f"{', '.join(absent)} not fetched (make parts)" if absent else None


def certificate(listener: str, folder: Path) -> tuple[dict[str, str], Path]:
    """Return the settings that give a listener (in lower case) TLS, and its certificate, which is its own authority.

    They are made by openssl, in this folder, for 127.0.0.1 and localhost.
    """
    key, chain = folder / "kafka.key", folder / "kafka.crt"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-addext", names]
    subprocess.run([*request, "-days", "2", "-keyout", key, "-out", chain], check=True, capture_output=True)
    store = f"listener.name.{listener}.ssl.keystore"
    settings = {
        f"{store}.type": "PEM",
        f"{store}.key": key.read_text(),
        f"{store}.certificate.chain": chain.read_text(),
    }
    return settings, chain


def pytest_report_header() -> str:
    """Say once which parts are real."""
    kafka = lacking(JAVA_MIN, "kafka")
    debezium = lacking(JAVA_MIN, *DEBEZIUM)
    registry = lacking(REGISTRY_JAVA_MIN, "registry")
    return (
        f"kafka: {'real' if kafka is None else f'mock cluster, {kafka}'}"
        f"; debezium: {debezium or 'real'}; registry: {registry or 'real'}"
    )


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A directory that all workers of this run know."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture(scope="session")
def kafka(shared_folder: Path) -> Iterator[Kafka]:
    """A broker that all tests share: begin every name with `topic_prefix`."""
    reason = lacking(JAVA_MIN, "kafka")
    if reason is None:
        with borrow(shared_folder, "kafka") as address:
            yield Kafka(address["bootstrap"], mock=False)
    elif promised("kafka"):
        missing("kafka", reason)
    else:
        cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": ""})
        (node,) = cluster.list_topics(timeout=10).brokers.values()
        yield Kafka(f"{node.host}:{node.port}", mock=True)
        cluster.flush()


@pytest.fixture
def real_kafka(kafka: Kafka) -> Kafka:
    """The shared broker, where it is a real one."""
    if kafka.mock:
        missing("kafka", lacking(JAVA_MIN, "kafka") or "only the mock cluster is here")
    return kafka


@pytest.fixture
def topic_prefix() -> str:
    """What the names of this test begin with: topics, groups, transactional ids."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def make_kafka() -> Iterator[MakeKafka]:
    """Make a broker for this test alone."""
    if reason := lacking(JAVA_MIN, "kafka"):
        missing("kafka", reason)
    with contextlib.ExitStack() as made:

        def make(
            *,
            settings: Mapping[str, str] | None = None,
            listeners: Mapping[str, broker.Protocol] | None = None,
            start: bool = True,
        ) -> KafkaServer:
            server = KafkaServer(Parts.here(), settings=settings, listeners=listeners)
            made.callback(server.close)
            if start:
                server.start()
            return server

        yield make


@pytest.fixture(scope="session")
def kafka_registry(shared_folder: Path) -> Iterator[str]:
    """The URL of a registry that all tests share (its subjects are named by topic)."""
    if reason := lacking(REGISTRY_JAVA_MIN, "registry"):
        missing("registry", reason)
    with borrow(shared_folder, "registry") as address:
        yield address["url"]


@pytest.fixture(scope="session")
def kafka_connect(shared_folder: Path, kafka: Kafka) -> Iterator[ConnectRest]:
    """The client of a Connect worker that all tests share, on the broker of `kafka`."""
    if reason := lacking(JAVA_MIN, *DEBEZIUM):
        missing("debezium", reason)
    with borrow(shared_folder, "connect") as address:
        yield ConnectRest(address["url"])


@pytest.fixture
def make_connector(
    request: pytest.FixtureRequest,
    kafka_connect: ConnectRest,
    topic_prefix: str,
    make_database: MakeDatabase,  # so that the databases go after the connectors
) -> Iterator[MakeConnector]:
    """Make Debezium connectors on this test's databases; they are gone afterwards, and the slots with the databases."""
    made: list[str] = []

    def make(
        database: Database,
        *,
        tables: str,
        kind: Format = "json",
        config: Mapping[str, str] | None = None,
    ) -> str:
        registry: str | None = request.getfixturevalue("kafka_registry") if kind == "avro" else None
        name = f"{topic_prefix}_{len(made)}"
        made.append(name)
        source = source_config(database.dsn, prefix=topic_prefix, tables=tables, slot=name, publication=name)
        kafka_connect.create(name, source | converters(kind, registry) | dict(config or {}))
        return name

    yield make
    for name in made:
        kafka_connect.delete(name)
