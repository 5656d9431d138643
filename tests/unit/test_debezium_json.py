"""Debezium's records in JSON, and what each of them says."""

import json
from typing import Any

import pytest

from replicator.codecs.debezium.fields import Field
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Op
from replicator.records import Beat, Message, RowChange, TransactionMark
from replicator.tables import TableName
from tests.debezium_tables import SOURCE, decoder, envelope, record, table, with_schema

CUSTOMERS = table("public.customers", "id int not null", "name text not null", "note text")
TOPIC = "old.public.customers"
ANNE = {"id": 1, "name": "Anne", "note": None}
FIELDS = {"id": Field("int32"), "name": Field("string"), "note": Field("string", optional=True)}


def change_of(value: Any, *, held: Any = CUSTOMERS, **options: Any) -> RowChange:
    """The change that a record's value says."""
    change = decoder(held, **options).decode(record(f"old.{held.name}", value))
    assert isinstance(change, RowChange)
    return change


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize(
    "op,before,after,expected",
    [
        ("c", None, ANNE, (Op.INSERT, None, (b"1", b"Anne", None))),
        ("r", None, ANNE, (Op.READ, None, (b"1", b"Anne", None))),
        ("u", None, ANNE, (Op.UPDATE, None, (b"1", b"Anne", None))),
        ("u", {"id": 2, "name": "", "note": None}, ANNE, (Op.UPDATE, (b"2", None, None), (b"1", b"Anne", None))),
        ("d", {"id": 1, "name": "", "note": None}, None, (Op.DELETE, (b"1", None, None), None)),
        ("d", {"id": 1}, None, (Op.DELETE, (b"1", None, None), None)),
        ("t", None, None, (Op.TRUNCATE, None, None)),
    ],
)
def test_every_op(op: str, before: Any, after: Any, expected: Any, carried: bool) -> None:
    """Each op is told, and of an old row only its identity: what else stands there is no value of it."""
    content = envelope("public.customers", op, before, after)
    change = change_of(with_schema(content, FIELDS) if carried else content)

    assert expected == (change.op, change.before, change.after)
    assert (555, 24_023_128, 1_700_000_000.123456) == (change.xid, change.lsn, change.commit_time)
    assert (24_023_119, 24_023_128) == change.sequence
    assert (CUSTOMERS.name, ("id", "name", "note"), ("id",)) == (
        change.relation.table,
        change.relation.columns,
        change.relation.key_columns,
    )


def test_an_old_row_under_full_is_whole() -> None:
    """Under REPLICA IDENTITY FULL a NULL of the old row is a NULL."""
    held = table("public.customers", "id int not null", "name text not null", "note text", identity="f")
    change = change_of(envelope("public.customers", "d", ANNE), held=held)

    assert (b"1", b"Anne", None) == change.before


@pytest.mark.parametrize("carried", [True, False])
def test_a_converter_that_replaces_null(carried: bool) -> None:
    """What a converter makes of `source.snapshot`, which is NULL in a change, tells what it makes of other NULLs."""
    held = table("public.customers", "id int not null", "name text not null", "note text default")

    def written(op: str, snapshot: str | None) -> bytes:
        content = envelope("public.customers", op, None, ANNE, snapshot=snapshot)
        text = json.dumps(with_schema(content, FIELDS) if carried else content)
        return text.replace('"field": "note"', '"field": "note", "default": "x"').encode()

    for op, snapshot in (("c", None), ("r", "last")):
        assert change_of(written(op, snapshot), held=held).after is not None
    with pytest.raises(ReplicatorError, match=r"column note.*replace\.null"):
        change_of(written("c", "false"), held=held)


def test_rows_of_one_shape_share_their_relation() -> None:
    """The engine compares relations by identity: rows of one shape have the same one, whoever is missing a schema."""
    one = decoder(CUSTOMERS)
    values = [
        envelope("public.customers", "c", None, ANNE),
        with_schema(envelope("public.customers", "c", None, ANNE), FIELDS),
    ]
    for value in values:
        first, second = (one.decode(record(TOPIC, value)) for _ in range(2))
        assert isinstance(first, RowChange)
        assert isinstance(second, RowChange)
        assert first.relation is second.relation


def test_a_new_schema_is_read() -> None:
    """A record of another schema is read by that, and one of the former again by its own."""
    one = decoder(CUSTOMERS)
    fewer = {name: FIELDS[name] for name in ("id", "name")}
    values = [
        with_schema(envelope("public.customers", "c", None, row), fields)
        for row, fields in ((ANNE, FIELDS), ({"id": 1, "name": "x"}, fewer), (ANNE, FIELDS))
    ]
    rows = [change.after for value in values if isinstance(change := one.decode(record(TOPIC, value)), RowChange)]

    assert [(b"1", b"Anne", None), (b"1", b"x"), (b"1", b"Anne", None)] == rows


@pytest.mark.parametrize("carried", [True, False])
def test_columns_that_the_catalog_lacks_are_seen(carried: bool) -> None:
    """A new column is part of the relation, so that the engine reads the catalogs again; one that lacks is no NULL."""
    content = envelope("public.customers", "c", None, {"id": 1, "new": {"a": "b"}, "name": "x"})
    fields = {
        "id": FIELDS["id"],
        "new": Field("map", keys=Field("string"), values=Field("string")),
        "name": FIELDS["name"],
    }
    change = change_of(with_schema(content, fields) if carried else content)

    assert {"id": b"1", "name": b"x", "new": UNCHANGED} == dict(
        zip(change.relation.columns, change.after or (), strict=True)
    )


def test_keys_in_another_order_and_spaces() -> None:
    """What JSON doesn't mean has no meaning here: the order of keys, spaces, escapes."""
    text = json.dumps(envelope("public.customers", "c", None, dict(reversed(ANNE.items()))), indent=2, sort_keys=True)
    change = change_of(text.replace("Anne", "\\u0041nne").encode())

    assert (b"1", b"Anne", None) == change.after


def test_transaction_metadata() -> None:
    """Of the transaction's id the part before the colon counts; the record's places in it are told."""
    content = envelope("public.customers", "c", None, ANNE)
    content["transaction"] = {"id": "555:24023128", "total_order": 3, "data_collection_order": 2}
    change = change_of(content)

    assert ("555", 3, 2) == (change.transaction, change.order, change.table_order)


@pytest.mark.parametrize(
    "source,expected",
    [
        (
            {"ts_us": None, "ts_ns": None, "sequence": None, "snapshot": True},
            (1_700_000_000.123, None, 24_023_128, 555),
        ),
        (
            {"snapshot": "incremental", "txId": None, "lsn": None, "sequence": '["1",null]'},
            (1_700_000_000.123456, (1, 0), 0, 0),
        ),
        ({"sequence": '[null,"24023128"]', "txId": 2**32 + 7}, (1_700_000_000.123456, (0, 24_023_128), 24_023_128, 7)),
    ],
)
def test_sources_of_other_versions_and_snapshots(source: dict[str, Any], expected: Any) -> None:
    """Debezium 2 had no microseconds everywhere; a snapshot's rows have no transaction; 32 bits of an xid count."""
    change = change_of(envelope("public.customers", "r", None, ANNE, **source))

    assert expected == (change.commit_time, change.sequence, change.lsn, change.xid)


@pytest.mark.parametrize("carried", [True, False])
def test_marks_and_heartbeats(carried: bool) -> None:
    """The transaction topic and the heartbeat topic are read by what they are."""

    def content(payload: Any) -> Any:
        return {"schema": {"type": "struct"}, "payload": payload} if carried else payload

    one = decoder(CUSTOMERS)
    begin = {
        "status": "BEGIN",
        "id": "571:53195829",
        "ts_ms": 1486500577125,
        "event_count": None,
        "data_collections": None,
    }
    counts = [
        {"data_collection": "public.customers", "event_count": 1},
        {"data_collection": "s2.a", "event_count": 1},
        {"data_collection": "LOGICAL_DECODING_MESSAGE", "event_count": 1},
    ]
    end = {"status": "END", "id": "571:53195832", "ts_ms": 1486500577691, "event_count": 3, "data_collections": counts}

    assert TransactionMark("571", None, (), 1486500577.125) == one.decode(record("old.transaction", content(begin)))
    assert TransactionMark("571", 3, ((CUSTOMERS.name, 1),), 1486500577.691) == one.decode(
        record("old.transaction", content(end))
    )
    assert Beat(1486500577.125) == one.decode(record("__debezium-heartbeat.old", content({"ts_ms": 1486500577125})))


@pytest.mark.parametrize(
    "mode,content", [("bytes", "Ymfy"), ("base64", "Ymfy"), ("base64-url-safe", "Ymfy"), ("hex", "6267f2")]
)
def test_logical_messages(mode: str, content: str) -> None:
    """A logical message is read in any mode of bytes."""
    value = {
        "op": "m",
        "source": SOURCE | {"schema": "", "table": ""},
        "message": {"prefix": "foo", "content": content},
    }

    assert Message("foo", b"bg\xf2", 24_023_128, 555, 1_700_000_000.123456, (24_023_119, 24_023_128)) == decoder(
        CUSTOMERS, settings={"binary.handling.mode": mode}
    ).decode(record("old.message", value))


@pytest.mark.parametrize(
    "topic,value",
    [
        (TOPIC, None),
        (TOPIC, {"schema": None, "payload": None}),
        ("old.transaction", None),
        ("old.public.other", envelope("public.other", "c", None, {"x": 1})),
        ("old.public.other", envelope("public.other", "t")),
        ("old", {"source": SOURCE | {"schema": "", "table": ""}, "ddl": "CREATE TABLE", "tableChanges": []}),
    ],
)
def test_what_says_nothing_is_passed_over(topic: str, value: Any) -> None:
    """Tombstones, tables that nobody maps, and records of schema changes say nothing."""
    assert decoder(CUSTOMERS).decode(record(topic, value)) is None


def test_several_tables_share_a_topic() -> None:
    """Where a topic has several tables, the record says which one it is of; a leaf is its partitioned table's."""
    items = table("public.items", "id int not null")
    one = decoder(CUSTOMERS, items, by_topic=False)
    changes = [
        one.decode(record("all", envelope(f"public.{name}", "c", None, row)))
        for name, row in (("customers", ANNE), ("items", {"id": 5}))
    ]

    assert [CUSTOMERS.name, items.name] == [one.relation.table for one in changes if isinstance(one, RowChange)]


@pytest.mark.parametrize(
    "value,why",
    [
        (envelope("public.other", "c", None, ANNE), "stream.topics says that the topic is of public.customers"),
        (envelope("public.customers", "x", None, ANNE), "its op is 'x'"),
        (envelope("public.customers", "d", None, None), "neither `before` nor `after`"),
        (envelope("public.customers", "c", ANNE, None), "no `after`"),
        (envelope("public.customers", "d", {"id": None}), "no old value"),
        (envelope("public.customers", "c", None, {"id": "1", "name": "x", "note": None}), "Expected `int"),
        (envelope("public.customers", "c", None, {"id": 1.5, "name": "x", "note": None}), "Expected `int"),
        (envelope("public.customers", "c", None, {"id": True, "name": "x", "note": None}), "Expected `int"),
        (envelope("public.customers", "c", None, {"id": 1, "name": 5, "note": None}), "Expected `str"),
        (envelope("public.customers", "c", None, ANNE, sequence="?"), "no pair of LSNs"),
        (envelope("public.customers", "c", None, ANNE) | {"source": None}, "it has no source"),
        (envelope("public.customers", "c", None, ANNE) | {"op": None}, "it has no op"),
        (ANNE, "transforms.NAME.add.fields"),
        ({"schema": {"type": "struct", "fields": []}}, "a schema and no payload"),
        ({"schema": {"type": "struct", "fields": []}, "payload": ANNE}, "neither op nor source"),
        ({"schema": {"type": "u8"}, "payload": envelope("public.customers", "c", None, ANNE)}, "of the type 'u8'"),
        (b'{"op": "c", "after": {"id": 1', "no JSON that can be read"),
        (b"\xff\xfe", "no JSON that can be read"),
        (b'{"op": "c", "after": {"id": NaN}}', "no JSON that can be read"),
        (b"[" * 100_000, "can't be decoded"),
        (b"", "no JSON that can be read"),
        (b"null", "isn't what Debezium writes"),
    ],
)
def test_what_is_malformed_is_refused(value: Any, why: str) -> None:
    """A record that can't be read stops with its place and what is wrong with it, and with none of its values."""
    with pytest.raises(ReplicatorError) as raised:
        decoder(CUSTOMERS).decode(record(TOPIC, value))
    assert ErrorKind.DECODE == raised.value.kind
    assert why in raised.value.message
    assert f"{TOPIC}/0:7" in raised.value.message
    assert "Anne" not in str(raised.value)


def test_a_topic_of_a_table_that_is_gone() -> None:
    """A topic whose table isn't in the catalog is an error of the schema."""
    one = decoder(CUSTOMERS)
    one._tables._by_topic = {"old.gone": TableName("public", "gone")}
    with pytest.raises(ReplicatorError, match="which the old database doesn't have") as raised:
        one.decode(record("old.gone", envelope("public.gone", "c", None, {})))
    assert ErrorKind.SCHEMA == raised.value.kind
