"""Encoder of changes in Debezium's envelope, JSON, as Debezium 3.6 writes it for PostgreSQL. Pure.

With the settings of `modes.CAPTURED`: decimals and intervals as texts, times with the precision that their columns
have, types that Debezium doesn't know as their text in bytes. So a row is read back as it was, but for values that no
setting keeps: their texts stand in a field `exact` that Debezium doesn't have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from replicator import __version__
from replicator.codecs.debezium import schemas
from replicator.codecs.debezium.fields import Field, field_as_json
from replicator.codecs.debezium.filling import UnusualError, with_places
from replicator.codecs.debezium.json_columns import BLANK, JsonRows, template
from replicator.codecs.debezium.row_writer import Row, RowWriter, Texts
from replicator.codecs.debezium.writing import Inexact, Writer
from replicator.events import Op
from replicator.records import RowChange

if TYPE_CHECKING:
    from replicator.captures import Described, NewRows, Records, SchemaText
    from replicator.codecs.debezium.filling import Template
    from replicator.events import Relation, Values
    from replicator.records import Beat, Message, TransactionMark

_encode: Final = msgspec.json.Encoder().encode


def adapt_floats(field: Field, write: Writer) -> Writer:
    """A writer whose NaN and infinities are texts, as Jackson writes them: JSON has no such numbers."""
    if field.type in {"float", "double"}:
        return lambda text: _finite(write(text))
    if field.type == "array" and field.items is not None and field.items.type in {"float", "double"}:
        return lambda text: _each(write(text))
    if field.type == "struct":
        return lambda text: _members(write(text))
    return write


def _finite(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _each(value: Any) -> Any:
    return Inexact(_each(value.value)) if isinstance(value, Inexact) else [_finite(one) for one in value]


def _members(value: Any) -> Any:
    if isinstance(value, Inexact):
        return Inexact(_members(value.value))
    return {name: _finite(one) for name, one in value.items()}


def source_of(
    change: RowChange | Message, prefix: str, database: str, table: tuple[str, str], now: float
) -> dict[str, Any]:
    """The `source` block.

    Args:
        change: whose.
        prefix: Debezium's topic.prefix.
        database: name of the source's.
        table: schema and name, empty for a message.
        now: our clock, for a message that doesn't say when.

    """
    at = now if change.commit_time is None else change.commit_time
    micros = round(at * 1_000_000)
    lsns = change.sequence
    sequence = None
    if lsns is not None:
        commit, event = lsns
        sequence = f'["{commit}","{event}"]' if commit else f'[null,"{event}"]'
    snapshot = getattr(change, "op", None) is Op.READ
    return {
        "version": __version__,
        "connector": "postgresql",
        "name": prefix,
        "ts_ms": micros // 1_000,
        "snapshot": "true" if snapshot else "false",
        "db": database,
        "sequence": sequence,
        "ts_us": micros,
        "ts_ns": micros * 1_000,
        "schema": table[0],
        "table": table[1],
        "txId": change.xid or None,
        "lsn": change.lsn or None,
        "xmin": None,
        "origin": None,
        "origin_lsn": None,
    }


def envelope_of(change: RowChange, writer: RowWriter, prefix: str, database: str, now: float) -> dict[str, Any]:
    """A change's envelope; rows in it are by name.

    Args:
        change: which.
        writer: of its relation.
        prefix: Debezium's topic.prefix.
        database: name of the source's.
        now: seconds since the epoch, by our clock.

    """
    before, before_texts = _no_row() if change.before is None else writer.old_row(change.before)
    after, after_texts = _no_row() if change.after is None else writer.row(change.after)
    table = change.relation.table
    exact = None
    if before_texts or after_texts:
        exact = {"before": before_texts, "after": after_texts}
    micros = int(now * 1_000_000)
    return {
        "before": None if before is None else dict(zip(writer.names, before, strict=True)),
        "after": None if after is None else dict(zip(writer.names, after, strict=True)),
        "source": source_of(change, prefix, database, (table.schema, table.name), now),
        "transaction": _place(change),
        "op": change.op.value,
        "ts_ms": micros // 1_000,
        "ts_us": micros,
        "ts_ns": micros * 1_000,
        "exact": exact,
    }


def _place(change: RowChange | Message) -> dict[str, Any] | None:
    """The `transaction` block."""
    if change.transaction is None:
        return None
    return {
        "id": f"{change.transaction}:{change.lsn}",
        "total_order": change.order,
        "data_collection_order": change.table_order,
    }


def _no_row() -> tuple[Row | None, Texts | None]:
    return None, None


def mark_of(mark: TransactionMark) -> tuple[dict[str, Any], dict[str, Any]]:
    """Key and value of a transaction's boundary, whose id is written as it stands: "xid:lsn" in Debezium's records."""
    ends = mark.events is not None
    value = {
        "status": "END" if ends else "BEGIN",
        "id": mark.id,
        "event_count": mark.events,
        "data_collections": [
            {"data_collection": f"{table.schema}.{table.name}", "event_count": count} for table, count in mark.tables
        ]
        if ends
        else None,
        "ts_ms": round(mark.commit_time * 1_000_000) // 1_000,
    }
    return {"id": mark.id}, value


def beat_of(beat: Beat, prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Key and value of a heartbeat."""
    return {"serverName": prefix}, {"ts_ms": int(beat.at * 1_000)}


def message_of(message: Message, prefix: str, database: str, now: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Key and value of a logical message."""
    value = {
        "op": "m",
        "ts_ms": int(now * 1_000),
        "source": source_of(message, prefix, database, ("", ""), now),
        "transaction": _place(message),
        "message": {"prefix": message.prefix, "content": message.content},
    }
    return {"prefix": message.prefix}, value


class _Form:
    """How records of one schema are put into bytes."""

    def __init__(self, schema: Field, *, carried: bool) -> None:
        self._head = b'{"schema":' + _encode(field_as_json(schema)) + b',"payload":' if carried else b""
        self._tail = b"}" if carried else b""

    def of(self, payload: object) -> bytes:
        """The record."""
        return self._head + _encode(payload) + self._tail

    def template(self, payload: object) -> Template:
        """The record with places; see `json_columns.template`."""
        return template(payload, self._head, self._tail)


class DebeziumJsonEncoder:
    """`captures.RecordEncoder` for JSON.

    Args:
        topic_prefix: Debezium's topic.prefix.
        database: name of the source's database.
        with_schemas: each record carries its schema, as Connect's JsonConverter writes it.

    """

    def __init__(self, topic_prefix: str, database: str, *, with_schemas: bool = True) -> None:
        self._prefix = topic_prefix
        self._database = database
        self._carried = with_schemas
        self._rows: dict[Relation, tuple[RowWriter, _Form, _Form]] = {}
        self._many: dict[Relation, JsonRows] = {}
        self._mark = self._forms("MARK")
        self._beat = self._forms("BEAT")
        self._message = self._forms("MESSAGE")

    def _forms(self, name: str) -> tuple[_Form, _Form]:
        key, value = getattr(schemas, f"{name}_KEY"), getattr(schemas, f"{name}_VALUE")
        return _Form(key, carried=self._carried), _Form(value, carried=self._carried)

    def shape(self, topic: str, described: Described) -> Collection[SchemaText]:
        """Rows of this relation go to this topic from now on; nothing has to be registered."""
        writer = RowWriter(described, adapt_floats)
        key = _Form(schemas.key_schema(topic, writer.key), carried=self._carried)
        value = _Form(schemas.envelope_schema(topic, writer.fields), carried=self._carried)
        self._rows[described.relation] = writer, key, value
        return ()

    def marks(self, topic: str) -> Collection[SchemaText]:
        """Nothing has to be registered."""
        del topic
        return ()

    beats = messages = marks

    def learn(self, schema: SchemaText, number: int) -> None:
        """Nothing to learn: nothing was asked for."""
        del schema, number

    def key(self, relation: Relation, row: Values) -> bytes | None:
        """The record's key of a row; None for a table without one."""
        writer, form, _ = self._rows[relation]
        return form.of(_named(writer.key, writer.key_of(row))) if writer.key else None

    def header(self, relation: Relation, row: Values) -> bytes:
        """The key as a header's value."""
        return header_of(self._rows[relation][0], row)

    def value(self, change: RowChange, now: float) -> bytes:
        """The envelope of a change."""
        writer, _, form = self._rows[change.relation]
        return form.of(self._envelope(change, writer, now))

    def _envelope(self, change: RowChange, writer: RowWriter, now: float) -> dict[str, Any]:
        envelope = envelope_of(change, writer, self._prefix, self._database, now)
        if not self._carried and envelope["exact"] is None:
            del envelope["exact"]
        return envelope

    def new_rows(self, changes: NewRows, now: float) -> Records | None:
        """See `captures.RecordEncoder`."""
        try:
            many = self._many.get(changes.relation) or self._many_of(changes)
            return many.records(changes, now)
        except (UnusualError, ValueError):
            return None

    def _many_of(self, changes: NewRows) -> JsonRows:
        writer, key, value = self._rows[changes.relation]
        sample = RowChange(changes.op, changes.relation, None, None, 1, 1, changes.commit_time)
        envelope = with_places(self._envelope(sample, writer, 0.0), writer.names, BLANK)
        blanks = _named(writer.key, [BLANK] * len(writer.key))
        many = JsonRows(writer, key.template(blanks) if writer.key else None, value.template(envelope))
        self._many[changes.relation] = many
        return many

    def mark(self, mark: TransactionMark, now: float) -> tuple[bytes, bytes]:
        """Key and value of a transaction's beginning or end."""
        del now
        return self._both(self._mark, mark_of(mark))

    def beat(self, beat: Beat) -> tuple[bytes, bytes]:
        """Key and value of a heartbeat."""
        return self._both(self._beat, beat_of(beat, self._prefix))

    def message(self, message: Message, now: float) -> tuple[bytes, bytes]:
        """Key and value of a logical message."""
        return self._both(self._message, message_of(message, self._prefix, self._database, now))

    @staticmethod
    def _both(forms: tuple[_Form, _Form], content: tuple[dict[str, Any], dict[str, Any]]) -> tuple[bytes, bytes]:
        return forms[0].of(content[0]), forms[1].of(content[1])


def header_of(writer: RowWriter, row: Values) -> bytes:
    """A row's key as a header's value: JSON without schema whatever the records are written in, as Connect's default
    `header.converter` (SimpleHeaderConverter) has it.
    """
    return _encode(_named(writer.key, writer.key_of(row)))


def _named(fields: Iterable[tuple[str, Field]], values: Iterable[Any]) -> dict[str, Any]:
    return {name: value for (name, _), value in zip(fields, values, strict=True)}
