"""What ExtractNewRecordState has added to a flattened event, in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from replicator.codecs.debezium.facts import Facts, facts
from replicator.codecs.debezium.fields import MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.codecs.debezium.flattened import Flattening

DELETED = "__deleted"
_any = msgspec.json.Decoder().decode


class Added(NamedTuple):
    """What was added: the letter of the op, the table where it is told, and the facts."""

    op: str
    schema: str | None
    table: str | None
    facts: Facts


class FlatRow:
    """Reads what was added to rows.

    Attributes:
        names: fields of a record that are no columns.
        tombstones: as in `Flattening`.

    """

    def __init__(self, flattening: Flattening) -> None:
        self._flattening = flattening
        self.names = frozenset({*flattening.fields.values(), DELETED})
        self.tombstones = flattening.tombstones

    def added(self, fields: Mapping[str, Any], headers: tuple[tuple[str, bytes | None], ...]) -> Added:
        """What was added to a record.

        Args:
            fields: of the record, as JSON texts or read values.
            headers: the record's.

        Raises:
            MalformedError: it doesn't say what happened to the row.

        """
        told: dict[str, Any] = {}
        by_name = dict(headers)
        for origin, name in self._flattening.headers.items():
            text = by_name.get(name)
            if text is not None:
                told[origin] = _header(text)
        for origin, name in self._flattening.fields.items():
            if name in fields:
                value = fields[name]
                told[origin] = _any(value) if isinstance(value, msgspec.Raw) else value
        deleted = fields.get(DELETED)
        if isinstance(deleted, msgspec.Raw):
            deleted = _any(deleted)
        op = "d" if deleted in ("true", True) else told.get("op")
        if not isinstance(op, str):
            raise MalformedError("it doesn't say what happened to the row: add op to the transform's add.fields")
        return Added(op, told.get("source.schema"), told.get("source.table"), _facts(told))


def _header(text: bytes) -> Any:
    """A header as JsonConverter or SimpleHeaderConverter writes it: both give texts and numbers."""
    try:
        value = _any(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return text.decode()
    if isinstance(value, dict) and value.keys() == {"schema", "payload"}:
        return value["payload"]
    return value


def _facts(told: Mapping[str, Any]) -> Facts:
    def number(name: str) -> int | None:
        value = told.get(name)
        return None if value is None else int(value)

    return facts(
        number("source.txId"),
        number("source.lsn"),
        number("source.ts_us"),
        number("source.ts_ms"),
        sequence=told.get("source.sequence"),
        transaction=told.get("transaction.id"),
        order=number("transaction.total_order"),
        table_order=number("transaction.data_collection_order"),
    )
