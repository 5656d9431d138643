"""`PostgresReader` on real servers: values, ranges, plans, visibility, cancellation."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Key, Values
from replicator.postgres import range_sql
from replicator.postgres.reader import PostgresReader, PostgresSnapshot
from replicator.tables import Table, TableName
from tests.fix_postgres import Database, MakeServer


@pytest.fixture
async def reader(old_database: Database) -> AsyncIterator[PostgresReader]:
    made = PostgresReader(old_database.dsn, "test")
    yield made
    await made.close()


async def table_of(reader: PostgresReader, name: str) -> Table:
    return (await reader.catalog()).tables[TableName.parse(name)]


async def eventually(check: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Poll until it holds; each call of `check` costs a round trip, and the loop gets its turn."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(check):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"


def keys(rows: list[Values], *at: int) -> list[Key]:
    return [tuple(value for value in (row[position] for position in at) if isinstance(value, bytes)) for row in rows]


async def test_rows_come_as_the_server_prints_them(reader: PostgresReader, old_database: Database) -> None:
    """Every value is the server's own text: NULL is None, nothing is decoded, columns are in the catalog's order."""
    old_database.execute(
        """CREATE TABLE t (id bigint PRIMARY KEY, n numeric, d date, j json, b bytea, f float8, x text,
           g bigint GENERATED ALWAYS AS (id * 2) STORED)"""
    )
    old_database.execute(
        """INSERT INTO t VALUES (1, 'NaN', 'infinity', '{"a" :  1}', '\\x00ff', 0.1, E'tab\\t\\\\ 😀')"""
    )
    old_database.execute("INSERT INTO t (id) VALUES (2)")
    async with reader.snapshot() as snapshot:
        rows = await snapshot.rows(await table_of(reader, "public.t"), ("id",), [(b"2",), (b"1",), (b"3",)])
    assert [
        (b"1", b"NaN", b"infinity", b'{"a" :  1}', b"\\x00ff", b"0.1", "tab\t\\ 😀".encode(), b"2"),
        (b"2", None, None, None, None, None, None, b"4"),
    ] == rows


async def test_two_texts_of_one_key_return_its_row_once(reader: PostgresReader, old_database: Database) -> None:
    """Keys are compared as values of their type, and a row is returned once however often it is asked for."""
    old_database.execute("CREATE TABLE t (id numeric PRIMARY KEY); INSERT INTO t VALUES (1.0), (2)")
    async with reader.snapshot() as snapshot:
        rows = await snapshot.rows(await table_of(reader, "public.t"), ("id",), [(b"1",), (b"1.00",), (b"1",)])
        assert [] == await snapshot.rows(await table_of(reader, "public.t"), ("id",), [])
    assert [(b"1.0",)] == rows


async def test_names_of_any_kind(reader: PostgresReader, old_database: Database) -> None:
    """Quotes, dots, percent signs, capitals, braces and reserved words in names are just names."""
    old_database.execute(
        """CREATE SCHEMA "S.%s"; CREATE TYPE "S.%s"."Ty""pe%" AS ENUM ('b', 'a');
           CREATE TABLE "S.%s"."select ""{}"" x" ("a%%.b" "S.%s"."Ty""pe%", "user" text, PRIMARY KEY ("user", "a%%.b"));
           INSERT INTO "S.%s"."select ""{}"" x" VALUES ('a', 'x'), ('b', 'x'), ('b', 'w%')"""
    )
    table = (await reader.catalog()).tables[TableName("S.%s", 'select "{}" x')]
    by = table.key
    assert ("user", "a%%.b") == by
    async with reader.snapshot() as snapshot:
        assert [(b"a", b"x")] == await snapshot.rows(table, by, [(b"x", b"a")])
        assert [(b"b", b"w%"), (b"b", b"x")] == await snapshot.chunk(table, by, None, (b"x", b"b"))
        assert (b"x", b"b") == await snapshot.count_before(table, by, (b"w%", b"b"), 1)
        where = "\"user\" LIKE '%w%'"
        assert [(b"b", b"w%")] == await snapshot.chunk(table, by, None, None, where=where)
        blocks = [block async for block in snapshot.copy_out(table, ("user",), by, (b"w%", b"b"), None, where="true")]
    assert b"x\nx\n" == b"".join(blocks)


@pytest.fixture
def collated(old15_database: Database) -> Database:
    """A table whose composite key has a collated text column, an integer, and a date: 3,000 rows. On 15, because the
    embedded 18 knows no language.
    """
    old15_database.execute(
        """CREATE TABLE t (
                   name text COLLATE "und-x-icu", n integer, day date, filler text, PRIMARY KEY (name, n, day));
           INSERT INTO t SELECT chr(97 + g % 5) || CASE g % 2 WHEN 0 THEN 'ß' ELSE 'Z' END, g % 50,
               date '2000-01-01' + g, repeat('x', 200)
           FROM generate_series(1, 3000) g;
           ANALYZE t"""
    )
    return old15_database


@pytest.fixture
async def reader15(old15_database: Database) -> AsyncIterator[PostgresReader]:
    made = PostgresReader(old15_database.dsn, "test")
    yield made
    await made.close()


async def test_chunks_cover_a_composite_key_without_gap(reader15: PostgresReader, collated: Database) -> None:
    """Walking by `count_before` and `chunk` meets every row once, in the order of the index's collation."""
    table = await table_of(reader15, "public.t")
    by = table.key
    met: list[Values] = []
    async with reader15.snapshot() as snapshot:
        after: Key | None = None
        while (upto := await snapshot.count_before(table, by, after, 700)) is not None:
            met += await snapshot.chunk(table, by, after, upto)
            assert 0 == len(met) % 700
            after = upto
        met += await snapshot.chunk(table, by, after, None)
    ordered = collated.execute("SELECT name, n::text, day::text FROM t ORDER BY t.name, t.n, t.day")
    assert [tuple(value.encode() for value in row) for row in ordered] == keys(met, 0, 1, 2)


async def test_copy_out_is_the_same_range(reader15: PostgresReader, collated: Database) -> None:
    """COPY of a range holds exactly the rows of the chunk of that range."""
    table = await table_of(reader15, "public.t")
    async with reader15.snapshot() as snapshot:
        after = await snapshot.count_before(table, table.key, None, 1000)
        upto = await snapshot.count_before(table, table.key, after, 500)
        rows = await snapshot.chunk(table, table.key, after, upto)
        blocks = [block async for block in snapshot.copy_out(table, ("name", "n", "day"), table.key, after, upto)]
    assert 500 == len(rows)
    lines = b"".join(blocks).splitlines()
    assert sorted(b"\t".join(key) for key in keys(rows, 0, 1, 2)) == sorted(lines)


def plan(database: Database, query: str, parameters: list[str]) -> str:
    with database.connect(autocommit=True) as connection:
        connection.execute("SET plan_cache_mode = force_custom_plan")
        connection.execute("SET search_path = pg_catalog")
        connection.execute(f"PREPARE q AS {query}".encode())
        quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in parameters)
        rows: list[tuple[Any, ...]] = connection.execute(f"EXPLAIN EXECUTE q({quoted})".encode()).fetchall()
    return "\n".join(row[0] for row in rows)


async def test_an_index_serves_every_read(reader15: PostgresReader, collated: Database) -> None:
    """Reads by key, by range and the search for a boundary use the key's index, with all of its columns."""
    table = await table_of(reader15, "public.t")
    by = table.key
    low, high = ["aZ", "10", "2003-01-01"], ["aZ", "20", "2003-01-01"]
    plans = [
        plan(collated, range_sql.rows(table, by).as_string(), ["{aZ,bß}", "{1,2}", "{2000-01-02,2000-01-03}"]),
        plan(collated, range_sql.chunk(table, by, after=True, upto=True).as_string(), [*low, *high]),
        plan(collated, range_sql.key_at(table, by, after=True).as_string(), [*low, "99"]),
    ]
    for text in plans:
        assert "t_pkey" in text, text
        assert "Seq Scan" not in text, text
    assert "Index Cond: ((name = " in plans[0]
    assert "day = " in plans[0]
    assert "Index Cond: ((ROW(name, n, day) > " in plans[1]
    assert "Index Only Scan" in plans[2]


async def test_operators_of_an_extension_use_its_index(reader: PostgresReader, old_database: Database) -> None:
    """A citext key is compared by citext's own operators, also beside others: case is folded, the index serves it."""
    old_database.execute(
        """CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
           CREATE TABLE t (mail ext.citext PRIMARY KEY);
           INSERT INTO t SELECT 'u' || g FROM generate_series(1, 5000) g; ANALYZE t;
           CREATE TABLE mixed (mail ext.citext, n integer, PRIMARY KEY (mail, n));
           INSERT INTO mixed SELECT 'U' || lpad((g / 10)::text, 4, '0'), g FROM generate_series(0, 99) g"""
    )
    table = await table_of(reader, "public.t")
    mixed = await table_of(reader, "public.mixed")
    async with reader.snapshot() as snapshot:
        assert [(b"u7",)] == await snapshot.rows(table, ("mail",), [(b"U7",)])
        rows = await snapshot.chunk(mixed, ("mail", "n"), (b"u0001", b"15"), (b"u0003", b"32"))
    assert [str(n).encode() for n in range(16, 33)] == [row[1] for row in rows]
    text = plan(old_database, range_sql.rows(table, ("mail",)).as_string(), ["{U7}"])
    assert "Index Cond: (mail OPERATOR(ext.=) " in text


async def test_children_by_inheritance_are_not_their_parents_rows(
    reader: PostgresReader, old_database: Database
) -> None:
    """An ordinary table is read without the children that inherit from it; a partitioned one with its leaves."""
    old_database.execute(
        """CREATE TABLE parent (id integer PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
           INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
           CREATE TABLE whole (id integer PRIMARY KEY) PARTITION BY RANGE (id);
           CREATE TABLE leaf PARTITION OF whole FOR VALUES FROM (0) TO (10); INSERT INTO whole VALUES (3)"""
    )
    async with reader.snapshot() as snapshot:
        assert [(b"1",)] == await snapshot.chunk(await table_of(reader, "public.parent"), ("id",), None, None)
        assert [(b"3",)] == await snapshot.chunk(await table_of(reader, "public.whole"), ("id",), None, None)


async def test_a_relation_is_one_object_while_its_table_is_the_same(
    reader: PostgresReader, old_database: Database
) -> None:
    """The shape of a table's rows is the same object until the table changes."""
    old_database.execute("CREATE TABLE t (id integer PRIMARY KEY, x text); ALTER TABLE t REPLICA IDENTITY FULL")
    relation = reader.relation(await table_of(reader, "public.t"))
    assert reader.relation(await table_of(reader, "public.t")) is relation
    assert (("id", "x"), (23, 25), ("id", "x"), "f") == (
        relation.columns,
        relation.type_oids,
        relation.key_columns,
        relation.replica_identity,
    )
    old_database.execute("ALTER TABLE t ADD y integer")
    assert reader.relation(await table_of(reader, "public.t")) is not relation


async def test_everything_visible_lies_before_the_lsn(reader: PostgresReader, old_database: Database) -> None:
    """`insert_lsn` is at or past the end of every commit that the snapshot sees, and `text` is its snapshot."""
    old_database.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    old_database.execute("INSERT INTO t VALUES (1)")
    ((lsn,),) = old_database.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
    async with reader.snapshot() as snapshot:
        assert lsn <= snapshot.insert_lsn
        xmin, xmax, _ = snapshot.text.split(":")
        assert 0 < int(xmin) <= int(xmax)
        old_database.execute("INSERT INTO t VALUES (2)")
        assert [(b"1",)] == await snapshot.chunk(await table_of(reader, "public.t"), ("id",), None, None)


@pytest.mark.fault
async def test_an_event_is_visible_before_it_is_read(make_server: MakeServer) -> None:
    """With a synchronous standby that never answers a commit is in the WAL, and in the slot, but not in the table: the
    reader waits until it is, also when its wait was cancelled once.
    """
    server = make_server(18)
    server.create_database("old")
    database = Database(server, "old")
    database.execute("CREATE TABLE t (id integer PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'before')")
    database.execute("SELECT pg_create_logical_replication_slot('s', 'test_decoding')")
    reader = PostgresReader(database.dsn, "test")
    table = await table_of(reader, "public.t")
    database.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    database.execute("SELECT pg_reload_conf()")
    await eventually(lambda: database.execute("SHOW synchronous_standby_names") == [("nobody",)], "the setting")
    update = asyncio.create_task(asyncio.to_thread(database.execute, "UPDATE t SET x = 'after' WHERE id = 1"))
    changes: list[tuple[str, str]] = []

    def in_the_slot() -> bool:
        changes[:] = [
            (xid, data)
            for xid, data in database.execute(
                "SELECT xid::text, data FROM pg_logical_slot_peek_changes('s', NULL, NULL)"
            )
            if "after" in data
        ]
        return bool(changes)

    await eventually(in_the_slot, "the update in the slot")
    xid = int(changes[0][0])
    async with reader.snapshot() as snapshot:
        assert [(b"1", b"before")] == await snapshot.rows(table, ("id",), [(b"1",)])

    async def read() -> list[Values]:
        async with reader.snapshot([0, xid & 0xFFFFFFFF]) as snapshot:
            return await snapshot.rows(table, ("id",), [(b"1",)])

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.3)
    reading = asyncio.create_task(read())
    sessions = "SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'replicator:test:reader'"
    await eventually(lambda: database.execute(sessions) == [(1,)], "one session, used again after the cancellation")
    assert not reading.done()
    database.execute("ALTER SYSTEM RESET synchronous_standby_names")
    database.execute("SELECT pg_reload_conf()")
    assert [(b"1", b"after")] == await asyncio.wait_for(reading, 20)
    await update
    await reader.close()


async def test_running_transactions_are_waited_for(reader: PostgresReader, old_database: Database) -> None:
    """The wait ends only when a transaction that was running at the call has ended, though no other was completed."""
    old_database.execute("CREATE TABLE t (id integer)")
    with old_database.connect() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        waiting = asyncio.create_task(reader.wait_for_running())
        polls = f"""SELECT count(*)::int FROM pg_stat_activity WHERE datname = '{old_database.name}'
            AND application_name = 'replicator:test:reader' AND query LIKE '%pg_snapshot_xmin%'"""
        await eventually(lambda: old_database.execute(polls) == [(1,)], "the reader polls")
        assert not waiting.done()
        connection.commit()
        await asyncio.wait_for(waiting, 20)


async def test_an_abandoned_copy_costs_its_connection_only(reader15: PostgresReader, collated: Database) -> None:
    """Whoever leaves a COPY, or a snapshot, in the middle leaves a reader that works."""
    table = await table_of(reader15, "public.t")

    async def abandon() -> None:
        async with reader15.snapshot() as snapshot:
            async for _ in snapshot.copy_out(table, table.column_names, table.key, None, None):
                raise LookupError

    with pytest.raises(LookupError):
        await abandon()
    async with reader15.snapshot() as snapshot:
        assert 3000 == len(await snapshot.chunk(table, table.key, None, None))


@pytest.mark.fault
async def test_sessions_that_a_restart_ended_are_replaced(make_server: MakeServer) -> None:
    """After a restart of the server the next snapshot opens a new session; while it is down the error says so."""
    server = make_server(18)
    reader = PostgresReader(server.dsn(), "test")
    async with reader.snapshot():
        pass
    server.stop()
    with pytest.raises(ReplicatorError) as caught:
        await reader.catalog()
    assert ErrorKind.CONNECTION is caught.value.kind
    server.start()
    async with reader.snapshot() as snapshot:
        assert snapshot.insert_lsn > 0
    await reader.close()


async def test_sessions_are_bounded(old_database: Database) -> None:
    """A further snapshot waits until one of the bounded number is given back."""
    reader = PostgresReader(old_database.dsn, "test", connections_max=1)
    async with reader.snapshot():
        second = asyncio.create_task(reader.catalog())
        await asyncio.wait({second}, timeout=0.2)
        assert not second.done()
    assert {} == (await asyncio.wait_for(second, 20)).tables
    await reader.close()
    with pytest.raises(ReplicatorError):
        await reader.catalog()


async def test_version_15_is_read_alike(old15_database: Database) -> None:
    """An old side of version 15 gives snapshots, ranges and waits by the same statements."""
    old15_database.execute(
        "CREATE TABLE t (a integer, b text, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 'x'), (2, 'y')"
    )
    reader = PostgresReader(old15_database.dsn, "test")
    table = await table_of(reader, "public.t")
    await asyncio.wait_for(reader.wait_for_running(), 20)
    async with reader.snapshot([3]) as snapshot:
        assert isinstance(snapshot, PostgresSnapshot)
        assert [(b"2", b"y")] == await snapshot.chunk(table, table.key, (b"1", b"x"), (b"2", b"y"))
        assert [(b"1", b"x")] == await snapshot.rows(table, table.key, [(b"1", b"x")])
        assert b"1\n" == b"".join([block async for block in snapshot.copy_out(table, ("a",), ("a",), None, (b"1",))])
    await reader.close()
