"""`read_facts` as a role of few rights and as superuser, and `misfit` against what the server does with values."""

from typing import Any

import pytest
from psycopg import sql

from replicator.assess.facts import Facts, PublishedTable, TableRights
from replicator.assess.fit import misfit
from replicator.postgres.catalog import read_catalog
from replicator.postgres.facts import read_facts, read_rights
from replicator.postgres.session import connect
from replicator.tables import TableName
from tests.fix_postgres import Database, MakeDatabase

A, B = TableName("public", "a"), TableName("public", "b")


async def facts_as(database: Database, user: str, **wanted: Any) -> Facts:
    async with await connect(database.server.dsn(database.name, user), "test") as connection:
        return await read_facts(connection, [A, B], **wanted)


@pytest.fixture(params=["old_database", "old15_database"], ids=["18", "15"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    found.execute(
        "CREATE TABLE a (x integer PRIMARY KEY, y text); CREATE TABLE b (x integer); INSERT INTO a VALUES (1)"
    )
    return found


async def test_a_superuser_may_everything(database: Database) -> None:
    """Rights, settings and whether tables hold rows, as the owner of all sees them."""
    facts = await facts_as(database, "postgres", publication="p", slot="s")
    rights = facts.rights
    assert ("postgres", True, True, True, True, True, False) == (
        rights.role,
        rights.superuser,
        rights.replication,
        rights.replica_role,
        rights.origin_functions,
        rights.create_on_database,
        rights.own_schema,
    )
    assert {A: TableRights(), B: TableRights()} == dict(rights.tables)
    assert {A: True, B: False} == dict(facts.filled)
    assert (None, None, frozenset()) == (facts.publication, facts.slot, facts.subscribed)
    server = facts.server
    assert ("logical", "UTF8", False, database.name) == (
        server.wal_level,
        server.encoding,
        server.in_recovery,
        server.database,
    )
    assert (50, 50) == (server.slots_max, server.senders_max)
    assert 0 < server.origins_max
    assert (None, None) == (server.slot_keep_bytes_max, server.slot_idle_seconds_max)
    again = await facts_as(database, "postgres")
    assert server.identity == again.server.identity


async def test_a_role_of_few_rights_knows_what_it_lacks(database: Database) -> None:
    """Each right is as granted; a policy that applies to the role is seen; nothing is read that may not be read."""
    database.execute("DROP ROLE IF EXISTS lowly")
    database.execute("CREATE ROLE lowly LOGIN")
    try:
        database.execute(
            """GRANT SELECT, UPDATE ON a TO lowly; GRANT SELECT ON b TO lowly; ALTER TABLE b ENABLE ROW LEVEL SECURITY;
               CREATE SCHEMA replicator AUTHORIZATION lowly; REVOKE USAGE ON SCHEMA public FROM public"""
        )
        facts = await facts_as(database, "lowly")
        rights = facts.rights
        assert ("lowly", False, False, False, False, False, True) == (
            rights.role,
            rights.superuser,
            rights.replication,
            rights.replica_role,
            rights.origin_functions,
            rights.create_on_database,
            rights.own_schema,
        )
        expected = TableRights(
            insert=False, delete=False, truncate=False, owned=False, schema_usage=False, row_security=False
        )
        assert expected == rights.of(A)
        assert rights.of(B).row_security
        assert {A: None, B: None} == dict(facts.filled)
        database.execute("GRANT USAGE ON SCHEMA public TO lowly")
        if facts.catalog.server_version >= 150000:
            database.execute("GRANT SET ON PARAMETER session_replication_role TO lowly")
        facts = await facts_as(database, "lowly")
        assert facts.rights.replica_role
        assert {A: True, B: None} == dict(facts.filled)
        async with await connect(database.server.dsn(database.name, "lowly"), "test") as connection:
            again = await read_rights(connection, [facts.catalog.tables[A]])
        assert facts.rights.of(A) == again.of(A)
    finally:
        database.execute("DROP OWNED BY lowly CASCADE")
        database.execute("DROP ROLE lowly")


async def test_publication_and_slot_as_they_are(database: Database) -> None:
    """What a DBA has made beforehand is read with its parts: operations, columns, row filters, plugin."""
    database.execute("CREATE PUBLICATION p FOR TABLE a (x) WHERE (x > 1), TABLE b WITH (publish = 'insert, delete')")
    database.execute("SELECT pg_create_logical_replication_slot('facts', 'pgoutput')")
    facts = await facts_as(database, "postgres", publication="p", slot="facts")
    publication, slot = facts.publication, facts.slot
    assert publication is not None
    assert slot is not None
    assert (frozenset({"insert", "delete"}), False, True) == (
        publication.operations,
        publication.via_root,
        publication.owned,
    )
    assert PublishedTable(("x",), "(x > 1)") == publication.tables[A]
    assert B in publication.tables
    assert ("pgoutput", database.name, False, None) == (slot.plugin, slot.database, slot.active, slot.lost)
    assert 1 <= facts.server.slots_used


# Values at the edges of a type: the longest, the finest, the largest.
EDGES = {
    "smallint": "32767",
    "integer": "-2147483648",
    "bigint": "9223372036854775807",
    "real": "0.1",
    "double precision": "1.7976931348623157e+308",
    "numeric(10,2)": "12345678.25",
    "numeric(8,1)": "1234567.5",
    "numeric(12,4)": "12345678.1234",
    "numeric(3,-2)": "12300",
    "numeric": "0.000000000000000000000000000001",
    "varchar(3)": "ab ",
    "varchar(5)": "abcd ",
    "varchar": "abcdefgh ",
    "text": "abcdefghijk ",
    "char(3)": "abc",
    "char(5)": "abcde",
    "bit(3)": "101",
    "bit(5)": "10101",
    "varbit(3)": "101",
    "varbit(9)": "101010101",
    "varbit": "1010101010101",
    "timestamp(0)": "2020-02-29 23:59:59",
    "timestamp(3)": "2020-02-29 23:59:59.999",
    "timestamp": "2020-02-29 23:59:59.999999",
    "timestamptz(3)": "2020-02-29 23:59:59.999+00",
    "timestamptz": "2020-02-29 23:59:59.999999+00",
    "time(0)": "23:59:59",
    "time": "23:59:59.999999",
    "date": "2020-02-29",
    "interval": "1 year 2 mons 3 days 04:05:06.789012",
    "interval(3)": "1 year 2 mons 3 days 04:05:06.789",
    "interval day to minute": "3 days 04:05:00",
    "interval year": "3 years",
    "boolean": "t",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "json": '{"b" : 1, "a": 2}',
    "jsonb": '{"a": 2, "b": 1}',
    "bytea": "\\x00ff",
    "inet": "10.1.2.3/8",
    "cidr": "10.0.0.0/8",
    "macaddr": "08:00:2b:01:02:03",
    "numeric(10,2)[]": "{12345678.25}",
    "numeric(12,2)[]": "{1234567890.25}",
    "varchar(3)[]": "{abc}",
    "integer[]": "{2147483647}",
    "s.big": "ok",
    "s.small": "ok",
    "s.cents": "12.34",
}


async def test_what_fits_arrives_unchanged(make_database: MakeDatabase) -> None:
    """For every pair of types that `misfit` lets pass, a value at the edge of the one is stored by the other and comes
    back as it was: nothing is rounded, truncated or refused behind the plan's back.
    """
    database = make_database()
    columns = ", ".join(f"c{at} {declared}" for at, declared in enumerate(EDGES))
    database.execute(
        f"""CREATE SCHEMA s; CREATE TYPE s.big AS ENUM ('ok', 'sad', 'mad'); CREATE TYPE s.small AS ENUM ('ok', 'sad');
            CREATE DOMAIN s.cents AS numeric(10,2); CREATE TABLE t ({columns})"""
    )
    async with await connect(database.dsn, "test") as connection:
        catalog = await read_catalog(connection)
        found = catalog.tables[TableName("public", "t")].columns
        table = sql.Identifier("public", "t")
        wrong, passed = [], 0
        for (declared, edge), source in zip(EDGES.items(), found, strict=True):
            for other, target in zip(EDGES, found, strict=True):
                if misfit(source, target, catalog.enums, catalog.enums) is not None:
                    continue
                passed += 1
                insert = sql.SQL("INSERT INTO {} ({}) SELECT {}::{} RETURNING {}::{}").format(
                    table,
                    sql.Identifier(target.name),
                    sql.Literal(edge),
                    sql.SQL(target.cast_type),
                    sql.Identifier(target.name),
                    sql.SQL(f"text::{declared}" if source.cast_type in catalog.enums else declared),
                )
                cursor = await connection.execute(insert)
                assert cursor.pgresult is not None
                back = (cursor.pgresult.get_value(0, 0) or b"").decode()
                if back != edge:
                    wrong.append((declared, other, back))
    assert [] == wrong
    assert passed > 2 * len(EDGES)


@pytest.mark.parametrize(
    "source,target",
    [
        ("text", "varchar(3)"),
        ("numeric(10,2)", "numeric(8,1)"),
        ("timestamp", "timestamp(0)"),
        ("bigint", "integer"),
        ("timestamptz", "timestamp"),
        ("timestamp", "timestamptz"),
        ("varchar(3)", "char(3)"),
        ("integer", "uuid"),
        ("json", "jsonb"),
        ("s.big", "s.small"),
        ("s.cents", "numeric(10,1)"),
        ("integer", "integer[]"),
        ("text", "s.small"),
        ("bit(5)", "bit(3)"),
        ("numeric(12,2)[]", "numeric(10,2)[]"),
        ("interval", "interval day to minute"),
        ("double precision", "real"),
    ],
)
async def test_what_would_lose_something_is_refused(make_database: MakeDatabase, source: str, target: str) -> None:
    """Smaller scale, precision, length or range, or another kind of type."""
    database = make_database()
    database.execute(
        f"""CREATE SCHEMA s; CREATE TYPE s.big AS ENUM ('ok', 'sad', 'mad'); CREATE TYPE s.small AS ENUM ('ok', 'sad');
            CREATE DOMAIN s.cents AS numeric(10,2); CREATE TABLE t (a {source}, b {target})"""
    )
    async with await connect(database.dsn, "test") as connection:
        catalog = await read_catalog(connection)
    a, b = catalog.tables[TableName("public", "t")].columns
    found = misfit(a, b, catalog.enums, catalog.enums)
    assert found is not None
    assert "stop" == found.level
    assert "does not fit into" in found.reason
