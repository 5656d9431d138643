"""Avro by the real Debezium, Confluent's converter and Apicurio's registry, decoded. REPLICATOR_GOLDEN=write keeps what
came for the tests that have none of the three.
"""

import asyncio
import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from replicator.codecs.avro import DebeziumAvroDecoder
from replicator.codecs.debezium.modes import Modes
from replicator.config.streams import SchemaRegistry as Settings
from replicator.events import UNCHANGED, Op
from replicator.kafka.registry import SchemaRegistry
from replicator.postgres.catalog import read_catalog
from replicator.records import Beat, Message, Record, RowChange, TransactionMark
from replicator.tables import Catalog
from tests.fix_kafka import Kafka, MakeConnector
from tests.fix_postgres import Database, MakeDatabase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
GOLDEN = Path(__file__).parents[1] / "golden" / "debezium_avro.json"
SESSION = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=1 -c bytea_output=hex"
SETTINGS = {
    "decimal.handling.mode": "string",
    "interval.handling.mode": "string",
    "include.unknown.datatypes": "true",
    "field.name.adjustment.mode": "avro",
}
TABLES = """
    CREATE TYPE public.mood AS ENUM ('ok', 'it''s');
    CREATE TABLE public.everything (
        id bigint PRIMARY KEY, "a-b" int, "1st" text, "é" text, sm smallint, i int NOT NULL DEFAULT 7, b bool, r real,
        d double precision, n numeric, n2 numeric(10,2), v varchar(5), c char(5), by bytea, dt date, tm time,
        ts timestamp, ts3 timestamp(3), tstz timestamptz, iv interval, u uuid, j json, jb jsonb, bt bit(3), ip inet,
        p point, mo public.mood, ia int[], ta text[], na numeric[], rng int4range, big text, o oid);
    ALTER TABLE public.everything ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE public.whole (id int PRIMARY KEY, name text, r real);
    ALTER TABLE public.whole REPLICA IDENTITY FULL;
    CREATE TABLE public.done (id int PRIMARY KEY);
"""
ROWS = (
    r"""1, 5, 'x', 'y', -3, 9, true, 0.1, 0.1, 'NaN', 1.50, 'ab  ', 'a', '\x00ff', '2024-02-29', '24:00:00',
    '2024-02-29 12:00:00.123456', '2024-02-29 12:00:00.12', '2024-02-29 12:00:00.123456+00',
    '1 year 2 mons -3 days 04:05', '00000000-0000-0000-0000-000000000001',
    '{"a":  1}', '{"b": 1.10}', '101', '10.0.0.1/8', '(1.5,-2)', 'it''s',
    '{1,NULL,3}', '{"",NULL,"NULL",x}', '{1.10,NULL}', '[1,10)', repeat('0123456789', 250), 4294967295""",
    """3, -2147483648, '', NULL, 32767, 0, false, 170056608, 1e23, '-0.00', -99999999.99, '', '', '', '0044-03-15 BC',
    '23:59:59.999999', 'infinity', '1969-12-31 23:59:59.999', '-infinity', '-00:00:01', NULL, 'null', '""', '000',
    '::1', '(NaN,Infinity)', 'ok', '{}', '{}', '{}', 'empty', '__debezium_unavailable_valu', 0""",
)


@pytest.fixture
def source(make_database: MakeDatabase) -> Database:
    """An old database with every type that Avro keeps."""
    database = make_database()
    database.execute(TABLES)
    return database


def write(database: Database) -> None:
    """Every kind of change."""
    with database.connect(autocommit=True) as session:
        for row in ROWS:
            session.execute(f"INSERT INTO public.everything VALUES ({row})")
        session.execute("INSERT INTO public.everything (id) VALUES (2)")
        session.execute("UPDATE public.everything SET i = 10 WHERE id = 1")  # big stays what it is, untold
        session.execute("UPDATE public.everything SET id = 4, i = 11 WHERE id = 2")
        session.execute("DELETE FROM public.everything WHERE id = 3")
        with session.transaction():
            session.execute("INSERT INTO public.whole VALUES (1, 'a', 1e-45), (2, NULL, 16777216), (5, 'c', '-0')")
            session.execute("UPDATE public.whole SET name = 'b' WHERE id = 1")
            session.execute("DELETE FROM public.whole WHERE id = 2")
        session.execute("ALTER TABLE public.whole ADD COLUMN late numeric(5,1)")
        session.execute("INSERT INTO public.whole VALUES (6, 'd', 'NaN', 1.5)")
        session.execute("SELECT pg_logical_emit_message(true, 'hello', 'wörld')")
        session.execute("TRUNCATE public.done")
        session.execute("INSERT INTO public.done VALUES (1)")


def texts(database: Database, table: str) -> dict[bytes, tuple[bytes | None, ...]]:
    """The rows of a table as its server prints them, by their first column."""
    with psycopg.connect(database.dsn, options=SESSION) as session:
        result = session.execute(f"SELECT * FROM {table}").pgresult
        assert result is not None
        rows = [tuple(result.get_value(row, at) for at in range(result.nfields)) for row in range(result.ntuples)]
        return {row[0] or b"": row for row in rows}


def consume(kafka: Kafka, prefix: str) -> Iterator[Record]:
    """Every record of the topics with this prefix, up to the one of `done`, which came last, and all before it."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": prefix,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
        }
    )
    known: set[str] = set()
    ended: set[str] = set()
    done = False
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            found = {topic for topic in consumer.list_topics(timeout=10).topics if prefix in topic} - known
            known |= found
            consumer.incremental_assign([TopicPartition(topic, 0, 0) for topic in found])
            for _ in range(50):
                message = consumer.poll(0.1)
                if message is None:
                    continue
                topic = message.topic() or ""
                error = message.error()
                if error is not None:
                    assert KafkaError._PARTITION_EOF == error.code()
                    ended.add(topic)
                else:
                    ended.discard(topic)
                    done = done or (topic == f"{prefix}.public.done" and b"\x02c" in (message.value() or b""))
                    yield Record(topic, 0, message.offset() or 0, None, message.key(), message.value())
                if done and known <= ended:
                    return
        pytest.fail(f"not all of {known} ended: {ended}, done: {done}")
    finally:
        consumer.close()


async def catalog_of(database: Database) -> Catalog:
    async with await psycopg.AsyncConnection.connect(database.dsn) as session:
        return await read_catalog(session)


async def decoded(decoder: DebeziumAvroDecoder, registry: SchemaRegistry, record: Record) -> Any:
    for schema in decoder.needs(record):
        decoder.learn(schema, await registry.schema(schema))
    return decoder.decode(record)


def apply(state: dict[bytes, tuple[Any, ...]], change: RowChange) -> None:
    """As a target would: by key, unsent values stay."""
    if change.op is Op.TRUNCATE:
        state.clear()
    before: tuple[Any, ...] = change.before or (None,)
    after: tuple[Any, ...] | None = change.after
    old = state.pop(before[0], ())
    if after is not None:
        old = old or state.get(after[0], ())
        state[after[0]] = tuple(old[at] if value is UNCHANGED else value for at, value in enumerate(after))


async def test_every_value_arrives_as_it_is_printed(
    kafka: Kafka,
    kafka_registry: str,
    make_connector: MakeConnector,
    source: Database,
    topic_prefix: str,
) -> None:
    """All changes, applied, give the tables as their server prints them; marks, beats and messages come as such."""
    config = SETTINGS | {"provide.transaction.metadata": "true"}
    await asyncio.to_thread(make_connector, source, tables="public.*", kind="avro", config=config)
    catalog = await catalog_of(source)
    await asyncio.to_thread(write, source)
    records = await asyncio.to_thread(lambda: list(consume(kafka, topic_prefix)))
    registry = SchemaRegistry(Settings(url=kafka_registry))
    decoder = DebeziumAvroDecoder(catalog, {}, Modes.of(SETTINGS), topic_prefix)
    states: dict[str, dict[bytes, tuple[Any, ...]]] = {}
    said: list[Any] = []
    for record in records:
        if record.topic == f"{topic_prefix}.public.whole" and catalog is not (catalog := await catalog_of(source)):
            decoder = DebeziumAvroDecoder(catalog, {}, Modes.of(SETTINGS), topic_prefix)
        answer = await decoded(decoder, registry, record)
        if isinstance(answer, RowChange):
            apply(states.setdefault(answer.relation.table.name, {}), answer)
        said.append(answer)
    await registry.close()
    for table in ("everything", "whole", "done"):
        expected = texts(source, f"public.{table}")
        width = len(next(iter(expected.values())))
        got = {key: row + (None,) * (width - len(row)) for key, row in states[table].items()}
        assert expected.keys() == got.keys()
        assert [] == [pair for key in got for pair in zip(expected[key], got[key], strict=True) if pair[0] != pair[1]]
    changes = [one for one in said if isinstance(one, RowChange)]
    marks = [one for one in said if isinstance(one, TransactionMark)]
    assert {"hello"} == {one.prefix for one in said if isinstance(one, Message)}
    assert ["wörld".encode()] == [one.content for one in said if isinstance(one, Message)]
    assert any(isinstance(one, Beat) for one in said)
    assert {mark.id for mark in marks if mark.events is None} >= {change.transaction for change in changes}
    assert all(change.lsn and change.xid and change.sequence and change.order for change in changes)
    if os.environ.get("REPLICATOR_GOLDEN") == "write":
        await keep(records, kafka_registry, topic_prefix, texts(source, "public.everything"))


async def keep(records: list[Record], url: str, prefix: str, rows: dict[bytes, tuple[bytes | None, ...]]) -> None:
    """Write the golden file: records (of heartbeats one), the schemas that they name, and the rows of `everything`."""
    registry = SchemaRegistry(Settings(url=url))
    decoder = DebeziumAvroDecoder(Catalog(0), {}, Modes(), prefix)
    schemas: dict[int, str] = {}
    kept: list[dict[str, Any]] = []
    for record in records:
        heartbeat = record.topic.startswith("__debezium")
        if heartbeat and any(one["topic"] == record.topic for one in kept):
            continue
        for schema in decoder.needs(record):
            schemas[schema.id] = await registry.schema(schema)
            decoder.learn(schema, schemas[schema.id])
        written = [None if part is None else base64.b64encode(part).decode() for part in (record.key, record.value)]
        kept.append({"topic": record.topic, "offset": record.offset, "key": written[0], "value": written[1]})
    await registry.close()
    read = [[None if value is None else value.decode() for value in row] for row in rows.values()]
    golden = {"prefix": prefix, "schemas": schemas, "records": kept, "everything": read}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
