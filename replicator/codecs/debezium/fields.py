"""Schemas of Kafka Connect: what says how a value is written, in JSON's `schema` part and, translated, in Avro's.

Written as Kafka's JsonConverter does (`asJsonSchema`):
https://github.com/apache/kafka/blob/trunk/connect/json/src/main/java/org/apache/kafka/connect/json/JsonConverter.java
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

TYPES: Final = frozenset(
    {
        "boolean",
        "int8",
        "int16",
        "int32",
        "int64",
        "float",
        "double",
        "string",
        "bytes",
        "struct",
        "array",
        "map",
    }
)
DEPTH_MAX: Final = 32
"""Nesting of a schema that somebody still means; an array of structs within an envelope has 5."""


@dataclass(frozen=True, eq=True)
class Field:
    """A schema of Kafka Connect.

    Attributes:
        type: one of `TYPES` ('float' has 32 bits, 'double' 64).
        name: what it means, such as io.debezium.time.MicroTimestamp; None where the type says it all.
        parameters: of that meaning (scale, length, allowed, ...).
        version: of that meaning.
        optional: whether a value may be null.
        items: of an array.
        keys, values: of a map.
        fields: of a struct, in order, with their names.
        has_default: it names a default. A converter with `replace.null.with.default` writes that in place of null.

    """

    type: str
    name: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    version: int | None = None
    optional: bool = False
    items: Field | None = None
    keys: Field | None = None
    values: Field | None = None
    fields: tuple[tuple[str, Field], ...] = ()
    has_default: bool = False

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """The fields of a struct."""
        return dict(self.fields)


class MalformedError(ValueError):
    """What is wrong with a schema, a value or an envelope; never the value itself. Gets its place from who decodes."""


def field_of_json(schema: object, depth: int = 0) -> Field:
    """Read a schema as JsonConverter writes it.

    Raises:
        MalformedError: it is none; says what is wrong.

    """
    if depth > DEPTH_MAX:
        raise MalformedError(f"its schema is nested deeper than {DEPTH_MAX}")
    if not isinstance(schema, dict):
        raise MalformedError("a part of its schema is no object")
    kind, name, parameters, version = (schema.get(key) for key in ("type", "name", "parameters", "version"))
    if not isinstance(kind, str) or kind not in TYPES:
        raise MalformedError(f"a part of its schema is of the type {kind!r}, which Kafka Connect doesn't have")
    if not isinstance(name, str | None) or not isinstance(version, int | None):
        raise MalformedError("a name or version in its schema is of another type")
    if parameters is not None and not (
        isinstance(parameters, dict) and all(isinstance(value, str) for value in parameters.values())
    ):
        raise MalformedError("parameters in its schema are no texts by name")
    return Field(
        type=kind,
        name=name,
        parameters=parameters or {},
        version=version,
        optional=schema.get("optional") is True,
        items=field_of_json(schema.get("items"), depth + 1) if kind == "array" else None,
        keys=field_of_json(schema.get("keys"), depth + 1) if kind == "map" else None,
        values=field_of_json(schema.get("values"), depth + 1) if kind == "map" else None,
        fields=_fields_of_struct(schema.get("fields"), depth + 1) if kind == "struct" else (),
        has_default=schema.get("default") is not None,
    )


def _fields_of_struct(fields: object, depth: int) -> tuple[tuple[str, Field], ...]:
    if not isinstance(fields, list):
        raise MalformedError("a struct in its schema has no fields")
    found: dict[str, Field] = {}
    for one in fields:
        name = one.get("field") if isinstance(one, dict) else None
        if not isinstance(name, str) or name in found:
            raise MalformedError("a field of a struct in its schema has no name, or that of another one")
        found[name] = field_of_json(one, depth)
    return tuple(found.items())


def field_as_json(schema: Field) -> dict[str, Any]:
    """As JsonConverter writes it, in its order."""
    written: dict[str, Any] = {"type": schema.type}
    if schema.items is not None:
        written["items"] = field_as_json(schema.items)
    if schema.keys is not None and schema.values is not None:
        written |= {"keys": field_as_json(schema.keys), "values": field_as_json(schema.values)}
    if schema.type == "struct":
        written["fields"] = [field_as_json(one) | {"field": name} for name, one in schema.fields]
    written["optional"] = schema.optional
    if schema.name is not None:
        written["name"] = schema.name
    if schema.version is not None:
        written["version"] = schema.version
    if schema.parameters:
        written["parameters"] = dict(schema.parameters)
    return written
