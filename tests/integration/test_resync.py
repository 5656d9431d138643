"""A mapping is copied again beside the running feed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID, uuid5

import pytest

from replicator import KeyMap, Row, transform
from replicator.engine.resync import Resync
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Position
from tests.copying import World, open_world, rows_of
from tests.fix_postgres import Database, MakeDatabase, MakeServer
from tests.integration.test_backfill_faults import change_multiset, change_t, fill, writing
from tests.polling import eventually

NEWER = "SELECT id FROM t WHERE name = 'newer'"
NAMESPACE = UUID("8d5e1f6a-6d2c-4d2e-9a53-0e2a8f7f6b11")


async def begin(old: Database, upgraded: Database, *rest: Any) -> None:
    """Everything copied, and the slot there."""
    async with open_world(old, upgraded, *rest) as world:
        await world.hold_back()
        await world.backfill.run()


def spoil(upgraded: Database) -> None:
    """Change, lose and add rows behind the feed's back."""
    upgraded.execute(
        "UPDATE t SET name = 'spoilt' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0;"
        "INSERT INTO t SELECT n, 'extra', 0 FROM generate_series(-50, -1) n;"
        "INSERT INTO t SELECT n, 'extra', 0 FROM generate_series(7000, 7050) n"
    )


async def test_a_spoilt_table_is_mended_beside_the_feed(old_database: Database, upgraded_database: Database) -> None:
    """Changed, lost and extra rows are mended while the application writes and the feed follows, and nothing else."""
    fill(old_database, upgraded_database)
    await begin(old_database, upgraded_database)
    async with open_world(old_database, upgraded_database) as world, world.streaming() as feed:
        spoil(upgraded_database)
        with writing(old_database, change_t):
            done = await world.resync(feed, chunk_rows=100).run("public.t")
            await world.reach(feed, Position(done.insert_lsn))
        await world.reach(feed)
        # What was added; and a row that the application deleted, where the copy came before the feed.
        assert 101 <= done.deleted
        assert rows_of(old_database) == rows_of(upgraded_database)


async def test_an_interrupted_resync_goes_on(old_database: Database, upgraded_database: Database) -> None:
    """Cancelled halfway, the same call copies what is left; a new call begins again."""
    fill(old_database, upgraded_database, 1000)
    await begin(old_database, upgraded_database)
    async with open_world(old_database, upgraded_database) as world, world.streaming() as feed:
        spoil(upgraded_database)
        resync = world.resync(feed, chunk_rows=100)
        running = asyncio.ensure_future(resync.run("public.t"))
        cancel_in_chunk(world, 4, running)
        with pytest.raises(asyncio.CancelledError):
            await running
        del world.store.record
        left = (await world.store.load("resync"))["public.t"]
        assert (3, False) == (len(left.chunks), left.complete)
        upgraded_database.execute("UPDATE t SET name = 'behind its back' WHERE id = 1")
        await resync.run("public.t")
        assert [("behind its back",)] == upgraded_database.execute("SELECT name FROM t WHERE id = 1")
        await resync.run("public.t")
        assert rows_of(old_database) == rows_of(upgraded_database)


def cancel_in_chunk(world: World, chunk: int, running: "asyncio.Future[Any]") -> None:
    """Cancel a job in the transaction of its n-th chunk."""
    record = world.store.record
    left = iter(range(1, chunk))

    async def recorded(*args: Any) -> None:
        if next(left, None) is None:
            running.cancel()
        await record(*args)

    world.store.record = recorded  # type: ignore[assignment,method-assign] # the same arguments


async def test_nothing_is_written_where_nothing_differs(old_database: Database, upgraded_database: Database) -> None:
    """Rows that are equal keep their place: a resync of a healthy table costs no bloat."""
    fill(old_database, upgraded_database, 500)
    await begin(old_database, upgraded_database)
    before = upgraded_database.execute("SELECT id, ctid::text, xmin::text FROM t ORDER BY 1")
    async with open_world(old_database, upgraded_database) as world, world.streaming() as feed:
        done = await world.resync(feed).run("public.t")
    assert (500, 0) == (done.rows, done.deleted)
    assert before == upgraded_database.execute("SELECT id, ctid::text, xmin::text FROM t ORDER BY 1")


async def test_a_table_without_a_key_is_copied_again(old_database: Database, upgraded_database: Database) -> None:
    """A multiset is emptied and copied between two batches; events that the copy holds are dropped."""
    for database in (old_database, upgraded_database):
        database.execute("CREATE TABLE log (n int, body text); ALTER TABLE log REPLICA IDENTITY FULL")
    old_database.execute("INSERT INTO log SELECT n % 50, 'same' FROM generate_series(1, 2000) n")
    await begin(old_database, upgraded_database)
    async with open_world(old_database, upgraded_database) as world, world.streaming() as feed:
        for _ in range(3):
            with writing(old_database, change_multiset):
                await world.reach(feed)
                upgraded_database.execute(
                    "DELETE FROM log WHERE n < 10; INSERT INTO log SELECT n, 'x' FROM log LIMIT 99"
                )
                await world.resync(feed).run("public.log")
            await world.reach(feed)
            assert rows_of(old_database, "log") == rows_of(upgraded_database, "log")


@pytest.mark.parametrize("moment", ["before", "during"])
async def test_a_commit_that_is_not_visible_yet(
    make_server: MakeServer, make_database: MakeDatabase, upgraded_database: Database, moment: str
) -> None:
    """What the feed has applied is in every chunk, however late the source shows it: a commit is in the WAL first."""
    server = make_server()
    old = make_database(server)
    fill(old, upgraded_database, 10)
    await begin(old, upgraded_database)
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    async with open_world(old, upgraded_database) as world, world.streaming() as feed:
        server.execute("SELECT pg_reload_conf()")
        with old.connect(autocommit=True) as session:
            stuck: list[asyncio.Future[Any]] = []

            async def commit() -> None:
                update = "UPDATE t SET name = 'newer' WHERE id = 3"
                stuck.append(asyncio.ensure_future(asyncio.to_thread(session.execute, update)))
                await eventually(lambda: upgraded_database.execute(NEWER) != [])

            try:
                if moment == "before":
                    await commit()
                else:
                    after_waiting(world, commit)
                running = asyncio.ensure_future(world.resync(feed).run("public.t"))
                await eventually(lambda: upgraded_database.execute(NEWER) != [])
                await asyncio.wait([running], timeout=1)
                assert [] == old.execute(NEWER)
            finally:
                server.execute("ALTER SYSTEM RESET synchronous_standby_names")
                server.execute("SELECT pg_reload_conf()")
                await asyncio.gather(*stuck)
            await running
    assert rows_of(old) == rows_of(upgraded_database)


def after_waiting(world: World, work: Callable[[], Awaitable[None]]) -> None:
    """Have something happen right after a job has waited for what was running."""
    wait_for_running = world.reader.wait_for_running

    async def waited() -> None:
        await wait_for_running()
        await work()

    world.reader.wait_for_running = waited  # type: ignore[method-assign]


@transform(
    old="public.accounts",
    upgraded={"public.accounts": "id", "public.roles": "account_id"},
    key=KeyMap(lambda key: uuid5(NAMESPACE, str(key)), sequence="public.accounts_id_seq"),
)
def account(row: Row) -> Iterable[Row]:
    yield row.to("public.accounts").drop("roles")
    for role in row["roles"]:
        yield Row.of("public.roles", account_id=row["id"], role=role)


async def test_translated_keys(old_database: Database, upgraded_database: Database) -> None:
    """Extra rows are found by the key map, children included, and rows that no map knows are extra too."""
    old_database.execute(
        "CREATE TABLE accounts (id bigserial PRIMARY KEY, name text, roles text[]);"
        "INSERT INTO accounts (name, roles) SELECT 'a' || n, '{r,w}' FROM generate_series(1, 300) n"
    )
    upgraded_database.execute(
        "CREATE TABLE accounts (id uuid PRIMARY KEY, name text);"
        "CREATE TABLE roles (serial int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id uuid, role text)"
    )
    await begin(old_database, upgraded_database, [], [account])
    query = (
        "SELECT a.name, array_agg(r.role ORDER BY role) FROM accounts a JOIN roles r ON r.account_id = a.id GROUP BY 1"
    )
    right = sorted(upgraded_database.execute(query))
    async with open_world(old_database, upgraded_database, [], [account]) as world, world.streaming() as feed:
        upgraded_database.execute(
            "INSERT INTO accounts SELECT gen_random_uuid(), 'extra' FROM generate_series(1, 5);"
            "INSERT INTO roles (account_id, role) SELECT id, 'x' FROM accounts;"
            "DELETE FROM roles WHERE role = 'w' AND serial % 3 = 0;"
            "UPDATE accounts SET name = 'spoilt' WHERE id::text < '7'"
        )
        done = await world.resync(feed, chunk_rows=40).run("public.accounts")
    assert 10 == done.deleted
    assert right == sorted(upgraded_database.execute(query))


async def test_unknown_table(old_database: Database, upgraded_database: Database) -> None:
    """A table that the connector doesn't map is refused by name; a mapped one is found by either side's name."""
    old_database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    upgraded_database.execute('CREATE SCHEMA n; CREATE TABLE n."T" (id int PRIMARY KEY)')
    entry = {"old": "public.t", "upgraded": 'n."T"'}
    async with open_world(old_database, upgraded_database, [entry]) as world:
        resync: Resync = world.resync(await world.feed())
        assert "public.t" == resync.find('n."T"').name == resync.find("public.t").name
        with pytest.raises(ReplicatorError, match="maps no table 'nope'") as caught:
            await resync.run("nope")
    assert ErrorKind.CONFIG is caught.value.kind
