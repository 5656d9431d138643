"""Records as our capture writes them, and a decoder that reads them."""

from collections.abc import Mapping
from typing import Literal, get_args

from replicator.captures import Described, RecordEncoder
from replicator.codecs.avro import DebeziumAvroDecoder
from replicator.codecs.avro.encoder import DebeziumAvroEncoder
from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.encoder import DebeziumJsonEncoder
from replicator.codecs.debezium.modes import CAPTURED
from replicator.events import Op, Relation, Values
from replicator.partitions import RecordDecoder
from replicator.records import Record, RegistrySchema, RowChange
from replicator.tables import Catalog, Table


def relation_of(table: Table) -> Relation:
    """The relation as pgoutput has it."""
    return Relation(
        table.name,
        table.column_names,
        type_oids=tuple(column.type_oid for column in table.columns),
        key_columns=table.identity_columns,
        replica_identity=table.replica_identity,
    )


def described(table: Table, enums: Mapping[str, tuple[str, ...]] | None = None) -> Described:
    key = table.key if set(table.key) <= set(table.identity_columns) else table.identity_columns
    return Described(relation_of(table), table, key, enums or {})


Form = Literal["json", "json without schemas", "avro"]
FORMS: tuple[Form, ...] = get_args(Form)


class RoundTrip:
    """An encoder, and the decoder of what it writes, of one table; between them a registry, where they need one."""

    def __init__(self, catalog: Catalog, table: Table, form: Form) -> None:
        self.topic = f"old.{table.name.schema}.{table.name.name}"
        self.described = described(table, catalog.enums)
        tables = {self.topic: table.name}
        self.encoder: RecordEncoder
        self.decoder: RecordDecoder
        if form == "avro":
            self.encoder = DebeziumAvroEncoder("old", "shop")
            self.decoder = DebeziumAvroDecoder(catalog, tables, CAPTURED, "old")
        else:
            self.encoder = DebeziumJsonEncoder("old", "shop", with_schemas=form == "json")
            self.decoder = DebeziumJsonDecoder(catalog, tables, CAPTURED, "old")
        for number, schema in enumerate(self.encoder.shape(self.topic, self.described), 1):
            self.encoder.learn(schema, number)
            self.decoder.learn(RegistrySchema("id", number), schema.text)

    def change(self, op: Op, before: Values | None, after: Values | None) -> RowChange:
        return RowChange(
            op,
            self.described.relation,
            before,
            after,
            771,
            24_023_136,
            1_700_000_000.25,
            "771",
            1,
            (24_023_128, 24_023_136),
            1,
        )

    def record(self, change: RowChange) -> Record:
        row = change.before if change.after is None else change.after
        key = None if row is None else self.encoder.key(change.relation, row)
        return Record(self.topic, 0, 7, None, key, self.encoder.value(change, 1_700_000_001.5))

    def read(self, change: RowChange) -> RowChange:
        """The change, once written and read."""
        read = self.decoder.decode(self.record(change))
        assert isinstance(read, RowChange)
        return read
