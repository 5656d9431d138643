"""Records that our capture writes in JSON, beside what Debezium writes."""

import json
import string
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.debezium import parsing, printing
from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.encoder import DebeziumJsonEncoder
from replicator.codecs.debezium.modes import CAPTURED
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Op, Values
from replicator.records import Beat, Message, RowChange, TransactionMark
from replicator.tables import Catalog, Table, TableName, UniqueKey
from tests.debezium_records import FORMS, Form, RoundTrip, relation_of
from tests.debezium_tables import record, table
from tests.unit.test_debezium_golden import FILES

JSON: tuple[Form, ...] = ("json", "json without schemas")


def held(*columns: str, identity: str = "d") -> Table:
    made = table("public.t", *columns, identity=identity)
    return Table(
        made.name,
        made.columns,
        unique_keys=(UniqueKey("t_pkey", ("id",), primary=True),),
        replica_identity=identity,
        identity_columns=made.identity_columns,
    )


def both(*columns: str, form: Form = "json without schemas", identity: str = "d") -> RoundTrip:
    one = held(*columns, identity=identity)
    return RoundTrip(Catalog(150_000, {one.name: one}), one, form)


def written(trip: RoundTrip, op: Op, before: Values | None, after: Values | None) -> dict[str, Any]:
    value = trip.record(trip.change(op, before, after)).value
    assert value is not None
    content: dict[str, Any] = json.loads(value)
    return content


def test_the_schema_is_debeziums() -> None:
    """A record's schema is the one that Debezium gives, but for a column's default, and one field of our own."""
    capture = json.loads(next(path for path in FILES if path.stem == "by_hand").read_text())
    theirs = next(one["value"]["schema"] for one in capture["records"] if one["value"] and "schema" in one["value"])
    told = capture["tables"]["public.parcels"]
    one = table("public.parcels", *told["columns"])
    trip = RoundTrip(Catalog(150_000, {one.name: one}), one, "json")
    ours = written(trip, Op.INSERT, None, (b"1", b"x", None, None))["schema"]

    def plain(schema: Any) -> Any:
        """Without what differs between versions: the prefix, defaults, and fields that came later."""
        if isinstance(schema, list):
            return [plain(part) for part in schema if part.get("field") not in {"exact", "origin", "origin_lsn"}]
        return {
            name: plain(part) if isinstance(part, list) else part.replace("mail.", "old.") if name == "name" else part
            for name, part in schema.items()
            if name != "default"
        }

    assert plain(theirs) == plain(ours)


def test_the_payload_is_debeziums() -> None:
    """A change has the envelope's fields, the source's and the transaction's, as Debezium names and orders them."""
    payload = written(both("id int not null", "v text"), Op.INSERT, None, (b"1", b"x"))
    source = payload.pop("source")

    assert {
        "before": None,
        "after": {"id": 1, "v": "x"},
        "transaction": {"id": "771:24023136", "total_order": 1, "data_collection_order": 1},
        "op": "c",
        "ts_ms": 1_700_000_001_500,
        "ts_us": 1_700_000_001_500_000,
        "ts_ns": 1_700_000_001_500_000_000,
    } == payload
    assert ["before", "after", "transaction", "op", "ts_ms", "ts_us", "ts_ns"] == list(payload)
    assert {
        "connector": "postgresql",
        "name": "old",
        "ts_ms": 1_700_000_000_250,
        "snapshot": "false",
        "db": "shop",
        "sequence": '["24023128","24023136"]',
        "ts_us": 1_700_000_000_250_000,
        "ts_ns": 1_700_000_000_250_000_000,
        "schema": "public",
        "table": "t",
        "txId": 771,
        "lsn": 24_023_136,
        "xmin": None,
        "origin": None,
        "origin_lsn": None,
    } == {name: value for name, value in source.items() if name != "version"}


@pytest.mark.parametrize(
    "kind,text,value",
    [
        ("numeric", b"NaN", "NAN"),
        ("numeric", b"1.50", "1.50"),
        ("money", b"-$1,234.50", "-1234.50"),
        ("float8", b"NaN", "NaN"),
        ("float8", b"-Infinity", "-Infinity"),
        ("float4[]", b"{NaN,1,NULL}", ["NaN", 1.0, None]),
        ("bytea", b"\\x00ff", "AP8="),
        ("date", b"infinity", -2147472692),
        ("date", b"2024-02-29", 19782),
        ("time", b"24:00:00", 86_400_000_000),
        ("time(3)", b"00:00:00.5", 500),
        ("timestamp", b"2018-06-20 15:13:16.945104", 1_529_507_596_945_104),
        ("timestamp", b"-infinity", -9_223_372_036_832_400_000),
        ("timestamptz", b"2018-06-20 13:37:03+00", "2018-06-20T13:37:03.000000Z"),
        ("timestamptz(0)", b"2018-06-20 13:37:03+00", "2018-06-20T13:37:03Z"),
        ("timestamptz", b"0044-03-15 00:00:00.1+00 BC", "-0043-03-15T00:00:00.100000Z"),
        ("interval", b"-1 years -2 mons +3 days -04:05:06.789", "P-1Y-2M3DT-4H-5M-6.789S"),
        ("interval", b"00:00:00", "P0Y0M0DT0H0M0S"),
        ("bit(12)", b"000000000101", "BQ=="),
        ("public.hstore", b'"a"=>"1", "b"=>NULL', '{"a":"1","b":null}'),
        ("crm.pair", b"(1,x)", "KDEseCk="),
        ("point", b"(1.5,-2)", {"x": 1.5, "y": -2.0, "wkb": "AQEAAAAAAAAAAAD4PwAAAAAAAADA", "srid": None}),
        ("int[]", b"{1,NULL}", [1, None]),
        ("public.sparsevec", b"{1:0.5,3:2}/5", {"dimensions": 5, "vector": [[1, 0.5], [3, 2.0]]}),
    ],
)
def test_values_are_debeziums(kind: str, text: bytes, value: Any) -> None:
    """A value has the form that Debezium gives it, and nothing is told besides where that form holds all of it."""
    payload = written(both("id int not null", f"v {kind}"), Op.INSERT, None, (b"1", text))

    assert value == payload["after"]["v"]
    assert "exact" not in payload


@pytest.mark.parametrize(
    "kind,text,value",
    [
        ("timetz", b"23:59:59+15:59", "08:00:59Z"),
        ("timetz", b"24:00:00.5-01", "01:00:00.5Z"),
        ("bit varying(5)", b"00101", "BQ=="),
        ("int[]", b"{{1,2},{3,4}}", []),
        ("int[]", b"[0:1]={5,6}", []),
        ("int[]", b"{NULL}", [None]),
        ("timetz[]", b"{12:00:00+02,NULL}", ["10:00:00Z", None]),
        ("interval", b"infinity", "P0Y0M0DT0H0M0S"),
        ("timestamp", b"294276-12-31 23:59:59.999999", 2**63 - 1),
        ("money", "1,00 €".encode(), "100"),
    ],
)
@pytest.mark.parametrize("form", JSON)
def test_what_the_form_loses_is_told_besides(kind: str, text: bytes, value: Any, form: Form) -> None:
    """Where Debezium's form loses something it is written all the same, with the text in `exact`."""
    trip = both("id int not null", f"v {kind}", form=form)
    content = written(trip, Op.INSERT, None, (b"1", text))
    payload = content["payload"] if form == "json" else content

    assert value == payload["after"]["v"]
    assert {"before": None, "after": {"v": text.decode()}} == payload["exact"]
    assert (b"1", text) == trip.read(trip.change(Op.INSERT, None, (b"1", text))).after


@pytest.mark.parametrize("form", JSON)
def test_an_unchanged_value_is_told_from_its_placeholder(form: Form) -> None:
    """A text that is the placeholder is that text; an unchanged value comes as Debezium writes it, and is told."""
    trip = both("id int not null", "v text", "b bytea", "a text[]", form=form)
    user: Values = (b"1", b"__debezium_unavailable_value", b"\\x00", b"{__debezium_unavailable_value}")
    row: Values = (b"1", UNCHANGED, UNCHANGED, UNCHANGED)
    content = written(trip, Op.UPDATE, None, row)
    after = (content["payload"] if form == "json" else content)["after"]

    assert user == trip.read(trip.change(Op.INSERT, None, user)).after
    assert row == trip.read(trip.change(Op.UPDATE, None, row)).after
    assert ("__debezium_unavailable_value", ["__debezium_unavailable_value"]) == (after["v"], after["a"])


def test_an_old_row_has_its_identity_alone() -> None:
    """What isn't known of an old row is null, or what Debezium puts where null may not be; under FULL all is known."""
    columns = ("id int not null", "v text not null", "n int")
    payload = written(both(*columns), Op.DELETE, (b"1", None, None), None)
    whole = both(*columns, identity="f")

    assert {"id": 1, "v": "", "n": None} == payload["before"]
    assert (b"1", b"x", None) == whole.read(whole.change(Op.DELETE, (b"1", b"x", None), None)).before


def test_keys() -> None:
    """A key has the key's columns, with their schema where records carry theirs; a table without one has none."""
    trips = {form: both("id int not null", "v text", form=form) for form in JSON}
    keys = {
        form: json.loads(trip.encoder.key(trip.described.relation, (b"7", b"x")) or b"") for form, trip in trips.items()
    }
    rows = held("v text", identity="f")
    bare = replace(trips["json"].described, relation=relation_of(rows), table=rows, key=())
    trips["json"].encoder.shape("old.public.t", bare)

    assert {"id": 7} == keys["json without schemas"]
    assert {
        "schema": {
            "type": "struct",
            "fields": [{"type": "int32", "optional": False, "field": "id"}],
            "optional": False,
            "name": "old.public.t.Key",
        },
        "payload": {"id": 7},
    } == keys["json"]
    assert trips["json"].encoder.key(bare.relation, (b"x",)) is None
    for form in FORMS:  # as Connect's default converter of headers writes it, beside any other
        trip = trips.get(form) or both("id int not null", "v text", form=form)
        assert b'{"id":7}' == trip.encoder.header(trip.described.relation, (b"7", None))


@pytest.mark.parametrize("with_schemas", [True, False])
def test_what_isnt_a_row_comes_back(with_schemas: bool) -> None:
    """Boundaries of transactions, heartbeats, logical messages and TRUNCATE are read as they were written."""
    encoder = DebeziumJsonEncoder("old", "shop", with_schemas=with_schemas)
    name = TableName("public", "t")
    one = held("id int not null")
    decoder = DebeziumJsonDecoder(Catalog(150_000, {name: one}), {"old.public.t": name}, CAPTURED, "old")
    begin, end = (
        TransactionMark("771", None, (), 1_700_000_000.25),
        TransactionMark("771", 3, ((name, 2),), 1_700_000_000.5),
    )
    said = Message("prefix", b"\x00\xff", 24_023_136, 771, 1_700_000_000.25, (24_023_128, 24_023_136))
    alone = Message("prefix", b"", 24_023_136, 0, None, (0, 24_023_136))
    trip = both("id int not null", form="json" if with_schemas else "json without schemas")
    truncated = trip.change(Op.TRUNCATE, None, None)

    for mark in (begin, end):
        key, value = encoder.mark(mark, 1.0)
        assert mark == decoder.decode(record("old.transaction", value, key))
    key, value = encoder.beat(Beat(1_700_000_000.125))
    assert Beat(1_700_000_000.125) == decoder.decode(record("__debezium-heartbeat.old", value, key))
    key, value = encoder.message(said, 1.0)
    assert said == decoder.decode(record("old.message", value, key))
    key, value = encoder.message(alone, 2.5)
    assert alone._replace(commit_time=2.5) == decoder.decode(record("old.message", value, key))
    assert truncated._replace(relation=trip.read(truncated).relation) == trip.read(truncated)


def test_a_change_comes_back_with_all_that_is_said_of_it() -> None:
    """Everything that a change says beside its row is read as it was written."""
    trip = both("id int not null")
    for change in (
        trip.change(Op.INSERT, None, (b"1",)),
        trip.change(Op.READ, None, (b"1",))._replace(xid=0, transaction=None, order=None, table_order=None),
        trip.change(Op.UPDATE, (b"2",), (b"1",))._replace(sequence=(0, 24_023_136)),
    ):
        read = trip.read(change)
        assert isinstance(read, RowChange)
        assert change._replace(relation=read.relation) == read


def test_what_postgresql_doesnt_print_is_refused() -> None:
    """A text that isn't PostgreSQL's stops the capture, with table and column, without the value."""
    trip = both("id int not null", "v date")
    with pytest.raises(ReplicatorError) as raised:
        trip.record(trip.change(Op.INSERT, None, (b"1", b"29/02/2024")))
    assert (ErrorKind.DECODE, "public.t", "v") == (raised.value.kind, raised.value.table, raised.value.column)
    assert "2024" not in str(raised.value)


TEXTS = st.text(st.sampled_from(string.printable + "é\u00a0😀") | st.characters(exclude_characters="\0", codec="utf-8"))


@given(st.lists(st.none() | TEXTS.map(str.encode)), st.sampled_from([b",", b";"]))
def test_arrays_are_taken_apart_as_they_are_put_together(elements: list[bytes | None], delimiter: bytes) -> None:
    """An array of any texts is parsed as it was printed."""
    assert elements == parsing.array_elements(printing.array_text(elements, delimiter), delimiter)


@given(st.dictionaries(TEXTS, st.none() | TEXTS))
def test_hstore_is_taken_apart_as_it_is_put_together(pairs: dict[str, str | None]) -> None:
    """An hstore of any texts is parsed as it was printed."""
    assert pairs == parsing.hstore_pairs(printing.hstore_text(pairs).decode())


@given(st.integers(-210_866_803_200_000_000, 9_224_318_015_999_999_999))
def test_moments_are_taken_apart_as_they_are_put_together(micros: int) -> None:
    """Any moment is parsed as it was printed."""
    assert micros == parsing.timestamp_micros(printing.timestamp_text(micros).decode())
    assert micros == parsing.timestamp_micros(printing.timestamp_text(micros, "+00").decode())
