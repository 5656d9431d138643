"""The capture's records beside Debezium's, field by field, on the same statements.

What differs is named in `as_ours`, each with its reason; docs/operations.md tells the same to readers.
"""

import functools
import io
import json
import re
import urllib.request
from typing import Any, get_args

import fastavro
import pytest
from confluent_kafka import Message

from replicator.demo.kafka_parts.debezium import Format
from tests.connector_files import write_connector
from tests.fix_capture import read_all
from tests.fix_kafka import Kafka, MakeConnector
from tests.fix_postgres import Database
from tests.fix_replicator import StartReplicator
from tests.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FORMATS: tuple[Format, ...] = get_args(Format)
TABLES = """
CREATE TABLE items (
    id int PRIMARY KEY, body text, price numeric(10,2), at timestamptz, flag boolean NOT NULL DEFAULT true);
CREATE TABLE places (street text, town text, n int, PRIMARY KEY (town, street));
CREATE TABLE bag (v int, t text);
ALTER TABLE bag REPLICA IDENTITY FULL;
CREATE TABLE "Odd name$" (id uuid PRIMARY KEY, "Big Column" text);
"""
STATEMENTS = """
INSERT INTO items VALUES (1, 'a', 1.50, '2024-02-29 12:00:00.123456+00', true), (2, NULL, NULL, NULL, false);
UPDATE items SET body = 'b' WHERE id = 1;
BEGIN; UPDATE items SET id = 3 WHERE id = 1; INSERT INTO places VALUES ('High', 'Bath', 1); COMMIT;
UPDATE places SET town = 'York';
DELETE FROM items WHERE id = 2;
BEGIN; INSERT INTO bag VALUES (1, 'x'), (1, 'x'); UPDATE bag SET v = 2; DELETE FROM bag; COMMIT;
INSERT INTO "Odd name$" VALUES ('6f2b7f6e-6c5e-4d0a-9d5e-0b8a1f7f2c11', 'ü');
SELECT pg_logical_emit_message(true, 'app', 'told');
BEGIN; SELECT pg_logical_emit_message(true, 'app', 'in'); INSERT INTO items VALUES (9, 'm', 0, NULL, true); COMMIT;
SELECT pg_logical_emit_message(false, 'app', 'outside');
TRUNCATE places, bag;
ALTER TABLE items ADD n bigint;
INSERT INTO items VALUES (10, 'n', 1, NULL, true, 7);
INSERT INTO items VALUES (99, 'last', 1, NULL, true, 7);
"""
COLUMN_NAME = "__debezium.source.column.name"
PREFIX = re.compile(r"\bt[0-9a-f]{12}[cd]\d\b\.?")
"""Of the topics: each has its own here."""
MARKS = 24  # of twelve transactions
TOPICS = ("public.items", "public.places", "public.bag", "public.Odd_name_", "message", "transaction")
DEBEZIUM = {
    "decimal.handling.mode": "string",
    "interval.handling.mode": "string",
    "include.unknown.datatypes": "true",
    "provide.transaction.metadata": "true",
    "skipped.operations": "none",
}


def told(message: Message, registry: str | None) -> dict[str, Any]:
    """A record as data: key, value and the key headers, each as its schema (where there is one) and its content."""
    key, value = message.key(), message.value()
    given: list[Any] = list(message.headers() or ())
    headers = {name: content for name, content in given if not name.startswith("__debezium.context")}
    return {
        "topic": (message.topic() or "").partition(".")[2],
        "key": parts(key, registry)[1],
        "value": parts(value, registry)[1],
        "headers": headers,
        "schemas": [parts(key, registry)[0], parts(value, registry)[0]],
    }


def parts(data: Any, registry: str | None) -> tuple[Any, Any]:
    """Schema and content of a key or value; with the URL of a registry, of Avro in Confluent's framing."""
    if data is None:
        return None, None
    if registry is not None:
        schema = schema_of(registry, int.from_bytes(data[1:5]))
        return schema, fastavro.schemaless_reader(io.BytesIO(data[5:]), schema, None)
    content = json.loads(data)
    return (content["schema"], content["payload"]) if content.keys() == {"schema", "payload"} else (None, content)


@functools.cache
def schema_of(registry: str, number: int) -> Any:
    """As the registry has it."""
    with urllib.request.urlopen(f"{registry}/schemas/ids/{number}", timeout=20) as answer:  # noqa: S310 - the tests' own
        return json.loads(json.load(answer)["schema"])


Told = dict[str, dict[str, list[dict[str, Any]]]]


@pytest.fixture
def both(  # noqa: PLR0917 - fixtures
    old_database: Database,
    real_kafka: Kafka,
    kafka_registry: str,
    make_connector: MakeConnector,
    topic_prefix: str,
    replicator_process: StartReplicator,
    tmp_path: Any,
) -> dict[Format, Told]:
    """By format and topic: what Debezium wrote, and what we wrote. Six producers read the same log at once."""
    old_database.execute(TABLES)
    captures = []
    for at, kind in enumerate(FORMATS):
        prefix = f"{topic_prefix}d{at}"
        config = {**DEBEZIUM, "topic.prefix": prefix}
        make_connector(old_database, tables=r"public\..*", kind=kind, config=config)
        mine = f"{topic_prefix}c{at}"
        stream: dict[str, Any] = {
            "kind": "kafka",
            "bootstrap_servers": real_kafka.bootstrap,
            "format": "debezium-avro" if kind == "avro" else "debezium-json",
            "topic_prefix": mine,
            "capture": {"schemas": kind == "json"},
        }
        if kind == "avro":
            stream["schema_registry"] = {"url": kafka_registry}
        file = write_connector(tmp_path, old_database, old_database, name=mine, stream=stream)
        captures.append(replicator_process(["capture", str(file), "--listen", "127.0.0.1:0"]))
    for capture in captures:
        capture.wait_for_log("streaming", 90)
    with old_database.connect(autocommit=True) as session:
        for line in STATEMENTS.strip().splitlines():
            for statement in line.split(";"):
                if statement.strip():
                    session.execute(statement)
    found: dict[Format, Told] = {}
    for at, kind in enumerate(FORMATS):
        registry = kafka_registry if kind == "avro" else None
        found[kind] = {
            who: written(real_kafka, f"{topic_prefix}{letter}{at}", registry)
            for who, letter in (("debezium", "d"), ("capture", "c"))
        }
    for capture in captures:
        capture.terminate()
        capture.wait()
    return found


def written(kafka: Kafka, prefix: str, registry: str | None) -> dict[str, list[dict[str, Any]]]:
    """By topic, once everything is there."""
    last = b'"last"' if registry is None else b"\x08last"

    def arrived() -> bool:
        return any(last in (one.value() or b"") for one in read_all(kafka.bootstrap, [f"{prefix}.public.items"]))

    wait_until(arrived, 90)
    wait_until(lambda: len(read_all(kafka.bootstrap, [f"{prefix}.transaction"])) >= MARKS, 60)
    return {
        topic: [told(one, registry) for one in read_all(kafka.bootstrap, [f"{prefix}.{topic}"])] for topic in TOPICS
    }


def as_ours(record: dict[str, Any], first: list[int]) -> dict[str, Any] | None:
    """A record of either without what differs; None for one that we don't write.

    Args:
        record: either's.
        first: ids of the first two transactions.

    """
    value = record["value"]
    if value is None:
        # A tombstone without key says nothing, and a compacted topic refuses it: Debezium writes it, we don't.
        return None if record["key"] is None else record
    if "status" in value:
        return _mark(record)
    for name in ("ts_ms", "ts_us", "ts_ns"):  # when it was encoded
        value.pop(name, None)
    if value.get("op") == "d" and value["source"]["table"] == "items":
        # Nobody knows more than the key of what was there. Where NULL isn't allowed, something else must stand in its
        # place: Debezium takes the column's default, we what a column without default has at both.
        assert value["before"].pop("flag") in {True, False}
    assert value.pop("exact", None) is None  # of our own, where records have schemas: see docs/operations.md
    source = value["source"]
    source.pop("version")  # whose record it is
    source.pop("name")  # the topics' prefix, of which each has its own here
    # Debezium's is null for changes of the stream; the schema's default, which readers with schemas see, is "false".
    source["snapshot"] = source["snapshot"] or "false"
    if source["txId"] is None:  # a message outside of transactions has no commit, and so no time
        for name in ("ts_ms", "ts_us", "ts_ns"):
            source.pop(name)
    # Before its first commit Debezium knows none; we begin with what the log says, so that a restart writes the same.
    if source["sequence"] is not None:
        source["sequence"] = json.loads(source["sequence"])[1:] if source["txId"] in first else source["sequence"]
    return record


def _mark(record: dict[str, Any]) -> dict[str, Any]:
    """A boundary. Its id has after the colon where it lies at Debezium; ours has the transaction's commit at both."""
    value = record["value"]
    collections = [
        one
        for one in value["data_collections"] or ()
        if "LogicalDecodingMessage" not in one["data_collection"]  # a Java object's address for messages
    ]
    value["data_collections"] = sorted(collections, key=lambda one: str(one["data_collection"]))
    for place in (record["key"], value):
        place["id"] = place["id"].partition(":")[0]
    return record


@pytest.fixture
def alike(both: dict[Format, Told]) -> dict[Format, Told]:
    """Both without what differs, but for the schemas."""
    found = {}
    for kind, written in both.items():
        first = sorted({int(one["key"]["id"].partition(":")[0]) for one in written["capture"]["transaction"]})[:2]
        found[kind] = {
            who: {topic: [kept for one in topics[topic] if (kept := as_ours(one, first))] for topic in TOPICS}
            for who, topics in written.items()
        }
    return found


def test_records_are_debeziums(alike: dict[Format, Told]) -> None:
    """In each format every topic has the same records, with the same schemas, but for the differences above."""
    for kind, written in alike.items():
        schemas = {
            who: {
                topic: [[as_our_schema(schema) for schema in one.pop("schemas")] for one in records]
                for topic, records in topics.items()
            }
            for who, topics in written.items()
        }
        assert written["debezium"] == written["capture"], kind
        assert schemas["debezium"] == schemas["capture"], kind
        assert kind == "json_without_schema" or all(schema for schema in schemas["capture"]["public.items"][0][:2])


def as_our_schema(schema: Any) -> Any:
    """A schema of either without what differs: the prefix in its names, and what `as_ours` tells of contents."""
    if isinstance(schema, list):
        parts = [as_our_schema(part) for part in schema if not (isinstance(part, dict) and ours_alone(part))]
        # A union begins with the type that the default is of, and we have no defaults.
        return sorted(parts, key=str) if "null" in parts else parts
    if not isinstance(schema, dict):
        return PREFIX.sub("", schema) if isinstance(schema, str) else schema
    # A converter puts a default in place of NULL; ours has none. (Avro's own, of a field that may be NULL, is null.)
    kept = {name: part for name, part in schema.items() if name not in {"default", "connect.default"}}
    parameters = kept.get("connect.parameters", {})
    if COLUMN_NAME in parameters:
        # How a column is called whose name Avro doesn't allow: Debezium tells with column.propagate.source.type only.
        assert {COLUMN_NAME} == parameters.keys()
        return kept["type"]
    if kept.keys() == {"type"}:  # a type that had nothing but a default beside it
        return as_our_schema(kept["type"])
    return {name: as_our_schema(part) for name, part in kept.items()}


def ours_alone(field: dict[str, Any]) -> bool:
    """Texts of values that no setting of Debezium keeps."""
    return "exact" in {field.get("field"), field.get("name")}
