"""Schemas of Kafka Connect to Avro's, as Confluent's AvroConverter writes them (see `schema` for the way back).

A name that Avro doesn't allow is spelled as Debezium spells it (schema.name.adjustment.mode=avro,
field.name.adjustment.mode=avro); a field's own one is then told in a parameter, as column.propagate.source.type does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from replicator.codecs.debezium.names import SOURCE_COLUMN, avro_full_name, avro_name
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.codecs.debezium.fields import Field

_PRIMITIVE: Final[Mapping[str, str]] = {
    "boolean": "boolean",
    "int8": "int",
    "int16": "int",
    "int32": "int",
    "int64": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "bytes": "bytes",
}
_ENTRY: Final = "io.confluent.connect.avro.MapEntry"


def schema_text(schema: Field) -> str:
    """Avro's JSON of a schema.

    Raises:
        ReplicatorError: CONFIG, when two fields of a struct have one name in Avro.

    """
    return json.dumps(_Writer().write(schema, ""), separators=(",", ":"), ensure_ascii=False)


def avro_names(struct: Field) -> list[str]:
    """What the fields of a struct are called in Avro.

    Raises:
        ReplicatorError: CONFIG, when two are called the same.

    """
    named: dict[str, str] = {}
    for name, _ in struct.fields:
        other = named.setdefault(avro_name(name), name)
        if other != name:
            raise ReplicatorError(
                f"columns {other} and {name} of {struct.name} have the same name in Avro, {avro_name(name)}",
                kind=ErrorKind.CONFIG,
                column=name,
                hint="Capture it as debezium-json, or rename one of the two",
            )
    return list(named)


class _Writer:
    """Writes one schema: a named type in full where it comes first, then by its name."""

    def __init__(self) -> None:
        self._written: set[str] = set()

    def write(self, field: Field, namespace: str, parameters: Mapping[str, str] | None = None) -> Any:
        """A schema, with null where the field is optional."""
        inner = self._typed(field, namespace, {**field.parameters, **(parameters or {})})
        return ["null", inner] if field.optional else inner

    def _typed(self, field: Field, namespace: str, parameters: Mapping[str, str]) -> Any:
        if field.type == "struct":
            return self._record(field, namespace, parameters)
        written: dict[str, Any]
        if field.type == "array" and field.items is not None:
            written = {"type": "array", "items": self.write(field.items, namespace)}
        elif field.type == "map" and field.keys is not None and field.values is not None:
            written = self._map(field.keys, field.values, namespace)
        else:
            written = {"type": _PRIMITIVE[field.type]}
            if field.type in {"int8", "int16"}:
                written["connect.type"] = field.type
        written |= _meaning(field, parameters)
        return written["type"] if len(written) == 1 else written

    def _map(self, keys: Field, values: Field, namespace: str) -> dict[str, Any]:
        if keys.type == "string" and not keys.optional:
            return {"type": "map", "values": self.write(values, namespace)}
        if _ENTRY in self._written:
            return {"type": "array", "items": _ENTRY}
        self._written.add(_ENTRY)
        inner = _ENTRY.rpartition(".")[0]
        pair = [{"name": "key", "type": self.write(keys, inner)}, {"name": "value", "type": self.write(values, inner)}]
        entry = {"type": "record", **_named(_ENTRY, namespace), "fields": pair, "connect.internal.type": "MapEntry"}
        return {"type": "array", "items": entry}

    def _record(self, field: Field, namespace: str, parameters: Mapping[str, str]) -> Any:
        full = avro_full_name(field.name or "")
        inner, _, short = full.rpartition(".")
        if full in self._written:
            return short if inner == namespace else full
        self._written.add(full)
        fields = []
        for (name, one), spelled in zip(field.fields, avro_names(field), strict=True):
            told = None if spelled == name else {SOURCE_COLUMN: name}
            written = {"name": spelled, "type": self.write(one, inner, told)}
            fields.append(written | {"default": None} if one.optional else written)
        named: dict[str, Any] = {"type": "record", **_named(full, namespace), "fields": fields}
        return named | _meaning(field, parameters) | {"connect.name": full}


def _named(full: str, namespace: str) -> dict[str, Any]:
    """Name and namespace, which is left out where it is that of what is around it."""
    inner, _, short = full.rpartition(".")
    return {"name": short} if inner == namespace else {"name": short, "namespace": inner}


def _meaning(field: Field, parameters: Mapping[str, str]) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if field.version is not None:
        written["connect.version"] = field.version
    if parameters:
        written["connect.parameters"] = dict(parameters)
    if field.name is not None:
        written["connect.name"] = field.name
    return written
