"""What checks read, on real servers: constraints that nobody checks, sequences, and somebody else's SQL."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from replicator.checks import ForeignKeyRule, Rules
from replicator.demo.servers import PostgresServer
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.check_reads import PostgresCheckReader
from replicator.tables import TableName
from tests.fix_postgres import Database, MakeDatabase

LIMITS = (None, None, 100)


def reader_of(database: Database) -> PostgresCheckReader:
    return PostgresCheckReader(database.dsn, "test", connector="crm", feed="forward")


@pytest.fixture
async def upgraded(upgraded_database: Database) -> AsyncIterator[PostgresCheckReader]:
    made = reader_of(upgraded_database)
    yield made
    await made.close()


async def rules_of(reader: PostgresCheckReader, *names: str) -> Rules:
    tables = (await reader.catalog()).tables
    return await reader.rules([tables[TableName.parse(f"public.{name}")] for name in names])


async def orphans(reader: PostgresCheckReader, rule: ForeignKeyRule) -> list[tuple[Any, ...]]:
    """Found as a range, and then by their keys: the same."""
    async with reader.checking() as snapshot:
        found = await snapshot.orphans(rule, *LIMITS)
        assert set(found) == set(await snapshot.orphans_of(rule, found))
    return sorted(set(found), key=repr)


CASES = {
    "plain, NOT VALID": (
        """CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int);
        INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1), (2, 2), (3, NULL);
        ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p NOT VALID""",
        [(b"2",)],
    ),
    "validated, spoilt in replica role": (
        """CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p);
        INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1, 1), (2, 2);
        SET session_replication_role = replica; DELETE FROM p WHERE id = 2""",
        [(b"2",)],
    ),
    "two columns; half a reference refers to nothing": (
        """CREATE TABLE p (a int, b text, PRIMARY KEY (a, b)); CREATE TABLE c (id text PRIMARY KEY, x int, y text);
        INSERT INTO p VALUES (1, 'b'); INSERT INTO c VALUES ('ok', 1, 'b'), ('half', 1, NULL), ('wrong', 1, 'c');
        ALTER TABLE c ADD FOREIGN KEY (x, y) REFERENCES p NOT VALID""",
        [(b"wrong",)],
    ),
    "MATCH FULL: half a reference is wrong": (
        """CREATE TABLE p (a int, b text, PRIMARY KEY (a, b)); CREATE TABLE c (id text PRIMARY KEY, x int, y text);
        INSERT INTO p VALUES (1, 'b');
        INSERT INTO c VALUES ('ok', 1, 'b'), ('half', 1, NULL), ('none', NULL, NULL), ('wrong', 2, 'b');
        ALTER TABLE c ADD FOREIGN KEY (x, y) REFERENCES p MATCH FULL NOT VALID""",
        [(b"half",), (b"wrong",)],
    ),
    "columns in another order, of other types, to a unique key": (
        """CREATE TABLE p (a bigint, b varchar(9), UNIQUE (b, a));
        CREATE TABLE c (id int PRIMARY KEY, x text, y smallint);
        INSERT INTO p VALUES (1, 'b'); INSERT INTO c VALUES (1, 'b', 1), (2, '1', 1);
        ALTER TABLE c ADD FOREIGN KEY (x, y) REFERENCES p (b, a) NOT VALID""",
        [(b"2",)],
    ),
    "partitioned, both sides": (
        """CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p) PARTITION BY RANGE (id);
        CREATE TABLE c1 PARTITION OF c FOR VALUES FROM (0) TO (10);
        INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1);
        SET session_replication_role = replica; INSERT INTO c VALUES (2, 5)""",
        [(b"2",)],
    ),
    "to itself": (
        """CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES c); INSERT INTO c VALUES (1, 1), (2, 1);
        SET session_replication_role = replica; INSERT INTO c VALUES (3, 7)""",
        [(b"3",)],
    ),
    "a table without a key names what it refers to": (
        """CREATE TABLE p (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE c (x int, y int);
        INSERT INTO c VALUES (1, 2), (1, 2), (NULL, 5); ALTER TABLE c ADD FOREIGN KEY (x, y) REFERENCES p NOT VALID""",
        [(b"1", b"2")],
    ),
    "without a key, of types whose text is not what they print": (
        """CREATE TABLE p (a inet, b char(3), c boolean, PRIMARY KEY (a, b, c));
        CREATE TABLE c (x inet, y char(3), z boolean);
        INSERT INTO c VALUES ('10.0.0.1', 'a', true); ALTER TABLE c ADD FOREIGN KEY (x, y, z) REFERENCES p NOT VALID""",
        [(b"10.0.0.1", b"a  ", b"t")],
    ),
    "rows of an inheritance child are not its parent's": (
        """CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE heir () INHERITS (p); INSERT INTO heir VALUES (2);
        CREATE TABLE c (id int PRIMARY KEY, p int); INSERT INTO c VALUES (1, 2);
        ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p NOT VALID""",
        [(b"1",)],
    ),
    "a collation of its own": (
        """CREATE TABLE p (id text COLLATE "C" PRIMARY KEY);
        CREATE TABLE c (id int PRIMARY KEY, p text COLLATE "POSIX");
        INSERT INTO p VALUES ('Ann'); INSERT INTO c VALUES (1, 'Ann'), (2, 'Bob');
        ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p NOT VALID""",
        [(b"2",)],
    ),
    "a period, covered by several rows": (
        """CREATE TABLE p (id int4range, at int4range, PRIMARY KEY (id, at WITHOUT OVERLAPS));
        CREATE TABLE c (id int4range, at int4range, PRIMARY KEY (id, at WITHOUT OVERLAPS),
            FOREIGN KEY (id, PERIOD at) REFERENCES p (id, PERIOD at));
        INSERT INTO p VALUES ('[1,2)', '[1,5)'), ('[1,2)', '[5,9)'); INSERT INTO c VALUES ('[1,2)', '[2,8)');
        SET session_replication_role = replica;
        INSERT INTO c VALUES ('[1,2)', '[8,12)'), ('[2,3)', '[1,2)')""",
        [(b"[1,2)", b"[8,12)"), (b"[2,3)", b"[1,2)")],
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_orphans_are_found(upgraded: PostgresCheckReader, upgraded_database: Database, case: str) -> None:
    """Rows that refer to nothing, as the server would refuse them, whatever the constraint's form and state."""
    statements, wanted = CASES[case]
    upgraded_database.execute(statements)
    (rule,) = (await rules_of(upgraded, "c")).foreign_keys
    assert wanted == await orphans(upgraded, rule)


async def test_orphans_of_a_range_and_of_partitions(upgraded: PostgresCheckReader, upgraded_database: Database) -> None:
    """A range has its own orphans; a mapped partition whose parent isn't mapped has the parent's constraints."""
    upgraded_database.execute(
        """CREATE TABLE p (id int PRIMARY KEY);
        CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p) PARTITION BY RANGE (id);
        CREATE TABLE c1 PARTITION OF c FOR VALUES FROM (0) TO (10);
        SET session_replication_role = replica; INSERT INTO c SELECT n, n FROM generate_series(1, 9) n"""
    )
    (rule,) = (await rules_of(upgraded, "c1")).foreign_keys
    async with upgraded.checking() as snapshot:
        found = await snapshot.orphans(rule, (b"3",), (b"6",), 100)
        assert [b"4", b"5", b"6"] == sorted(key for (key,) in found if key)
        assert 2 == len(await snapshot.orphans(rule, (b"3",), None, 2))
    assert 1 == len((await rules_of(upgraded, "c", "c1")).foreign_keys)


async def test_what_is_not_enforced_is_told(upgraded: PostgresCheckReader, upgraded_database: Database) -> None:
    """NOT VALID and NOT ENFORCED constraints are known as such."""
    upgraded_database.execute(
        """CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (a int, b int, c int REFERENCES p);
        ALTER TABLE c ADD CONSTRAINT later FOREIGN KEY (a) REFERENCES p NOT VALID;
        ALTER TABLE c ADD CONSTRAINT never FOREIGN KEY (b) REFERENCES p NOT ENFORCED"""
    )
    found = {rule.name: (rule.validated, rule.enforced) for rule in (await rules_of(upgraded, "c", "p")).foreign_keys}
    assert {"c_c_fkey": (True, True), "later": (False, True), "never": (False, False)} == found


async def test_duplicates_under_deferrable_keys(upgraded: PostgresCheckReader, upgraded_database: Database) -> None:
    """What the replica role lets in: two rows of one deferrable key; NULLs only where they aren't distinct."""
    upgraded_database.execute(
        """CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, a int UNIQUE, b int UNIQUE NULLS NOT DISTINCT DEFERRABLE,
            c int UNIQUE DEFERRABLE);
        INSERT INTO t VALUES (1, 1, 1, 1);
        SET session_replication_role = replica; INSERT INTO t VALUES (1, 2, NULL, NULL), (2, 3, NULL, NULL)"""
    )
    found = {}
    for rule in (await rules_of(upgraded, "t")).unique_keys:
        async with upgraded.checking() as snapshot:
            found[rule.name] = await snapshot.duplicates(rule, 10)
    assert {"t_pkey": [(b"1",)], "t_b_key": [(None,)], "t_c_key": []} == found


async def test_every_sequence_of_a_column(upgraded: PostgresCheckReader, upgraded_database: Database) -> None:
    """Identity, serial, default, domain, shared by two columns, counting down, cycling: where each stands."""
    upgraded_database.execute(
        """CREATE SEQUENCE shared; CREATE SEQUENCE down INCREMENT -1; CREATE SEQUENCE unused;
        CREATE SEQUENCE wheel CYCLE; CREATE DOMAIN numbered AS bigint DEFAULT nextval('public.wheel');
        CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigserial,
            s bigint DEFAULT nextval('shared'), d int DEFAULT nextval('down'), w numbered,
            t text DEFAULT 'INV-' || nextval('shared'));
        CREATE TABLE b (id numeric PRIMARY KEY DEFAULT nextval('shared')) PARTITION BY RANGE (id);
        CREATE TABLE b1 PARTITION OF b FOR VALUES FROM (0) TO (1000);
        INSERT INTO a (n, s, d) VALUES (3, 5, -2), (4, 6, -3); SELECT nextval('a_n_seq'), setval('a_n_seq', 4);
        SELECT setval('down', -3), setval('shared', 6, false); INSERT INTO b VALUES (7.5)"""
    )
    rules = (await rules_of(upgraded, "a", "b")).sequences
    found = {}
    async with upgraded.checking() as snapshot:
        for rule in rules:
            state = await snapshot.state(rule)
            found[f"{rule.sequence.name} {rule.table.name.name}.{rule.column}"] = (
                state.upcoming,
                state.furthest,
                state.behind,
            )
    assert {
        "a_id_seq a.id": (3, 2, False),
        "a_n_seq a.n": (5, 4, False),
        "down a.d": (-4, -3, False),
        "shared a.s": (6, 6, True),
        "shared b.id": (6, 7, True),
        "wheel a.w": (3, 2, False),
    } == found
    assert ["wheel"] == [rule.sequence.name for rule in rules if rule.cycles]


async def ask(reader: PostgresCheckReader, query: str, *, rows: int = 10, seconds: float = 5) -> Any:
    async with reader.checking() as snapshot:
        return await snapshot.ask(query, rows, seconds)


async def test_a_query_is_read_as_far_as_is_wanted(upgraded: PostgresCheckReader, upgraded_database: Database) -> None:
    """Any statement that returns rows: as printed, with types, no more rows than are wanted, names found in public."""
    upgraded_database.execute(
        "CREATE DOMAIN d AS numeric; CREATE TABLE t (id int, n d); INSERT INTO t VALUES (1, 2.50)"
    )
    answer = await ask(upgraded, "with x as (select * from t) table x ;\n")
    assert [("id", "integer"), ("n", "numeric")] == [(one.name, one.cast_type) for one in answer.columns]
    assert [(b"1", b"2.50")] == answer.rows
    assert not answer.more
    many = await ask(upgraded, "values (1), (2), (3) -- and no more", rows=2)
    assert (2, True) == (len(many.rows), many.more)


async def test_a_query_is_told_without_running_it(upgraded: PostgresCheckReader) -> None:
    """What a plan asks: names and types of the result, of a query that would never end."""
    async with upgraded.checking() as snapshot:
        columns = await snapshot.describe("select pg_sleep(100)::text as a, 1::int2 as b")
    assert [("a", "text"), ("b", "smallint")] == [(one.name, one.cast_type) for one in columns]


@pytest.mark.parametrize(
    "query, kind",
    [
        ("select 1; drop table t", ErrorKind.DATA),
        ("select 1; commit; drop table t", ErrorKind.DATA),
        ("with gone as (delete from t returning *) select * from gone", ErrorKind.SCHEMA),
        ("drop table t", ErrorKind.SCHEMA),
        ("select taken()", ErrorKind.READ_ONLY),
        ("select nextval('public.s')", ErrorKind.READ_ONLY),
        ("select pg_sleep(60)", ErrorKind.TIMEOUT),
        ("select nothing from t", ErrorKind.SCHEMA),
        ("select from t", ErrorKind.CONFIG),
        ("select 1 / 0", ErrorKind.DATA),
    ],
)
async def test_a_query_changes_nothing(
    upgraded: PostgresCheckReader, upgraded_database: Database, query: str, kind: ErrorKind
) -> None:
    """Whatever a check's SQL tries: it is an error, nothing is changed, and the reader goes on."""
    upgraded_database.execute(
        """CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE SEQUENCE s;
        CREATE FUNCTION taken() RETURNS int LANGUAGE sql AS 'delete from public.t returning id'"""
    )
    with pytest.raises(ReplicatorError) as caught:
        await ask(upgraded, query, seconds=0.3)
    assert kind == caught.value.kind
    assert [(1,)] == upgraded_database.execute("SELECT count(*) FROM t")
    assert [(b"1",)] == (await ask(upgraded, "select count(*) from t")).rows


async def test_an_older_server_tells_the_same(make_database: MakeDatabase, server15: PostgresServer) -> None:
    """Catalogs that don't know newer kinds of constraints are read as well."""
    database = make_database(server15)
    statements, wanted = CASES["MATCH FULL: half a reference is wrong"]
    database.execute(statements + "; ALTER TABLE c ADD n serial; ALTER TABLE p ADD UNIQUE (b) DEFERRABLE")
    reader = reader_of(database)
    try:
        rules = await rules_of(reader, "c", "p")
        assert (1, 1, 1) == (len(rules.foreign_keys), len(rules.unique_keys), len(rules.sequences))
        assert wanted == await orphans(reader, rules.foreign_keys[0])
    finally:
        await reader.close()
