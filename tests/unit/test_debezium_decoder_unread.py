"""Columns that no mapping carries may lose what they like."""

from dataclasses import replace

import pytest

from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.modes import Modes
from replicator.errors import ErrorKind, ReplicatorError
from replicator.records import Record, RowChange
from replicator.tables import Catalog, Column, Table, TableName

T = TableName("public", "t")
TABLE = Table(
    name=T,
    columns=(Column("id", 23, "integer", "integer"), Column("price", 1700, "numeric", "numeric")),
    replica_identity="d",
    identity_columns=("id",),
)
VALUE = (
    b'{"before":null,"after":{"id":1,"price":1.5},"source":{"schema":"public","table":"t","lsn":5,"txId":7,"ts_ms":1,'
    b'"snapshot":"false"},"op":"c"}'
)


def test_a_lossy_column_that_nobody_carries() -> None:
    """A numeric that Debezium writes as a double stops a table that carries it, and no other."""
    modes = replace(Modes(), decimal="double")
    record = Record("p.public.t", 0, 0, None, None, VALUE)

    with pytest.raises(ReplicatorError) as refused:
        DebeziumJsonDecoder(Catalog(0, {T: TABLE}), {}, modes, "p").decode(record)
    unread = replace(modes, unread=frozenset({(T, "price")}))
    change = DebeziumJsonDecoder(Catalog(0, {T: TABLE}), {}, unread, "p").decode(record)

    assert ErrorKind.DECODE is refused.value.kind
    assert isinstance(change, RowChange)
    assert change.after is not None
    assert b"1" == change.after[0]
