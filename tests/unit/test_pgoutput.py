"""The pgoutput decoder: every message of protocol 1, and nothing but a typed error for anything else."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import (
    UNCHANGED,
    Begin,
    ChangeEvent,
    Commit,
    LogicalMessage,
    Op,
    Origin,
    StreamItem,
    Truncation,
    Values,
)
from replicator.tables import TableName
from tests import pgoutput_encoder as server

OID = 16_384
COLUMNS = [("id", 20, True), ("name", 25, False), ("photo", 17, False)]
RELATION = server.relation(OID, "public", "people", COLUMNS)
ROW = (b"1", "Zoë 🐘".encode(), None)


def opened(*announced: bytes) -> PgoutputDecoder:
    """Return a decoder inside a transaction, with these relations announced."""
    decoder = PgoutputDecoder()
    decoder.feed(server.begin(0x100))
    for message in announced or (RELATION,):
        decoder.feed(message)
    return decoder


def event(item: StreamItem | None) -> ChangeEvent:
    assert isinstance(item, ChangeEvent)
    return item


def refusal(decoder: PgoutputDecoder, message: bytes) -> ReplicatorError:
    with pytest.raises(ReplicatorError) as caught:
        decoder.feed(message)
    assert ErrorKind.DECODE is caught.value.kind
    return caught.value


def test_begin() -> None:
    """BEGIN names xid, commit LSN, and the commit time in Unix seconds."""
    item = PgoutputDecoder().feed(server.begin(0x16B3748, 1_500_000, 4_294_967_295))

    assert isinstance(item, Begin)
    transaction = item.transaction
    assert (4_294_967_295, 0x16B3748, 946_684_801.5) == (
        transaction.xid,
        transaction.commit_lsn,
        transaction.commit_time,
    )


def test_commit() -> None:
    """COMMIT belongs to the open transaction and says where it ends."""
    decoder = PgoutputDecoder()
    begun = decoder.feed(server.begin(0x100))

    item = decoder.feed(server.commit(0x100, 0x130))

    assert isinstance(begun, Begin)
    assert Commit(begun.transaction, 0x130) == item


def test_origin() -> None:
    """ORIGIN names who wrote the transaction."""
    decoder = PgoutputDecoder()
    decoder.feed(server.begin(0x100))

    assert Origin("replicator/crm/reverse/0") == decoder.feed(server.origin("replicator/crm/reverse/0"))


def test_relation() -> None:
    """A row's relation has the catalog's names, types, key columns and replica identity."""
    message = server.relation(OID, 'we"ird', "Ta.ble", [("Id", 20, True), ("naïve", 600_000, False)], "i")

    found = event(opened(message).feed(server.insert(OID, (b"1", b"2")))).relation

    assert TableName('we"ird', "Ta.ble") == found.table
    assert (("Id", "naïve"), (20, 600_000), ("Id",), "i") == (
        found.columns,
        found.type_oids,
        found.key_columns,
        found.replica_identity,
    )


def test_relation_of_the_system_schema() -> None:
    """An empty namespace stands for pg_catalog."""
    found = event(opened(server.relation(OID, "", "t", COLUMNS)).feed(server.insert(OID, ROW)))
    assert TableName("pg_catalog", "t") == found.relation.table


def test_the_same_shape_is_the_same_object() -> None:
    """A relation that is announced again unchanged, in another session too, is the same object; a changed one isn't."""
    decoder = opened()
    first = event(decoder.feed(server.insert(OID, ROW))).relation
    decoder.feed(RELATION)
    again = event(decoder.feed(server.insert(OID, ROW))).relation
    decoder.reset()
    decoder.feed(server.begin(0x200))
    decoder.feed(RELATION)
    later = event(decoder.feed(server.insert(OID, ROW))).relation
    decoder.feed(server.relation(OID, "public", "people", COLUMNS, "f"))
    changed = event(decoder.feed(server.insert(OID, ROW))).relation

    assert first is again
    assert first is later
    assert first is not changed


def test_type_says_nothing() -> None:
    """TYPE only accompanies RELATION."""
    assert PgoutputDecoder().feed(server.type_(600_000, "public", "mood")) is None


def test_insert() -> None:
    """INSERT carries the new row: text as bytes, NULL as None; the transaction is shared, ordinals count from 1."""
    decoder = opened()

    first, second = (event(decoder.feed(server.insert(OID, ROW))) for _ in range(2))

    assert (Op.INSERT, None, ROW, 1) == (first.op, first.before, first.after, first.ordinal)
    assert 2 == second.ordinal
    assert first.transaction is second.transaction


def test_an_empty_message_says_nothing() -> None:
    """PostgreSQL 13 sends one in place of an ORIGIN whose name it can't look up; the transaction goes on."""
    assert PgoutputDecoder().feed(b"") is None
    assert PgoutputDecoder().feed(b"header", 6) is None


def test_empty_text_is_not_null() -> None:
    """An empty text stays an empty text."""
    assert (b"", None, b"") == event(opened().feed(server.insert(OID, (b"", None, b"")))).after


@pytest.mark.parametrize(
    "before,kind",
    [(None, b"K"), ((b"1", None, None), b"K"), ((b"1", b"old", None), b"O")],
)
def test_update(before: Values | None, kind: bytes) -> None:
    """UPDATE carries the new row, and the old key or the old row where the server sends one."""
    after = (b"2", b"new", UNCHANGED)

    found = event(opened().feed(server.update(OID, after, before, kind)))

    assert (Op.UPDATE, before, after) == (found.op, found.before, found.after)


@pytest.mark.parametrize("before,kind", [((b"1", None, None), b"K"), (ROW, b"O")])
def test_delete(before: Values, kind: bytes) -> None:
    """DELETE carries the old key, or the old row."""
    found = event(opened().feed(server.delete(OID, before, kind)))
    assert (Op.DELETE, before, None) == (found.op, found.before, found.after)


def test_truncate() -> None:
    """TRUNCATE is one event a relation, in order, with how it was said."""
    decoder = opened(RELATION, server.relation(OID + 1, "public", "pets", COLUMNS))

    item = decoder.feed(server.truncate(OID + 1, OID, cascade=True))

    assert isinstance(item, Truncation)
    assert (True, False) == (item.cascade, item.restart_identity)
    assert [("pets", Op.TRUNCATE, 1), ("people", Op.TRUNCATE, 2)] == [
        (e.relation.table.name, e.op, e.ordinal) for e in item.events
    ]
    assert 3 == event(decoder.feed(server.insert(OID, ROW))).ordinal


def test_message() -> None:
    """MESSAGE carries prefix and any bytes, within a transaction or between two; it takes no ordinal."""
    outside = PgoutputDecoder().feed(server.message("p", b"\0\xff", transactional=False, lsn=7))
    decoder = opened()
    inside = decoder.feed(server.message("replicator", b""))

    assert LogicalMessage("p", b"\0\xff", transactional=False, lsn=7) == outside
    assert LogicalMessage("replicator", b"", transactional=True, lsn=0) == inside
    assert 1 == event(decoder.feed(server.insert(OID, ROW))).ordinal


def test_a_message_may_begin_inside_a_buffer() -> None:
    """The header of a frame is skipped without a copy."""
    assert ROW == event(opened().feed(b"w" * 25 + server.insert(OID, ROW), 25)).after


def test_binary_values_are_refused() -> None:
    """A binary value would be taken for text further on; the error says where it stands."""
    binary = server.insert(OID, ROW).replace(b"t\0\0\0\1", b"b\0\0\0\1", 1)

    error = refusal(opened(), binary)

    assert "INSERT" in error.message
    assert "at byte 8" in error.message


@pytest.mark.parametrize(
    "message",
    [
        server.insert(OID + 1, ROW),
        server.truncate(OID + 1),
        server.insert(OID, ROW[:2]),
        server.insert(OID, ROW) + b"n",
        server.insert(OID, ROW)[:-1],
        server.begin(0x200),
        server.commit(0x101, 0x130),
        server.commit(0x100, 0x100),
        server.origin("x")[:-1],
        server.relation(OID, "s", "t", COLUMNS, "x"),
        server.type_(1, "s", "t") + b"x",
        server.message("p", b"content")[:-1],
        b"S\0\0\0\1\0",
        RELATION.replace(b"people", b"p\xffople"),
    ],
)
def test_malformed_messages_are_refused(message: bytes) -> None:
    """What contradicts the protocol is a DECODE error."""
    refusal(opened(), message)


@pytest.mark.parametrize(
    "message",
    [
        server.insert(OID, ROW),
        server.update(OID, ROW),
        server.delete(OID, ROW),
        server.truncate(OID),
        server.commit(0x100, 0x130),
        server.origin("x"),
        server.message("p", b""),
    ],
)
def test_changes_belong_to_a_transaction(message: bytes) -> None:
    """A change outside a transaction has no position, so it is refused."""
    decoder = PgoutputDecoder()
    decoder.feed(RELATION)
    refusal(decoder, message)


VALUES = st.one_of(st.none(), st.just(UNCHANGED), st.binary(max_size=300))
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@given(st.lists(NAMES, min_size=1, max_size=9, unique=True), NAMES, NAMES, st.data())
def test_what_a_server_encodes_comes_back(columns: list[str], schema: str, table: str, data: st.DataObject) -> None:
    """Any row of any shape is decoded to the values that were encoded."""
    rows = st.lists(VALUES, min_size=len(columns), max_size=len(columns))
    before, after = data.draw(rows), data.draw(rows)
    decoder = opened(server.relation(OID, schema, table, [(name, 25, True) for name in columns]))

    found = event(decoder.feed(server.update(OID, after, before, b"O")))

    assert (tuple(before), tuple(after)) == (found.before, found.after)
    assert (schema, table, tuple(columns)) == (
        found.relation.table.schema,
        found.relation.table.name,
        found.relation.columns,
    )


def survives(decoder: PgoutputDecoder, message: bytes) -> None:
    """Feed it: an item, nothing or a DECODE error; any other exception fails the test."""
    kind = ErrorKind.DECODE
    try:
        decoder.feed(message)
    except ReplicatorError as error:
        kind = error.kind
    assert ErrorKind.DECODE is kind


@given(st.sampled_from("BCORYIUDTMSx"), st.binary(max_size=200))
def test_noise_is_a_typed_error(kind: str, noise: bytes) -> None:
    """No bytes make the decoder fail in an untyped way."""
    survives(opened(), kind.encode() + noise)


CAPTURED = [
    base64.b64decode(line)
    for line in json.loads((Path(__file__).parents[1] / "golden" / "pgoutput.json").read_text())["messages"]
]


def test_captured_messages_are_decoded() -> None:
    """A real server's recorded stream holds every message type, and all of it is understood."""
    decoder = PgoutputDecoder()

    for message in CAPTURED:
        decoder.feed(message)

    assert set(b"BCORYIUDTM") == {message[0] for message in CAPTURED}


@given(st.integers(0, len(CAPTURED) - 1), st.data())
def test_mutated_captured_messages_are_typed_errors(at: int, data: st.DataObject) -> None:
    """A real stream with one message damaged is decoded, or refused with a typed error."""
    decoder = PgoutputDecoder()
    for message in CAPTURED[:at]:
        decoder.feed(message)
    damaged = bytearray(CAPTURED[at])
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "double"])):
            case "flip":
                damaged[where] = data.draw(st.integers(0, 255))
            case "cut":
                del damaged[where : where + data.draw(st.integers(1, 5))]
            case _:
                damaged[where:where] = damaged[where : where + 4]
        if not damaged:
            break
    survives(decoder, bytes(damaged))
