"""Records that are read many at once, beside the same ones read one by one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.debezium.decoder import DebeziumJsonDecoder
from replicator.codecs.debezium.fields import Field
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Op
from replicator.records import Record, RowChange, RowChanges
from tests.debezium_tables import decoder, envelope, record, table, with_schema

ITEM = table("public.item", "id int not null", "name text", "at timestamptz")
FIELDS = {
    "id": Field("int32"),
    "name": Field("string", optional=True),
    "at": Field("string", "io.debezium.time.ZonedTimestamp", optional=True),
}
TOPIC = "old.public.item"
PLACEHOLDER = "__debezium_unavailable_value"


def row(number: int) -> dict[str, Any]:
    names = (None, "plain", 'quo"ted\\', "naïve ☃", PLACEHOLDER)
    return {"id": number, "name": names[number % 5], "at": f"2024-01-0{number % 9 + 1}T00:00:00.{number % 100:06d}Z"}


CONTENTS: dict[str, Callable[[int], Any]] = {
    "insert": lambda n: envelope("public.item", "c", None, row(n), lsn=n, sequence=f'["{n}","{n + 1}"]'),
    "first": lambda n: envelope("public.item", "c", None, row(n), sequence=f'[null,"{n}"]'),
    "snapshot": lambda n: envelope("public.item", "r", None, row(n), sequence=None, txId=None, lsn=None),
    "update": lambda n: envelope("public.item", "u", None, row(n)),
    "update of a key": lambda n: envelope("public.item", "u", row(n), row(n + 1)),
    "delete": lambda n: envelope("public.item", "d", row(n), None),
    "truncation": lambda n: envelope("public.item", "t", txId=n),
    "told besides": lambda n: envelope("public.item", "c", None, row(n)) | {"exact": {"after": {"name": f"{n}"}}},
    "fewer columns": lambda n: envelope("public.item", "c", None, {"id": n}),
    "of a transaction": lambda n: (
        envelope("public.item", "c", None, row(n))
        | {"transaction": {"id": f"{n}:1", "total_order": n, "data_collection_order": 1}}
    ),
}


def records_of(names: list[str], *, schema: bool) -> list[Record]:
    found = []
    for number, name in enumerate(names):
        if name == "tombstone":
            found.append(record(TOPIC, None, {"id": number}, offset=number))
            continue
        content = CONTENTS[name](number)
        found.append(record(TOPIC, with_schema(content, FIELDS) if schema else content, offset=number))
    return found


def read_in_runs(reading: DebeziumJsonDecoder, records: list[Record]) -> list[Any]:
    read: list[Any] = []
    while len(read) < len(records):
        some = reading.decode_run(records[len(read) :])
        assert some
        read += some
    return read


def read_as_rows(reading: DebeziumJsonDecoder, records: list[Record]) -> list[Any]:
    read: list[Any] = []
    while len(read) < len(records):
        some = reading.decode_rows(records[len(read) :])
        assert some
        for one in some:
            if isinstance(one, RowChanges):
                assert one.whole is all(UNCHANGED not in (change.before or change.after or ()) for change in one)
                read += one
            else:
                read.append(one)
    return read


def plain(changes: list[Any]) -> list[Any]:
    """What can be compared: a row by its columns' names, of an old one what is told of it."""
    return [
        (
            one.relation.table,
            one.before and {name: value for name, value in zip(one.relation.columns, one.before, strict=True) if value},
            one.after and dict(zip(one.relation.columns, one.after, strict=True)),
            one.op,
            *one[4:],
        )
        if isinstance(one, RowChange)
        else one
        for one in changes
    ]


@pytest.mark.parametrize("schema", [False, True])
@given(names=st.lists(st.sampled_from(["insert", *CONTENTS, "tombstone"]), min_size=1, max_size=12))
def test_a_run_says_what_each_record_says(names: list[str], schema: bool) -> None:
    """Read at once, records say what they say one by one, whatever comes between them."""
    if schema:
        names = [name for name in names if name != "fewer columns"] or ["insert"]
    records = records_of(names, schema=schema)
    by_one = decoder(ITEM)

    assert plain(read_in_runs(decoder(ITEM), records)) == plain([by_one.decode(one) for one in records])


@pytest.mark.parametrize("schema", [False, True])
@given(names=st.lists(st.sampled_from(["insert", "update", *CONTENTS, "tombstone"]), min_size=1, max_size=12))
def test_rows_say_what_each_record_says(names: list[str], schema: bool) -> None:
    """Changes of one kind, read as one, say what they say one by one, but for the transaction's metadata."""
    if schema:
        names = [name for name in names if name != "fewer columns"] or ["insert"]
    records = records_of(names, schema=schema)
    by_one = decoder(ITEM)

    def without_place(change: Any) -> Any:
        return change._replace(transaction=None, order=None, table_order=None) if type(change) is RowChange else change

    read = [without_place(one) for one in read_as_rows(decoder(ITEM), records)]
    assert plain(read) == plain([without_place(by_one.decode(one)) for one in records])


@pytest.mark.parametrize("ops", ["c" * 9, "c" * 9 + "u" * 9, "cu" * 9, "c" * 9 + "ud"])
def test_old_debezium_without_microseconds(ops: str) -> None:
    """Before 2.6 `source` has milliseconds alone: their commit time is read as well, of each kind in runs and alone."""
    contents = [
        envelope("public.item", op, row(n) if op == "d" else None, None if op == "d" else row(n), ts_us=None, ts_ms=n)
        for n, op in enumerate(ops)
    ]
    reading = decoder(ITEM)
    for _ in range(2):
        read = read_as_rows(reading, [record(TOPIC, one, offset=at) for at, one in enumerate(contents)])
        assert list(ops) == [one.op.value for one in read]
        assert [n / 1e3 for n in range(len(ops))] == [one.commit_time for one in read]


def test_changes_that_alternate_are_left_as_they_are() -> None:
    """A run for each of them would cost more than it saves: only where enough follow each other do they come as one,
    and what is around them says the same.
    """
    ops = "cucu" + "c" * 20 + "dud" + "u" * 20
    contents = [
        envelope("public.item", op, row(n) if op == "d" else None, None if op == "d" else row(n))
        for n, op in enumerate(ops)
    ]
    records = [record(TOPIC, one, offset=at) for at, one in enumerate(contents)]
    reading = decoder(ITEM)
    reading.decode(records[0])

    read = reading.decode_rows(records)

    assert [1, 1, 1, 1, 20, 1, 1, 1, 20] == [len(one) if isinstance(one, RowChanges) else 1 for one in read]
    each = [change for one in read for change in (one if isinstance(one, RowChanges) else [one])]
    assert plain(each) == plain([reading.decode(one) for one in records])


@pytest.mark.parametrize("schema", [False, True])
@pytest.mark.parametrize(
    "bad",
    [
        b'{"op":',
        b"null,null",
        b"",
        b"\xff",
        json.dumps(envelope("public.item", "x", None, row(1))).encode(),
        json.dumps(envelope("public.item", "c", None, row(1) | {"at": "soon"})).encode(),
        json.dumps(envelope("public.item", "c", None, row(1), sequence="[1")).encode(),
        json.dumps(envelope("public.item", "d", {"id": None}, None)).encode(),
    ],
)
def test_what_precedes_a_malformed_record_is_read(bad: bytes, *, schema: bool) -> None:
    """A run ends before a record that can't be read, which is refused by its own place when it comes first."""
    reading = decoder(ITEM)
    good = records_of(["insert"] * 4, schema=schema)
    reading.decode_run(good)
    odd = record(TOPIC, bad, offset=9)

    read = reading.decode_run([*good, odd, good[0]])
    as_rows = reading.decode_rows([*good, odd, good[0]])

    assert 4 == sum(len(one) if isinstance(one, RowChanges) else 1 for one in as_rows)
    assert [one.op for one in read if isinstance(one, RowChange)] == [Op.INSERT] * 4
    with pytest.raises(ReplicatorError, match=f"{TOPIC}/0:9") as caught:
        reading.decode_run([odd, good[0]])
    assert caught.value.kind is ErrorKind.DECODE
    with pytest.raises(ReplicatorError, match=f"{TOPIC}/0:9"):
        reading.decode_rows([odd, good[0]])
