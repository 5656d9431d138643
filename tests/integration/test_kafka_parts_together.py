"""Broker, Connect with Debezium, and registry fit together."""

import contextlib
import http.client
import io
import json
import struct
from urllib.parse import urlsplit

import fastavro
import pytest
from confluent_kafka import Consumer

from replicator.demo.kafka_parts.debezium import Format
from replicator.demo.kafka_parts.rest import ConnectRest
from tests.fix_kafka import Kafka, MakeConnector
from tests.fix_postgres import Database


def first_value(bootstrap: str, topic: str) -> bytes:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        for _ in range(60):
            record = consumer.poll(1)
            if record is not None and record.error() is None:
                value = record.value()
                assert isinstance(value, bytes)
                return value
        pytest.fail(f"no event in {topic}")
    finally:
        consumer.close()


def decode_avro(value: bytes, registry: str) -> dict[str, object]:
    magic, number = struct.unpack(">bI", value[:5])
    assert 0 == magic
    address = urlsplit(f"{registry}/schemas/ids/{number}")
    with contextlib.closing(http.client.HTTPConnection(address.netloc)) as connection:
        connection.request("GET", address.path)
        schema = fastavro.parse_schema(json.loads(json.load(connection.getresponse())["schema"]))
    decoded = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
    assert isinstance(decoded, dict)
    return decoded


@pytest.mark.slow
def test_an_avro_event_of_debezium(
    kafka: Kafka, kafka_registry: str, make_connector: MakeConnector, old_database: Database, topic_prefix: str
) -> None:
    """A row that is inserted comes out of Kafka as Debezium's event, in Avro, with its schema in the registry."""
    old_database.execute("CREATE TABLE rows (id int PRIMARY KEY, price numeric)")
    make_connector(old_database, kind="avro", tables="public.rows")
    old_database.execute("INSERT INTO rows VALUES (1, 12.50)")
    event = decode_avro(first_value(kafka.bootstrap, f"{topic_prefix}.public.rows"), kafka_registry)
    assert ("c", {"id": 1, "price": "12.50"}) == (event["op"], event["after"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["json", "json_without_schema"])
def test_a_connector_that_is_stopped(
    kind: Format,
    *,
    kafka: Kafka,
    kafka_connect: ConnectRest,
    make_connector: MakeConnector,
    old_database: Database,
    topic_prefix: str,
) -> None:
    """A stopped connector goes on where it was, once resumed; its committed offset is told."""
    old_database.execute("CREATE TABLE rows (id int PRIMARY KEY)")
    name = make_connector(old_database, kind=kind, tables="public.rows")
    kafka_connect.pause(name)
    kafka_connect.stop(name)
    old_database.execute("INSERT INTO rows VALUES (7)")
    kafka_connect.resume(name)
    event = json.loads(first_value(kafka.bootstrap, f"{topic_prefix}.public.rows"))
    payload = event["payload"] if kind == "json" else event
    assert {"id": 7} == payload["after"]
    (committed,) = kafka_connect.offsets(name)
    assert {"server": topic_prefix} == committed["partition"]
