"""The slot's stream on real servers: what comes, what is dropped, and how far the server is told to forget."""

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.demo.servers import find_bindir
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, ChangeEvent, Op, Position, StreamItem
from replicator.postgres.lsn import parse_lsn
from replicator.postgres.publication import ensure_publication
from replicator.tables import TableName
from tests.conformance.source_contract import collected, keys_of, reached, taken
from tests.fix_slot import ITEMS, SlotWorld, table_of
from tests.polling import eventually

OTHERS = TableName("public", "others")


class Recorder(PgoutputDecoder):
    """Keeps the bytes that it is fed; refuses the message with a given number."""

    def __init__(self, refuse_at: int | None = None) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self._refuse_at = refuse_at

    def feed_rows(self, messages: Sequence[bytes], first: int, at: int = 0) -> Sequence[ChangeEvent]:
        if self._refuse_at is not None:
            return []
        events = super().feed_rows(messages, first, at)
        self.messages.extend(data[at:] for data in messages[first : first + len(events)])
        return events

    def feed(self, data: bytes, at: int = 0) -> StreamItem | None:
        self.messages.append(data[at:])
        if len(self.messages) == self._refuse_at:
            data, at = b"?", 0
        return super().feed(data, at)


def events_of(batches: object) -> list[ChangeEvent]:
    assert isinstance(batches, list)
    return [event for batch in batches for event in batch.events]


async def test_the_bytes_of_pg_recvlogical(slot_world: SlotWorld, tmp_path: Path) -> None:
    """What we read is, message by message, what PostgreSQL's own client reads from an equal slot."""
    world, database = slot_world, slot_world.database
    twin = f"{world.slot}_twin"
    database.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", [world.slot, twin])
    recorder = Recorder()
    source = world.source(decoder=recorder)
    database.execute("ALTER TABLE items ADD more text; ALTER TABLE items ALTER more SET STORAGE EXTERNAL")
    database.execute("INSERT INTO items VALUES (1, E'new\\nline 😀', repeat('x', 9000)), (2, NULL, NULL)")
    database.execute("UPDATE items SET body = '' WHERE id = 1; UPDATE items SET id = 3 WHERE id = 2")
    world.commit_echo(7)
    database.execute("DELETE FROM items; TRUNCATE items, others")
    head = Position(await source.head())
    await source.start(None)  # now: a session that sees TRUNCATE happen announces the relation once more
    await reached(source, head)

    file = tmp_path / "messages"
    database.server.execute("SELECT pg_switch_wal()")  # pg_recvlogical ends when it sees something past its end
    newest = find_bindir(18)  # it reads from every version, and not every server comes with its own
    assert newest is not None
    command = [
        str(newest / "pg_recvlogical"),
        *("--dbname", database.dsn, "--slot", twin, "--start", "--no-loop", "--file", str(file)),
        *("--endpos", source.format(head), "--fsync-interval", "0"),
        *("-o", "proto_version=1", "-o", "publication_names=crm", "-o", "messages=true"),
    ]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=60, capture_output=True)

    assert set(b"BCORIUDT") == {message[0] for message in recorder.messages}
    assert b"".join(message + b"\n" for message in recorder.messages) == file.read_bytes()


async def test_values_come_as_the_server_prints_them(slot_world: SlotWorld) -> None:
    """Quoted names, 4-byte text, NULL, unchanged TOAST, key changes, old rows: all as they are."""
    database = slot_world.database
    database.execute("""
        CREATE SCHEMA "My Schema";
        CREATE TABLE "My Schema"."T.""1" ("Id" bigint PRIMARY KEY, "näme" text, big text, f float8, t timestamptz);
        ALTER TABLE "My Schema"."T.""1" ALTER big SET STORAGE EXTERNAL""")
    name = TableName("My Schema", 'T."1')
    table = await table_of(database, name)
    await ensure_publication(database.dsn, "crm", [table], create=True, heartbeat=False)
    source = slot_world.source(tables=[name])
    await source.start(None)
    database.execute("""
        INSERT INTO "My Schema"."T.""1" VALUES (1, '🐘', repeat('b', 9000), 'NaN', '0044-03-15 12:00+00 BC');
        UPDATE "My Schema"."T.""1" SET "näme" = NULL;
        UPDATE "My Schema"."T.""1" SET "Id" = 2;
        ALTER TABLE "My Schema"."T.""1" REPLICA IDENTITY FULL;
        DELETE FROM "My Schema"."T.""1" """)

    insert, update, move, delete = events_of(await collected(source, 4))

    moment = b"0044-03-15 12:00:00+00 BC"
    assert (name, ("Id", "näme", "big", "f", "t"), ("Id",)) == (
        insert.relation.table,
        insert.relation.columns,
        insert.relation.key_columns,
    )
    assert (b"1", "🐘".encode(), b"b" * 9000, b"NaN", moment) == insert.after
    assert (None, (b"1", None, UNCHANGED, b"NaN", moment)) == (update.before, update.after)
    assert ((b"1", None, None, None, None), (b"2", None, UNCHANGED, b"NaN", moment)) == (move.before, move.after)
    assert ("f", (b"2", None, b"b" * 9000, b"NaN", moment), None) == (
        delete.relation.replica_identity,
        delete.before,
        delete.after,
    )


async def test_truncate_of_several_tables(slot_world: SlotWorld) -> None:
    """TRUNCATE is an event for each mapped table; the unmapped ones are counted, not given out."""
    source = slot_world.source()
    await source.start(None)
    with slot_world.database.connect() as connection:
        connection.execute("INSERT INTO others VALUES (1)")
        connection.execute("TRUNCATE others, items")
        connection.execute("INSERT INTO items VALUES (1)")

    truncate, insert = events_of(await collected(source, 2))

    assert (Op.TRUNCATE, ITEMS, None, None) == (truncate.op, truncate.relation.table, truncate.before, truncate.after)
    assert truncate.ordinal in {2, 3}  # after the INSERT; the server chooses the tables' order
    assert 4 == insert.ordinal


async def test_tables_can_be_mapped_later(slot18: SlotWorld) -> None:
    """A table that is mapped while the feed runs is given out from then on."""
    source = slot18.source()
    await source.start(None)
    slot18.commit_unmapped()
    slot18.commit(1)
    await collected(source, 1)
    source.map_tables([ITEMS, OTHERS])
    slot18.commit_unmapped()

    (event,) = events_of(await collected(source, 1))

    assert OTHERS == event.relation.table


async def test_a_value_of_100_megabytes(slot18: SlotWorld) -> None:
    """A value far above the buffer comes whole, and the stream goes on after it."""
    size = 100 << 20
    source = slot18.source(buffer_bytes_max=1 << 20)
    await source.start(None)
    slot18.commit(1, body_bytes=size)
    slot18.commit(2)

    large, small = events_of(await collected(source, 2))

    assert large.after is not None
    assert isinstance(large.after[1], bytes)
    assert (size, {ord("x")}) == (len(large.after[1]), set(large.after[1][:: 1 << 16]))
    assert (b"2", b"x") == small.after


async def test_only_what_is_confirmed_is_reported(slot_world: SlotWorld) -> None:
    """The slot stays where the target is, however much was read; it moves soon after a confirmation."""
    source = slot_world.source()
    begin = await source.start(None)
    slot_world.commit(1)
    slot_world.commit(2)
    first, second = await collected(source, 2, rows_max=1)
    source.nudge()
    await source.head()
    unconfirmed = slot_world.state()["confirmed_flush_lsn"]

    source.confirm(first.position)
    await eventually(lambda: slot_world.state()["confirmed_flush_lsn"] == source.format(first.position))
    source.confirm(first.position)  # nothing moves twice, or back
    source.confirm(second.position)
    await eventually(lambda: slot_world.state()["confirmed_flush_lsn"] == source.format(second.position))

    assert source.format(begin) == unconfirmed


async def test_confirming_inside_a_transaction(slot18: SlotWorld) -> None:
    """A position inside a transaction keeps the whole transaction in the slot."""
    source = slot18.source()
    await source.start(None)
    slot18.commit(1, 2, 3)
    part = await taken(source, rows_max=2)
    source.confirm(part.position)
    await source.close()

    again = slot18.source()
    begin = await again.start(None)

    assert Position(part.position.at) == begin
    assert [1, 2, 3] == keys_of(*await collected(again, 3))


async def test_other_origins_are_not_echoes(slot_world: SlotWorld) -> None:
    """Only this connector's other feed is dropped: rows of other connectors and subscriptions are changes."""
    source = slot_world.source()
    await source.start(None)
    with slot_world.database.connect() as connection:
        connection.execute("SELECT pg_replication_origin_create('replicator/crm2/reverse/0')")
        connection.execute("SELECT pg_replication_origin_session_setup('replicator/crm2/reverse/0')")
        connection.execute("INSERT INTO items VALUES (1)")

    assert [1] == keys_of(*await collected(source, 1))


async def test_marked_transactions_are_echoes(slot_world: SlotWorld) -> None:
    """A transaction that begins with the other feed's marker is dropped; one that only mentions it is not."""
    if int(slot_world.database.execute("SHOW server_version_num")[0][0]) < 140_000:
        pytest.skip("PostgreSQL 13 sends no logical messages by pgoutput")
    source = slot_world.source()
    await source.start(None)
    with slot_world.database.connect() as connection:
        for key, prefix, content, first in [
            (1, "replicator", "replicator/crm/reverse/0", True),
            (2, "replicator", "replicator/crm/reverse/0", False),
            (3, "else", "replicator/crm/reverse/0", True),
            (4, "replicator", "replicator/crm2/reverse/0", True),
            (5, "replicator", "replicator/crm/reverse/", True),
        ]:
            mark = "SELECT pg_logical_emit_message(true, %s, %s)"
            if first:
                connection.execute(mark, [prefix, content])
            connection.execute("INSERT INTO items VALUES (%s)", [key])
            connection.execute(mark, [prefix, content])
            connection.execute("INSERT INTO items VALUES (%s)", [key + 10])
            connection.commit()
    slot_world.commit(6)

    assert [2, 12, 3, 13, 4, 14, 6] == keys_of(*await collected(source, 7))


async def test_a_heartbeat_is_no_change(slot18: SlotWorld) -> None:
    """The heartbeat's rows aren't given out, even when its table is mapped to nothing and stands among changes."""
    source = slot18.source()
    await source.start(None)
    await source.beat()
    slot18.commit(1)
    await source.beat()
    position = Position(await source.beat())

    batches = await reached(source, position)

    assert [1] == keys_of(*batches)
    assert [("crm/forward", 3)] == slot18.database.execute("SELECT feed, count FROM replicator.heartbeat")


async def test_the_head_is_reached_at_a_page_s_beginning(slot18: SlotWorld) -> None:
    """Where the next record would follow a page's header, an idle server has nothing to send: its head is reached."""
    source = slot18.source()
    await source.start(None)
    slot18.database.execute("SELECT pg_switch_wal()")
    head = await source.head()

    async with asyncio.timeout(10):
        batches = await reached(source, Position(head))

    assert 0 == head % (1 << 20)
    assert not keys_of(*batches)


async def test_a_source_without_heartbeat_says_so(slot18: SlotWorld) -> None:
    """Where no heartbeat can be written, the caller learns it and can use the head instead."""
    slot18.database.execute("DROP SCHEMA replicator CASCADE")

    with pytest.raises(ReplicatorError) as caught:
        await slot18.source().beat()

    assert ErrorKind.PERMISSION is caught.value.kind


async def test_lag_is_known_or_unknown(slot18: SlotWorld) -> None:
    """The slot's WAL is counted in bytes; without a slot it is unknown, not 0."""
    source = slot18.source()
    await source.start(None)
    slot18.commit(*range(2000), body_bytes=100)
    (*_, last) = await collected(source, 2000)
    lag = await source.lag()
    await source.close()
    slot18.database.execute("SELECT pg_drop_replication_slot(%s)", [slot18.slot])

    assert lag.retained_wal_bytes is not None
    assert lag.retained_wal_bytes > 200_000
    assert lag.sent_position is not None
    assert parse_lsn(lag.sent_position) >= last.position.at
    assert (await slot18.source().lag()).retained_wal_bytes is None


async def test_what_was_read_before_a_bad_message_comes_first(slot18: SlotWorld) -> None:
    """Whole transactions before a message that can't be decoded are given out, then the error, again and again."""
    source = slot18.source(decoder=Recorder(refuse_at=10))  # BEGIN RELATION INSERT COMMIT, BEGIN INSERT INSERT COMMIT
    await source.start(None)
    slot18.commit(1)
    slot18.commit(2, 3)
    slot18.commit(4, 5)

    batches = await collected(source, 3)

    assert [1, 2, 3] == keys_of(*batches)
    for _ in range(2):
        with pytest.raises(ReplicatorError) as caught:
            await taken(source)
        assert ErrorKind.DECODE is caught.value.kind
