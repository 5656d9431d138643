"""Which rows stand in the way of a refused one, whatever kind of constraint refused it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Key
from replicator.postgres.copying import PostgresChunkTarget
from replicator.postgres.target import PostgresTarget
from replicator.tables import TableName
from replicator.writes import Write, WriteAction
from tests.fix_postgres import Database

T = TableName("public", "t")
PARTITIONED = """
    CREATE TABLE t (id int, v text, UNIQUE (v), PRIMARY KEY (id, v)) PARTITION BY HASH (v);
    CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1);
"""

TABLES = [
    ("unique", "CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE)", "5"),
    (
        "generated",
        "CREATE TABLE t (id int PRIMARY KEY, v text, w text GENERATED ALWAYS AS (upper(v)) STORED, UNIQUE (w))",
        "A",
    ),
    ("expression", "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE UNIQUE INDEX ON t (upper(v))", "A"),
    (
        "partial",
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE UNIQUE INDEX ON t ((v || '')) WHERE v <> 'b'",
        "a",
    ),
    ("exclusion", "CREATE TABLE t (id int PRIMARY KEY, v int4range, EXCLUDE USING gist (v WITH &&))", "[5,7)"),
    ("nulls", "CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE NULLS NOT DISTINCT)", None),
    ("partition", PARTITIONED, "5"),
    ("quoted", 'CREATE TABLE t (id int PRIMARY KEY, v text, CONSTRAINT "Q""%s {}" UNIQUE (v))', "5"),
]


@pytest.fixture
async def target(upgraded_database: Database) -> AsyncIterator[PostgresTarget]:
    made = PostgresTarget(upgraded_database.dsn, connector="crm", feed="forward")
    await made.take_over(1)
    yield made
    await made.close()


async def refused(target: PostgresTarget, value: str | None) -> tuple[ReplicatorError, list[Key]]:
    """Write row 2 with this value: the error, and the keys in its way."""
    table = (await target.catalog()).tables[T]
    rows: list[Any] = [(b"2", None if value is None else value.encode())]
    write = Write(table, WriteAction.UPSERT, columns=("id", "v"), key=("id",), rows=rows)
    async with target.job("test") as tx:
        with pytest.raises(ReplicatorError) as caught:
            async with tx.savepoint():
                await tx.write(write)
        assert caught.value.constraint is not None
        keys = await PostgresChunkTarget().in_the_way(tx, write, caught.value.constraint, ("id",))
    return caught.value, keys


@pytest.mark.parametrize("ddl, value", [case[1:] for case in TABLES], ids=[case[0] for case in TABLES])
async def test_the_row_in_the_way_is_found(
    upgraded_database: Database, target: PostgresTarget, ddl: str, value: str | None
) -> None:
    """By the refusing index's own columns, expressions, predicate and operators; the row of the same key isn't."""
    upgraded_database.execute(ddl)
    taken = {"A": "a", "[5,7)": "[6,9)"}.get(value or "", value)
    other = "[20,30)" if value == "[5,7)" else "other"
    upgraded_database.execute("INSERT INTO t (id, v) VALUES (1, %s), (2, %s)", [taken, other])
    error, keys = await refused(target, value)
    assert ErrorKind.UNIQUE is error.kind
    assert [(b"1",)] == keys


async def test_the_staging_table_follows_the_shape(upgraded_database: Database, target: PostgresTarget) -> None:
    """A session that has copied into a table copies into it again after its shape has changed."""
    upgraded_database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")

    async def copy(line: bytes, *columns: str) -> None:
        async def blocks() -> AsyncIterator[bytes]:
            yield line

        table = (await target.catalog()).tables[T]
        async with target.job("test") as tx:
            assert 1 == await PostgresChunkTarget().copy_over(tx, table, columns, ("id",), blocks())

    await copy(b"1\tone\n", "id", "v")
    upgraded_database.execute("ALTER TABLE t ALTER v TYPE varchar(3), ADD w int")
    with pytest.raises(ReplicatorError, match="too long"):
        await copy(b"1\tlonger\n", "id", "v")
    await copy(b"1\ttwo\t7\n", "id", "v", "w")
    assert [(1, "two", 7)] == upgraded_database.execute("SELECT * FROM t")
