"""The capture on a real slot and a real broker: what is committed there is what was committed here, once."""

import asyncio
import json
from typing import Any

import pytest
from confluent_kafka import Message

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Relation
from replicator.postgres.change_log import SlotChangeLog
from replicator.postgres.lsn import format_lsn
from replicator.tables import TableName
from tests.fix_capture import CaptureWorld
from tests.fix_kafka import Kafka
from tests.polling import eventually

pytestmark = pytest.mark.timeout(180)


class Unconfirmed(SlotChangeLog):
    """Never tells the server how far it is: as one that is killed before it could."""

    def confirm(self, lsn: int) -> None:
        pass


def changes(messages: list[Message]) -> list[Any]:
    """Of each record: op, before, after; None for a tombstone."""
    return [None if message.value() is None else json.loads(message.value() or b"")[:3] for message in messages]


def keys(messages: list[Message]) -> list[bytes | None]:
    return [message.key() for message in messages]


async def test_changes_in_order(captured: CaptureWorld) -> None:
    """Each change is a record of its table's topic, in order; a delete is followed by a tombstone."""
    async with captured.capture() as running:
        captured.database.execute("INSERT INTO items VALUES (1, 'a'), (2, NULL)")
        captured.database.execute("UPDATE items SET body = 'b' WHERE id = 1; DELETE FROM items WHERE id = 2")
        await running.catch_up()
    found = await captured.read()

    assert [
        ["c", None, ["1", "a"]],
        ["c", None, ["2", "None"]],
        ["u", None, ["1", "b"]],
        ["d", ["2", "None"], None],
        None,
    ] == changes(found)
    assert [b"1", b"2", b"1", b"2", b"2"] == keys(found)


async def test_key_that_changes(captured: CaptureWorld) -> None:
    """An update of the key is a delete with the new key in a header, a tombstone, and an insert with the old key."""
    async with captured.capture() as running:
        captured.database.execute("INSERT INTO items VALUES (1, 'a')")
        captured.database.execute("UPDATE items SET id = 2")
        await running.catch_up()
    _, *found = await captured.read()

    assert [["d", ["1", "None"], None], None, ["c", None, ["2", "a"]]] == changes(found)
    assert [b"1", b"1", b"2"] == keys(found)
    new, old = [("__debezium.newkey", b"2")], [("__debezium.oldkey", b"1")]
    assert [new, new, old] == [one.headers() for one in found]


async def test_an_identity_without_the_primary_key(captured: CaptureWorld) -> None:
    """A delete that can't name its row, or an update that moves its key unseen, stops the capture before it."""
    captured.database.execute("ALTER TABLE items ADD code int NOT NULL DEFAULT 7, ADD UNIQUE (code)")
    captured.database.execute("ALTER TABLE items REPLICA IDENTITY USING INDEX items_code_key")
    captured.database.execute("INSERT INTO bag VALUES (1); INSERT INTO items VALUES (1, 'a')")
    captured.database.execute("UPDATE items SET id = 2; DELETE FROM items")
    with pytest.raises(
        ReplicatorError, match=r"carry \(code\), its replica identity, but not its primary key"
    ) as caught:
        async with captured.capture() as running:
            await running.catch_up()

    assert ErrorKind.SCHEMA is caught.value.kind
    assert [] == await captured.read()


async def test_transactions_are_told(captured: CaptureWorld) -> None:
    """A transaction's topic has its beginning and its end with what it held; records say their places in it."""
    async with captured.capture() as running:
        captured.database.execute("INSERT INTO items VALUES (1, 'a'); INSERT INTO bag VALUES (7), (8)")
        await running.catch_up()
    begin, end = [json.loads(one.value() or b"") for one in await captured.read(f"{captured.prefix}.transaction")]
    (item,) = await captured.read()
    bag = await captured.read(captured.topic("bag"))

    assert [begin[0], 3, {"public.items": 1, "public.bag": 2}] == end
    assert [begin[0], None, {}] == begin
    (xid, _) = begin[0].split(":")
    assert [xid, 1, 1] == json.loads(item.value() or b"")[3:]
    assert [[xid, 2, 1], [xid, 3, 2]] == [json.loads(one.value() or b"")[3:] for one in bag]


async def test_large_transaction(captured: CaptureWorld) -> None:
    """A transaction larger than any buffer is seen by readers of what is committed as a whole, or not at all."""
    rows = 60_000
    settings = {"queue.buffering.max.messages": "1000"}
    async with captured.capture(settings=settings) as running:
        captured.database.execute(f"INSERT INTO items SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n")
        seen = 0
        while seen < rows:
            seen = len(await captured.read())
            assert seen in (0, rows)
        await running.catch_up()
    found = await captured.read()

    assert [str(n).encode() for n in range(1, rows + 1)] == keys(found)


async def test_record_that_is_too_large(captured: CaptureWorld) -> None:
    """A record that the producer refuses, among others that it takes, ends the capture with what to raise."""
    captured.database.execute("INSERT INTO items VALUES (1, 'a'), (2, repeat('x', 30000)), (3, 'c')")

    async def capture() -> None:
        async with captured.capture(settings={"message.max.bytes": "20000"}) as running:
            await running.catch_up()

    with pytest.raises(ReplicatorError, match="producing to topic") as caught:
        await capture()

    assert caught.value.kind is ErrorKind.CONFIG
    assert "message.max.bytes" in (caught.value.hint or "")
    assert [] == await captured.read()


async def test_killed_before_it_confirmed(captured: CaptureWorld) -> None:
    """What the log has is known by the log: a slot that stands behind repeats nothing."""
    async with captured.capture(source=Unconfirmed) as running:
        captured.database.execute("INSERT INTO items VALUES (1, 'a')")
        captured.database.execute("SELECT pg_logical_emit_message(false, 'app', 'said')")
        await running.catch_up()
    async with captured.capture() as running:
        captured.database.execute("INSERT INTO items VALUES (2, 'b')")
        await running.catch_up()

    assert [b"1", b"2"] == keys(await captured.read())
    assert [b"said"] == [one.value() for one in await captured.read(f"{captured.prefix}.message")]


async def test_killed_in_a_transaction(captured: CaptureWorld) -> None:
    """What was produced and not committed is undone, and produced again by the next process."""
    async with captured.capture() as running:
        produced = running.hold_commits()
        captured.database.execute("INSERT INTO items SELECT n, '' FROM generate_series(1, 30000) n")
        await asyncio.wait_for(produced.wait(), 30)
        await running.freeze(committing=True)
        assert len(await captured.read(isolation="read_uncommitted")) == 30_000
    assert [] == await captured.read()
    async with captured.capture() as running:
        await running.catch_up()

    assert [str(n).encode() for n in range(1, 30_001)] == keys(await captured.read())


async def test_superseded_by_the_producer(captured: CaptureWorld) -> None:
    """A capture that wakes up after another one took over commits nothing more, and says so."""
    async with captured.capture() as former:
        captured.database.execute("INSERT INTO items VALUES (1, 'a')")
        await former.catch_up()
        await former.freeze()
        async with captured.capture() as successor:
            captured.database.execute("INSERT INTO items VALUES (2, 'b')")
            await successor.catch_up()
            await successor.freeze()
            captured.database.execute("INSERT INTO items VALUES (3, 'c')")
            former.capture._source = successor.source  # it wakes up with a change in its hands
            with pytest.raises(ReplicatorError, match="another process has taken over the capture") as caught:
                await former.capture.run(asyncio.Event())
    async with captured.capture() as third:
        await third.catch_up()

    assert caught.value.kind is ErrorKind.SUPERSEDED
    assert [b"1", b"2", b"3"] == keys(await captured.read())


async def test_successor_is_not_displaced(captured: CaptureWorld) -> None:
    """One that held the slot before doesn't take it back: not from a reader, not from a progress of another's."""
    async with captured.capture(owner="former") as former:
        holder = former.source.holder
    async with captured.capture(owner="successor"):
        with pytest.raises(ReplicatorError, match="taken over") as by_slot:
            async with captured.capture(owner="successor", held_before=True, former=holder):
                pass
    with pytest.raises(ReplicatorError, match="taken over") as by_progress:
        async with captured.capture(owner="former", held_before=True, former=holder):
            pass

    assert ErrorKind.SUPERSEDED is by_slot.value.kind
    assert ErrorKind.SUPERSEDED is by_progress.value.kind


async def test_slot_that_is_ahead(captured: CaptureWorld) -> None:
    """A slot that another program has read from has lost changes: the capture stops, and says which."""
    async with captured.capture() as running:
        position = running.capture.position
    captured.database.execute("INSERT INTO items VALUES (1, 'a')")
    captured.database.execute(f"SELECT pg_replication_slot_advance('{captured.slot}', pg_current_wal_lsn())")

    with pytest.raises(ReplicatorError, match=f"between {format_lsn(position)} and") as caught:
        async with captured.capture():
            pass
    assert ErrorKind.SLOT_LOST is caught.value.kind


async def test_without_a_key(captured: CaptureWorld) -> None:
    """Rows of a table without key lie in one partition, in order, however many there are."""
    async with captured.capture(partitions=4) as running:
        captured.database.execute("INSERT INTO bag SELECT generate_series(1, 100)")
        captured.database.execute("DELETE FROM bag WHERE v <= 2; TRUNCATE bag")
        await running.catch_up()
    found = await captured.read(captured.topic("bag"))

    assert {(None, 0)} == {(one.key(), one.partition()) for one in found}
    expected = [["c", None, [str(n)]] for n in range(1, 101)]
    assert [*expected, ["d", ["1"], None], ["d", ["2"], None], ["t", None, None]] == changes(found)


async def test_partition_of_a_key(captured: CaptureWorld, real_kafka: Kafka) -> None:
    """A key lies in the partition that Java's producer would choose."""
    async with captured.capture(partitions=7) as running:
        captured.database.execute("CREATE TABLE words (w text PRIMARY KEY)")
        captured.database.execute("INSERT INTO words VALUES ('21'), ('foobar'), ('a-little-bit-long-string')")
        await running.catch_up()
    found = {one.key(): one.partition() for one in await captured.read(captured.topic("words"))}

    # Kafka's own UtilsTest.testMurmur2 has these hashes.
    hashes = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: (hashed & 0x7FFFFFFF) % 7 for key, hashed in hashes.items()} == found


async def test_schema_that_changes(captured: CaptureWorld) -> None:
    """Rows from before and after ALTER TABLE have the columns that the table had then, whenever they are read."""
    database = captured.database
    database.execute("INSERT INTO items VALUES (1, 'a')")
    database.execute("ALTER TABLE items ADD n bigint; ALTER TABLE items ALTER body TYPE varchar(10)")
    database.execute("INSERT INTO items VALUES (2, 'b', 3)")
    database.execute("ALTER TABLE items DROP body")
    async with captured.capture() as running:
        database.execute("INSERT INTO items VALUES (3, 4)")
        await running.catch_up()

    assert [["1", "a"], ["2", "b", "3"], ["3", "4"]] == [after for _, _, after in changes(await captured.read())]
    shapes = [{column.name: column.type_name for column in one.table.columns} for one in captured.encoder.shapes]
    assert [
        {"id": "integer", "body": "text"},
        {"id": "integer", "body": "character varying", "n": "bigint"},
        {"id": "integer", "n": "bigint"},
    ] == [{name: kind.removesuffix("(10)") for name, kind in one.items()} for one in shapes]


async def test_unchanged_big_values(captured: CaptureWorld) -> None:
    """A big value that an update doesn't touch is left out; under REPLICA IDENTITY FULL the stream has it."""
    database = captured.database
    database.execute("ALTER TABLE items ALTER body SET STORAGE EXTERNAL, ADD n int")
    async with captured.capture() as running:
        database.execute("INSERT INTO items VALUES (1, repeat('x', 5000))")
        database.execute("UPDATE items SET n = 1")
        database.execute("ALTER TABLE items REPLICA IDENTITY FULL")
        database.execute("UPDATE items SET n = 2")
        await running.catch_up()
    afters = [after for _, _, after in changes(await captured.read())]

    assert [["1", "x" * 5000, "None"], ["1", repr(UNCHANGED), "1"], ["1", "x" * 5000, "2"]] == afters


async def test_echo_is_dropped(captured: CaptureWorld) -> None:
    """What the other feed of the connector wrote goes into no topic."""
    origin = f"replicator/{captured.prefix}/reverse/0"
    captured.database.execute("SELECT pg_replication_origin_create(%s)", [origin])
    async with captured.capture() as running:
        with captured.database.connect() as session:
            session.execute("SELECT pg_replication_origin_session_setup(%s)", [origin])
            session.execute("INSERT INTO items VALUES (1, 'echo')")
        captured.database.execute("INSERT INTO items VALUES (2, 'own')")
        await running.catch_up()

    assert [b"2"] == keys(await captured.read())


async def test_idle_source(captured: CaptureWorld) -> None:
    """While nothing of the tables changes, the slot moves with the server's WAL, and heartbeats are produced."""

    def confirmed() -> int:
        query = "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = %s"
        return int(captured.database.execute(query, [captured.slot])[0][0])

    async with captured.capture(heartbeat_seconds=0.2) as running:
        before = confirmed()
        captured.database.execute("CREATE TABLE elsewhere AS SELECT generate_series(1, 1000)")
        written = await running.source.head()
        await running.catch_up()
        await eventually(lambda: confirmed() >= written > before, 60)
        async with asyncio.timeout(60):
            while len(await captured.read(f"__debezium-heartbeat.{captured.prefix}")) < 3:
                pass


async def test_the_catalog_is_read_beside_other_questions(captured: CaptureWorld) -> None:
    """A new table is looked up while somebody asks for the lag, over and over: neither is in the other's way."""
    # In no catalog, so that it is read each time.
    stranger = Relation(TableName("public", "stranger"), ("id",), type_oids=(23,), typmods=(-1,))
    async with captured.capture() as running:
        ended = asyncio.Event()

        async def ask() -> None:
            while not ended.is_set():
                await running.source.lag()

        asking = [asyncio.ensure_future(ask()) for _ in range(3)]
        try:
            for _ in range(10):
                assert stranger == (await running.source.described(stranger)).relation
        finally:
            ended.set()
            await asyncio.gather(*asking)
