"""Records that Debezium wrote, or might have, and what each of them says.

One file a capture in tests/golden/debezium: `from` says where it is from; `settings` are the connector's; `tables` have
columns as in tests/debezium_tables.py; each of `records` has `topic`, `key`, `value` (JSON as it was written; null for
none), `headers` where there are some, and `said`: null, or op, table, before and after (texts by column; of an old row
only what is told; a zero character for an unchanged value), xid, lsn and sequence; or of a transaction's boundary its
events and tables; or of a logical message its content in hex.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.modes import Modes
from replicator.events import Values
from replicator.records import Decoded, Message, RowChange, TransactionMark
from replicator.tables import Catalog
from tests.debezium_tables import record, table

FILES = sorted((Path(__file__).parent.parent / "golden" / "debezium").glob("*.json"))


def row_of(change: RowChange, values: Values | None, *, old: bool = False) -> dict[str, str | None] | None:
    if values is None:
        return None
    named = zip(change.relation.columns, values, strict=True)
    told = change.relation.key_columns if old else change.relation.columns
    return {
        name: value if value is None else value.decode() if isinstance(value, bytes) else "\0"
        for name, value in named
        if name in told
    }


def said(decoded: Decoded) -> dict[str, Any] | None:
    """What a record says, as the files have it."""
    if isinstance(decoded, RowChange):
        return {
            "op": decoded.op.value,
            "table": str(decoded.relation.table),
            "before": row_of(decoded, decoded.before, old=True),
            "after": row_of(decoded, decoded.after),
            "xid": decoded.xid,
            "lsn": decoded.lsn,
            "sequence": None if decoded.sequence is None else list(decoded.sequence),
        }
    if isinstance(decoded, TransactionMark):
        tables = {str(name): count for name, count in decoded.tables}
        return {"transaction": decoded.id, "events": decoded.events, "tables": tables}
    if isinstance(decoded, Message):
        return {
            "message": decoded.prefix,
            "content": decoded.content.hex(),
            "xid": decoded.xid,
            "lsn": decoded.lsn,
        }
    assert decoded is None
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_records_say_what_they_said(path: Path) -> None:
    """Every record of a capture is read as it was meant."""
    capture = json.loads(path.read_text())
    tables = [
        table(name, *one["columns"], key=one["key"], identity=one["identity"])
        for name, one in capture["tables"].items()
    ]
    prefix = capture["topic_prefix"]
    decoder = DebeziumJsonDecoder(
        Catalog(150_000, {one.name: one for one in tables}),
        {f"{prefix}.{one.name}": one.name for one in tables},
        Modes.of(capture["settings"]),
        prefix,
    )
    for one in capture["records"]:
        headers = [(name, value and value.encode()) for name, value in one.get("headers", ())]
        decoded = decoder.decode(record(one["topic"], one["value"], one["key"], headers))
        assert one["said"] == said(decoded)
