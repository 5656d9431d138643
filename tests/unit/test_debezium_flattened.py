"""Events flattened by ExtractNewRecordState, with what its settings add, and what they drop."""

from typing import Any

import pytest

from replicator.codecs.debezium.fields import Field
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Op
from replicator.records import RowChange
from tests.debezium_tables import LOSSLESS, decoder, envelope, record, table, with_schema

HELD = table("public.customers", "id int not null", "name text not null", "note text")
TOPIC = "old.public.customers"
UNWRAP = LOSSLESS | {
    "transforms": "route, unwrap",
    "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
    "transforms.unwrap.add.fields": "op,source.lsn,txId,source.ts_us:when,transaction.id,total_order",
}
ADDED = {
    "__op": "u",
    "__source_lsn": 24_023_128,
    "__txId": 555,
    "__when": 1_700_000_000_123_456,
    "__transaction_id": "555:24023128",
    "__total_order": 3,
}
ROW = {"id": 1, "name": "Anne", "note": None}
FIELDS = {"id": Field("int32"), "name": Field("string"), "note": Field("string", optional=True)}
KEY = {"id": 1}


def flattened(value: Any, *, key: Any = KEY, headers: Any = (), held: Any = HELD, **settings: str) -> Any:
    """What a record says; settings of the transform by their names with underscores."""
    told = UNWRAP | {f"transforms.unwrap.{name.replace('_', '.')}": value for name, value in settings.items()}
    return decoder(held, settings=told).decode(record(TOPIC, value, key, headers))


@pytest.mark.parametrize("carried", [True, False])
def test_a_row_and_what_was_added(carried: bool) -> None:
    """The row's columns are the row; what was added says what happened, and when."""
    fields = FIELDS | {name: Field("string" if isinstance(value, str) else "int64") for name, value in ADDED.items()}
    change = flattened(with_schema(ROW | ADDED, fields, flat=True) if carried else ROW | ADDED)

    assert isinstance(change, RowChange)
    assert (Op.UPDATE, None, (b"1", b"Anne", None)) == (change.op, change.before, change.after)
    assert ("id", "name", "note") == change.relation.columns
    assert (555, 24_023_128, 1_700_000_000.123456, "555", 3) == (
        change.xid,
        change.lsn,
        change.commit_time,
        change.transaction,
        change.order,
    )


@pytest.mark.parametrize("text", [b"c", b'"c"', b'{"schema":{"type":"string"},"payload":"c"}'])
def test_what_was_added_to_the_headers(text: bytes) -> None:
    """A header says the op in whatever form the header's converter writes it."""
    change = flattened(ROW, headers=[("__op", text), ("__lsn", b"77")], add_fields="", add_headers="op,lsn")

    assert (Op.INSERT, 77) == (change.op, change.lsn)


def test_rewritten_deletes() -> None:
    """A row with `__deleted` is a delete, of which only the identity counts; a tombstone after it says nothing."""
    mode = {"delete_tombstone_handling_mode": "rewrite-with-tombstone"}
    change = flattened({"id": 1, "name": "", "note": None, "__deleted": "true"} | ADDED, **mode)
    kept = flattened(ROW | ADDED | {"__deleted": "false"}, **mode)

    assert (Op.DELETE, (b"1", None, None), None) == (change.op, change.before, change.after)
    assert (Op.UPDATE, (b"1", b"Anne", None)) == (kept.op, kept.after)
    assert flattened(None, **mode) is None


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"delete_tombstone_handling_mode": "delete-to-tombstone"},
        {"delete_handling_mode": "none"},
        {"delete_handling_mode": "drop", "drop_tombstones": "false"},
    ],
)
def test_tombstones_that_are_deletes(settings: dict[str, str], carried: bool) -> None:
    """Where deletes become tombstones, a record without value deletes the row that its key names."""
    key = with_schema(KEY, {"id": Field("int32")}, flat=True) if carried else KEY
    change = flattened(None, key=key, **settings)

    assert (Op.DELETE, TOPIC.removeprefix("old."), ("id",), (b"1",)) == (
        change.op,
        str(change.relation.table),
        change.relation.columns,
        change.before,
    )


@pytest.mark.parametrize(
    "settings,why",
    [
        ({"add_fields": "source.lsn"}, "doesn't say what happened"),
        ({"delete_tombstone_handling_mode": "drop"}, "drops deletes"),
        ({"delete_handling_mode": "drop"}, "drops deletes"),
        ({"delete_tombstone_handling_mode": "keep"}, "isn't known here"),
        ({"drop_fields_header_name": "x"}, "drops columns"),
        ({"route_by_field": "name"}, "routes rows by a column"),
    ],
)
def test_settings_that_drop_something_are_refused(settings: dict[str, str], why: str) -> None:
    """A transform that leaves out what a change needs is refused before the first record, with the setting."""
    with pytest.raises(ReplicatorError, match=why) as raised:
        flattened(ROW, **settings)
    assert ErrorKind.CONFIG == raised.value.kind
    assert "transforms.unwrap." in str(raised.value.hint)


@pytest.mark.parametrize(
    "value,key,why",
    [
        (ROW, KEY, "doesn't say what happened"),
        (None, None, "neither value nor key"),
        (ROW | ADDED | {"__op": "q"}, KEY, "its op is 'q'"),
        (ROW | ADDED | {"__source_lsn": "x"}, KEY, "malformed"),
        ([1], KEY, "isn't what Debezium writes"),
    ],
)
def test_what_is_malformed_is_refused(value: Any, key: Any, why: str) -> None:
    """A flattened record that doesn't say enough is refused."""
    with pytest.raises(ReplicatorError, match=why) as raised:
        flattened(value, key=key)
    assert ErrorKind.DECODE == raised.value.kind


def test_a_whole_old_row_is_not_in_a_key() -> None:
    """Under FULL a delete is looked for by the whole row, which a tombstone doesn't have."""
    held = table("public.customers", "id int not null", "name text not null", "note text", identity="f")
    with pytest.raises(ReplicatorError, match=r"delete\.tombstone\.handling\.mode=rewrite"):
        flattened(None, held=held)


def test_an_envelope_without_the_transform_is_no_flattened_event() -> None:
    """A record that wasn't flattened is refused rather than taken for a row."""
    with pytest.raises(ReplicatorError, match="doesn't say what happened"):
        flattened(envelope("public.customers", "c", None, ROW))
