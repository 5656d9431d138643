"""Decoder of Debezium's events in JSON, with schema and without, as they are or flattened. Pure.

A record with its schema, as Kafka's JsonConverter writes it, begins with some kilobytes that are the same in all of a
topic's records of one shape: they are compared as bytes, and read once. Without schema the old database's catalog and
Debezium's settings say how values are written; a record that doesn't fit is looked at key by key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from replicator.codecs.debezium.binaries import binary_reader
from replicator.codecs.debezium.conversion import CONVERSION_ERRORS
from replicator.codecs.debezium.envelope import Tables, check_nulls, refused, row_change
from replicator.codecs.debezium.facts import facts
from replicator.codecs.debezium.fields import MalformedError
from replicator.codecs.debezium.flat_rows import DELETED, FlatRow
from replicator.codecs.debezium.json_rows import TopicRows, keys_of, payload_of
from replicator.codecs.debezium.marks import Marks, beat
from replicator.codecs.debezium.modes import Modes
from replicator.errors import ReplicatorError
from replicator.events import Op
from replicator.records import (
    Beat,
    Decoded,
    Message,
    Record,
    RegistrySchema,
    RowChange,
    RowChanges,
    TransactionMark,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from replicator.tables import Catalog, Table, TableName

_ABSENT: Final = msgspec.Raw(b"")
_NOTHING: Final = frozenset({b"", b"null"})
_AVRO: Final = b"\0"
JSON_ERRORS: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class _Source(msgspec.Struct, gc=False):
    schema: str
    table: str
    txId: int | None = None  # noqa: N815 -- Debezium's name
    lsn: int | None = None
    ts_ms: int | None = None
    ts_us: int | None = None
    sequence: str | None = None
    snapshot: str | bool | None = None


class _TransactionBlock(msgspec.Struct, gc=False):
    id: str
    total_order: int
    data_collection_order: int | None = None


class _MessageBlock(msgspec.Struct, gc=False):
    prefix: str | None = None
    content: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    """A change as Debezium writes it; or, with `payload`, what holds it and its schema."""

    op: str | None = None
    before: msgspec.Raw = _ABSENT
    after: msgspec.Raw = _ABSENT
    source: _Source | None = None
    transaction: _TransactionBlock | None = None
    message: _MessageBlock | None = None
    exact: dict[str, dict[str, str | None] | None] | None = None
    schema: msgspec.Raw = _ABSENT
    payload: msgspec.Raw = _ABSENT


_envelope = msgspec.json.Decoder(_Envelope).decode
_fields = msgspec.json.Decoder(dict[str, Any]).decode


class DebeziumJsonDecoder:
    """`partitions.RecordDecoder` for JSON.

    Args:
        catalog: the old database's.
        tables: tables by topic, of topics that have one table; else `source.schema` and `source.table` decide.
        modes: Debezium's settings.
        topic_prefix: Debezium's topic.prefix.

    """

    def __init__(self, catalog: Catalog, tables: Mapping[str, TableName], modes: Modes, topic_prefix: str) -> None:
        self._catalog = catalog
        self._tables = Tables(catalog, tables)
        self._modes = modes
        self._flat = None if modes.flattening is None else FlatRow(modes.flattening)
        self._marks: dict[str, Callable[[Mapping[str, Any]], TransactionMark | Beat]] = {
            f"{modes.heartbeat_prefix}.{topic_prefix}": beat,
            f"{topic_prefix}.{modes.transaction_topic}": Marks(catalog.tables).read,
        }
        self._topics: dict[str, TopicRows] = {}

    def needs(self, record: Record) -> Collection[RegistrySchema]:
        """Nothing: JSON has no registry."""
        del record
        return ()

    def learn(self, schema: RegistrySchema, text: str) -> None:
        """Nothing to learn: nobody was asked."""
        del schema, text

    def decode(self, record: Record) -> Decoded:
        """What the record says.

        Raises:
            ReplicatorError: DECODE, with place, what is wrong, and the setting that would keep what is lost; SCHEMA
                when the topic's table isn't in the catalog.

        """
        try:
            mark = self._marks.get(record.topic)
            if mark is not None:
                return None if record.value is None else mark(_fields(payload_of(record.value)[0]))
            topic = self._topics.get(record.topic)
            if topic is None:
                topic = self._topics[record.topic] = TopicRows(record.topic, self._catalog, self._modes)
            if self._flat is not None:
                return self._flat_change(topic, record, self._flat)
            return None if record.value is None else self._change(topic, record.value)
        except MalformedError as error:
            raise refused(record, str(error)) from None
        except msgspec.ValidationError as error:
            raise refused(record, f"it isn't what Debezium writes: {error}") from None
        except JSON_ERRORS as error:
            if (record.value or b"").startswith(_AVRO):
                hint = "Nothing was skipped. Set stream.format to debezium-avro"
                raise refused(record, "it begins as Avro does, with a zero byte", hint=hint) from None
            raise refused(record, f"it is no JSON that can be read ({type(error).__name__})") from None
        except CONVERSION_ERRORS as error:
            raise refused(record, f"it is malformed ({type(error).__name__})") from None

    def decode_run(self, records: Sequence[Record]) -> list[Decoded]:
        """See `partitions.RecordDecoder`."""
        topic = self._topics.get(records[0].topic)
        if topic is None or topic.run is None or self._flat is not None:
            return [self.decode(records[0])]
        read: list[Decoded] = list(topic.run.read(records))
        if None not in read:
            return read
        for at, found in enumerate(read):
            if found is None:
                try:
                    read[at] = self.decode(records[at])
                except ReplicatorError:
                    if at == 0:
                        raise
                    return read[:at]
        return read

    def decode_rows(self, records: Sequence[Record]) -> list[Decoded | RowChanges]:
        """See `partitions.RecordDecoder`."""
        topic = self._topics.get(records[0].topic)
        if topic is None or topic.run is None or self._flat is not None:
            return [self.decode(records[0])]
        read: list[Decoded | RowChanges] = list(topic.run.read_rows(records))
        at = 0
        for place, found in enumerate(read):
            if found is None:
                try:
                    read[place] = self.decode(records[at])
                except ReplicatorError:
                    if at == 0:
                        raise
                    return read[:place]
            at += len(found) if isinstance(found, RowChanges) else 1
        return read

    # --- changes ------------------------------------------------------------------------------------------------------

    def _change(self, topic: TopicRows, value: bytes) -> Decoded:
        schema = topic.schema
        if schema is not None and value.startswith(schema.head) and value.endswith(b"}"):
            envelope = _envelope(memoryview(value)[len(schema.head) : -1])
        else:
            schema = None
            envelope = _envelope(value)
            if bytes(envelope.payload) not in _NOTHING:
                text = bytes(envelope.schema)
                schema = None if text in _NOTHING else topic.schema_of(text)
                envelope = _envelope(envelope.payload)
        source, block = envelope.source, envelope.transaction
        if source is None or envelope.op is None:
            self._no_change(value, envelope)
            return None
        if envelope.op == "m":
            return self._message(envelope.message, source)
        table = self._tables.find(topic.name, source.schema, source.table)
        if table is None:
            return None
        known = facts(
            source.txId,
            source.lsn,
            source.ts_us,
            source.ts_ms,
            sequence=source.sequence,
            transaction=None if block is None else block.id,
            order=None if block is None else block.total_order,
            table_order=None if block is None else block.data_collection_order,
        )
        if envelope.op == "t":
            return RowChange(Op.TRUNCATE, topic.reader(table, schema).shape.relation, None, None, *known)
        before, after = envelope.before, envelope.after
        if bytes(after) in _NOTHING:
            if bytes(before) in _NOTHING:
                raise MalformedError("it has neither `before` nor `after`")
            reader, old = topic.read_old(table, schema, before)
            check_nulls(reader.shape, source.snapshot)
            return row_change(envelope.op, reader.shape, lambda: old, None, known, exact=envelope.exact)
        reader, new = topic.read(table, schema, after)
        check_nulls(reader.shape, source.snapshot)
        topic.expect(source.schema, source.table, reader, b"" if schema is None else schema.head)

        def read_before() -> tuple[Any, ...] | None:
            return None if bytes(before) in _NOTHING else reader.read_old(before)

        return row_change(envelope.op, reader.shape, read_before, new, known, exact=envelope.exact)

    def _message(self, block: _MessageBlock | None, source: _Source) -> Message:
        if block is None:
            raise MalformedError("a logical message has no content")
        read = binary_reader("bytes" if self._modes.binary == "bytes" else "string", self._modes)
        known = facts(source.txId, source.lsn, source.ts_us, source.ts_ms, sequence=source.sequence)
        content = read(block.content or "")
        return Message(block.prefix or "", content, known.lsn, known.xid, known.commit_time, known.sequence)

    @staticmethod
    def _no_change(value: bytes, envelope: _Envelope) -> None:
        """Pass over what is no change: a record of a schema's change, or a tombstone that says so. Refuse the rest."""
        payload, _ = payload_of(value)
        if bytes(payload) == b"null":
            return
        if keys_of(payload).keys() & {"ddl", "tableChanges"}:
            return
        if envelope.op is None and envelope.source is None:
            raise MalformedError(
                "it has neither op nor source; where events are flattened, stream.debezium needs the settings of that "
                "transform (transforms, transforms.NAME.type, transforms.NAME.add.fields, ...)"
            )
        raise MalformedError("it has no op" if envelope.op is None else "it has no source")

    # --- flattened ----------------------------------------------------------------------------------------------------

    def _flat_change(self, topic: TopicRows, record: Record, flat: FlatRow) -> Decoded:
        payload, text = (None, None) if record.value is None else payload_of(record.value)
        if payload is None or bytes(payload) == b"null":
            return self._flat_delete(topic, record, flat)
        schema = None if text in {None, b"null"} else topic.schema_of(text or b"")
        names = keys_of(payload)
        added = flat.added(names, record.headers)
        table = self._flat_table(topic, added.schema, added.table)
        if table is None:
            return None
        row = msgspec.json.encode({name: value for name, value in names.items() if name not in flat.names})
        reader, values = topic.read(table, schema, row, flat.names)
        old = values if added.op == "d" else None
        return row_change(added.op, reader.shape, lambda: old, values, added.facts)

    def _flat_delete(self, topic: TopicRows, record: Record, flat: FlatRow) -> Decoded:
        """A record without value: a delete of the row that its key names."""
        if flat.tombstones != "delete":
            return None
        if record.key is None:
            raise MalformedError("a delete has neither value nor key: the table has no primary key")
        added = flat.added({DELETED: True}, record.headers)
        table = self._flat_table(topic, added.schema, added.table)
        if table is None:
            return None
        if table.replica_identity == "f":
            raise MalformedError(
                "a delete has no value, and under REPLICA IDENTITY FULL a whole row is looked for: "
                "set delete.tombstone.handling.mode=rewrite in Debezium's connector"
            )
        payload, text = payload_of(record.key)
        schema = None if text in {None, b"null"} else topic.key_schema_of(text or b"")
        reader, values = topic.read(table, schema, payload)
        return row_change("d", reader.shape, lambda: values, None, added.facts)

    def _flat_table(self, topic: TopicRows, schema: str | None, name: str | None) -> Table | None:
        if schema is not None and name is not None:
            return self._tables.find(topic.name, schema, name)
        table = self._tables.of_topic(topic.name)
        if table is None:
            raise MalformedError("it doesn't say of which table it is: add source.schema, source.table to add.fields")
        return table
