"""Some aggregates are derived again beside the running feed."""

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import pytest

from replicator import Row, transform
from replicator.engine.feed import Feed
from replicator.engine.rewrite import Rewriter
from replicator.errors import ErrorKind
from tests.copying import World, open_world, rows_of
from tests.fix_postgres import Database, MakeDatabase, MakeServer
from tests.integration.test_backfill_faults import change_t, fill, writing
from tests.integration.test_resync import NEWER, account, after_waiting, begin, spoil
from tests.polling import eventually


def rewriter(world: World, feed: Feed) -> Rewriter:
    """One as the daemon has it."""
    return Rewriter(feed, reader=world.reader, target=world.target, chunks=world.chunks, status=world.status)


def keys(*numbers: int) -> list[tuple[bytes, ...]]:
    """Keys of one integer."""
    return [(b"%d" % number,) for number in numbers]


async def test_damage_is_mended_beside_the_feed(old_database: Database, upgraded_database: Database) -> None:
    """Every key of a spoilt table is derived again while the application changes its rows, and the feed follows."""
    fill(old_database, upgraded_database)
    await begin(old_database, upgraded_database)
    async with open_world(old_database, upgraded_database) as world, world.streaming() as feed:
        spoil(upgraded_database)
        with writing(old_database, change_t):
            rewrite = rewriter(world, feed)
            async with rewrite.watching():
                done = await rewrite.write(world.mappings.all[0], keys(*range(-50, 7051)))
        await world.reach(feed)
    assert (7101, {}, set()) == (done.aggregates, done.refused, done.waiting)
    assert rows_of(old_database) == rows_of(upgraded_database)


@pytest.mark.parametrize("moment", ["before", "during"])
async def test_what_is_not_visible_yet_is_waited_for(
    make_server: MakeServer, make_database: MakeDatabase, upgraded_database: Database, moment: str
) -> None:
    """What the feed has applied is in every snapshot that is written, however late the source shows it."""
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
                await eventually(lambda: upgraded_database.execute(NEWER) != [], 60)

            async def write() -> None:
                rewrite = rewriter(world, feed)
                async with rewrite.watching():
                    await rewrite.write(world.mappings.all[0], keys(3))

            try:
                if moment == "before":
                    await commit()
                else:
                    after_waiting(world, commit)
                running = asyncio.ensure_future(write())
                await eventually(lambda: upgraded_database.execute(NEWER) != [], 60)
                await asyncio.wait([running], timeout=1)
                assert [] == old.execute(NEWER)
            finally:
                server.execute("ALTER SYSTEM RESET synchronous_standby_names")
                server.execute("SELECT pg_reload_conf()")
                await asyncio.gather(*stuck)
            await running
    assert rows_of(old) == rows_of(upgraded_database)


@transform(old="public.people", upgraded="public.people")
def person(row: Row) -> Row:
    return row.set(name=row["name"].upper())


async def test_one_that_is_refused_stands_alone(old_database: Database, upgraded_database: Database) -> None:
    """Among many, each that the target or the transform refuses is named with its reason, and the others are written;
    also those that had exchanged their unique values in a circle.
    """
    table = "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, name text)"
    old_database.execute(f"{table}; INSERT INTO people SELECT n, 'e' || n, 'n' || n FROM generate_series(1, 300) n")
    upgraded_database.execute(table)
    await begin(old_database, upgraded_database, [], [person])
    async with open_world(old_database, upgraded_database, [], [person]) as world, world.streaming() as feed:
        old_database.execute("UPDATE people SET name = 'bad' WHERE id = 77")
        await world.reach(feed)
        upgraded_database.execute(
            "UPDATE people SET name = 'x'; UPDATE people SET email = 'moving' WHERE id = 1;"
            "UPDATE people SET email = 'e1' WHERE id = 2; UPDATE people SET email = 'e2' WHERE id = 3;"
            "UPDATE people SET email = 'e3' WHERE id = 1; DELETE FROM people WHERE id > 290;"
            "ALTER TABLE people ADD CONSTRAINT good CHECK (name <> 'BAD')"
        )
        rewrite = rewriter(world, feed)
        async with rewrite.watching():
            done = await rewrite.write(world.mappings.all[0], keys(*range(1, 301)))
    assert 299 == done.aggregates
    assert {keys(77)[0]: (ErrorKind.DATA, "good")} == {
        key: (error.kind, error.constraint) for key, error in done.refused.items()
    }
    query = "SELECT id, email, name FROM people WHERE id <> 77 ORDER BY id"
    wanted = old_database.execute("SELECT id, email, upper(name) FROM people WHERE id <> 77 ORDER BY id")
    assert wanted == upgraded_database.execute(query)


async def test_keys_that_no_map_has(old_database: Database, upgraded_database: Database) -> None:
    """Rows under a key of the target that no map has are deleted, children too; under one that a map has they stay."""
    old_database.execute(
        "CREATE TABLE accounts (id bigserial PRIMARY KEY, name text, roles text[]);"
        "INSERT INTO accounts (name, roles) SELECT 'a' || n, '{r,w}' FROM generate_series(1, 20) n"
    )
    upgraded_database.execute(
        "CREATE TABLE accounts (id uuid PRIMARY KEY, name text);"
        "CREATE TABLE roles (serial int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id uuid, role text)"
    )
    await begin(old_database, upgraded_database, [], [account])

    def rows() -> Iterable[Any]:
        return sorted(upgraded_database.execute("SELECT a::text FROM accounts a UNION ALL SELECT r::text FROM roles r"))

    right = rows()
    strange = [f"00000000-0000-0000-0000-{number:012}" for number in range(1, 4)]
    known = upgraded_database.execute("SELECT id::text FROM accounts LIMIT 3")
    async with open_world(old_database, upgraded_database, [], [account]) as world, world.streaming() as feed:
        for key in strange:
            upgraded_database.execute("INSERT INTO accounts VALUES (%s, 'extra')", [key])
            upgraded_database.execute("INSERT INTO roles (account_id, role) VALUES (%s, 'r'), (%s, 'x')", [key, key])
        rewrite = rewriter(world, feed)
        mapping = world.mappings.all[0]
        wanted = [(key.encode(),) for key in (*strange, *(row[0] for row in known))]
        random.Random(1).shuffle(wanted)
        async with rewrite.watching():
            deleted = [(await rewrite.delete(mapping, side, wanted)).deleted for side in reversed(mapping.targets)]
    assert [6, 3] == deleted
    assert right == rows()
