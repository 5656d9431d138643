"""What can happen to a slot and to the way there: each is a typed error that says what to do, and nothing is lost."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Batch, Position
from replicator.postgres.session import connect
from replicator.postgres.slot import SlotSource
from replicator.postgres.slots import drop_slot, ensure_slot
from tests.conformance.source_contract import collected, keys_of, taken
from tests.fix_postgres import Database, MakeDatabase, MakeServer
from tests.fix_proxy import MakeProxy
from tests.fix_require import missing
from tests.fix_slot import SlotWorld
from tests.polling import eventually


async def refusal(source: SlotSource, position: Position | None = None) -> ReplicatorError:
    with pytest.raises(ReplicatorError) as caught:
        await source.start(position)
    return caught.value


async def failure(source: SlotSource) -> ReplicatorError:
    """Take until the stream fails."""
    with pytest.raises(ReplicatorError) as caught:  # noqa: PT012 - whatever still comes is not the point
        while True:
            await taken(source)
    return caught.value


def quickly(dsn: str, seconds: float) -> str:
    """Return the DSN with another wal_sender_timeout for its replication session."""
    return f"{dsn}?options=-c%20wal_sender_timeout%3D{round(seconds * 1000)}ms"


@contextlib.asynccontextmanager
async def reading(database: Database, slot: str, purpose: str) -> AsyncIterator[None]:
    """Hold a slot with a replication session of this name."""
    connection = await connect(database.dsn, purpose, replication="database")
    options = "proto_version '1', publication_names 'crm'"
    await connection.execute(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})".encode(), prepare=False)
    try:
        yield
    finally:
        await connection.close()


async def test_an_idle_connection_lives(slot_world: SlotWorld) -> None:
    """Nobody writes and nobody takes for several times wal_sender_timeout: both ends stay."""
    source = slot_world.source(dsn=quickly(slot_world.database.dsn, 2))
    await source.start(None)
    pid = slot_world.state()["active_pid"]
    started = time.monotonic()
    await eventually(lambda: time.monotonic() - started > 5)
    slot_world.commit(1)

    assert [1] == keys_of(*await collected(source, 1))
    assert pid is not None
    assert pid == slot_world.state()["active_pid"]


async def test_a_full_buffer_keeps_its_connection(slot_world: SlotWorld) -> None:
    """The target stands still for several times wal_sender_timeout with more to read than fits: nothing breaks."""
    for number in range(40):
        slot_world.commit(*range(number * 100, number * 100 + 100), body_bytes=4000)
    source = slot_world.source(dsn=quickly(slot_world.database.dsn, 2), buffer_bytes_max=256 << 10)
    await source.start(None)
    first = await taken(source, rows_max=100)
    pid = slot_world.state()["active_pid"]
    started = time.monotonic()
    await eventually(lambda: time.monotonic() - started > 5)
    held = source.ready_rows

    batches = [first, *await collected(source, 4000 - len(first.events))]

    assert held < 1000
    assert list(range(4000)) == keys_of(*batches)
    assert pid == slot_world.state()["active_pid"]


async def test_a_silent_network_is_noticed(slot18: SlotWorld, make_proxy: MakeProxy) -> None:
    """A connection that carries nothing more is given up after wal_sender_timeout, though TCP knows nothing."""
    proxy = make_proxy(slot18.database.server.port)
    source = slot18.source(dsn=quickly(proxy.dsn(slot18.database.dsn), 1))
    await source.start(None)
    proxy.stall()
    beating = asyncio.ensure_future(source.beat())

    error = await asyncio.wait_for(failure(source), 10)
    proxy.cut()
    proxy.resume()
    await source.start(None)
    slot18.commit(1)

    assert ErrorKind.CONNECTION is error.kind
    with pytest.raises(ReplicatorError):
        await asyncio.wait_for(beating, 10)
    assert [1] == keys_of(*await collected(source, 1))


async def test_a_cut_connection_continues_without_duplicates(slot_world: SlotWorld, make_proxy: MakeProxy) -> None:
    """Cut again and again in mid-stream: started from the last position, every row comes once, in order."""
    proxy = make_proxy(slot_world.database.server.port)
    source = slot_world.source(dsn=proxy.dsn(slot_world.database.dsn), buffer_bytes_max=64 << 10)
    batches: list[Batch] = []
    position = await source.start(None)
    for number in range(10):
        slot_world.commit(*range(number * 200, number * 200 + 200), body_bytes=500)
    cuts = 0
    while sum(len(batch.events) for batch in batches) < 2000:
        try:
            batch = await taken(source, rows_max=150)
        except ReplicatorError as error:
            assert ErrorKind.CONNECTION is error.kind  # noqa: PT017 - another kind is the failure
            with contextlib.suppress(ReplicatorError):
                await source.start(position)
            continue
        batches.append(batch)
        position = batch.position
        if len(batches) % 4 == 0:
            proxy.cut()
            cuts += 1

    assert list(range(2000)) == keys_of(*batches)
    assert cuts >= 3


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restarted_server(make_server: MakeServer, make_database: MakeDatabase, mode: Any) -> None:
    """A restart is a CONNECTION error; a fast one isn't held up as long as positions are confirmed."""
    server = make_server(18)
    world = SlotWorld(make_database(server))
    await world.prepare()
    source = world.source()
    await source.start(None)
    positions: list[Position] = []

    async def apply() -> None:
        while True:
            batch = await source.take(100, 1 << 20)
            positions.append(batch.position)
            source.confirm(batch.position)

    applying = asyncio.ensure_future(apply())
    world.commit(1)
    await eventually(lambda: bool(positions))
    started = time.monotonic()
    await asyncio.to_thread(server.restart, mode)
    stopped_after = time.monotonic() - started
    with pytest.raises(ReplicatorError) as caught:
        await asyncio.wait_for(applying, 30)
    await source.start(positions[-1])
    world.commit(2)

    assert ErrorKind.CONNECTION is caught.value.kind
    assert [2] == keys_of(*await collected(source, 1))
    assert stopped_after < 20
    await world.close()


async def test_a_missing_slot(slot_world: SlotWorld) -> None:
    """A slot that isn't there has lost changes; the error says which and what to do."""
    position = Position(await slot_world.source().head())
    assert await drop_slot(slot_world.database.dsn, slot_world.slot)
    source = slot_world.source()

    error = await refusal(source, position)

    assert ErrorKind.SLOT_LOST is error.kind
    assert source.format(position) in error.message
    assert not await drop_slot(slot_world.database.dsn, slot_world.slot)


async def test_a_slot_past_the_checkpoint(slot_world: SlotWorld) -> None:
    """The server would begin silently at the later position: that gap is an error that names it."""
    source = slot_world.source()
    begin = await source.start(None)
    slot_world.commit(1)
    (batch,) = await collected(source, 1)
    source.confirm(batch.position)
    await source.close()

    error = await refusal(slot_world.source(), begin)

    assert ErrorKind.SLOT_LOST is error.kind
    assert f"between {source.format(begin)} and {source.format(batch.position)}" in error.message


async def test_a_checkpoint_past_the_source(slot18: SlotWorld) -> None:
    """A checkpoint beyond the source's WAL means another or a restored server, whose changes would be skipped."""
    head = await slot18.source().head()

    error = await refusal(slot18.source(), Position(head + (1 << 40)))

    assert ErrorKind.SLOT_LOST is error.kind


async def test_an_invalidated_slot(make_server: MakeServer, make_database: MakeDatabase) -> None:
    """A slot whose WAL the server threw away says what is lost and what to do."""
    server = make_server(18, settings={"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"})
    world = SlotWorld(make_database(server))
    await world.prepare()
    for _ in range(6):
        world.database.execute("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000))")
        world.database.execute("SELECT pg_switch_wal()")
        world.database.execute("CHECKPOINT")
    await eventually(lambda: world.state()["wal_status"] == "lost")

    error = await refusal(world.source())

    assert ErrorKind.SLOT_LOST is error.kind
    assert "wal_removed" in error.message
    assert "backfill" in str(error)
    await world.close()


async def test_a_busy_slot(slot_world: SlotWorld) -> None:
    """A slot that another program reads is busy, and the error names who has it."""
    async with reading(slot_world.database, slot_world.slot, "stranger"):
        error = await refusal(slot_world.source())

    assert ErrorKind.SLOT_BUSY is error.kind
    assert "replicator:stranger" in error.message


async def test_a_former_process_is_evicted(slot_world: SlotWorld) -> None:
    """The same feed in another process, frozen perhaps, loses the slot to its successor."""
    former, successor = slot_world.source(), slot_world.source()
    await former.start(None)

    begin = await successor.start(None)
    slot_world.commit(1)

    assert [1] == keys_of(*await collected(successor, 1))
    assert begin.ordinal == 0
    assert ErrorKind.CONNECTION is (await failure(former)).kind


async def test_a_closed_source_frees_its_slot(slot18: SlotWorld) -> None:
    """After `close` the slot has no holder, so a successor need not wait."""
    source = slot18.source()
    await source.start(None)
    slot18.commit(1)
    await collected(source, 1)
    await source.close()

    assert slot18.state()["active_pid"] is None


@pytest.mark.parametrize(
    "make,reason",
    [
        ("SELECT pg_create_logical_replication_slot('wrong_{n}', 'test_decoding')", "plugin"),
        ("SELECT pg_create_physical_replication_slot('wrong_{n}')", "physical"),
        ("SELECT pg_create_logical_replication_slot('wrong_{n}', 'pgoutput', false, true)", "two-phase"),
    ],
)
async def test_unusable_slots(slot_world: SlotWorld, make: str, reason: str) -> None:
    """A slot that can't carry a feed is a mistake in the connector."""
    number = slot_world.database.name
    try:
        slot_world.database.execute(make.format(n=number))
    except psycopg.Error as lacking:  # test_decoding is no part of every installation
        pytest.skip(str(lacking))
    source = slot_world.source(slot=f"wrong_{number}")

    error = await refusal(source)

    slot_world.database.execute("SELECT pg_drop_replication_slot(%s)", [f"wrong_{number}"])
    assert ErrorKind.CONFIG is error.kind
    assert reason in error.message


async def test_a_temporary_slot(slot18: SlotWorld) -> None:
    """A temporary slot would end with somebody else's session."""
    with slot18.database.connect(autocommit=True) as holder:
        name = f"temporary_{slot18.database.name}"
        holder.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', true)", [name])
        error = await refusal(slot18.source(slot=name))

    assert ErrorKind.CONFIG is error.kind
    assert "temporary" in error.message


async def test_a_slot_of_another_database(slot18: SlotWorld, make_database: MakeDatabase) -> None:
    """A slot belongs to one database; the error names both."""
    other = make_database()
    other.execute("CREATE PUBLICATION crm")

    error = await refusal(slot18.source(dsn=other.dsn))

    assert ErrorKind.CONFIG is error.kind
    assert slot18.database.name in error.message


async def test_a_missing_publication(slot_world: SlotWorld) -> None:
    """Without its publication a slot would be silent, or stop for good: it isn't started."""
    slot_world.database.execute("DROP PUBLICATION crm")

    error = await refusal(slot_world.source())

    assert ErrorKind.CONFIG is error.kind


async def test_a_publication_made_again(slot_world: SlotWorld) -> None:
    """What was committed while the publication was gone is in no stream: that gap is an error, on every version."""
    source = slot_world.source()
    await source.start(None)
    slot_world.commit(1)
    slot_world.database.execute("DROP PUBLICATION crm")
    slot_world.commit(2)
    slot_world.database.execute("CREATE PUBLICATION crm FOR ALL TABLES")
    slot_world.commit(3)
    batches = await collected(source, 1)

    error = await failure(source)

    assert [1] == keys_of(*batches)
    assert ErrorKind.CONFIG is error.kind
    assert "gap" in error.message


async def test_making_a_slot_twice(slot18: SlotWorld) -> None:
    """A slot that is there is used, not made again; one that a DBA must make is asked for with the statement."""
    name = f"{slot18.slot}_b"
    with pytest.raises(ReplicatorError) as caught:
        await ensure_slot(slot18.database.dsn, name, create=False)
    first, made = await ensure_slot(slot18.database.dsn, name, create=True)
    second, made_again = await ensure_slot(slot18.database.dsn, name, create=False)

    assert ErrorKind.CONFIG is caught.value.kind
    assert f"pg_create_logical_replication_slot('{name}', 'pgoutput')" in str(caught.value)
    assert (True, False, first) == (made, made_again, second)


async def test_tls(make_server: MakeServer, make_database: MakeDatabase, tmp_path: Path) -> None:
    """Under TLS rows of all sizes around the libraries' buffers come at once, though the socket may be quiet."""
    server = make_server(15)
    key, certificate = server.data / "server.key", server.data / "server.crt"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    made = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    if shutil.which("openssl") is None:
        missing("openssl", "there is no openssl to make a certificate")
    await asyncio.to_thread(subprocess.run, [*request, *made], check=True, capture_output=True)
    owner = server.data.stat()
    for file, name in [(key, "key"), (certificate, "crt")]:
        file.write_bytes((tmp_path / name).read_bytes())
        file.chmod(0o600)
        os.chown(file, owner.st_uid, owner.st_gid)
    server.execute("ALTER SYSTEM SET ssl = on")
    server.execute("SELECT pg_reload_conf()")
    world = SlotWorld(make_database(server))
    await world.prepare()
    source = world.source(dsn=f"{world.database.dsn}?sslmode=require")
    await source.start(None)
    started = time.monotonic()
    # Sizes around libpq's and TLS's buffers: 8, 16 and 32 kB.
    sizes = [size + extra for size in (8_000, 16_200, 32_600, 131_000) for extra in range(0, 400, 40)]
    for number, size in enumerate(sizes):
        world.commit(number, body_bytes=size)
        assert [number] == keys_of(*await collected(source, 1))

    assert time.monotonic() - started < 15  # a server that is pinged sends something every 20 s
    assert [(True,)] == server.execute(
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE '%/wal'"
    )
    await world.close()
