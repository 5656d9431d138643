"""Avro's binary encoding: the generated readers against fastavro's."""

import contextlib
import io
import json
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.avro.reader import compile_reader
from replicator.codecs.avro.schema import parse
from replicator.codecs.debezium.fields import MalformedError

LONGS = st.integers(-(2**63), 2**63 - 1)
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": LONGS | st.integers(-200, 200),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=200),
    "string": st.text(max_size=100),
}

Case = tuple[Any, st.SearchStrategy[Any]]
"""A schema, and what is written with it."""


def _nullable(case: Case) -> Case:
    return ["null", case[0]], st.none() | case[1]


@st.composite
def cases(draw: st.DrawFn, names: list[str] | None = None, depth: int = 3) -> Case:
    """Schemas as the Avro converters write them, and more: every kind, one named type used twice."""
    names = [] if names is None else names
    kind = draw(st.sampled_from([*PRIMITIVES, *(["record", "array", "map", "enum", "fixed"] if depth else [])]))
    if kind in PRIMITIVES:
        case: Case = (kind if draw(st.booleans()) else {"type": kind, "connect.version": 1}), PRIMITIVES[kind]
    elif kind in {"array", "map"}:
        inner, values = draw(cases(names, depth - 1))
        case = (
            ({"type": "array", "items": inner}, st.lists(values, max_size=5))
            if kind == "array"
            else ({"type": "map", "values": inner}, st.dictionaries(st.text(max_size=9), values, max_size=5))
        )
    else:
        names.append(f"N{len(names)}")
        head = {"type": kind, "name": names[-1]} | draw(st.sampled_from([{}, {"namespace": "a.b"}]))
        if kind == "fixed":
            size = draw(st.integers(0, 20))
            case = head | {"size": size}, st.binary(min_size=size, max_size=size)
        elif kind == "enum":
            case = head | {"symbols": ["A", "B", "C"]}, st.sampled_from("ABC")
        else:
            fields = draw(st.lists(cases(names, depth - 1), max_size=5))
            case = (
                head | {"fields": [{"name": f"f{n}", "type": schema} for n, (schema, _) in enumerate(fields)]},
                st.fixed_dictionaries({f"f{n}": values for n, (_, values) in enumerate(fields)}),
            )
    return _nullable(case) if case[0] != "null" and draw(st.booleans()) else case


def write(schema: Any, value: Any) -> bytes:
    written = io.BytesIO()
    schemaless_writer(written, parse_schema(schema, {}), value)
    return written.getvalue()


@given(cases(), st.data())
def test_reads_what_fastavro_reads(case: Case, data: st.DataObject) -> None:
    """Whatever the schema and the value, the same comes out."""
    schema, values = case
    written = write(schema, data.draw(values))
    expected = schemaless_reader(io.BytesIO(written), parse_schema(schema, {}), None)
    read = compile_reader(parse(json.dumps(schema)))(b"head" + written, 4)
    assert expected == read


@given(cases(), st.data())
def test_cut_short_is_malformed(case: Case, data: st.DataObject) -> None:
    """A value that lacks its last byte, or has one too many, is never taken for a value."""
    schema, values = case
    written = write(schema, data.draw(values))
    read = compile_reader(parse(json.dumps(schema)))
    with pytest.raises(MalformedError):
        read(written + b"\0", 0)
    if written:
        with pytest.raises(MalformedError):
            read(written[:-1], 0)


@given(cases(), st.binary(max_size=100))
def test_noise_is_malformed_or_a_value(case: Case, noise: bytes) -> None:
    """Any bytes give a value, or one kind of error, in bounded time and memory."""
    read = compile_reader(parse(json.dumps(case[0])))
    with contextlib.suppress(MalformedError):
        read(noise, 0)


STEADY = st.sets(st.sampled_from(["gone", "deep", "deep.gone", "kept"]))


@given(cases(), cases(), st.data())
def test_unneeded_fields_are_passed_over(first: Case, second: Case, data: st.DataObject) -> None:
    """A field that nobody asks for is left out, and changes nothing of what comes after it."""
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "gone", "type": _renamed(first[0])},
            {"name": "deep", "type": {"type": "record", "name": "D", "fields": [{"name": "gone", "type": "string"}]}},
            {"name": "kept", "type": second[0]},
        ],
    }
    kept = data.draw(second[1])
    written = write(schema, {"gone": data.draw(first[1]), "deep": {"gone": "x"}, "kept": kept})
    read = compile_reader(
        parse(json.dumps(schema)), unneeded=["gone", "deep.gone"], rows=["deep"], steady=data.draw(STEADY)
    )
    for _ in range(2):
        assert {"deep": (), "kept": kept} == read(written, 0)


def _renamed(schema: Any) -> Any:
    """Names of their own, beside those of another schema."""
    text = json.dumps(schema)
    for number in range(30):
        text = text.replace(f'"N{number}"', f'"M{number}"')
    return json.loads(text)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab"), st.integers(-200, 200)), min_size=1))
def test_steady_fields_are_read_each_time(rows: list[tuple[str, str, int]]) -> None:
    """A field that is compared with the value before is what it is in this one, also after a value that was cut."""
    names = ("version", "table", "id")
    fields = [{"name": name, "type": kind} for name, kind in zip(names, ("string", "string", "long"), strict=True)]
    schema = {"type": "record", "name": "R", "fields": fields}
    read = compile_reader(parse(json.dumps(schema)), unneeded=["version"], steady=["version", "table"])
    for version, table, number in rows:
        written = write(schema, {"version": version, "table": table, "id": number})
        for end in range(len(written)):
            with pytest.raises(MalformedError):
                read(written[:end], 0)
        assert {"table": table, "id": number} == read(written, 0)


@pytest.mark.parametrize(
    "schema, written",
    [
        ("long", b"\xff" * 10 + b"\1"),
        ("long", b"\xff" * 9 + b"\7"),
        ("string", b"\1"),
        ("string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1x"),
        ("string", b"\2\xff"),
        ("boolean", b"\2"),
        ({"type": "array", "items": "null"}, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\2"),
        (["null", "int"], b"\4\0"),
        ({"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}, b"\2" * 100_000),
    ],
)
def test_what_no_writer_writes(schema: Any, written: bytes) -> None:
    """Numbers that are too long, lengths that are negative or lie: all the same error, at once."""
    with pytest.raises(MalformedError):
        compile_reader(parse(json.dumps(schema)))(written, 0)


def test_blocks_with_sizes_are_read() -> None:
    """A writer may say how large a block is, so that readers can pass it over."""
    assert [1, 2, 3] == compile_reader({"type": "array", "items": "int"})(b"\3\4\2\4\2\6\0", 0)
