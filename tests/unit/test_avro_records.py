"""Records in Avro: those of a real Debezium (golden/debezium_avro.json), our own, and what is neither."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.avro import DebeziumAvroDecoder
from replicator.codecs.avro.encoder import DebeziumAvroEncoder
from replicator.codecs.debezium.modes import CAPTURED, Modes
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Op
from replicator.records import Beat, Message, Record, RegistrySchema, RowChange, TransactionMark
from replicator.tables import Catalog, Table
from tests.debezium_records import RoundTrip, described
from tests.debezium_tables import table

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "debezium_avro.json").read_text())
PREFIX: str = GOLDEN["prefix"]
STRINGS = {"decimal.handling.mode": "string", "interval.handling.mode": "string", "include.unknown.datatypes": "true"}
EVERYTHING = table(
    "public.everything",
    *("id bigint not null", "a-b integer", "1st text", "é text", "sm smallint", "i integer not null", "b boolean"),
    *("r real", "d double precision", "n numeric", "n2 numeric(10,2)", "v character varying(5)", "c bpchar"),
    *("by bytea", "dt date", "tm time", "ts timestamp", "ts3 timestamp(3)", "tstz timestamptz", "iv interval"),
    *("u uuid", "j json", "jb jsonb", "bt bit(3)", "ip inet", "p point", "mo public.mood", "ia integer[]", "ta text[]"),
    *("na numeric[]", "rng int4range", "big text", "o oid"),
)
ROWS = table("public.rows", "id integer not null", "name text", "n numeric")


def golden_records() -> list[Record]:
    parts = [
        (one, *(None if one[part] is None else base64.b64decode(one[part]) for part in ("key", "value")))
        for one in GOLDEN["records"]
    ]
    return [Record(one["topic"], 0, one["offset"], None, key, value) for one, key, value in parts]


def decoder_of(*tables: Table, prefix: str = "old", **settings: str) -> DebeziumAvroDecoder:
    known = Catalog(180000, {one.name: one for one in tables}, {"public.mood": ("ok", "it's")})
    return DebeziumAvroDecoder(known, {}, Modes.of(settings), prefix)


def answer(decoder: DebeziumAvroDecoder, record: Record, schemas: Mapping[int, str]) -> Any:
    for schema in decoder.needs(record):
        decoder.learn(schema, schemas[schema.id])
    return decoder.decode(record)


def refusal(decoder: DebeziumAvroDecoder, record: Record, schemas: Mapping[int, str] | None = None) -> ReplicatorError:
    with pytest.raises(ReplicatorError) as caught:
        answer(decoder, record, schemas or {})
    return caught.value


def written(schema: Any, value: Any, number: int = 1, head: bytes = b"\0") -> bytes:
    content = io.BytesIO()
    schemaless_writer(content, parse_schema(schema, {}), value)
    return head + number.to_bytes(4) + content.getvalue()


# --- a real Debezium's ------------------------------------------------------------------------------------------------


def test_a_real_debeziums_records_are_read() -> None:
    """Every change of a table with every type that Avro keeps, applied in order, gives the rows as PostgreSQL prints
    them; names that Avro doesn't allow are the columns' own again.
    """
    decoder = decoder_of(EVERYTHING, prefix=PREFIX, **STRINGS)
    schemas = {int(number): text for number, text in GOLDEN["schemas"].items()}
    rows: dict[Any, tuple[Any, ...]] = {}
    said = [answer(decoder, record, schemas) for record in golden_records()]
    for change in said:
        if isinstance(change, RowChange):
            assert change.relation.table == EVERYTHING.name
            old = rows.pop((change.before or change.after or (None,))[0], ())
            if change.after is not None:
                kept = [old[at] if one is UNCHANGED else one for at, one in enumerate(change.after)]
                rows[kept[0]] = tuple(kept)
    expected = [[None if one is None else one.encode() for one in row] for row in GOLDEN["everything"]]
    assert sorted(expected, key=str) == sorted(map(list, rows.values()), key=str)
    assert EVERYTHING.column_names == next(one for one in said if isinstance(one, RowChange)).relation.columns


def test_a_real_debeziums_marks_are_read() -> None:
    """Boundaries of transactions, a heartbeat and a message; records of tables that nobody asked for are nothing."""
    decoder = decoder_of(prefix=PREFIX, **STRINGS)
    schemas = {int(number): text for number, text in GOLDEN["schemas"].items()}
    said = [answer(decoder, record, schemas) for record in golden_records()]
    marks = [one for one in said if isinstance(one, TransactionMark)]
    assert 11 == len({mark.id for mark in marks}) == sum(mark.events is not None for mark in marks)
    assert ["wörld".encode()] == [one.content for one in said if isinstance(one, Message)]
    assert 1 == sum(isinstance(one, Beat) for one in said)
    assert len(marks) + 2 + sum(one is None for one in said) == len(said)


# --- framing ----------------------------------------------------------------------------------------------------------

BEAT = {"type": "record", "name": "Heartbeat", "fields": [{"name": "ts_ms", "type": "long"}]}
BEAT_TOPIC = "__debezium-heartbeat.old"
BEAT_BYTES = written(BEAT, {"ts_ms": 1500})[5:]


@pytest.mark.parametrize(
    "head, headers, schema",
    [
        (b"\0\0\0\1\0", (), RegistrySchema("id", 256)),
        (b"\0\xff\xff\xff\xff", (("other", b"x"),), RegistrySchema("id", 2**32 - 1)),
        (b"\0" + (7).to_bytes(8), (), RegistrySchema("global", 7)),
        (b"", (("apicurio.value.globalId", (9).to_bytes(8)),), RegistrySchema("global", 9)),
        (b"", (("apicurio.value.contentId", (9).to_bytes(8)), ("apicurio.value.encoding", b"BINARY")), None),
        (b"\0\0\0\0\5", (("apicurio.key.globalId", (9).to_bytes(8)),), RegistrySchema("id", 5)),
    ],
)
def test_framing(head: bytes, headers: tuple[tuple[str, bytes], ...], schema: RegistrySchema | None) -> None:
    """Confluent's 4 bytes, Apicurio's 8, and its headers name the schema; it is asked for once."""
    decoder = decoder_of()
    record = Record(BEAT_TOPIC, 0, 1, None, None, head + BEAT_BYTES, headers)
    expected = schema or RegistrySchema("content", 9)
    assert (expected,) == tuple(decoder.needs(record))
    decoder.learn(expected, json.dumps(BEAT))
    for _ in range(2):
        assert () == tuple(decoder.needs(record))
        assert Beat(1.5) == decoder.decode(record)


@pytest.mark.parametrize(
    "value, headers, why",
    [
        (b'{"before": null}', (), "debezium-json"),
        (b"  [1]", (), "debezium-json"),
        (b"", (), "is empty"),
        (b"\0\0\0", (), "begins with 00 00 00, 3 bytes in all"),
        (b"\0\0\0\0\0\1", (), "6 bytes in all"),
        (b"\1" + bytes(20), (), "GUID"),
        (b"Obj\1xxxx", (), "4f 62 6a"),
        (b"x", (("apicurio.value.encoding", b"JSON"),), "JSON encoding"),
        (b"x", (("apicurio.value.artifactId", b"row"),), "neither a globalId nor a contentId"),
    ],
)
def test_what_is_not_framed(value: bytes, headers: tuple[tuple[str, bytes], ...], why: str) -> None:
    """The error names topic, partition and offset, what the bytes look like, and the setting."""
    error = refusal(decoder_of(), Record("old.public.rows", 3, 42, None, None, value, headers))
    assert ErrorKind.DECODE is error.kind
    assert "old.public.rows/3:42" in str(error)
    assert why in str(error)


# --- NULL and defaults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot, kept", [(None, True), ("last", True), ("false", False)])
def test_a_converter_that_replaces_null(snapshot: str | None, kept: bool) -> None:
    """What a converter makes of `source.snapshot`, which is NULL in a change, tells what it makes of other NULLs; one
    that doesn't know the setting is found out by that.
    """
    held = table("public.rows", "id integer not null", "name text default")
    default = {"type": "string", "connect.default": "x"}
    text = {"type": ["null", "string"], "default": None}
    row = [{"name": "id", "type": "int"}, {"name": "name", "type": [default, "null"], "default": "x"}]
    source = [*({"name": name, **text} for name in ("schema", "table", "snapshot"))]
    parts = [
        {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": row}]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "source", "type": {"type": "record", "name": "Source", "fields": source}},
        {"name": "op", "type": "string"},
    ]
    schema = {"type": "record", "name": "Envelope", "fields": parts}
    said = {"schema": "public", "table": "rows", "snapshot": snapshot}
    value = written(schema, {"before": None, "after": {"id": 1, "name": "x"}, "source": said, "op": "c"})
    record = Record("old.public.rows", 0, 1, None, None, value)
    decoder = decoder_of(held, **{"value.converter.ignore.default.for.nullables": "true"})
    if kept:
        assert (b"1", b"x") == answer(decoder, record, {1: json.dumps(schema)}).after
    else:
        error = refusal(decoder, record, {1: json.dumps(schema)})
        assert ErrorKind.DECODE is error.kind
        assert "column name" in str(error)
        assert "ignore.default.for.nullables" in str(error)


# --- schemas that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[" * 3000, "7", '"thing"', '{"type":"record","name":"R"}', '["int","string"]'),
        '{"type":"enum","name":"E"}',
        '{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}',
        '{"type":"record","name":"R","fields":[{"name":"r","type":["null","R"]}]}',
        '{"type":"array","items":' * 70 + '"int"' + "}" * 70,
    ],
)
def test_a_schema_that_is_none(text: str) -> None:
    """What a registry gives and no connector writes is refused where it is learned, and names its number."""
    with pytest.raises(ReplicatorError, match="number 5 can't be used") as caught:
        decoder_of().learn(RegistrySchema("id", 5), text)
    assert ErrorKind.DECODE is caught.value.kind


def test_a_schema_that_is_no_envelope() -> None:
    """A record of something else is told as such, with its schema's name."""
    schema = {"type": "record", "name": "x.Order", "fields": [{"name": "id", "type": "long"}]}
    record = Record("old.public.rows", 0, 1, None, None, written(schema, {"id": 1}))
    error = refusal(decoder_of(ROWS), record, {1: json.dumps(schema)})
    assert ErrorKind.DECODE is error.kind
    assert "x.Order, is no envelope" in str(error)


# --- flattened --------------------------------------------------------------------------------------------------------

FLAT = {"transforms": "f", "transforms.f.type": "io.debezium.transforms.ExtractNewRecordState"} | {
    "transforms.f.add.fields": "op,source.schema,source.table,source.lsn",
    "transforms.f.add.headers": "source.schema,source.table",
}
FLAT_ROW = {
    "type": "record",
    "name": "Value",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "name", "type": ["null", "string"]},
        *({"name": f"__{name}", "type": ["null", "string"]} for name in ("op", "source_schema", "source_table")),
        {"name": "__source_lsn", "type": ["null", "long"]},
        {"name": "__deleted", "type": ["null", "string"]},
    ],
}
FLAT_KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "int"}]}
SAYS = {"__source_schema": "public", "__source_table": "rows", "__source_lsn": 99, "__deleted": "false"}


@pytest.mark.parametrize(
    "op, deleted, expected",
    [
        ("c", "false", (Op.INSERT, None, (b"1", b"a"))),
        ("u", "false", (Op.UPDATE, None, (b"1", b"a"))),
        ("d", "true", (Op.DELETE, (b"1", None), None)),
    ],
)
def test_flattened_rows(op: str, deleted: str, expected: Any) -> None:
    """A row alone is a change by what the transform has added to it; what was added is no column."""
    value = written(FLAT_ROW, {"id": 1, "name": "a", "__op": op, **SAYS, "__deleted": deleted})
    record = Record("anything", 0, 1, None, None, value)
    change = answer(decoder_of(ROWS, **FLAT), record, {1: json.dumps(FLAT_ROW)})
    assert expected == (change.op, change.before, change.after)
    assert (("id", "name"), 99) == (change.relation.columns, change.lsn)


def test_a_flattened_delete_is_its_key() -> None:
    """A record without value deletes the row that its key names; its key's schema is what is asked for."""
    decoder = decoder_of(ROWS, **FLAT)
    headers = (("__source_schema", b"public"), ("__source_table", b"rows"))
    record = Record("anything", 0, 1, None, written(FLAT_KEY, {"id": 7}, 8), None, headers)
    assert (RegistrySchema("id", 8),) == tuple(decoder.needs(record))
    change = answer(decoder, record, {8: json.dumps(FLAT_KEY)})
    assert (Op.DELETE, (b"7",), None) == (change.op, change.before, change.after)


def test_a_tombstone_is_nothing() -> None:
    """Where events are whole, a record without value follows a delete, and its key isn't looked at."""
    record = Record("old.public.rows", 0, 1, None, b"anything", None)
    assert () == tuple(decoder_of(ROWS).needs(record))
    assert decoder_of(ROWS).decode(record) is None


# --- our own ----------------------------------------------------------------------------------------------------------


def round_trip() -> RoundTrip:
    return RoundTrip(Catalog(180000, {ROWS.name: ROWS}), ROWS, "avro")


@given(st.binary(max_size=60), st.integers(0, 400))
def test_noise_is_a_typed_error(noise: bytes, at: int) -> None:
    """Whatever bytes lie where a record should be, cut, changed or made up: a change, or one kind of error."""
    both = round_trip()
    record = both.record(both.change(Op.UPDATE, (b"1", None, None), (b"2", "é".encode(), b"1.50")))
    value = record.value or b""
    for content in (value[:5] + noise, value[:at] + noise + value[at + len(noise) :], value[: at % len(value)]):
        try:
            both.decoder.decode(record._replace(value=content))
        except ReplicatorError as error:
            assert ErrorKind.DECODE is error.kind  # noqa: PT017 - most noise is an error, and some is a change


def test_every_op_comes_back() -> None:
    """What the encoder writes the decoder reads: row, old row, unchanged values, truncation, and where it happened."""
    both = round_trip()
    for op, before, after in (
        (Op.INSERT, None, (b"1", None, b"NaN")),
        (Op.READ, None, (b"1", b"__debezium_unavailable_value", b"1e-30")),
        (Op.UPDATE, (b"1", None, None), (b"2", UNCHANGED, b"0.00")),
        (Op.DELETE, (b"1", None, None), None),
        (Op.TRUNCATE, None, None),
    ):
        change = both.change(op, before, after)
        read = both.read(change)
        assert change[2:] == read[2:]
        assert (op, change.relation.columns) == (read.op, read.relation.columns)


def test_marks_beats_and_messages_come_back() -> None:
    """The encoder's other records are read as what they were."""
    encoder = DebeziumAvroEncoder("old", "shop")
    decoder = DebeziumAvroDecoder(Catalog(180000, {ROWS.name: ROWS}), {}, CAPTURED, "old")
    topics = ("old.transaction", BEAT_TOPIC, "old.message")
    asked = [*encoder.marks(topics[0]), *encoder.beats(topics[1]), *encoder.messages(topics[2])]
    assert [f"{topic}-{part}" for topic in topics for part in ("key", "value")] == [one.subject for one in asked]
    for number, schema in enumerate(asked, 1):
        encoder.learn(schema, number)
        decoder.learn(RegistrySchema("id", number), schema.text)
    assert () == tuple(encoder.beats(BEAT_TOPIC))
    mark = TransactionMark("771", 2, ((ROWS.name, 2),), 1.5)
    message = Message("p", b"\0\xff", 7, 771, 1.5, (6, 7))
    pairs = [
        (mark, encoder.mark(mark, 2.0)),
        (Beat(2.5), encoder.beat(Beat(2.5))),
        (message, encoder.message(message, 2.0)),
    ]
    for topic, (said, (key, value)) in zip(topics, pairs, strict=True):
        assert said == decoder.decode(Record(topic, 0, 1, None, key, value))


def test_names_that_avro_does_not_allow() -> None:
    """They are spelled as Debezium spells them, tell their own name, and come back; two of one spelling are refused."""
    odd = table("public.odd", "id integer not null", "a-b text", "a_c text", "1 text")
    both = RoundTrip(Catalog(180000, {odd.name: odd}), odd, "avro")
    row = (b"1", b"x", b"y", b"z")
    assert row == both.read(both.change(Op.INSERT, None, row)).after
    twice = table("public.twice", "id integer not null", "a-b text", "a_b text")
    with pytest.raises(ReplicatorError, match="a-b and a_b") as caught:
        DebeziumAvroEncoder("old", "shop").shape("old.public.twice", described(twice))
    assert ErrorKind.CONFIG is caught.value.kind


def test_nothing_is_written_unregistered() -> None:
    """A record can't be encoded before its schema has a number, nor with one that its frame can't hold."""
    encoder = DebeziumAvroEncoder("old", "shop")
    rows = described(ROWS)
    (*_, value) = encoder.shape("old.public.rows", rows)
    change = round_trip().change(Op.TRUNCATE, None, None)._replace(relation=rows.relation)
    with pytest.raises(ReplicatorError, match="wasn't registered"):
        encoder.value(change, 1.5)
    for number in (0, 2**32):
        with pytest.raises(ReplicatorError, match="no record can hold"):
            encoder.learn(value, number)
