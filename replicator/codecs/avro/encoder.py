"""Encoder of changes in Debezium's envelope, Avro, as Debezium 3.6 and Confluent's AvroConverter write it. Pure.

What the values are, and what is told besides (`exact`), is the JSON encoder's (`debezium.encoder`). Defaults of columns
are not in the schemas: a converter writes them in place of NULL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from replicator.captures import SchemaText
from replicator.codecs.avro.columns import BLANK, AvroRows, template
from replicator.codecs.avro.schema_writer import schema_text
from replicator.codecs.avro.writer import compile_writer
from replicator.codecs.debezium import schemas
from replicator.codecs.debezium.encoder import beat_of, envelope_of, header_of, mark_of, message_of
from replicator.codecs.debezium.filling import UnusualError, with_places
from replicator.codecs.debezium.row_writer import RowWriter
from replicator.errors import ErrorKind, ReplicatorError
from replicator.records import RowChange

if TYPE_CHECKING:
    from collections.abc import Collection

    from replicator.captures import Described, NewRows, Records
    from replicator.codecs.debezium.fields import Field
    from replicator.codecs.debezium.filling import Template
    from replicator.events import Relation, Values
    from replicator.records import Beat, Message, TransactionMark


class DebeziumAvroEncoder:
    """`captures.RecordEncoder` for Avro with Confluent's framing; schemas are registered by topic (TopicNameStrategy).

    Args:
        topic_prefix: Debezium's topic.prefix.
        database: name of the source's database.

    """

    def __init__(self, topic_prefix: str, database: str) -> None:
        self._prefix = topic_prefix
        self._database = database
        self._numbers: dict[SchemaText, int] = {}
        self._rows: dict[Relation, tuple[RowWriter, _Form | None, _Form]] = {}
        self._many: dict[Relation, AvroRows] = {}
        self._special: dict[str, tuple[_Form, _Form]] = {}

    def shape(self, topic: str, described: Described) -> Collection[SchemaText]:
        """Rows of this relation go to this topic from now on; returns what has to be registered and learned first.

        Raises:
            ReplicatorError: CONFIG, when two columns have one name in Avro.

        """
        writer = RowWriter(described)
        key = None
        if writer.key:
            key = self._form(f"{topic}-key", schemas.key_schema(topic, writer.key))
        value = self._form(f"{topic}-value", schemas.envelope_schema(topic, writer.fields))
        self._rows[described.relation] = writer, key, value
        return self._unknown(*([] if key is None else [key]), value)

    def marks(self, topic: str) -> Collection[SchemaText]:
        """Likewise of the records of `mark`."""
        return self._both(topic, "mark", schemas.MARK_KEY, schemas.MARK_VALUE)

    def beats(self, topic: str) -> Collection[SchemaText]:
        """Likewise of `beat`."""
        return self._both(topic, "beat", schemas.BEAT_KEY, schemas.BEAT_VALUE)

    def messages(self, topic: str) -> Collection[SchemaText]:
        """Likewise of `message`."""
        return self._both(topic, "message", schemas.MESSAGE_KEY, schemas.MESSAGE_VALUE)

    def learn(self, schema: SchemaText, number: int) -> None:
        """The number under which the registry has it.

        Raises:
            ReplicatorError: INTERNAL, when it doesn't fit into the 4 bytes of a frame.

        """
        if not 0 < number < 1 << 32:
            raise ReplicatorError(
                f"the registry's number of {schema.subject} is {number}, which no record can hold",
                kind=ErrorKind.INTERNAL,
            )
        self._numbers[schema] = number

    def key(self, relation: Relation, row: Values) -> bytes | None:
        """The record's key of a row; None for a table without one."""
        writer, form, _ = self._rows[relation]
        if form is None:
            return None
        names = [name for name, _ in writer.key]
        return form.of(dict(zip(names, writer.key_of(row), strict=True)))

    def header(self, relation: Relation, row: Values) -> bytes:
        """The key as a header's value: not in Avro, see `debezium.encoder.header_of`."""
        return header_of(self._rows[relation][0], row)

    def value(self, change: RowChange, now: float) -> bytes:
        """The envelope of a change."""
        writer, _, form = self._rows[change.relation]
        return form.of(envelope_of(change, writer, self._prefix, self._database, now))

    def new_rows(self, changes: NewRows, now: float) -> Records | None:
        """See `captures.RecordEncoder`."""
        try:
            many = self._many.get(changes.relation) or self._many_of(changes)
            return many.records(changes, now)
        except (UnusualError, ValueError):
            return None

    def _many_of(self, changes: NewRows) -> AvroRows:
        writer, key, value = self._rows[changes.relation]
        sample = RowChange(changes.op, changes.relation, None, None, 1, 1, changes.commit_time)
        envelope = envelope_of(sample, writer, self._prefix, self._database, 0.0)
        blanks = dict.fromkeys([name for name, _ in writer.key], BLANK)
        many = AvroRows(
            writer,
            None if key is None else key.template(blanks),
            value.template(with_places(envelope, writer.names, BLANK)),
        )
        self._many[changes.relation] = many
        return many

    def mark(self, mark: TransactionMark, now: float) -> tuple[bytes, bytes]:
        """Key and value of a transaction's beginning or end."""
        del now
        return self._of("mark", mark_of(mark))

    def beat(self, beat: Beat) -> tuple[bytes, bytes]:
        """Key and value of a heartbeat."""
        return self._of("beat", beat_of(beat, self._prefix))

    def message(self, message: Message, now: float) -> tuple[bytes, bytes]:
        """Key and value of a logical message."""
        return self._of("message", message_of(message, self._prefix, self._database, now))

    def _form(self, subject: str, schema: Field) -> _Form:
        return _Form(SchemaText(subject, schema_text(schema)), schema, self._numbers)

    def _both(self, topic: str, name: str, key: Field, value: Field) -> Collection[SchemaText]:
        forms = self._special[name] = self._form(f"{topic}-key", key), self._form(f"{topic}-value", value)
        return self._unknown(*forms)

    def _unknown(self, *forms: _Form) -> Collection[SchemaText]:
        return [form.schema for form in forms if form.schema not in self._numbers]

    def _of(self, name: str, content: tuple[dict[str, Any], dict[str, Any]]) -> tuple[bytes, bytes]:
        key, value = self._special[name]
        return key.of(content[0]), value.of(content[1])


class _Form:
    """How records of one schema are put into bytes.

    Attributes:
        schema: to be registered.

    """

    def __init__(self, schema: SchemaText, field: Field, numbers: dict[SchemaText, int]) -> None:
        self.schema = schema
        self._field = field
        self._write = compile_writer(field)
        self._numbers = numbers
        self._frame = b""

    def of(self, payload: dict[str, Any]) -> bytes:
        """The record.

        Raises:
            ReplicatorError: INTERNAL, when nobody has told the schema's number.

        """
        return (self._frame or self._framed()) + self._write(payload)

    def template(self, payload: dict[str, Any]) -> Template:
        """The record with places; see `columns.template`. Raises likewise."""
        return template(self._field, payload, self._frame or self._framed())

    def _framed(self) -> bytes:
        number = self._numbers.get(self.schema)
        if number is None:
            raise ReplicatorError(f"{self.schema.subject} wasn't registered", kind=ErrorKind.INTERNAL)
        self._frame = b"\0" + number.to_bytes(4)
        return self._frame
