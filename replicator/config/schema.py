"""The JSON Schema of connector files, for editors."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from replicator.config.fields import REFERENCE_PATTERN, Address
from replicator.config.models import Connector
from replicator.config.units import format_duration

_REFERENCE: Final = {"type": "string", "pattern": REFERENCE_PATTERN}


class _EditorSchema(GenerateJsonSchema):
    """Typed scalars may also be `${...}`; booleans may be on and off, which YAML 1.2 reads as texts."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - keys are their own titles
        return False

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return str(dft) if isinstance(dft, Address) else super().encode_default(dft)

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {"anyOf": [super().int_schema(schema), _REFERENCE]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        words = {"enum": ["on", "off", "yes", "no", "true", "false"]}
        return {"anyOf": [super().bool_schema(schema), words, _REFERENCE]}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        plain = super().literal_schema(schema)
        return plain if "const" in plain else {"anyOf": [plain, _REFERENCE]}


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of one connector file, after YAML is read as JSON."""
    generated = Connector.model_json_schema(schema_generator=_EditorSchema)
    generated["title"] = "replicator connector"
    head = {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": "urn:replicator:schemas:connector",
    }
    return head | generated
