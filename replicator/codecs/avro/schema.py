"""Schemas in Avro to Kafka Connect's, as the Avro converters of Confluent and Apicurio translate them.

https://github.com/confluentinc/schema-registry/blob/master/avro-data/src/main/java/io/confluent/connect/avro/AvroData.java
(Apicurio's is a fork of it). What Avro has no word for is in properties: connect.name, connect.version,
connect.parameters, connect.type, connect.default.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from replicator.codecs.avro.reader import NAMED, PRIMITIVE, full_name
from replicator.codecs.debezium.fields import DEPTH_MAX, Field, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES: Final[Mapping[str, str]] = {
    "boolean": "boolean",
    "int": "int32",
    "long": "int64",
    "float": "float",
    "double": "double",
    "string": "string",
    "bytes": "bytes",
    "enum": "string",
    "fixed": "bytes",
    "array": "array",
    "map": "map",
    "record": "struct",
}
_LOGICAL: Final[Mapping[tuple[str, str], str]] = {
    ("bytes", "decimal"): "org.apache.kafka.connect.data.Decimal",
    ("int", "date"): "org.apache.kafka.connect.data.Date",
    ("int", "time-millis"): "org.apache.kafka.connect.data.Time",
    ("long", "timestamp-millis"): "org.apache.kafka.connect.data.Timestamp",
}
"""Meanings that Avro has words for, where connect.name is missing."""
_UNNAMED: Final = "io.confluent.connect.avro.ConnectDefault"
_SIZE_MAX: Final = 1 << 30
_STRING: Final = Field("string")


def parse(text: str) -> Any:
    """A schema in Avro's JSON, checked to be one.

    Raises:
        MalformedError: it is none; says what is wrong.

    """
    try:
        schema = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise MalformedError("it is no JSON") from None
    _Checker().check(schema, "", 0)
    return schema


def field_of(schema: Any) -> Field:
    """What a parsed schema says, in Kafka Connect's words.

    Raises:
        MalformedError: Connect has no words for it (a union of several types); says what.

    """
    return _Translator().field(schema, "", 0)


class _Checker:
    """Finds what a reader would stumble over. Defaults and logical types are nobody's business here."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def check(self, schema: Any, namespace: str, depth: int) -> None:
        if depth > 2 * DEPTH_MAX:
            raise MalformedError("it is nested too deeply")
        if isinstance(schema, list):
            for branch in schema:
                if isinstance(branch, list):
                    raise MalformedError("it has a union in a union")
                self.check(branch, namespace, depth + 1)
            return
        kind = schema.get("type") if isinstance(schema, dict) else schema
        if isinstance(kind, dict | list):
            self.check(kind, namespace, depth + 1)
        elif not isinstance(kind, str):
            raise MalformedError("a type in it has no name")
        elif kind not in _TYPES and kind != "null":
            if not self._named & {kind, f"{namespace}.{kind}"}:
                raise MalformedError(f"it names a type that it doesn't define: {kind}")
        elif isinstance(schema, dict):
            self._check_parts(schema, kind, namespace, depth)
        elif kind not in PRIMITIVE:
            raise MalformedError(f"a type in it, {kind}, says nothing more")

    def _check_parts(self, schema: Mapping[str, Any], kind: str, namespace: str, depth: int) -> None:
        if kind in NAMED:
            name = schema.get("name")
            if not isinstance(name, str) or not name or not isinstance(schema.get("namespace", ""), str):
                raise MalformedError(f"a type in it, {kind}, has no name")
            full, namespace = full_name(schema, namespace)
            self._named.add(full)
        if kind == "record":
            self._check_fields(schema.get("fields"), namespace, depth)
        elif kind in {"array", "map"}:
            self.check(schema.get("items" if kind == "array" else "values"), namespace, depth + 1)
        elif kind == "enum":
            symbols = schema.get("symbols")
            if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
                raise MalformedError("an enum in it has no symbols")
        elif kind == "fixed":
            size = schema.get("size")
            if not isinstance(size, int) or not 0 <= size <= _SIZE_MAX:
                raise MalformedError("a fixed type in it has no size")

    def _check_fields(self, fields: Any, namespace: str, depth: int) -> None:
        if not isinstance(fields, list):
            raise MalformedError("a record in it has no fields")
        names: set[str] = set()
        for field in fields:
            name = field.get("name") if isinstance(field, dict) else None
            if not isinstance(name, str) or not name or name in names:
                raise MalformedError("a field in it has no name, or that of another one")
            names.add(name)
            self.check(field.get("type"), namespace, depth + 1)


class _Translator:
    """Walks one schema, and remembers the types that it has named."""

    def __init__(self) -> None:
        self._named: dict[str, Field] = {}

    def field(self, schema: Any, namespace: str, depth: int, *, default: bool = False) -> Field:
        if depth > DEPTH_MAX:
            raise MalformedError(f"its schema is nested deeper than {DEPTH_MAX}, or in itself")
        if isinstance(schema, list):
            return self._union(schema, namespace, depth, default=default)
        if isinstance(schema, str):
            if schema not in _TYPES:
                return self._by_name(schema, namespace)
            schema = {"type": schema}
        kind = schema["type"]
        if isinstance(kind, dict | list):
            return self.field(kind, namespace, depth + 1, default=default)
        if kind not in _TYPES:
            return self._by_name(kind, namespace)
        return self._typed(schema, kind, namespace, depth, default=default)

    def _union(self, branches: list[Any], namespace: str, depth: int, *, default: bool) -> Field:
        others = [branch for branch in branches if branch != "null"]
        if len(others) != 1:
            raise MalformedError("its schema has a union of several types")
        inner = self.field(others[0], namespace, depth + 1, default=default)
        return replace(inner, optional=True) if len(others) < len(branches) else inner

    def _by_name(self, name: str, namespace: str) -> Field:
        found = self._named.get(f"{namespace}.{name}", self._named.get(name))
        if found is None:
            raise MalformedError("its schema is nested in itself")
        return found

    def _typed(self, schema: Mapping[str, Any], kind: str, namespace: str, depth: int, *, default: bool) -> Field:
        own, full = namespace, None
        if "name" in schema:
            full, own = full_name(schema, namespace)
        name = schema.get("connect.name") or _LOGICAL.get((kind, str(schema.get("logicalType"))))
        if name is None and kind == "record" and full != _UNNAMED:
            name = full
        version = schema.get("connect.version")
        declared = schema.get("connect.type")
        small = kind == "int" and declared in {"int8", "int16"}
        found = Field(
            type=str(declared) if small else _TYPES[kind],
            name=None if name is None else str(name),
            parameters=_parameters(schema, kind),
            version=version if isinstance(version, int) else None,
            items=self.field(schema["items"], own, depth + 1) if kind == "array" else None,
            keys=_STRING if kind == "map" else None,
            values=self.field(schema["values"], own, depth + 1) if kind == "map" else None,
            fields=self._fields(schema, own, depth) if kind == "record" else (),
            has_default=default or schema.get("connect.default") is not None,
        )
        if full is not None:
            self._named[full] = found
        return found

    def _fields(self, schema: Mapping[str, Any], namespace: str, depth: int) -> tuple[tuple[str, Field], ...]:
        return tuple(
            (
                field["name"],
                self.field(field["type"], namespace, depth + 1, default=field.get("default") is not None),
            )
            for field in schema["fields"]
        )


def _parameters(schema: Mapping[str, Any], kind: str) -> dict[str, str]:
    found = schema.get("connect.parameters")
    parameters = {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
    if kind in {"bytes", "fixed"} and schema.get("logicalType") == "decimal":
        parameters.setdefault("scale", str(schema.get("scale", 0)))
    return parameters
