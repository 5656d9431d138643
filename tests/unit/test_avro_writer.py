"""Schemas and values as we write them in Avro: against Confluent's converter, fastavro, and our own readers."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.avro.reader import compile_reader
from replicator.codecs.avro.schema import field_of, parse
from replicator.codecs.avro.schema_writer import schema_text
from replicator.codecs.avro.writer import compile_writer
from replicator.codecs.debezium.fields import Field

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "debezium_avro.json").read_text())


@pytest.mark.parametrize("number", GOLDEN["schemas"])
def test_schemas_are_written_as_the_converter_writes_them(number: str) -> None:
    """What the converter made of Debezium's schemas is what we make of them, but for defaults and comments."""

    def bare(schema: Any) -> Any:
        if isinstance(schema, list):
            branches = [bare(one) for one in schema]
            return ["null", *(one for one in branches if one != "null")] if "null" in branches else branches
        if not isinstance(schema, dict):
            return schema
        kept = {
            key: bare(one) for key, one in schema.items() if key not in {"connect.default", "connect.doc", "default"}
        }
        return kept["type"] if kept.keys() == {"type"} else kept

    golden = GOLDEN["schemas"][number]
    assert bare(json.loads(golden)) == bare(json.loads(schema_text(field_of(parse(golden)))))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=100),
    "string": st.text(max_size=50),
}


@st.composite
def fields(draw: st.DrawFn, names: list[str] | None = None, depth: int = 3) -> tuple[Field, st.SearchStrategy[Any]]:
    """A schema of Connect's, and what is written with it."""
    names = [] if names is None else names
    kind = draw(st.sampled_from([*VALUES, *(["struct", "array", "map"] if depth else [])]))
    optional = draw(st.booleans())
    values = VALUES.get(kind, st.none())
    if kind == "struct":
        names.append(f"a.b.N{len(names)}")
        name = names[-1]
        parts = draw(st.lists(fields(names, depth - 1), max_size=4))
        field = Field(kind, name, fields=tuple((f"f{n}", one) for n, (one, _) in enumerate(parts)), optional=optional)
        values = st.fixed_dictionaries({f"f{n}": one for n, (_, one) in enumerate(parts)})
    elif kind in {"array", "map"}:
        inner, each = draw(fields(names, depth - 1))
        array = kind == "array"
        field = Field(kind, items=inner if array else None, optional=optional)
        values = st.lists(each, max_size=4)
        if not array:
            field = Field(kind, keys=Field("string"), values=inner, optional=optional)
            values = st.dictionaries(st.text(max_size=5), each, max_size=4)
    else:
        meaning = draw(st.sampled_from([None, "io.debezium.data.Json"])) if kind == "string" else None
        field = Field(kind, meaning, version=1 if meaning else None, optional=optional)
    return field, st.none() | values if optional else values


@given(fields(), st.data())
def test_what_is_written_is_read(case: tuple[Field, st.SearchStrategy[Any]], data: st.DataObject) -> None:
    """By us, and by fastavro with the schema that goes with it; and that schema means the same."""
    field, values = case
    value = data.draw(values)
    content = compile_writer(field)(value)
    text = schema_text(field)
    assert value == compile_reader(parse(text))(content, 0)
    assert value == schemaless_reader(io.BytesIO(content), parse_schema(json.loads(text), {}), None)
    assert field == field_of(parse(text))


def test_a_map_whose_keys_are_no_texts() -> None:
    """Connect writes it as an array of entries; the type of an entry is told once."""
    pairs = Field("map", keys=Field("int16"), values=Field("double"))
    field = Field("struct", "a.Both", fields=(("one", pairs), ("two", pairs)))
    content = compile_writer(field)({"one": [(1, 0.5), (3, -1.0)], "two": []})
    schema = json.loads(schema_text(field))
    entries = [{"key": 1, "value": 0.5}, {"key": 3, "value": -1.0}]
    assert {"one": entries, "two": []} == compile_reader(parse(json.dumps(schema)))(content, 0)
    assert {"one": entries, "two": []} == schemaless_reader(io.BytesIO(content), parse_schema(schema, {}), None)
    assert "MapEntry" == schema["fields"][0]["type"]["items"]["connect.internal.type"]
    assert "io.confluent.connect.avro.MapEntry" == schema["fields"][1]["type"]["items"]
