"""Rows against a real server: what is decoded and written again is what the column holds."""

from random import Random
from typing import Any

import psycopg
import pytest

from replicator.lawcheck.aggregates import Generator
from replicator.lawcheck.stored import DoesNotFitError, stored
from replicator.mapping import Side
from replicator.postgres.catalog import read_catalog
from replicator.postgres.session import connect
from replicator.rows import UnreadableValueError, UnwritableValueError, dump, load, value_oid
from replicator.tables import Catalog, Column, TableName
from tests.fix_postgres import Database

TYPES = """
    boolean, smallint, integer, bigint, oid, numeric, numeric(10-2), numeric(4-4), real, double precision, money, text,
    varchar, varchar(5), char(4), "char", name, bytea, uuid, date, timestamp, timestamp(0), timestamptz, time, timetz,
    interval, json, jsonb, bit(3), varbit, inet, cidr, macaddr, macaddr8, point, box, lseg, line, path, polygon, circle,
    tsvector, tsquery, pg_lsn, int4range, int8range, numrange, daterange, tsrange, tstzrange, int4multirange,
    nummultirange, datemultirange, text[], integer[], numeric[], uuid[], jsonb[], bytea[], timestamptz[], date[], mood,
    mood[], amount, short
"""
NAMES = [name.strip().replace("-", ",") for name in TYPES.split(",")]
KEYS = {
    "boolean", "smallint", "integer", "bigint", "numeric", "numeric(10,2)", "text", "varchar", "varchar(5)", "char(4)",
    "bytea", "uuid", "date", "timestamp", "timestamptz", "mood", "amount", "short",
}  # fmt: skip


async def read(database: Database) -> Catalog:
    connection = await connect(database.dsn, "test")
    try:
        return await read_catalog(connection)
    finally:
        await connection.close()


@pytest.fixture
def values(old_database: Database) -> Database:
    columns = ", ".join(f"c{at} {name}" for at, name in enumerate(NAMES))
    old_database.execute("CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy')")
    old_database.execute("CREATE DOMAIN amount AS numeric(12,2)")
    old_database.execute("CREATE DOMAIN short AS varchar(3) CHECK (length(value) < 4)")
    old_database.execute(f"CREATE TABLE public.every ({columns})")
    return old_database


async def test_every_type_comes_back_from_the_server(values: Database) -> None:
    """Generated values are printed by the server as they were made up; decoded, written again and stored, they are the
    same; and where a type may hold a key, what is written is already what the server prints.
    """
    catalog = await read(values)
    table = catalog.tables[TableName("public", "every")]
    generator = Generator((Side(table, ()),), catalog, (), Random(7))
    assert [] == generator.unknown()
    differing: set[str] = set()
    connection: psycopg.AsyncConnection[Any] = await connect(values.dsn, "test")
    async with connection:
        for _ in range(60):
            for name, column in zip(NAMES, table.columns, strict=True):
                text = generator.value(table, column)
                if not isinstance(text, bytes):
                    continue
                kept = await held(connection, text, column)
                if name not in {"real", "double precision"} or b"e" not in text:
                    assert (name, text) == (name, kept)
                try:
                    written = dump(load(kept, value_oid(column)), value_oid(column))
                except UnreadableValueError:
                    continue
                except UnwritableValueError:
                    assert name in {"json", "jsonb"}, name  # a JSON string: refused as ambiguous
                    continue
                if written != kept:
                    differing.add(name)
                again = await held(connection, written, column)
                assert (name, kept) == (name, again) or load(kept, value_oid(column)) == load(again, value_oid(column))
    assert set() == differing & KEYS


async def held(connection: psycopg.AsyncConnection[Any], text: bytes, column: Column) -> bytes:
    """What the column prints once it holds this text."""
    name = column.name
    statement = f"INSERT INTO public.every ({name}) VALUES (%s::{column.cast_type}) RETURNING format('%%s', {name})"
    cursor = await connection.execute(statement, [text.decode()])
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0]).encode()


TAKEN = [
    ("numeric(10,2)", "1.005"),
    ("numeric(10,2)", "-1.005"),
    ("numeric(4,2)", "99.995"),
    ("numeric(10,2)", "NaN"),
    ("numeric", "1E+2"),
    ("numeric", "x"),
    ("integer", " 7 "),
    ("integer", "5.00"),
    ("smallint", "40000"),
    ("boolean", "true"),
    ("boolean", "maybe"),
    ("varchar(3)", "abc   "),
    ("varchar(3)", "abcd"),
    ("char(4)", "ab"),
    ("uuid", "00000000000000000000000000000001"),
    ("uuid", "7"),
]


async def test_the_imitated_column_agrees_with_a_real_one(old_database: Database) -> None:
    """What the check of the laws takes a column to do, rounding, padding and refusing, is what the server does."""
    columns = ", ".join(f"c{at} {name}" for at, (name, _) in enumerate(TAKEN))
    old_database.execute(f"CREATE TABLE public.every ({columns})")
    table = (await read(old_database)).tables[TableName("public", "every")]
    connection: psycopg.AsyncConnection[Any] = await connect(old_database.dsn, "test")
    async with connection:
        for (name, text), column in zip(TAKEN, table.columns, strict=True):
            try:
                real: bytes | None = await held(connection, text.encode(), column)
            except psycopg.DataError:
                real = None
            try:
                imitated: bytes | None = stored(text.encode(), column)
            except DoesNotFitError:
                imitated = None
            assert (name, text, real) == (name, text, imitated)
