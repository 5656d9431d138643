"""Decoder of Debezium's events in Avro, as they are or flattened. Pure: whoever reads the log asks the registry.

A record names its schema; for each topic and schema a reader is generated that makes values only of what a change
needs, and what it reads goes through the same conversion of values as JSON does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from replicator.codecs.avro.framing import Frame, frame_of
from replicator.codecs.avro.reader import compile_reader
from replicator.codecs.avro.schema import field_of, parse
from replicator.codecs.debezium.binaries import binary_reader
from replicator.codecs.debezium.conversion import CONVERSION_ERRORS
from replicator.codecs.debezium.envelope import Shape, Tables, check_nulls, refused, row_change
from replicator.codecs.debezium.facts import Facts, facts
from replicator.codecs.debezium.fields import MalformedError
from replicator.codecs.debezium.flat_rows import DELETED, FlatRow
from replicator.codecs.debezium.grouping import grouped
from replicator.codecs.debezium.marks import Marks, beat
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Op
from replicator.records import Decoded, Message, RowChange, RowChanges

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from replicator.codecs.debezium.fields import Field
    from replicator.codecs.debezium.modes import Modes
    from replicator.records import Record, RegistrySchema
    from replicator.tables import Catalog, Table, TableName

_ENVELOPE: Final = frozenset({"op", "before", "after", "source", "transaction", "message", "exact"})
_SOURCE: Final = frozenset({"schema", "table", "txId", "lsn", "ts_us", "ts_ms", "sequence", "snapshot"})
_STEADY: Final = tuple(
    f"source.{name}" for name in ("version", "connector", "name", "snapshot", "db", "schema", "table")
)
_PLANS_MAX: Final = 10_000
"""Topics times schemas that are remembered; a table has a new schema after each ALTER."""
_NUMBERS: Final = {"id": "number", "global": "global id", "content": "content id"}
_NONE: Final[Mapping[str, Any]] = {}


class DebeziumAvroDecoder:
    """`partitions.RecordDecoder` for Avro.

    Args:
        catalog: the old database's.
        tables: tables by topic, of topics that have one table; else `source.schema` and `source.table` decide.
        modes: Debezium's settings.
        topic_prefix: Debezium's topic.prefix.

    """

    def __init__(self, catalog: Catalog, tables: Mapping[str, TableName], modes: Modes, topic_prefix: str) -> None:
        self._tables = Tables(catalog, tables)
        self._modes = modes
        self._flat = None if modes.flattening is None else FlatRow(modes.flattening)
        self._special: dict[str, Callable[[Mapping[str, Any]], Decoded]] = {
            f"{modes.heartbeat_prefix}.{topic_prefix}": beat,
            f"{topic_prefix}.{modes.transaction_topic}": Marks(catalog.tables).read,
        }
        self._schemas: dict[RegistrySchema, tuple[Any, Field]] = {}
        self._plans: dict[tuple[str, RegistrySchema], _Plan] = {}
        self._framed: dict[tuple[str, bytes], _Plan] = {}

    def needs(self, record: Record) -> Collection[RegistrySchema]:
        """The schema of the value, or of the key where a record without value is a delete; none that is known.

        Raises:
            ReplicatorError: DECODE, when the record's framing can't be read.

        """
        if record.value is None:
            if not self._is_flat_delete(record) or record.key is None:
                return ()
            schema = frame_of(record, "key", record.key).schema
        elif not record.headers and (record.topic, record.value[:5]) in self._framed:
            return ()
        else:
            schema = frame_of(record, "value", record.value).schema
        return () if schema in self._schemas else (schema,)

    def learn(self, schema: RegistrySchema, text: str) -> None:
        """Take in a schema of the registry.

        Raises:
            ReplicatorError: DECODE, when it is no schema, or one that no connector writes.

        """
        try:
            parsed = parse(text)
            self._schemas[schema] = parsed, field_of(parsed)
        except MalformedError as error:
            raise ReplicatorError(
                f"the registry's schema {_NUMBERS[schema.kind]} {schema.id} can't be used: {error}",
                kind=ErrorKind.DECODE,
                hint="Nothing was skipped. Is the topic written by Debezium, or `replicator capture`?",
            ) from None

    def decode(self, record: Record) -> Decoded:
        """What the record says.

        Raises:
            ReplicatorError: DECODE, with place, what is wrong, and the setting that would keep what is lost; SCHEMA
                when the topic's table isn't in the catalog, or names of columns are ambiguous.

        """
        value = record.value
        try:
            if value is None:
                return self._flat_delete(record) if self._is_flat_delete(record) else None
            plan = None if record.headers else self._framed.get((record.topic, value[:5]))
            if plan is not None:
                return plan.decode(record, plan.read(value, 5))
            frame = frame_of(record, "value", value)
            plan = self._plan(record, frame)
            return plan.decode(record, plan.read(value, frame.at))
        except MalformedError as error:
            raise refused(record, str(error)) from None
        except CONVERSION_ERRORS as error:
            raise refused(record, f"it is malformed ({type(error).__name__})") from None

    def decode_run(self, records: Sequence[Record]) -> list[Decoded]:
        """See `partitions.RecordDecoder`."""
        read: list[Decoded] = []
        for record in records:
            try:
                if self.needs(record):
                    break
                read.append(self.decode(record))
            except ReplicatorError:
                if not read:
                    raise
                break
        return read

    def decode_rows(self, records: Sequence[Record]) -> list[Decoded | RowChanges]:
        """See `partitions.RecordDecoder`."""
        return grouped(self.decode_run(records))

    def _is_flat_delete(self, record: Record) -> bool:
        return self._flat is not None and self._flat.tombstones == "delete" and record.topic not in self._special

    def _plan(self, record: Record, frame: Frame, *, key: bool = False) -> _Plan:
        plan = self._plans.get((record.topic, frame.schema))
        if plan is None:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
                self._framed.clear()
            known = self._schemas.get(frame.schema)
            if known is None:
                raise MalformedError(f"schema {frame.schema.id} of the registry hasn't been fetched")
            plan = self._plans[record.topic, frame.schema] = self._make_plan(record, *known, key=key)
        if frame.at == 5 and not key:
            self._framed[record.topic, (record.value or b"")[:5]] = plan
        return plan

    def _make_plan(self, record: Record, schema: Any, field: Field, *, key: bool) -> _Plan:
        special = self._special.get(record.topic)
        if special is not None:
            return _Mark(schema, special)
        parts = field.by_name
        if self._flat is not None and (key or "source" not in parts):
            return _Flat(schema, field, self._flat, _Topic(record.topic, self._tables, self._modes))
        if {"op", "source", "message"} <= parts.keys():
            return _LogicalMessage(schema, self._modes)
        if {"op", "source", "before", "after"} <= parts.keys():
            return _Change(schema, field, _Topic(record.topic, self._tables, self._modes))
        if {"ddl", "tableChanges"} & parts.keys():
            return _Nothing()
        raise MalformedError(
            f"its schema, {field.name or field.type}, is no envelope of Debezium's; where events are flattened, "
            "stream.debezium needs the settings of that transform (transforms, transforms.NAME.type, ...)"
        )

    def _flat_delete(self, record: Record) -> Decoded:
        """A flattened record without value: a delete of the row that its key names."""
        if record.key is None:
            raise MalformedError("a delete has neither value nor key: the table has no primary key")
        frame = frame_of(record, "key", record.key)
        plan = self._plan(record, frame, key=True)
        assert isinstance(plan, _Flat)
        return plan.delete(record, plan.read(record.key, frame.at))


class _Topic:
    """Tables of one topic, and the shapes of their rows by one schema."""

    def __init__(self, name: str, tables: Tables, modes: Modes) -> None:
        self._name = name
        self._tables = tables
        self._modes = modes
        self._shapes: dict[tuple[str | None, str | None], tuple[Table, Shape] | None] = {}

    def shape(
        self, schema: str | None, name: str | None, fields: Sequence[tuple[str, Field]]
    ) -> tuple[Table, Shape] | None:
        """Of the rows of a table, and the table; None for one that nobody has asked for."""
        try:
            return self._shapes[schema, name]
        except KeyError:
            found = self._shapes[schema, name] = self._make(schema, name, fields)
            return found

    def _make(
        self, schema: str | None, name: str | None, fields: Sequence[tuple[str, Field]]
    ) -> tuple[Table, Shape] | None:
        if schema is not None and name is not None:
            table = self._tables.find(self._name, schema, name)
        else:
            table = self._tables.of_topic(self._name)
            if table is None:
                raise MalformedError(
                    "it doesn't say of which table it is: add source.schema and source.table to add.fields"
                )
        if table is None:
            return None
        return table, Shape(table, fields, self._modes)


class _Plan(ABC):
    """How records of one topic and schema are read."""

    def __init__(self, read: Callable[[bytes, int], Any]) -> None:
        self.read = read

    @abstractmethod
    def decode(self, record: Record, value: Any) -> Decoded:
        """What was read says."""


class _Mark(_Plan):
    """Heartbeats, and boundaries of transactions."""

    def __init__(self, schema: Any, meaning: Callable[[Mapping[str, Any]], Decoded]) -> None:
        super().__init__(compile_reader(schema))
        self._meaning = meaning

    def decode(self, record: Record, value: Any) -> Decoded:
        del record
        return self._meaning(value)


class _Nothing(_Plan):
    """Changes of schemas, which this source has no use for."""

    def __init__(self) -> None:
        super().__init__(lambda _data, _at: None)

    def decode(self, record: Record, value: Any) -> Decoded:
        del record, value
        return None


class _LogicalMessage(_Plan):
    """What pg_logical_emit_message wrote."""

    def __init__(self, schema: Any, modes: Modes) -> None:
        super().__init__(compile_reader(schema))
        self._content = binary_reader("bytes" if modes.binary == "bytes" else "string", modes)

    def decode(self, record: Record, value: Any) -> Decoded:
        del record
        source, block = value["source"], value["message"]
        content = self._content(block["content"] or b"")
        known = _facts(source, _NONE)
        return Message(block["prefix"] or "", content, known.lsn, known.xid, known.commit_time, known.sequence)


class _Change(_Plan):
    """Debezium's envelope."""

    def __init__(self, schema: Any, field: Field, topic: _Topic) -> None:
        reader = compile_reader(schema, unneeded=_unneeded(field), rows=("before", "after"), steady=_STEADY)
        super().__init__(reader)
        self._topic = topic
        self._row = field.by_name["after"].fields

    def decode(self, record: Record, value: Any) -> Decoded:
        del record
        source = value["source"]
        found = self._topic.shape(source["schema"], source["table"], self._row)
        if found is None:
            return None
        op = value["op"]
        known = _facts(source, value.get("transaction") or _NONE)
        if op == "t":
            return RowChange(Op.TRUNCATE, found[1].relation, None, None, *known)
        check_nulls(found[1], source.get("snapshot"))
        before = value["before"]
        return row_change(op, found[1], lambda: before, value["after"], known, exact=value.get("exact"))


class _Flat(_Plan):
    """A row alone, with what ExtractNewRecordState has added to it; or the key of one that is deleted."""

    def __init__(self, schema: Any, field: Field, flat: FlatRow, topic: _Topic) -> None:
        super().__init__(compile_reader(schema))
        self._topic = topic
        self._flat = flat
        self._fields = tuple(one for one in field.fields if one[0] not in flat.names)

    def decode(self, record: Record, value: Any) -> Decoded:
        added = self._flat.added(value, record.headers)
        found = self._topic.shape(added.schema, added.table, self._fields)
        if found is None:
            return None
        row = [value[name] for name, _ in self._fields]
        return row_change(added.op, found[1], lambda: row if added.op == "d" else None, row, added.facts)

    def delete(self, record: Record, key: Any) -> Decoded:
        """The delete that a key says."""
        added = self._flat.added({DELETED: True}, record.headers)
        found = self._topic.shape(added.schema, added.table, self._fields)
        if found is None:
            return None
        if found[0].replica_identity == "f":
            raise MalformedError(
                "a delete has no value, and under REPLICA IDENTITY FULL a whole row is looked for: "
                "set delete.tombstone.handling.mode=rewrite in Debezium's connector"
            )
        return row_change("d", found[1], lambda: [key[name] for name, _ in self._fields], None, added.facts)


def _facts(source: Mapping[str, Any], transaction: Mapping[str, Any]) -> Facts:
    return facts(
        source.get("txId"),
        source.get("lsn"),
        source.get("ts_us"),
        source.get("ts_ms"),
        sequence=source.get("sequence"),
        transaction=transaction.get("id"),
        order=transaction.get("total_order"),
        table_order=transaction.get("data_collection_order"),
    )


def _unneeded(envelope: Field) -> list[str]:
    """Paths of what a change has no use for."""
    paths = [name for name, _ in envelope.fields if name not in _ENVELOPE]
    source = envelope.by_name["source"].by_name
    spare = {"ts_ms"} if "ts_us" in source else set()
    return [*paths, *(f"source.{name}" for name in source if name not in _SOURCE - spare)]
