"""P4 at the target: a value of any type arrives as the source printed it, through every statement that carries it."""

from typing import Any

import pytest
from psycopg import AsyncRawCursor, sql

from replicator.demo.servers import PostgresServer
from replicator.postgres.session import connect
from replicator.writes import Write, WriteAction
from tests.every_type import NO_XML, SCHEMA, VALUES
from tests.fix_target import MakeTargetWorld, TargetWorld


async def typed_world(make: MakeTargetWorld, server: PostgresServer) -> tuple[TargetWorld, list[str]]:
    """A database with `crm.there`, filled, and `crm.here`, empty: a column for each type, a row for each value."""
    types = [name for name in VALUES if server.major == 15 or name not in NO_XML]
    columns = ", ".join(f"c{at} {name}" for at, name in enumerate(types))
    world = await make(server, f"{SCHEMA}; CREATE TABLE crm.here (id int PRIMARY KEY, {columns})")
    world.database.execute("CREATE TABLE crm.there (LIKE crm.here)")
    rows = max(map(len, VALUES.values())) + 1  # the last one all NULL
    for row in range(rows):
        given = [(at, VALUES[name][row]) for at, name in enumerate(types) if row < len(VALUES[name])]
        names = ", ".join(["id", *(f"c{at}" for at, _ in given)])
        marks = ", ".join(["%s", *(f"%s::{types[at]}" for at, _ in given)])
        world.database.execute(
            f"INSERT INTO crm.there ({names}) VALUES ({marks})", [row, *(value for _, value in given)]
        )
    await world.refresh()
    return world, types


async def printed(world: TargetWorld, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    """A table's rows as the server prints them in a session of ours, by id."""
    async with await connect(world.database.dsn, "test") as connection:
        cursor = AsyncRawCursor(connection)
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        await cursor.execute(sql.SQL("SELECT {} FROM {} ORDER BY id").format(names, sql.Identifier("crm", table)))
        result = cursor.pgresult
        assert result is not None
        return [tuple(result.get_value(row, at) for at in range(result.nfields)) for row in range(result.ntuples)]


@pytest.mark.parametrize("version", [18, 15])
async def test_every_type_survives_every_statement(
    version: int, make_target_world: MakeTargetWorld, server18: PostgresServer, server15: PostgresServer
) -> None:
    """INSERT, UPSERT, UPDATE, MERGE and REMOVE take each value as it was printed, and print it so again."""
    world, types = await typed_world(make_target_world, server18 if version == 18 else server15)
    columns = ["id", *(f"c{at}" for at in range(len(types)))]
    there = await printed(world, "there", columns)
    here = world.table("here")
    keyed: dict[str, Any] = {"columns": tuple(columns), "key": ("id",)}
    empty = [(row[0], *[None] * len(types)) for row in there]
    target = world.target()
    await target.take_over(1)

    def same(found: list[tuple[Any, ...]]) -> None:
        for at, name in enumerate(types, 1):
            assert [(name, row[at]) for row in there] == [(name, row[at]) for row in found]

    async def after(*writes: Write) -> list[tuple[Any, ...]]:
        async with target.transaction(0) as tx:
            for write in writes:
                await tx.write(write)
        return await printed(world, "here", columns)

    same(await after(Write(here, WriteAction.INSERT, rows=there, **keyed)))
    same(await after(*(Write(here, WriteAction.UPSERT, rows=rows, **keyed) for rows in (empty, there))))
    same(await after(*(Write(here, WriteAction.UPDATE, rows=rows, **keyed) for rows in (empty, there))))
    by_all: dict[str, Any] = {"columns": tuple(columns), "key": tuple(columns), "scope": ("id",), "multiset": True}
    keys = [(row[0],) for row in there]
    kept = (
        Write(here, WriteAction.PRUNE, rows=there, keys=keys, **by_all),
        Write(here, WriteAction.MERGE, rows=there, **by_all),
    )
    same(await after(*kept))
    async with target.transaction(0) as tx:
        results = [
            await tx.write(one) for one in (*kept, Write(here, WriteAction.REMOVE, rows=there, columns=tuple(columns)))
        ]
    assert [0, 0, len(there)] == [result.affected for result in results]
