"""A migration by any way that a change can take from the old database: its slot, our capture, or the real Debezium.

`pipeline(way, schema)` is `migrate` by that way: the connector's section is written, and the topics have a producer,
which runs when this returns: what is written on the old side from then on gets into them. Each pipeline has topics, a
consumer group and a name of its own on the shared broker, so that several can read one old database. Where Java,
Debezium or the registry are missing, a test of that way is skipped, or fails: see fix_require.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # exported, not in __all__

from replicator.demo.kafka_parts.debezium import Format
from replicator.demo.kafka_parts.rest import ConnectRest
from tests.fix_kafka import Kafka, MakeConnector
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database, MakeDatabase
from tests.fix_replicator import ReplicatorProcess

Way = Literal[
    "slot",
    "capture-json",
    "capture-json-without-schema",
    "capture-avro",
    "debezium-json",
    "debezium-json-without-schema",
    "debezium-avro",
]
WAYS: tuple[Way, ...] = get_args(Way)
KINDS: Mapping[str, Format] = {"json": "json", "json-without-schema": "json_without_schema", "avro": "avro"}


@dataclass
class Pipeline:
    """One migration, and what fills its topics.

    Attributes:
        way: how changes travel.
        shop: the migration.
        prefix: of its topics.
        bootstrap: the broker, as the connector is told.
        connector: Debezium's name in Kafka Connect; None for the other ways.
        captures: our captures' processes, the running one last.

    """

    way: Way
    shop: Migration
    prefix: str
    bootstrap: str
    connector: str | None = None
    captures: list[ReplicatorProcess] = field(default_factory=list)

    @property
    def topics(self) -> set[str]:
        """Those of its tables that exist."""
        found = AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=10).topics
        return {name for name in found if name.startswith(f"{self.prefix}.") and not name.endswith(".transaction")}

    def capture(self) -> ReplicatorProcess:
        """Start `replicator capture`; returns once it reads the slot."""
        process = self.shop.command("capture", "FILE", "--listen", "127.0.0.1:0")
        self.captures.append(process)
        process.wait_for_log("capturing", 60)
        return process


class MakePipeline(Protocol):
    """Beside what `migrate` takes.

    captured: Debezium's `table.include.list`.
    partitions: of each topic, but of those of the tables in `single`.
    stream: more of the connector's section, as YAML.
    config: of Debezium's connector, over that of `fix_kafka.make_connector`.
    bootstrap: what the daemon is told, when it isn't the broker itself (a proxy).
    """

    def __call__(
        self,
        way: Way,
        schema: str = "",
        *,
        old: Database | None = None,
        old_schema: str = "",
        captured: str = ...,
        partitions: int = 1,
        single: Collection[str] = (),
        options: str = "",
        stream: str = "",
        config: Mapping[str, str] | None = None,
        bootstrap: str | None = None,
        **more: Any,
    ) -> Pipeline: ...


def topic_settings(partitions: int) -> dict[str, str]:
    """Settings by which Kafka Connect makes a connector's topics so."""
    return {
        "topic.creation.default.partitions": str(partitions),
        "topic.creation.default.replication.factor": "1",
    }


@pytest.fixture
def pipeline(
    request: pytest.FixtureRequest, migrate: Migrate, make_database: MakeDatabase, topic_prefix: str
) -> MakePipeline:
    """Make migrations by any way."""
    made: list[Pipeline] = []

    def make(
        way: Way,
        schema: str = "",
        *,
        old: Database | None = None,
        old_schema: str = "",
        captured: str = r"public\..*",
        partitions: int = 1,
        single: Collection[str] = (),
        options: str = "",
        stream: str = "",
        config: Mapping[str, str] | None = None,
        bootstrap: str | None = None,
        **more: Any,
    ) -> Pipeline:
        old = old or make_database()
        for sql in (schema, old_schema):
            if sql:
                old.execute(textwrap.dedent(sql))
        producer, _, kind = way.partition("-")
        prefix = f"{topic_prefix}_{len(made)}"
        more.setdefault("name", prefix)
        more["upgraded_schema"] = schema + more.get("upgraded_schema", "")
        if producer == "slot":
            section: list[str] = []
        else:
            kafka: Kafka = request.getfixturevalue("real_kafka")
            bootstrap = bootstrap or kafka.bootstrap
            section = [
                "stream:",
                "  kind: kafka",
                f'  bootstrap_servers: "{bootstrap}"',
                f"  topic_prefix: {prefix}",
                f"  format: debezium-{'avro' if kind == 'avro' else 'json'}",
            ]
            if kind == "avro":
                section.append(f"  schema_registry: {{url: {request.getfixturevalue('kafka_registry')}}}")
            if single:
                topics = [NewTopic(f"{prefix}.{table}", 1, 1) for table in single]
                admin = AdminClient({"bootstrap.servers": bootstrap})  # held until the answers are there
                for answer in admin.create_topics(topics).values():
                    answer.result(20)
        connector: str | None = None
        if producer == "debezium":
            make_connector: MakeConnector = request.getfixturevalue("make_connector")
            connect: ConnectRest = request.getfixturevalue("kafka_connect")
            settings = {"topic.prefix": prefix, **topic_settings(partitions), **(config or {})}
            connector = make_connector(old, kind=KINDS[kind], tables=captured, config=settings)
            section += [f'  connect_url: "{connect.url}"', f"  connect_name: {connector}"]
        elif producer == "capture":
            schemas = str(kind != "json-without-schema").lower()
            section.append(f"  capture: {{schemas: {schemas}, partitions: {partitions}}}")
        if section:
            section.append(textwrap.indent(textwrap.dedent(stream).strip(), "  "))
        text = "\n".join([*section, textwrap.dedent(options)])
        found = Pipeline(way, migrate(old=old, options=text, **more), prefix, bootstrap or "", connector)
        made.append(found)
        if producer == "capture":
            found.capture()
        return found

    return make
