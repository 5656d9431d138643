"""Avro schemas that a registry keeps apart, put into the one that refers to them: one text says everything then.

Names and namespaces: https://avro.apache.org/docs/1.12.0/specification/#names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAMED: Final = frozenset({"record", "error", "enum", "fixed"})


def inline(schema: Any, referenced: Iterable[Any]) -> Any:
    """The schema with each type that only a referenced schema defines written out where it is named first.

    Args:
        schema: a schema, as JSON has it.
        referenced: the schemas that it refers to, and those that they refer to.

    """
    definitions: dict[str, Any] = {}
    for one in referenced:
        for definition in one if isinstance(one, list) else [one]:
            if isinstance(definition, dict) and definition.get("type") in _NAMED:
                definitions[_full_name(definition, "")[0]] = definition
    return _Writer(definitions).write(schema, "")


class _Writer:
    """Walks a schema in the order in which Avro reads it."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._written: set[str] = set()

    def write(self, schema: Any, namespace: str) -> Any:
        if isinstance(schema, list):
            return [self.write(one, namespace) for one in schema]
        if isinstance(schema, str):
            return self._name(schema, namespace)
        if not isinstance(schema, dict):
            return schema
        kind = schema.get("type")
        if kind in _NAMED:
            return self._definition(schema, namespace)
        inner = {key: self.write(schema[key], namespace) for key in ("items", "values") if key in schema}
        if isinstance(kind, str) and not inner:
            written = self._name(kind, namespace)
            return written if isinstance(written, dict) else schema
        if isinstance(kind, dict | list):
            inner["type"] = self.write(kind, namespace)
        return {**schema, **inner}

    def _name(self, name: str, namespace: str) -> Any:
        for full in (name,) if "." in name or not namespace else (f"{namespace}.{name}", name):
            if full in self._written:
                return name
            if full in self._definitions:
                # It stood alone, without a namespace around it: say so, or it inherits this one.
                return self._definition({"namespace": "", **self._definitions[full]}, "")
        return name

    def _definition(self, schema: dict[str, Any], namespace: str) -> dict[str, Any]:
        full, own = _full_name(schema, namespace)
        self._written.add(full)
        fields = schema.get("fields")
        if not isinstance(fields, list):
            return schema
        return {
            **schema,
            "fields": [
                {**field, "type": self.write(field["type"], own)}
                if isinstance(field, dict) and "type" in field
                else field
                for field in fields
            ],
        }


def _full_name(schema: Mapping[str, Any], namespace: str) -> tuple[str, str]:
    """Full name of a named type, and the namespace that it gives to what is in it."""
    name = str(schema.get("name", ""))
    if "." in name:
        return name, name.rpartition(".")[0]
    own = str(schema.get("namespace", namespace))
    return (f"{own}.{name}" if own else name), own
