"""Whatever bytes a record has, decoding it gives a change or an error of decoding, and nothing else."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.fields import Field
from replicator.errors import ErrorKind, ReplicatorError
from replicator.records import Beat, Decoded, Message, Record, RowChange, TransactionMark
from tests.debezium_tables import decoder, envelope, table, with_schema
from tests.unit.test_debezium_flattened import ADDED, UNWRAP

KINDS = (
    *("int", "bigint", "boolean", "float4", "float8", "text", "name", "numeric", "numeric(10,2)", "money", "bytea"),
    *("date", "time", "timestamp", "timestamp(3)", "timestamptz", "interval", "bit(3)", "public.hstore", "jsonb"),
    *("point", "public.vector", "public.sparsevec", "int[]", "text[]", "bytea[]", "crm.pair", "box"),
)
HELD = table("public.t", "id int not null", *(f"c{at} {kind}" for at, kind in enumerate(KINDS)))
TOPIC = "old.public.t"
PLAIN = decoder(HELD)
FLAT = decoder(HELD, settings=UNWRAP)
TOPICS = st.sampled_from([TOPIC, "old.transaction", "__debezium-heartbeat.old", "old.message", "elsewhere"])

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        ["NaN", "infinity", "2024-02-29T12:00:00Z", "-5877611-06-21Z", "P1Y2M3DT4H5M6.78S", "AJY=", "{}", "c"]
    )
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["x", "y", "wkb", "vector", "dimensions"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
rows = st.fixed_dictionaries({one.name: documents for one in HELD.columns}) | st.dictionaries(
    st.text(max_size=3), documents
)
names = [
    "op",
    "before",
    "after",
    "source",
    "transaction",
    "message",
    "exact",
    "schema",
    "payload",
    "status",
    "id",
    "ts_ms",
]
envelopes = st.builds(
    lambda op, before, after, changed: envelope("public.t", op, before, after) | changed,
    st.sampled_from("crudtmx"),
    st.none() | rows,
    st.none() | rows,
    st.dictionaries(st.sampled_from(names), documents, max_size=2),
)
fields: st.SearchStrategy[Field] = st.builds(
    Field,
    st.sampled_from(["int32", "string", "bytes", "double", "struct", "array", "map", "boolean"]),
    st.none()
    | st.sampled_from(["io.debezium.time.Date", "io.debezium.data.Bits", "org.apache.kafka.connect.data.Decimal", "x"]),
    st.dictionaries(st.sampled_from(["scale", "length"]), st.text(max_size=3)),
    items=st.none() | st.just(Field("int32")),
    keys=st.none() | st.just(Field("string")),
    values=st.none() | st.just(Field("string")),
)


def text(content: Any) -> bytes:
    return json.dumps(content).encode()


values = (
    st.binary()
    | documents.map(text)
    | envelopes.map(text)
    | rows.map(lambda row: text(row | ADDED))
    | st.builds(
        lambda content, shape: text(with_schema(content, shape)),
        envelopes,
        st.dictionaries(st.text(max_size=3), fields, max_size=3),
    )
    | st.builds(lambda schema, content: text({"schema": schema, "payload": content}), documents, envelopes)
)
cut = st.builds(lambda value, at: value[: at % (len(value) + 1)], values, st.integers(0, 10_000))


@given(
    TOPICS,
    cut | values,
    st.none() | values,
    st.lists(st.tuples(st.sampled_from(["__op", "x"]), st.none() | st.binary())),
)
def test_nothing_but_decoding_errors(topic: str, value: bytes, key: bytes | None, headers: Any) -> None:
    """Any bytes, from anything like a record of Debezium's, are read or refused; never is another error raised."""
    for one in (PLAIN, FLAT):
        said = refused_or_said(one, Record(topic, 3, 99, None, key, value, tuple(headers)))
        assert said is None or isinstance(said, RowChange | TransactionMark | Beat | Message | ErrorKind)
        assert said not in set(ErrorKind) - {ErrorKind.DECODE, ErrorKind.SCHEMA}


def refused_or_said(one: DebeziumJsonDecoder, record: Record) -> Decoded | ErrorKind:
    try:
        return one.decode(record)
    except ReplicatorError as error:
        return error.kind
