"""Every type under the modes of the real Debezium, in JSON with schema and without: read back to the byte, or refused.

Of the values some are what Debezium itself spoils; they are named here, so that a version that mends them is noticed.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from replicator.codecs.debezium.columns import field_of
from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.modes import Modes
from replicator.codecs.debezium.values import converter
from replicator.demo.kafka_parts.debezium import Format
from replicator.demo.servers import PostgresServer
from replicator.errors import ReplicatorError
from replicator.events import UNCHANGED, Value
from replicator.postgres.catalog import read_catalog
from replicator.records import Record, RowChange
from replicator.tables import Catalog, TableName
from tests import every_type
from tests.fix_kafka import Kafka, MakeConnector
from tests.fix_postgres import Database, MakeDatabase
from tests.integration.test_debezium_round_trip import MORE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SESSION = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=1 -c bytea_output=hex"
LOSSLESS = {
    "decimal.handling.mode": "string",
    "interval.handling.mode": "string",
    "include.unknown.datatypes": "true",
}
OTHER = {
    "decimal.handling.mode": "precise",
    "interval.handling.mode": "string",
    "include.unknown.datatypes": "true",
    "time.precision.mode": "isostring",
    "hstore.handling.mode": "map",
    "binary.handling.mode": "base64",
}
EXTRA = {
    "date[]": ["{infinity,2024-02-29,NULL}", "{-infinity}", "{1583-01-01,9999-12-31,10000-01-01}"],
    "timestamp[]": ["{infinity,-infinity}", '{"2024-02-29 12:00:00.123456",NULL}', '{"10000-01-01 00:00:00"}'],
    "timestamptz[]": ['{"2024-02-29 12:00:00.123456+00",infinity}'],
    "timestamp(3)[]": ['{"2024-02-29 12:00:00.123"}'],
    "numeric[]": ["{1.50,0.00,1e-30,NaN}"],
    "numeric(6,2)[]": ["{1.50,NULL}"],
    "oid[]": ["{4294967295}"],
    "varchar(5)[]": ['{"ab   "}'],
    "macaddr[]": ["{08:00:2b:01:02:03}"],
    "numrange[]": ['{"(1.10,2.0]"}'],
    "crm.positive[]": ["{1.250}"],
    "xid[]": ["{7}"],
    "date": ["1500-02-28", "1582-10-10", "0001-01-01", "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"],
}
SPOILT: Mapping[str, set[str]] = {
    # These come as another value, and nothing in the record says so.
    "integer[]": {"[0:1]={5,6}"},  # begins at 1
    "timestamp(6)": {"294247-01-10 04:00:25.2"},  # the number of infinity
    # NULL, or with event.converting.failure.handling.mode=fail the connector stops
    "bit varying(1)": {""},
    "numeric(6,2)[]": {"{1.50,NaN}"},
    "numeric[]": {"{1.50,0.00,1e-30,NaN}"},
}
REFUSED: Mapping[str, set[str]] = {
    # These are refused when they come.
    "integer[]": {"{{1,2},{3,4}}"},
    "text[]": {"{NULL,NULL}", "{NULL}", "{{a,b},{c,d}}"},
    "timestamp(6)": {"294247-01-10 04:00:54.775807"},
    "timestamp": {"294276-12-31 23:59:59.999999"},
    "date[]": {"{infinity,2024-02-29,NULL}", "{infinity,2024-02-29}", "{-infinity}"},  # as isostring
}
PLACEHOLDERS = {"__debezium_unavailable_value", "{__debezium_unavailable_value}"}
PLACEHOLDERS |= {"\\x" + b"__debezium_unavailable_value".hex()}


def types() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for values in (every_type.VALUES, MORE, EXTRA):
        for name, given in values.items():
            found.setdefault(name, []).extend(one for one in given if one not in found.get(name, ()))
    return found


TYPES = types()
NAMES = list(TYPES)


def table_of(at: int) -> TableName:
    return TableName("crm", f"t{at}")


def kept(catalog: Catalog, modes: Modes) -> list[int]:
    """The types whose columns can be read under these modes."""
    found = []
    for at in range(len(NAMES)):
        column = catalog.tables[table_of(at)].by_name["v"]
        field = field_of(column, modes, catalog.enums)
        try:
            if field is not None:
                converter(field, column, modes)
                found.append(at)
        except ReplicatorError:
            continue
    return found


def fill(database: Database, at: int) -> None:
    """A row for each value."""
    name = NAMES[at]
    with database.connect(autocommit=True) as session:
        for number, value in enumerate(TYPES[name]):
            session.execute(f"INSERT INTO crm.t{at} VALUES (%s, %s::{name})", [number, value])


def printed(database: Database, at: int) -> dict[int, bytes | None]:
    with psycopg.connect(database.dsn, options=SESSION) as session:
        result = session.execute(f"SELECT id, v FROM crm.t{at}").pgresult
        assert result is not None
        rows = range(result.ntuples)
        return {int(result.get_value(row, 0) or b""): result.get_value(row, 1) for row in rows}


def consume(kafka: Kafka, prefix: str, count: int) -> Iterator[Record]:
    """So many records of the tables' topics."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": prefix, "fetch.wait.max.ms": 50})
    known: set[str] = set()
    deadline = time.monotonic() + 75
    try:
        while count and time.monotonic() < deadline:
            found = {one for one in consumer.list_topics(timeout=10).topics if one.startswith(f"{prefix}.crm.")} - known
            known |= found
            consumer.incremental_assign([TopicPartition(topic, 0, 0) for topic in found])
            while count and (message := consumer.poll(0.5)) is not None:
                assert message.error() is None
                count -= 1
                yield Record(message.topic() or "", 0, message.offset() or 0, None, message.key(), message.value())
        assert 0 == count
    finally:
        consumer.close()


def said(decoder: DebeziumJsonDecoder, record: Record) -> tuple[int, Value | str]:
    """The row's number, and its value, or `refused`."""
    try:
        change = decoder.decode(record)
    except ReplicatorError:
        key = re.search(rb'"id":(\d+)', record.key or b"")
        return int(key[1] if key else -1), "refused"
    assert isinstance(change, RowChange)
    row: dict[str, Any] = dict(zip(change.relation.columns, change.after or (), strict=True))
    return int(row["id"]), row["v"]


@pytest.mark.parametrize(
    "settings,kind", [(LOSSLESS, "json_without_schema"), (OTHER, "json")], ids=["lossless", "other modes"]
)
async def test_every_type(
    *,
    kafka: Kafka,
    make_connector: MakeConnector,
    make_database: MakeDatabase,
    server15: PostgresServer,
    topic_prefix: str,
    settings: dict[str, str],
    kind: Format,
) -> None:
    """A value of any type that a mode keeps comes as the server prints it."""
    database = make_database(server15)
    database.execute(f"{every_type.SCHEMA}; CREATE TABLE crm.here (id int)")
    for at, name in enumerate(NAMES):
        database.execute(f"CREATE TABLE crm.t{at} (id int PRIMARY KEY, v {name})")
    async with await psycopg.AsyncConnection.connect(database.dsn) as session:
        catalog = await read_catalog(session)
    modes = Modes.of(settings | {"value.converter.replace.null.with.default": "false"})
    tables = kept(catalog, modes)
    config = settings | {"event.converting.failure.handling.mode": "warn"}  # to see the other values behind one
    included = ",".join(f"crm.t{at}" for at in tables)
    await asyncio.to_thread(make_connector, database, tables=included, kind=kind, config=config)
    for at in tables:
        await asyncio.to_thread(fill, database, at)
    expected = {at: printed(database, at) for at in tables}
    records = await asyncio.to_thread(lambda: list(consume(kafka, topic_prefix, sum(map(len, expected.values())))))

    decoder = DebeziumJsonDecoder(catalog, {}, modes, topic_prefix)
    wrong = []
    for record in records:
        at = int(record.topic.rpartition(".t")[2])
        number, value = said(decoder, record)
        name, given = NAMES[at], TYPES[NAMES[at]][number]
        if value == "refused":
            fine = given in REFUSED.get(name, ())
        elif value is UNCHANGED:
            fine = given in PLACEHOLDERS
        else:
            fine = value == expected[at][number] or given in SPOILT.get(name, ())
        if not fine:
            wrong.append((name, expected[at][number], value, json.loads(record.value or b"null").get("after")))
    assert [] == wrong
