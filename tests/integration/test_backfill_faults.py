"""A copy that is interrupted, raced and shuffled while the application writes, and the feed that follows it."""

import asyncio
import itertools
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from replicator.errors import ErrorKind, ReplicatorError
from tests.copying import World, open_world, rows_of
from tests.fix_postgres import Database
from tests.polling import eventually

T = "CREATE TABLE t (id bigint PRIMARY KEY, name text, number int)"

Step = Callable[["psycopg.Connection[tuple[object, ...]]", random.Random], None]


@contextmanager
def writing(database: Database, step: Step, seed: int = 1) -> Iterator[None]:
    """Repeat a transaction in a thread as long as the block lasts."""
    ended, failures = threading.Event(), []

    def write() -> None:
        chance = random.Random(seed)
        try:
            with database.connect(autocommit=True) as connection:
                while not ended.is_set():
                    with connection.transaction():
                        step(connection, chance)
        except psycopg.Error as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()
    assert [] == failures


def change_t(connection: "psycopg.Connection[tuple[object, ...]]", chance: random.Random) -> None:
    key = chance.randrange(1, 4000)
    connection.execute("UPDATE t SET number = number + 1 WHERE id BETWEEN %s AND %s", [key, key + 20])
    connection.execute("DELETE FROM t WHERE id = %s", [key])
    connection.execute("INSERT INTO t VALUES (%s, 'new', 0) ON CONFLICT DO NOTHING", [chance.randrange(1, 6000)])
    new = chance.randrange(10**6, 10**12)
    connection.execute("UPDATE t SET id = %s WHERE id = %s", [new, chance.randrange(1, 4000)])


def fill(old: Database, upgraded: Database, rows: int = 4000) -> None:
    for database in (old, upgraded):
        database.execute(T)
    old.execute(f"INSERT INTO t SELECT n, repeat('x', n % 100), n FROM generate_series(1, {rows}) n")


async def test_cancelled_anywhere_it_goes_on(old_database: Database, upgraded_database: Database) -> None:
    """Cut off at many moments while the application writes, backfill and feed end with equal sides."""
    fill(old_database, upgraded_database)
    chance = random.Random(7)
    async with open_world(old_database, upgraded_database) as world:
        await world.hold_back()
    with writing(old_database, change_t):
        for _ in range(12):
            async with open_world(old_database, upgraded_database, workers=3, chunk_rows=97) as world:
                running = asyncio.ensure_future(world.backfill.run())
                cancel_at(world, chance.randrange(1, 6), chance.uniform(0, 0.02), running)
                with pytest.raises(asyncio.CancelledError):
                    await running
        async with open_world(old_database, upgraded_database, workers=3, chunk_rows=150) as world:
            await world.backfill.run()
    await agree(old_database, upgraded_database)


def cancel_at(world: World, chunk: int, seconds: float, running: "asyncio.Future[int]") -> None:
    """Cancel a run this long after its n-th chunk is about to be recorded: before, in, or after its commit."""
    record, counted = world.store.record, itertools.count(1)

    async def recorded(*args: Any) -> None:
        if next(counted) == chunk:
            asyncio.get_running_loop().call_later(seconds, running.cancel)
        await record(*args)

    world.store.record = recorded  # type: ignore[assignment,method-assign] # the same arguments


async def agree(old: Database, upgraded: Database, *tables: str) -> None:
    """Run the feed until it has caught up, and compare."""
    async with open_world(old, upgraded) as world, world.streaming():
        pass
    for table in tables or ("t",):
        assert rows_of(old, table) == rows_of(upgraded, table)


SCRIPT = """
import asyncio, sys, types
from tests.copying import open_world

async def main(old, upgraded):
    old, upgraded = types.SimpleNamespace(dsn=old, name="x"), types.SimpleNamespace(dsn=upgraded)
    async with open_world(old, upgraded, workers=2, chunk_rows=50) as world:
        await world.backfill.run()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_it_goes_on(old_database: Database, upgraded_database: Database) -> None:
    """Killed by SIGKILL again and again, each time later, no chunk is lost or recorded without its rows."""
    fill(old_database, upgraded_database)
    async with open_world(old_database, upgraded_database) as world:
        await world.hold_back()
    count = "SELECT count(*) FROM replicator.copied_chunk"
    with writing(old_database, change_t):
        for chunks in (1, 15, 40):
            process = subprocess.Popen(  # noqa: ASYNC220 - started and killed, never waited for but dead
                [sys.executable, "-c", SCRIPT, old_database.dsn, upgraded_database.dsn], stdout=subprocess.DEVNULL
            )
            await eventually(lambda wanted=chunks: upgraded_database.execute(count)[0][0] >= wanted)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            assert -signal.SIGKILL == process.wait()
        async with open_world(old_database, upgraded_database, chunk_rows=50) as world:
            await world.backfill.run()
    await agree(old_database, upgraded_database)


def killed(database: Database, name: str, running: "asyncio.Future[int]") -> bool:
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE %s"
    )
    return bool(database.execute(kill, [name])[0][0]) or running.done()


async def test_a_lost_connection_ends_it_and_it_goes_on(old_database: Database, upgraded_database: Database) -> None:
    """A session that the server ends is a connection error for whoever runs it, never a chunk half copied."""
    fill(old_database, upgraded_database, 20_000)
    for victim, where in (("%backfill-1", upgraded_database), ("%reader", old_database)):
        async with open_world(old_database, upgraded_database, chunk_rows=50) as world:
            running = asyncio.ensure_future(world.backfill.run())
            await eventually(partial(killed, where, victim, running))
            with pytest.raises((ReplicatorError, ExceptionGroup), match=r"connection|terminat|unhandled errors"):
                await running
    async with open_world(old_database, upgraded_database) as world:
        await world.backfill.run()
    assert rows_of(old_database) == rows_of(upgraded_database)


# -- unique values that move -------------------------------------------------------------------------------------------

UNIQUE = """
    CREATE TABLE t (id bigint PRIMARY KEY, place int UNIQUE, code text);
    CREATE UNIQUE INDEX ON t (upper(code)) WHERE code <> '';
"""


def move_values(connection: "psycopg.Connection[tuple[object, ...]]", chance: random.Random) -> None:
    """Swap and shift unique values between rows that are far apart, and give them to new rows."""
    a, b, c = chance.sample(range(1, 401), 3)
    moved = {a: b, b: c, c: a}
    rows = connection.execute("SELECT id, place, code FROM t WHERE id = ANY(%s)", [[a, b, c]]).fetchall()
    apart = chance.randrange(10**6) * 1000
    connection.execute("UPDATE t SET place = -id - %s, code = '' WHERE id = ANY(%s)", [apart, [a, b, c]])
    for key, place, code in rows:
        target = moved[key]  # type: ignore[index] # an int, as it was selected
        if len(rows) == 3:
            connection.execute("UPDATE t SET place = %s, code = %s WHERE id = %s", [place, code, target])
    victim = chance.randrange(1, 401)
    gone = connection.execute("DELETE FROM t WHERE id = %s RETURNING place, code", [victim]).fetchall()
    for place, code in gone:
        connection.execute("INSERT INTO t VALUES (%s, %s, %s)", [chance.randrange(401, 10**9), place, code])
        connection.execute("INSERT INTO t VALUES (%s, %s, %s)", [victim, -victim - apart - 500, f"n{chance.random()}"])


async def test_unique_values_that_move(old_database: Database, upgraded_database: Database) -> None:
    """Values of unique indexes swap, shift and change owner all through a backfill, and both sides agree."""
    for database in (old_database, upgraded_database):
        database.execute(UNIQUE)
    old_database.execute("INSERT INTO t SELECT n, n, 'c' || n FROM generate_series(1, 400) n")
    async with open_world(old_database, upgraded_database, workers=2, chunk_rows=5) as world:
        await world.hold_back()
        with writing(old_database, move_values):
            await world.backfill.run()
        waiting = await world.store.deferred()
    assert waiting, "no chunk met a value that moved: the test proves nothing"
    await agree(old_database, upgraded_database)
    async with open_world(old_database, upgraded_database) as world:
        assert [] == await world.store.deferred()


async def test_two_rows_that_claim_one_value(old_database: Database, upgraded_database: Database) -> None:
    """A unique index that only the target has, over two rows: a data error with its key, once all has caught up."""
    old_database.execute("CREATE TABLE t (id int PRIMARY KEY, email text)")
    upgraded_database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, email text); CREATE UNIQUE INDEX ON t (lower(email))"
    )
    old_database.execute("INSERT INTO t VALUES (1, 'A@x'), (2, 'b@x'), (3, 'a@x')")
    async with open_world(old_database, upgraded_database) as world:
        await world.hold_back()
        await world.backfill.run()
        with pytest.raises(ReplicatorError) as caught:
            async with world.streaming():
                pass
        assert (ErrorKind.DATA, ("3",), "t_lower_idx") == (caught.value.kind, caught.value.key, caught.value.constraint)
        assert [("public.t", (b"3",))] == await world.store.deferred()
    async with open_world(old_database, upgraded_database, dead_letters=True) as world:
        async with world.streaming():
            pass
        (letter,) = await world.target.dead_letters()
        assert ((b"3",), "data") == (letter.key, letter.kind)
        assert [] == await world.store.deferred()
    assert [(1,), (2,)] == upgraded_database.execute("SELECT id FROM t ORDER BY 1")


# -- tables without a key ----------------------------------------------------------------------------------------------


def change_multiset(connection: "psycopg.Connection[tuple[object, ...]]", chance: random.Random) -> None:
    number = chance.randrange(50)
    connection.execute("INSERT INTO log SELECT %s, 'same' FROM generate_series(1, 3)", [number])
    connection.execute(
        "UPDATE log SET body = 'changed' WHERE ctid = (SELECT min(ctid) FROM log WHERE n = %s)", [number]
    )
    connection.execute("DELETE FROM log WHERE ctid = (SELECT max(ctid) FROM log WHERE n = %s)", [number])


async def test_a_table_without_a_key(old_database: Database, upgraded_database: Database) -> None:
    """Equal rows are neither doubled nor lost, whether their transaction was seen by the copy's snapshot or not."""
    for database in (old_database, upgraded_database):
        database.execute("CREATE TABLE log (n int, body text); ALTER TABLE log REPLICA IDENTITY FULL")
    old_database.execute(
        "INSERT INTO log SELECT n % 50, NULLIF('same', repeat('x', n)) FROM generate_series(1, 3000) n"
    )
    with old_database.connect() as open_transaction, writing(old_database, change_multiset):
        async with open_world(old_database, upgraded_database) as world:
            await world.hold_back()
            open_transaction.execute("INSERT INTO log VALUES (1000, 'committed after the copy')")
            await world.backfill.run()
            open_transaction.commit()
            (cut,) = await world.store.cuts()
    assert "log" == cut.table.name
    await agree(old_database, upgraded_database, "log")


async def test_an_interrupted_table_without_a_key_begins_again(
    old_database: Database, upgraded_database: Database
) -> None:
    """Its copy is one transaction: cancelled halfway nothing of it is there, and leftovers of others are replaced."""
    for database in (old_database, upgraded_database):
        database.execute("CREATE TABLE log (n int, body text); ALTER TABLE log REPLICA IDENTITY FULL")
    old_database.execute("INSERT INTO log SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) n")
    upgraded_database.execute("INSERT INTO log VALUES (-1, 'left over')")
    busy = "SELECT count(*) FROM pg_stat_progress_copy WHERE datname = current_database() AND tuples_processed > 100"
    async with open_world(old_database, upgraded_database) as world:
        running = asyncio.ensure_future(world.backfill.run())
        await eventually(lambda: upgraded_database.execute(busy)[0][0] > 0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [(1,)] == upgraded_database.execute("SELECT count(*) FROM log")
    async with open_world(old_database, upgraded_database) as world:
        await world.backfill.run()
    assert old_database.execute("SELECT count(*), sum(n) FROM log") == upgraded_database.execute(
        "SELECT count(*), sum(n) FROM log"
    )
