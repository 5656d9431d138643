"""Rows of JSON records: read by structs that are made for each table and set of fields, and what is remembered of a
topic's records.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from replicator.codecs.debezium.columns import field_of
from replicator.codecs.debezium.envelope import Shape
from replicator.codecs.debezium.fields import Field, MalformedError, field_of_json
from replicator.codecs.debezium.json_runs import RunReader

if TYPE_CHECKING:
    from replicator.codecs.debezium.modes import Modes
    from replicator.tables import Catalog, Table, TableName

SHAPES_MAX: Final = 256
"""Schemas, or sets of columns, of one topic that are remembered; a table has a new one after each ALTER."""
_INTEGERS: Final = frozenset({"int8", "int16", "int32", "int64"})
_DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"

keys_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""An object's values by key, not yet looked at."""
_document = msgspec.json.Decoder().decode


def json_type(field: Field | None, modes: Modes) -> Any:
    """The Python type that a field's JSON is read as, null aside.

    Any field may also hold the placeholder of an unchanged value, which is a text.
    """
    if field is None:
        return Any
    if field.name == _DECIMAL and modes.decimal_format == "NUMERIC":
        return Decimal
    if field.type == "boolean":
        return bool
    if field.type in _INTEGERS:
        return int
    if field.type in {"float", "double"}:
        return float | str  # NaN and the infinities are texts
    if field.type in {"string", "bytes"}:
        return str
    if field.type == "array":
        return list[json_type(field.items, modes) | None] | str  # type: ignore[misc]  # a type made at run time
    if field.type == "map" and field.keys is not None and field.keys.type == "string":
        return dict[str, json_type(field.values, modes) | None] | str  # type: ignore[misc]  # a type made at run time
    if field.type == "map":
        return list[Any]
    return dict[str, Any] | str


class RowReader:
    """Reads rows with exactly these fields.

    Args:
        table: the catalog's.
        fields: names and how they are written; None where nothing says how.
        modes: Debezium's settings.

    Raises:
        ReplicatorError: DECODE, when a column's values can't be brought back whole.

    Attributes:
        shape: of the rows.
        row_type, old_type: the structs that rows and old rows are read as.

    """

    def __init__(self, table: Table, fields: Sequence[tuple[str, Field | None]], modes: Modes) -> None:
        self.shape = Shape(table, fields, modes)
        self.fields = fields
        attributes = {f"f{at}": name for at, (name, _) in enumerate(fields)}
        row = msgspec.defstruct(
            "Row",
            [(f"f{at}", json_type(field, modes) | None) for at, (_, field) in enumerate(fields)],
            rename=attributes,
            forbid_unknown_fields=True,
            gc=False,
        )
        self.row_type = self.old_type = row
        self._decode = msgspec.json.Decoder(row).decode
        self._old_places: tuple[int, ...] | None = None
        if table.replica_identity != "f":
            names = self.shape.relation.columns
            places = [at for at, name in enumerate(names) if name in table.identity_columns]
            old = msgspec.defstruct(
                "Old",
                [(f"f{at}", json_type(fields[at][1], modes) | None) for at in places],
                rename=attributes,
                gc=False,
            )
            self.old_type = old
            self._decode_old = msgspec.json.Decoder(old).decode
            self._old_places = tuple(places)

    def read(self, row: bytes | msgspec.Raw) -> tuple[Any, ...]:
        """The fields' values in order.

        Raises:
            msgspec.ValidationError: it has other fields, or values of other types.
            msgspec.DecodeError: it is no JSON.

        """
        return msgspec.structs.astuple(self._decode(row))

    def read_old(self, row: bytes | msgspec.Raw) -> tuple[Any, ...]:
        """Likewise of an old row; of one that isn't whole only the identity's columns are looked at.

        Raises:
            msgspec.MsgspecError: as `read`.

        """
        if self._old_places is None:
            return self.read(row)
        return self.old_values(self._decode_old(row))

    def old_values(self, old: msgspec.Struct) -> tuple[Any, ...]:
        """The values of an old row that was read as `old_type`."""
        told = msgspec.structs.astuple(old)
        if self._old_places is None:
            return told
        values: list[Any] = [None] * len(self.fields)
        for at, value in zip(self._old_places, told, strict=True):
            values[at] = value
        return tuple(values)


class RecordSchema:
    """The `schema` of a topic's records, and readers of the rows that it describes.

    Attributes:
        head: how a record of this schema begins, up to its payload.
        rows: the fields of a row: those of the envelope's `after`, or of a flattened event all.

    """

    def __init__(self, text: bytes) -> None:
        self.head = b'{"schema":' + text + b',"payload":'
        schema = field_of_json(_document(text))
        row = schema.by_name.get("after", schema)
        self.rows = row.fields
        self.readers: dict[int, RowReader] = {}  # by the table, which the catalog keeps


class TopicRows:
    """What is remembered of one topic's records.

    Args:
        name: the topic's.
        catalog: the old database's.
        modes: Debezium's settings.

    """

    def __init__(self, name: str, catalog: Catalog, modes: Modes) -> None:
        self.name = name
        self.schema: RecordSchema | None = None
        self.run: RunReader | None = None
        self._catalog = catalog
        self._modes = modes
        self._schemas: dict[bytes, RecordSchema] = {}
        self._expected: dict[int, RowReader] = {}  # by the table, which the catalog keeps
        self._by_fields: dict[tuple[TableName, tuple[str, ...]], RowReader] = {}

    def expect(self, schema: str, table: str, reader: RowReader, head: bytes) -> None:
        """Read the next records as one was read: of this table, by this reader, with this beginning."""
        if self.run is None or not self.run.reads(schema, table, reader, head):
            self.run = RunReader(schema, table, reader, head)

    def schema_of(self, text: bytes) -> RecordSchema:
        """The schema that a record carries.

        Raises:
            MalformedError: it is none.

        """
        self.schema = self.key_schema_of(text)
        return self.schema

    def key_schema_of(self, text: bytes) -> RecordSchema:
        """Likewise, of a key.

        Raises:
            MalformedError: it is none.

        """
        found = self._schemas.get(text)
        if found is None:
            if len(self._schemas) >= SHAPES_MAX:
                self._schemas.clear()
            found = self._schemas[text] = RecordSchema(text)
        return found

    def read(
        self, table: Table, schema: RecordSchema | None, row: bytes | msgspec.Raw, added: Collection[str] = ()
    ) -> tuple[RowReader, tuple[Any, ...]]:
        """The values of a row, and who has read it.

        Args:
            table: whose.
            schema: the record's; None where it has none.
            row: a JSON object.
            added: fields of the schema that are none of the row.

        Raises:
            MalformedError, msgspec.MsgspecError: it is no row of this schema, or of this table.
            ReplicatorError: DECODE, when a column's values can't be brought back whole.

        """
        if schema is not None:
            reader = self._reader_of(table, schema, added)
            return reader, reader.read(row)
        reader = self._expected_reader(table)
        try:
            return reader, reader.read(row)
        except msgspec.ValidationError:
            other = self._by_names(table, keys_of(row))
            if other is reader:
                raise
            values = other.read(row)
            self._expected[id(table)] = other
            return other, values

    def reader(self, table: Table, schema: RecordSchema | None) -> RowReader:
        """Who would read a row, for one that isn't there (TRUNCATE), or isn't whole."""
        return self._expected_reader(table) if schema is None else self._reader_of(table, schema, ())

    def read_old(
        self, table: Table, schema: RecordSchema | None, row: bytes | msgspec.Raw
    ) -> tuple[RowReader, tuple[Any, ...]]:
        """As `read`, an old row."""
        if table.replica_identity == "f":
            return self.read(table, schema, row)
        reader = self.reader(table, schema)
        return reader, reader.read_old(row)

    def _reader_of(self, table: Table, schema: RecordSchema, added: Collection[str]) -> RowReader:
        reader = schema.readers.get(id(table))
        if reader is None:
            fields = [one for one in schema.rows if one[0] not in added]
            reader = schema.readers[id(table)] = RowReader(table, fields, self._modes)
        return reader

    def _expected_reader(self, table: Table) -> RowReader:
        """The reader of rows without schema that read the last one, or else one of what Debezium would write."""
        reader = self._expected.get(id(table))
        if reader is None:
            fields = [(column.name, field_of(column, self._modes, self._catalog.enums)) for column in table.columns]
            reader = self._reader(table, [one for one in fields if one[1] is not None])
            self._expected[id(table)] = reader
        return reader

    def _by_names(self, table: Table, names: Collection[str]) -> RowReader:
        """A reader of rows without schema that have these fields."""
        fields = [
            (column.name, field_of(column, self._modes, self._catalog.enums))
            for column in table.columns
            if column.name in names
        ]
        return self._reader(table, [*fields, *((name, None) for name in names if name not in table.by_name)])

    def _reader(self, table: Table, fields: Sequence[tuple[str, Field | None]]) -> RowReader:
        names = (table.name, tuple(name for name, _ in fields))
        reader = self._by_fields.get(names)
        if reader is None:
            if len(self._by_fields) >= SHAPES_MAX:
                self._by_fields.clear()
            reader = self._by_fields[names] = RowReader(table, fields, self._modes)
        return reader


def payload_of(value: bytes) -> tuple[bytes | msgspec.Raw, bytes | None]:
    """A record's content, and the text of its schema where it carries one.

    Raises:
        msgspec.MsgspecError: it is no JSON object.

    """
    names = keys_of(value)
    if names.keys() == {"schema", "payload"}:
        return names["payload"], bytes(names["schema"])
    if names.keys() == {"schema"}:
        raise MalformedError("it has a schema and no payload")
    return value, None
