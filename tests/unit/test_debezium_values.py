"""Values under every mode of Debezium's: brought back to PostgreSQL's text, or refused by the setting's name."""

import base64
import hashlib
import json
import uuid
from typing import Any

import pytest

from replicator.codecs.debezium.fields import Field
from replicator.codecs.debezium.modes import Modes
from replicator.codecs.debezium.values import converter
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Value
from replicator.records import RowChange
from tests.debezium_tables import LOSSLESS, column, decoder, envelope, record, table, with_schema

PLACEHOLDER = "__debezium_unavailable_value"
TOASTED = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
DECIMAL = "org.apache.kafka.connect.data.Decimal"


def without_schema(kind: str, value: Any, settings: dict[str, str] | None = None) -> Value:
    """The value of a column of this type, read from a record without schema."""
    held = table("public.t", f"v {kind}", identity="n")
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    body = json.dumps(envelope("public.t", "c", None, {"v": "?"})).encode().replace(b'"?"', text)
    change = decoder(held, settings=LOSSLESS | (settings or {})).decode(record("old.public.t", body))
    assert isinstance(change, RowChange)
    assert change.after is not None
    return change.after[0]


def by_schema(kind: str, field: Field, value: Any, settings: dict[str, str] | None = None) -> Value:
    """Likewise, from a record that carries its schema, whatever the settings."""
    held = table("public.t", f"v {kind}", identity="n")
    content = with_schema(envelope("public.t", "c", None, {"v": value}), {"v": field})
    change = decoder(held, settings=LOSSLESS | (settings or {})).decode(record("old.public.t", content))
    assert isinstance(change, RowChange)
    assert change.after is not None
    return change.after[0]


@pytest.mark.parametrize(
    "kind,value,expected",
    [
        ("int", 2147483647, b"2147483647"),
        ("bigint", 9007199254740993, b"9007199254740993"),
        ("bigint", -9223372036854775808, b"-9223372036854775808"),
        ("oid", 4294967295, b"4294967295"),
        ("boolean", True, b"t"),
        ("float4", 0.1, b"0.1"),
        ("float4", b"3.4028235E38", b"3.4028235e+38"),
        ("float4", b"1.0E10", b"1e+10"),
        ("float8", b"1.0E15", b"1e+15"),
        ("float8", b"1.23456789012345E14", b"123456789012345"),
        ("float8", "NaN", b"NaN"),
        ("float8", "-Infinity", b"-Infinity"),
        ("float8", b"-0.0", b"-0"),
        ("text", "null", b"null"),
        ("text", "\U0001f600\u0301", "\U0001f600\u0301".encode()),
        ("bpchar", "ab   ", b"ab   "),
        ('"char"', "", b""),
        ("name", PLACEHOLDER, PLACEHOLDER.encode()),
        ("text", PLACEHOLDER, UNCHANGED),
        ("jsonb", '{"a": 1.10}', b'{"a": 1.10}'),
        ("jsonb", PLACEHOLDER, UNCHANGED),
        ("uuid", "00000000-0000-0000-0000-000000000000", b"00000000-0000-0000-0000-000000000000"),
        ("xml", "<a/>", b"<a/>"),
        ("numeric", "0.00", b"0.00"),
        ("numeric", "NAN", b"NaN"),
        ("numeric", "NEGATIVE_INFINITY", b"-Infinity"),
        ("numeric", PLACEHOLDER, UNCHANGED),
        ("money", "-12.30", b"-$12.30"),
        ("money", "92233720368547758.07", b"$92,233,720,368,547,758.07"),
        ("bytea", "AP8nXA==", b"\\x00ff275c"),
        ("bytea", TOASTED, UNCHANGED),
        ("date", 0, b"1970-01-01"),
        ("date", -735160, b"0044-03-15 BC"),
        ("date", -2147472692, b"infinity"),
        ("date", -2147472691, b"-infinity"),
        ("time", 86400000000, b"24:00:00"),
        ("time(3)", 500, b"00:00:00.5"),
        ("timestamp", 1529507596945104, b"2018-06-20 15:13:16.945104"),
        ("timestamp", 9223372036825200000, b"infinity"),
        ("timestamp", -9223372036832400000, b"-infinity"),
        ("timestamp", -62135596800000001, b"0001-12-31 23:59:59.999999 BC"),
        ("timestamp(3)", 1529507596945, b"2018-06-20 15:13:16.945"),
        ("timestamp(3)", 9223372036825200, b"infinity"),
        ("timestamptz", "2018-06-20T13:37:03.123456Z", b"2018-06-20 13:37:03.123456+00"),
        ("timestamptz", "2018-06-20T13:37:03.000000Z", b"2018-06-20 13:37:03+00"),
        ("timestamptz", "2018-06-20T13:37:03Z", b"2018-06-20 13:37:03+00"),
        ("timestamptz", "-0043-03-15T00:00:00.100000Z", b"0044-03-15 00:00:00.1+00 BC"),
        ("timestamptz", "0000-03-15T00:00:00Z", b"0001-03-15 00:00:00+00 BC"),
        ("timestamptz", "+10000-01-01T00:00:00Z", b"10000-01-01 00:00:00+00"),
        ("timestamptz", "-infinity", b"-infinity"),
        ("interval", "P1Y2M3DT4H5M6.78S", b"1 year 2 mons 3 days 04:05:06.78"),
        ("interval", "P-1Y-2M3DT-4H-5M-6.789S", b"-1 years -2 mons +3 days -04:05:06.789"),
        ("interval", "P0Y0M0DT24H0M0S", b"24:00:00"),
        ("interval", "P0Y0M0DT0H0M0S", b"00:00:00"),
        ("bit(3)", "BQ==", b"101"),
        ("bit(12)", "", b"000000000000"),
        ("bit(1)", True, b"1"),
        ("public.hstore", '{"b":null,"a":"1","a\\"":"\\\\"}', b'"a"=>"1", "b"=>NULL, "a\\""=>"\\\\"'),
        ("public.hstore", f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}', UNCHANGED),
        ("public.citext", "MiXed", b"MiXed"),
        ("public.ltree", "Top.Science", b"Top.Science"),
        ("inet", "10.0.0.1/8", b"10.0.0.1/8"),
        ("numrange", "(1.10,2.0]", b"(1.10,2.0]"),
        ("tsmultirange", "e30=", b"{}"),
        ("box", "KDMuMCw0LjApLCgxLjAsMi41RTIwKQ==", b"(3,4),(1,2.5e+20)"),
        ("crm.pair", "KDEseCk=", b"(1,x)"),
        ("crm.pair", TOASTED, UNCHANGED),
        ("point", {"x": 1.5, "y": -2.0, "wkb": "AQ==", "srid": None}, b"(1.5,-2)"),
        ("point", {"x": "NaN", "y": "Infinity", "wkb": None, "srid": None}, b"(NaN,Infinity)"),
        (
            "public.geometry",
            {"wkb": "AQEAAAAAAAAAAAAAAAAAAAAAAPA/", "srid": None},
            b"01010000000000000000000000000000000000F03F",
        ),
        ("public.vector", [1.0, 0.1, 1e-05], b"[1,0.1,1e-05]"),
        ("public.halfvec", [1.0, 2.5], b"[1,2.5]"),
        ("public.sparsevec", {"dimensions": 5, "vector": [[3, 2.0], [1, 0.5]]}, b"{1:0.5,3:2}/5"),
        ("int[]", [1, None, 3], b"{1,NULL,3}"),
        ("int[]", [], b"{}"),
        ("int[]", list(PLACEHOLDER.encode()), UNCHANGED),
        ("bigint[]", list(PLACEHOLDER.encode()), UNCHANGED),
        ("date[]", list(PLACEHOLDER.encode()), UNCHANGED),
        ("text[]", [PLACEHOLDER], UNCHANGED),
        ("text[]", [PLACEHOLDER, "a"], f"{{{PLACEHOLDER},a}}".encode()),
        ("bytea[]", [TOASTED], UNCHANGED),
        ("uuid[]", ["8b4a7e80-0c6c-3a0e-8e0b-000000000000"], b"{8b4a7e80-0c6c-3a0e-8e0b-000000000000}"),
        ("numeric[]", ["1.50", "NAN"], b"{1.50,NaN}"),
        ("text[]", ["", None, "NULL", 'a"b', "{x}", "\\", "c d"], b'{"",NULL,"NULL","a\\"b","{x}","\\\\","c d"}'),
        ("timestamptz[]", ["2024-01-01T00:00:00Z"], b'{"2024-01-01 00:00:00+00"}'),
        ("float8[]", ["NaN", 1.0], b"{NaN,1}"),
        ("bytea[]", ["AP8=", None], b'{"\\\\x00ff",NULL}'),
        ("crm.pair[]", ["KDEseCk="], b'{"(1,x)"}'),
    ],
)
def test_lossless_modes(kind: str, value: Any, expected: Value) -> None:
    """In the modes that lose nothing a value is what PostgreSQL prints, without any schema in the record."""
    assert expected == without_schema(kind, value)


_SCALED = base64.b64encode((12300 * 10**2046).to_bytes(900)).decode()
"""12300 of a numeric(3, -2), whose scale Debezium takes for 2046."""


@pytest.mark.parametrize(
    "kind,settings,value,expected",
    [
        ("numeric(10,2)", {"decimal.handling.mode": "precise"}, "AJY=", b"1.50"),
        ("numeric(10,2)", {"decimal.handling.mode": "precise"}, "9g==", b"-0.10"),
        ("numeric(3,-2)", {"decimal.handling.mode": "precise"}, _SCALED, b"12300"),
        ("numeric(6,2)[]", {"decimal.handling.mode": "precise"}, ["AJY=", None], b"{1.50,NULL}"),
        ("money", {"decimal.handling.mode": "precise"}, "AJY=", b"$1.50"),
        ("money", {"decimal.handling.mode": "precise", "money.fraction.digits": "4"}, "OpY=", None),
        ("bytea", {"binary.handling.mode": "base64"}, "AP8nXA==", b"\\x00ff275c"),
        ("bytea", {"binary.handling.mode": "base64"}, PLACEHOLDER, UNCHANGED),
        ("bytea", {"binary.handling.mode": "base64-url-safe"}, "__-_", b"\\xffffbf"),
        ("bytea", {"binary.handling.mode": "hex"}, "00ff275c", b"\\x00ff275c"),
        ("crm.pair", {"binary.handling.mode": "hex"}, "28312c7829", b"(1,x)"),
        ("public.hstore", {"hstore.handling.mode": "map"}, {"b": None, "a": "1"}, b'"a"=>"1", "b"=>NULL'),
        ("public.hstore", {"hstore.handling.mode": "map"}, {PLACEHOLDER: PLACEHOLDER}, UNCHANGED),
        ("date", {"time.precision.mode": "connect"}, 19782, b"2024-02-29"),
        ("date", {"time.precision.mode": "isostring"}, "2024-02-29Z", b"2024-02-29"),
        ("date", {"time.precision.mode": "isostring"}, "-5877611-06-21Z", b"infinity"),
        ("time(3)", {"time.precision.mode": "adaptive_time_microseconds"}, 500000, b"00:00:00.5"),
        ("time(3)", {"time.precision.mode": "connect"}, 500, b"00:00:00.5"),
        ("time", {"time.precision.mode": "nanoseconds"}, 86400000000000, b"24:00:00"),
        ("timestamp(3)", {"time.precision.mode": "microseconds"}, 1529507596945000, b"2018-06-20 15:13:16.945"),
        ("timestamp(3)", {"time.precision.mode": "connect"}, 1529507596945, b"2018-06-20 15:13:16.945"),
        ("timestamp", {"time.precision.mode": "nanoseconds"}, 1529507596945104000, b"2018-06-20 15:13:16.945104"),
        (
            "timestamp",
            {"time.precision.mode": "isostring"},
            "2018-06-20T15:13:16.945104Z",
            b"2018-06-20 15:13:16.945104",
        ),
        ("timestamp", {"time.precision.mode": "isostring"}, "+294247-01-10T04:00:25.2Z", b"infinity"),
        ("timestamp", {"time.precision.mode": "isostring"}, "-290308-12-21T19:59:27.6Z", b"-infinity"),
        ("text", {"unavailable.value.placeholder": "?"}, "?", UNCHANGED),
        (
            "numeric(5,2)",
            {"decimal.handling.mode": "precise", "value.converter.decimal.format": "NUMERIC"},
            b"1.50",
            b"1.50",
        ),
    ],
)
def test_other_modes(kind: str, settings: dict[str, str], value: Any, expected: Value) -> None:
    """A mode that keeps a type whole brings its values back as well."""
    if expected is None:
        with pytest.raises(ReplicatorError, match="no amount of money"):
            without_schema(kind, value, settings)
    else:
        assert expected == without_schema(kind, value, settings)


@pytest.mark.parametrize(
    "kind,field,setting",
    [
        ("numeric", Field("double"), "decimal.handling.mode=string"),
        ("numeric(10,2)", Field("double"), "decimal.handling.mode=string"),
        ("money", Field("double"), "decimal.handling.mode=string"),
        ("money", Field("bytes", DECIMAL, {"scale": "0"}), "money.fraction.digits=2"),
        ("numeric", Field("struct", "io.debezium.data.VariableScaleDecimal"), "decimal.handling.mode=string"),
        ("interval", Field("int64", "io.debezium.time.MicroDuration"), "interval.handling.mode=string"),
        ("time", Field("int32", "org.apache.kafka.connect.data.Time"), "time.precision.mode=adaptive"),
        ("timestamp", Field("int64", "org.apache.kafka.connect.data.Timestamp"), "time.precision.mode=adaptive"),
        ("time", Field("string", "io.debezium.time.IsoTime"), "time.precision.mode=adaptive"),
        ("timetz", Field("string", "io.debezium.time.ZonedTime"), "column.exclude.list"),
        ("bit varying(5)", Field("bytes", "io.debezium.data.Bits", {"length": "5"}), "column.exclude.list"),
        ("bytea", Field("string"), "binary.handling.mode"),
        (
            "bit(3)[]",
            Field("array", items=Field("bytes", "io.debezium.data.Bits", {"length": "3"})),
            "column.exclude.list",
        ),
        ("time[]", Field("array", items=Field("int64", "io.debezium.time.MicroTime")), "column.exclude.list"),
        ("oidvector", Field("array", items=Field("int64")), "column.exclude.list"),
        ("text", Field("string", "io.example.Unheard"), "column.exclude.list"),
        ("text default", Field("string", optional=True, has_default=True), "replace.null.with.default=false"),
    ],
)
def test_what_loses_is_refused(kind: str, field: Field, setting: str) -> None:
    """A form that loses what the column may hold is refused, by the name of the setting that keeps it."""
    with pytest.raises(ReplicatorError) as raised:
        converter(field, column(f"v {kind}"), Modes(unknown_types=True))
    assert ErrorKind.DECODE == raised.value.kind
    assert setting in str(raised.value)
    assert "v" == raised.value.column


def test_null_is_told_from_a_default() -> None:
    """A column with a default is read where the converter writes NULL as null, and where it can't be NULL."""
    field = Field("string", optional=True, has_default=True)

    assert b"x" == converter(field, column("v text default"), Modes(null_is_null=True))("x")
    assert b"x" == converter(field, column("v text not null default"), Modes())("x")


@pytest.mark.parametrize(
    "kind,value", [("int[]", [None, None]), ("text[]", ["[Ljava.lang.String;@1b2c3d", "[Ljava.lang.String;@4e5f60"])]
)
def test_an_array_of_more_dimensions_is_refused(kind: str, value: list[Any]) -> None:
    """Debezium writes the parts of such an array as NULL, or as names of objects: nothing is guessed."""
    with pytest.raises(ReplicatorError, match="several dimensions"):
        without_schema(kind, value)


@pytest.mark.parametrize(
    "kind,value",
    [("date[]", [-703383]), ("timestamp[]", [-63517996800000000]), ("timestamptz[]", ["0044-03-15T00:00:00.000000Z"])],
)
def test_early_dates_in_arrays_are_refused(kind: str, value: list[Any]) -> None:
    """Debezium reads arrays by Java's dates, which had another calendar then, and drops the era."""
    with pytest.raises(ReplicatorError, match="before 1583"):
        without_schema(kind, value)


def test_what_java_makes_of_dates() -> None:
    """Infinity in a snapshot or an array, and a negative scale, are known by what Debezium makes of them."""
    assert b"{infinity,-infinity,2024-02-29}" == without_schema("date[]", [-622191234, -625821272, 19782])
    assert b"12300" == without_schema("numeric(3,-2)", "12300." + "0" * 2046)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), -(2**63) + 999_999_000])
def test_moments_beyond_nanoseconds_are_refused(value: int) -> None:
    """Anything after 2262, and infinity, have one number in nanoseconds: refused when it comes."""
    with pytest.raises(ReplicatorError, match=r"time\.precision\.mode=microseconds"):
        without_schema("timestamp", value, {"time.precision.mode": "nanoseconds"})
    with pytest.raises(ReplicatorError, match="can't be decoded"):
        without_schema("timestamp", value)


def test_the_schema_counts() -> None:
    """Where a record carries its schema, that says how a value is written, not the settings."""
    micros = Field("int64", "io.debezium.time.MicroTimestamp", optional=True)
    precise = Field("bytes", DECIMAL, {"scale": "3"}, optional=True)

    assert b"1970-01-01 00:00:01" == by_schema("timestamp(3)", micros, 1_000_000)
    assert b"0.150" == by_schema("numeric(10,3)", precise, "AJY=", {"decimal.handling.mode": "string"})


def test_a_placeholder_of_uuids() -> None:
    """An unchanged uuid[] is the one uuid that Java makes of the placeholder as a name."""
    digest = hashlib.md5(PLACEHOLDER.encode(), usedforsecurity=False).digest()

    assert UNCHANGED is without_schema("uuid[]", [str(uuid.UUID(bytes=digest, version=3))])
