"""The capture's records beside Debezium's, field by field, on the same statements.

What differs is named in `as_ours`, each with its reason; docs/operations.md tells the same to readers.
"""

import json
from typing import Any

import pytest
from confluent_kafka import Message

from tests.connector_files import write_connector
from tests.fix_capture import read_all
from tests.fix_kafka import Kafka, MakeConnector
from tests.fix_postgres import Database
from tests.fix_replicator import StartReplicator
from tests.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TABLES = """
CREATE TABLE items (id int PRIMARY KEY, body text, price numeric(10,2), at timestamptz, flag boolean NOT NULL);
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
MARKS = 24  # of twelve transactions
TOPICS = ("public.items", "public.places", "public.bag", "public.Odd_name_", "message", "transaction")
DEBEZIUM = {
    "decimal.handling.mode": "string",
    "interval.handling.mode": "string",
    "include.unknown.datatypes": "true",
    "provide.transaction.metadata": "true",
    "skipped.operations": "none",
}


def told(message: Message) -> dict[str, Any]:
    """A record as data."""
    key, value = message.key(), message.value()
    given: list[Any] = list(message.headers() or ())
    headers = {
        name: json.loads(content or b"null") for name, content in given if not name.startswith("__debezium.context")
    }
    return {
        "topic": (message.topic() or "").partition(".")[2],
        "key": None if key is None else json.loads(key),
        "value": None if value is None else json.loads(value),
        "headers": headers,
    }


@pytest.fixture
def both(  # noqa: PLR0917 - fixtures
    old_database: Database,
    real_kafka: Kafka,
    make_connector: MakeConnector,
    topic_prefix: str,
    replicator_process: StartReplicator,
    tmp_path: Any,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By topic: what Debezium wrote, and what we wrote."""
    old_database.execute(TABLES)
    mine = f"{topic_prefix}c"
    make_connector(old_database, tables=r"public\..*", kind="json_without_schema", config=DEBEZIUM)
    file = write_connector(
        tmp_path,
        old_database,
        old_database,
        name=mine,
        stream={
            "kind": "kafka",
            "bootstrap_servers": real_kafka.bootstrap,
            "format": "debezium-json",
            "topic_prefix": mine,
            "capture": {"schemas": False},
        },
    )
    capture = replicator_process(["capture", str(file), "--listen", "127.0.0.1:0"])
    capture.wait_for_log("streaming", 90)
    with old_database.connect(autocommit=True) as session:
        for line in STATEMENTS.strip().splitlines():
            for statement in line.split(";"):
                if statement.strip():
                    session.execute(statement)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for who, prefix in (("debezium", topic_prefix), ("capture", mine)):
        last = [f"{prefix}.public.items"]

        def arrived(last: list[str] = last) -> bool:
            return any(b'"last"' in (one.value() or b"") for one in read_all(real_kafka.bootstrap, last))

        wait_until(arrived, 60)
        ends = [f"{prefix}.transaction"]

        def ended(ends: list[str] = ends) -> bool:
            return len(read_all(real_kafka.bootstrap, ends)) >= MARKS

        wait_until(ended, 30)
        found[who] = {
            topic: [told(one) for one in read_all(real_kafka.bootstrap, [f"{prefix}.{topic}"])] for topic in TOPICS
        }
    capture.terminate()
    capture.wait()
    return found


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


def test_records_are_debeziums(both: Any) -> None:
    """Every topic has the same records, but for the differences above."""
    first = sorted({int(one["key"]["id"].partition(":")[0]) for one in both["capture"]["transaction"]})[:2]
    debezium, ours = (
        {topic: [kept for one in both[who][topic] if (kept := as_ours(one, first))] for topic in TOPICS}
        for who in ("debezium", "capture")
    )

    assert debezium == ours
