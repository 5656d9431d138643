"""Tables of an old database, described by a line a column, and Debezium's records about them, in short."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.fields import Field, field_as_json
from replicator.codecs.debezium.modes import Modes
from replicator.records import Record
from replicator.tables import Catalog, Column, Table, TableName

NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
LENGTH = re.compile(r"(?:bit|bit varying|timestamp|timestamptz|time|timetz)\((\d+)\)")
NAMES = {
    "int": "integer",
    "time": "time without time zone",
    "timetz": "time with time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "varchar": "character varying",
    "float4": "real",
    "float8": "double precision",
    "bit": "bit varying",
}
LOSSLESS = {
    "decimal.handling.mode": "string",
    "interval.handling.mode": "string",
    "include.unknown.datatypes": "true",
    "value.converter.replace.null.with.default": "false",
}
"""Settings that lose the least, as preflight asks for them."""


def column(line: str) -> Column:
    """A column from `name type [not null] [default]`."""
    name, _, rest = line.partition(" ")
    default = rest.endswith(" default")
    rest = rest.removesuffix(" default")
    nullable = not rest.endswith(" not null")
    kind = rest.removesuffix(" not null")
    bare, array = kind.removesuffix("[]"), "[]" if kind.endswith("[]") else ""
    typmod = -1
    if match := NUMERIC.fullmatch(bare):
        typmod = (int(match[1]) << 16 | (int(match[2]) & 0x7FF)) + 4
    elif match := LENGTH.fullmatch(bare):
        typmod = int(match[1])
    base = re.sub(r"\(.*\)", "", bare)
    cast = NAMES.get(base, base) + array
    shown = bare.replace(base, base if base in {"bit", "bit varying"} else NAMES.get(base, base)) + array
    return Column(name, 1, shown, cast, typmod=typmod, base_typmod=typmod, nullable=nullable, has_default=default)


def table(name: str, *lines: str, key: Sequence[str] = ("id",), identity: str = "d") -> Table:
    """A table with these columns."""
    columns = tuple(map(column, lines))
    told = tuple(one.name for one in columns) if identity == "f" else () if identity == "n" else tuple(key)
    return Table(TableName.parse(name), columns, replica_identity=identity, identity_columns=told)


def decoder(
    *tables: Table,
    settings: Mapping[str, str] | None = None,
    enums: Mapping[str, tuple[str, ...]] | None = None,
    by_topic: bool = True,
) -> DebeziumJsonDecoder:
    """A decoder of the topics `old.<table>`."""
    catalog = Catalog(150_000, {one.name: one for one in tables}, enums or {})
    topics = {f"old.{one.name}": one.name for one in tables} if by_topic else {}
    return DebeziumJsonDecoder(catalog, topics, Modes.of(settings or LOSSLESS), "old")


SOURCE: dict[str, Any] = {
    "version": "3.6.0.Final",
    "connector": "postgresql",
    "name": "old",
    "ts_ms": 1_700_000_000_123,
    "snapshot": None,
    "db": "shop",
    "sequence": '["24023119","24023128"]',
    "ts_us": 1_700_000_000_123_456,
    "ts_ns": 1_700_000_000_123_456_000,
    "txId": 555,
    "lsn": 24_023_128,
    "xmin": None,
}


def envelope(name: str, op: str, before: Any = None, after: Any = None, **source: Any) -> dict[str, Any]:
    """A change as Debezium writes it."""
    schema, _, bare = name.partition(".")
    return {
        "before": before,
        "after": after,
        "source": SOURCE | {"schema": schema, "table": bare} | source,
        "transaction": None,
        "op": op,
        "ts_ms": 1_700_000_000_500,
        "ts_us": 1_700_000_000_500_000,
        "ts_ns": 1_700_000_000_500_000_000,
    }


def with_schema(content: Any, fields: Mapping[str, Field], *, flat: bool = False) -> dict[str, Any]:
    """What holds a record's content and its schema."""
    row = Field("struct", "Value", optional=True, fields=tuple(fields.items()))
    whole = row if flat else Field("struct", "Envelope", fields=(("before", row), ("after", row)))
    return {"schema": field_as_json(whole), "payload": content}


def record(
    topic: str, value: Any, key: Any = None, headers: Sequence[tuple[str, bytes | None]] = (), offset: int = 7
) -> Record:
    """A record of these contents; bytes as they are."""

    def written(content: Any) -> bytes | None:
        return content if content is None or isinstance(content, bytes) else json.dumps(content).encode()

    return Record(topic, 0, offset, None, written(key), written(value), tuple(headers))
