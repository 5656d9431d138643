"""Encoder of changes in Debezium's envelope, JSON, as Debezium 3.6 writes it for PostgreSQL. Pure.

With the settings of `modes.CAPTURED`: decimals and intervals as texts, times with the precision that their columns
have, types that Debezium doesn't know as their text in bytes. So a row is read back as it was, but for values that no
setting keeps: their texts stand in a field `exact` that Debezium doesn't have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

import msgspec

from replicator import __version__
from replicator.captures import Encoded
from replicator.codecs.debezium import schemas
from replicator.codecs.debezium.fields import Field, field_as_json
from replicator.codecs.debezium.json_columns import BLANK, UnusualError, column_writer, form_of, written
from replicator.codecs.debezium.row_writer import Row, RowWriter, Texts
from replicator.codecs.debezium.writing import Inexact, Writer
from replicator.events import UNCHANGED, Op
from replicator.records import RowChange

if TYPE_CHECKING:
    from replicator.captures import Described, NewRows, SchemaText
    from replicator.events import Relation, Values
    from replicator.records import Beat, Message, TransactionMark

_encode: Final = msgspec.json.Encoder().encode
_new_record: Final = partial(tuple.__new__, Encoded)


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

    def form(self, payload: object) -> bytes:
        """The record with places that are filled in later; see `json_columns.form_of`."""
        return self._head.replace(b"%", b"%%%%") + form_of(payload) + self._tail


class _Filled:
    """Records of many rows of one relation, by filling in what differs.

    Args:
        writer: of its rows.
        key, value: how its records are put into bytes.
        envelope: of any change of it.

    """

    def __init__(self, writer: RowWriter, key: _Form, value: _Form, envelope: dict[str, Any]) -> None:
        columns = zip(writer.fields, writer.shapes, writer.writers, strict=True)
        self._columns = tuple(column_writer(field, shape, write) for (_, field), shape, write in columns)
        self._key_at = writer.key_positions
        self._key = key.form(_named(writer.key, [BLANK] * len(writer.key))) if writer.key else None
        source = dict.fromkeys(("ts_ms", "sequence", "ts_us", "ts_ns", "txId", "lsn"), BLANK)
        moving = dict.fromkeys(("transaction", "op", "ts_ms", "ts_us", "ts_ns"), BLANK)
        after = dict.fromkeys(writer.names, BLANK)
        self._value = value.form(envelope | moving | {"after": after, "source": envelope["source"] | source})

    def records(self, changes: NewRows, now: float) -> list[Encoded]:
        """The records.

        Raises:
            UnusualError, ValueError, UnreadableError: these rows have to be written one by one.

        """
        if changes.op is Op.UPDATE and any(UNCHANGED in row for row in changes.rows):
            raise UnusualError
        columns = [
            written(write, column) for write, column in zip(self._columns, zip(*changes.rows, strict=True), strict=True)
        ]
        lsns = [b"%d" % lsn for lsn in changes.lsns]
        parts: list[Iterable[bytes]] = [*columns, lsns, lsns]
        transaction = b"null"
        if changes.transaction is not None:
            transaction = (
                b'{"id":"%b:%%b","total_order":%%b,"data_collection_order":%%b}' % changes.transaction.encode()
            )
            parts += lsns, _numbers(changes.order, len(lsns)), _numbers(changes.table_order, len(lsns))
        commit = b'\\"%d\\"' % changes.last_commit if changes.last_commit else b"null"
        form = self._value % (
            *([b"%b"] * len(columns)),
            *_times(round(changes.commit_time * 1_000_000), b'"[' + commit + b',\\"%b\\"]"'),
            b"%d" % changes.xid if changes.xid else b"null",
            b"%b",
            transaction,
            _encode(changes.op.value),
            *_times(int(now * 1_000_000)),
        )
        values = [form % filling for filling in zip(*parts, strict=True)]
        if self._key is None:
            return [Encoded(None, value) for value in values]
        key = self._key % (*([b"%b"] * len(self._key_at)),)
        keys = [key % filling for filling in zip(*[columns[at] for at in self._key_at], strict=True)]
        return list(map(_new_record, zip(keys, values, repeat(()), strict=False)))


def _times(micros: int, *after_millis: bytes) -> tuple[bytes, ...]:
    return b"%d" % (micros // 1_000), *after_millis, b"%d" % micros, b"%d" % (micros * 1_000)


def _numbers(first: int, count: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


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
        self._filled: dict[Relation, _Filled] = {}
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

    def new_rows(self, changes: NewRows, now: float) -> list[Encoded] | None:
        """See `captures.RecordEncoder`."""
        relation = changes.relation
        filled = self._filled.get(relation)
        if filled is None:
            writer, key, value = self._rows[relation]
            sample = RowChange(changes.op, relation, None, None, 1, 1, changes.commit_time)
            filled = self._filled[relation] = _Filled(writer, key, value, self._envelope(sample, writer, now))
        try:
            return filled.records(changes, now)
        except (UnusualError, ValueError):
            return None

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
