"""`plan` for a stream that is Kafka, asked of real parts: brokers, Debezium, registry, both databases."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from replicator.assess import Assessment, Level
from replicator.commands.plan import plan_lines
from replicator.config import KafkaStream, parse_connector
from replicator.daemon.checks import assess_connector, refuse_losses
from replicator.demo.kafka_parts.rest import ConnectRest
from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.admin import Admin
from replicator.kafka.facts import read_log
from replicator.kafka.logs import Log
from replicator.kafka.settings import client_settings, scrub_of
from replicator.kafka.topics import Topics
from replicator.tables import TableName
from tests.assessing import codes, found
from tests.documents import ROOT
from tests.fix_kafka import Kafka, MakeConnector
from tests.fix_postgres import Database, MakeDatabase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SHAPE = """
CREATE TABLE public.users (id int PRIMARY KEY, name text DEFAULT 'nobody', paid numeric, since timestamptz);
CREATE TABLE public.log (line text NOT NULL);
ALTER TABLE public.log REPLICA IDENTITY FULL;
"""


@pytest.fixture
def databases(make_database: MakeDatabase) -> tuple[Database, Database]:
    """Old and upgraded, of the same shape."""
    old, upgraded = make_database(), make_database()
    for one in (old, upgraded):
        one.execute(SHAPE)
    return old, upgraded


async def planned(databases: tuple[Database, Database], **stream: Any) -> Assessment:
    old, upgraded = databases
    settings = ", ".join(f"{key}: {value}" for key, value in stream.items())
    text = f"""
name: crm
old: {{dsn: "{old.dsn}"}}
upgraded: {{dsn: "{upgraded.dsn}"}}
stream: {{kind: kafka, {settings}}}
tables: [{{old: "public.*"}}]
"""
    return await assess_connector(parse_connector(text.encode(), Path("crm.yaml"), {}))


async def test_a_right_debezium_has_nothing_to_mend(
    kafka: Kafka,
    kafka_connect: ConnectRest,
    *,
    make_connector: MakeConnector,
    databases: tuple[Database, Database],
    topic_prefix: str,
) -> None:
    """What the guide asks for, on the real one; the topics come with the first events."""
    config = {
        "message.prefix.exclude.list": "replicator",
        "exactly.once.support": "required",
        "value.converter.replace.null.with.default": "false",
    }
    name = await asyncio.to_thread(make_connector, databases[0], tables="public.*", config=config)
    stream = {
        "bootstrap_servers": kafka.bootstrap,
        "format": "debezium-json",
        "topic_prefix": topic_prefix,
        "connect_url": kafka_connect.url,
        "connect_name": name,
    }
    made = await planned(databases, **stream)
    assert [] == [str(one) for one in made.stops]
    assert {"topics_missing"} == {one.code for one in made.findings if one.level is Level.WARN}
    text = "\n".join(plan_lines(made, notes=True))
    assert "public.users" in text
    assert "one key, one partition" in text


async def test_debeziums_defaults_are_refused(
    kafka: Kafka,
    kafka_connect: ConnectRest,
    *,
    make_connector: MakeConnector,
    databases: tuple[Database, Database],
    topic_prefix: str,
) -> None:
    """Each thing that would be lost is named, and a start refuses them all."""
    defaults = {
        "event.converting.failure.handling.mode": "warn",
        "include.unknown.datatypes": "false",
        "skipped.operations": "t",
        "decimal.handling.mode": "precise",
        "heartbeat.interval.ms": "0",
        "exactly.once.support": "requested",
        "message.prefix.exclude.list": "",
        "value.converter.replace.null.with.default": "true",
    }
    name = await asyncio.to_thread(make_connector, databases[0], tables="public.users", config=defaults)
    old, upgraded = databases
    text = f"""
name: crm
old: {{dsn: "{old.dsn}"}}
upgraded: {{dsn: "{upgraded.dsn}"}}
stream: {{kind: kafka, bootstrap_servers: "{kafka.bootstrap}", format: debezium-json, topic_prefix: {topic_prefix},
  connect_url: "{kafka_connect.url}", connect_name: {name}}}
tables: [{{old: "public.*"}}]
"""
    connector = parse_connector(text.encode(), Path("crm.yaml"), {})
    made = await assess_connector(connector)
    assert {
        "event.converting.failure.handling.mode",
        "skipped.operations",
        "decimal.handling.mode",
        "value.converter.replace.null.with.default",
        "table.include.list",
        "public.log",  # it has no key, and Debezium may write records twice
    } == {one.subject for one in made.losses}
    assert {"heartbeat.interval.ms", "message.prefix.exclude.list"} <= {one.subject for one in made.stops}
    with pytest.raises(ReplicatorError, match=r"table\.include\.list") as caught:
        await refuse_losses(connector)
    assert ErrorKind.CONFIG is caught.value.kind


async def test_topics_are_looked_at(real_kafka: Kafka, databases: tuple[Database, Database], topic_prefix: str) -> None:
    """Partitions, compaction, retention; for our capture there is nothing else to ask."""
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap})
    settings = {"cleanup.policy": "compact,delete", "retention.ms": "3600000"}
    asked = [
        NewTopic(f"{topic_prefix}.public.users", 3, 1, config=settings),
        NewTopic(f"{topic_prefix}.public.log", 2, 1),
    ]
    for answer in admin.create_topics(asked).values():
        await asyncio.wrap_future(answer)
    made = await planned(
        databases,
        bootstrap_servers=real_kafka.bootstrap,
        format="debezium-json",
        topic_prefix=topic_prefix,
        capture="{}",
    )
    assert "2 partitions" in found(made, "log_order").message
    assert "3600 s" in found(made, "log_retention").message
    assert "public.users" in found(made, "log_truncate").message
    assert {"log_compacted", "log_order"} <= codes(made)


async def test_whoever_is_absent_is_named(databases: tuple[Database, Database], unused_tcp_port_factory: Any) -> None:
    """Brokers, Connect and registry: the plan is made without them, and says so."""
    closed = [unused_tcp_port_factory() for _ in range(3)]
    made = await planned(
        databases,
        bootstrap_servers=f'"127.0.0.1:{closed[0]}"',
        format="debezium-avro",
        topic_prefix="old",
        connect_url=f'"http://127.0.0.1:{closed[1]}"',
        connect_name="crm",
        schema_registry=f'{{url: "http://127.0.0.1:{closed[2]}"}}',
    )
    assert {"log_unreachable", "connect_unreachable", "registry_unreachable"} <= codes(made)
    assert not made.losses


async def test_a_registry_that_answers_is_no_finding(
    kafka: Kafka, kafka_registry: str, databases: tuple[Database, Database], topic_prefix: str
) -> None:
    """Apicurio's, by Confluent's API."""
    made = await planned(
        databases,
        bootstrap_servers=kafka.bootstrap,
        format="debezium-avro",
        topic_prefix=topic_prefix,
        capture="{}",
        schema_registry=f'{{url: "{kafka_registry}"}}',
    )
    assert "registry_unreachable" not in codes(made)


async def test_the_composed_debezium_is_right_for_the_example(
    kafka: Kafka,
    kafka_connect: ConnectRest,
    kafka_registry: str,
    *,
    make_connector: MakeConnector,
    make_database: MakeDatabase,
    topic_prefix: str,
) -> None:
    """Debezium takes deploy/compose/debezium.json as it is, and the plan of the CRM example has nothing to mend."""
    old, upgraded = make_database(), make_database()
    for side, database in (("old", old), ("upgraded", upgraded)):
        for script in sorted((ROOT / "schemas" / "crm" / side).glob("*.sql")):
            database.execute(script.read_text())
    composed = json.loads((ROOT / "deploy" / "compose" / "debezium.json").read_text())
    ours = (
        "database.",
        "topic.prefix",
        "slot.name",
        "publication.name",
        "key.converter.schema",
        "value.converter.schema",
    )
    config = {key: value for key, value in composed.items() if not key.startswith(ours)}
    name = await asyncio.to_thread(make_connector, old, tables="public.*", kind="avro", config=config)
    text = (ROOT / "connectors" / "crm-debezium.yaml").read_text()
    text = text.replace("connect_name: crm", f"connect_name: {name}").replace("prefix: old", f"prefix: {topic_prefix}")
    environment = {
        "OLD_DSN": old.dsn,
        "UPGRADED_DSN": upgraded.dsn,
        "KAFKA_BOOTSTRAP": kafka.bootstrap,
        "SCHEMA_REGISTRY_URL": kafka_registry,
        "CONNECT_URL": kafka_connect.url,
    }
    connector = parse_connector(text.encode(), ROOT / "connectors" / "crm-debezium.yaml", environment)
    made = await assess_connector(connector)
    assert [] == [str(one) for one in made.stops]
    warned = {(one.code, one.subject) for one in made.findings if one.level is Level.WARN}
    expected = {("topics_missing", "Kafka"), ("debezium_values", "arrays")}
    assert expected == {one for one in warned if "topics" in one[0] or "debezium" in one[0]}


async def test_the_lag_is_what_is_not_yet_applied(kafka: Kafka, topic_prefix: str) -> None:
    """By the offsets that the target has; unknown before the feed has begun; a topic that is gone doesn't count."""
    section = (
        f"{{kind: kafka, bootstrap_servers: {kafka.bootstrap}, format: debezium-json, topic_prefix: {topic_prefix}}}"
    )
    text = f'name: crm\nold: {{dsn: host=a}}\nupgraded: {{dsn: host=b}}\nstream: {section}\ntables: [{{old: "a.*"}}]'
    stream = parse_connector(text.encode(), Path("crm.yaml"), {}).stream
    assert isinstance(stream, KafkaStream)
    topics = Topics(stream, [TableName("a", "b")])
    (topic,) = topics.tables
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(3):
        producer.produce(topic, str(number).encode())
    await asyncio.to_thread(producer.flush)
    scrub = scrub_of(stream)
    admin = Admin(client_settings(stream), scrub, Log(scrub))
    assert (await read_log(admin, topics, {})).lag is None
    found = await read_log(admin, topics, {(topic, 0): 1, ("gone", 0): 5})
    assert (2, [topic]) == (found.lag, list(found.topics))
