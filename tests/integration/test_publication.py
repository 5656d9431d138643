"""The publication: made where the connector says so, else checked; every refusal carries the statement to run."""

import asyncio
import re

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.heartbeat import HEARTBEAT
from replicator.postgres.publication import PublicationState, ensure_publication
from replicator.postgres.slots import ensure_slot
from replicator.tables import Table, TableName
from tests.fix_postgres import Database, MakeDatabase
from tests.fix_slot import table_of
from tests.polling import eventually

PUBLICATION = 'the "one" p'
A, B = TableName("public", "a"), TableName("My Schema", 'B."x')


@pytest.fixture(params=[18, 15], ids=["pg18", "pg15"])
def database(request: pytest.FixtureRequest, make_database: MakeDatabase) -> Database:
    """Two tables, one with a name that needs quotes."""
    made = make_database(request.getfixturevalue(f"server{request.param}"))
    made.execute("""
        CREATE TABLE a (id int PRIMARY KEY, x text);
        CREATE SCHEMA "My Schema";
        CREATE TABLE "My Schema"."B.""x" (id int PRIMARY KEY)""")
    return made


async def tables(database: Database, *names: TableName) -> list[Table]:
    return [await table_of(database, name) for name in names or (A, B)]


async def ensured(
    database: Database, *names: TableName, create: bool = True, heartbeat: bool = True
) -> PublicationState:
    mapped = await tables(database, *names)
    return await ensure_publication(database.dsn, PUBLICATION, mapped, create=create, heartbeat=heartbeat)


async def refusal(database: Database, *names: TableName, create: bool = False) -> ReplicatorError:
    with pytest.raises(ReplicatorError) as caught:
        await ensured(database, *names, create=create, heartbeat=False)
    return caught.value


def follow(error: ReplicatorError, database: Database) -> None:
    """Run the statements that the hint tells a person to run."""
    for statement in re.findall(r"(?:CREATE|ALTER) (?:PUBLICATION|TABLE) [^;]+", error.hint or ""):
        database.execute(statement)


def published(database: Database) -> set[TableName]:
    query = "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = %s"
    rows = database.execute(query, [PUBLICATION])
    return {TableName(*row) for row in rows}


async def test_made_by_the_connector(database: Database) -> None:
    """A new publication carries the mapped tables and the heartbeat, every operation, roots as roots."""
    state = await ensured(database)

    assert PublicationState(created=True, added=(A, B), heartbeat=True) == state
    assert {A, B, HEARTBEAT} == published(database)
    assert [(True, True, True, True, True, False)] == database.execute(
        "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, puballtables FROM pg_publication"
    )


async def test_tables_are_added(database: Database) -> None:
    """A table that is mapped later is added, and only it is named as added; then nothing is left to do."""
    await ensured(database, A)

    state = await ensured(database)
    again = await ensured(database)

    assert PublicationState(created=False, added=(B,), heartbeat=True) == state
    assert PublicationState(created=False, added=(), heartbeat=True) == again


async def test_made_by_a_dba(database: Database) -> None:
    """Without `create` nothing is made, the statement is told, and once it was run all is well."""
    missing = await refusal(database)
    follow(missing, database)
    state = await ensured(database, create=False)

    assert ErrorKind.CONFIG is missing.kind
    assert PublicationState(created=False, added=(), heartbeat=False) == state
    assert {A, B} == published(database)
    assert [] == database.execute("SELECT FROM pg_namespace WHERE nspname = 'replicator'")


async def test_a_table_that_a_dba_forgot(database: Database) -> None:
    """A mapped table that isn't published is named, with the exact statement."""
    follow(await refusal(database, A), database)
    lacking = await refusal(database)
    follow(lacking, database)

    assert str(B) in lacking.message
    assert () == (await ensured(database, create=False)).added


async def test_everything_is_published(database: Database) -> None:
    """FOR ALL TABLES, and all tables of a schema, are as good as a list."""
    database.execute('CREATE PUBLICATION "the ""one"" p" FOR ALL TABLES WITH (publish_via_partition_root = true)')
    everything = await ensured(database)
    database.execute('DROP PUBLICATION "the ""one"" p"')
    database.execute('CREATE PUBLICATION "the ""one"" p" FOR TABLES IN SCHEMA public, "My Schema"')
    schemas = await ensured(database, create=False)

    assert PublicationState(created=False, added=(), heartbeat=True) == everything
    assert () == schemas.added


@pytest.mark.parametrize("part,word", [("a WHERE (id > 1)", "rows"), ("a (id)", "columns")])
async def test_filters_are_refused(database: Database, part: str, word: str) -> None:
    """A row filter or a column list on a mapped table would lose changes; on another table it is no matter."""
    database.execute(f'CREATE PUBLICATION "the ""one"" p" FOR TABLE {part}, "My Schema"."B.""x"')

    error = await refusal(database, create=True)
    state = await ensured(database, B, create=False)

    assert ErrorKind.CONFIG is error.kind
    assert f"some {word} of public.a" in error.message
    assert () == state.added
    follow(error, database)
    assert () == (await ensured(database, create=False)).added


async def test_operations_that_are_left_out(database: Database) -> None:
    """A publication of inserts only would lose the rest."""
    database.execute('CREATE PUBLICATION "the ""one"" p" FOR TABLE a WITH (publish = \'insert, delete\')')

    error = await refusal(database, A)
    follow(error, database)

    assert "update, truncate" in error.message
    assert () == (await ensured(database, A, create=False)).added


async def test_partitioned_tables(database: Database) -> None:
    """A mapped root must be published as root; a mapped partition can't be told apart under a published root."""
    database.execute("""
        CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE leaf PARTITION OF parted DEFAULT;
        CREATE PUBLICATION "the ""one"" p" FOR TABLE parted""")
    root, leaf = TableName("public", "parted"), TableName("public", "leaf")

    by_partitions = await refusal(database, root)
    follow(by_partitions, database)
    state = await ensured(database, root, create=False)
    by_root = await refusal(database, leaf, create=True)

    assert "partitions" in by_partitions.message
    assert () == state.added
    assert "Map public.parted" in str(by_root)


async def test_a_table_without_replica_identity(database: Database) -> None:
    """Publishing it would make the source refuse the application's own updates: nothing is published."""
    database.execute("CREATE TABLE keyless (x text)")
    name = TableName("public", "keyless")

    error = await refusal(database, A, name, create=True)
    nothing = published(database)
    follow(error, database)

    assert ErrorKind.CONFIG is error.kind
    assert set() == nothing
    assert (A, name) == (await ensured(database, A, name)).added


async def test_an_unlogged_table(database: Database) -> None:
    """What isn't in the WAL is in no stream."""
    database.execute("CREATE UNLOGGED TABLE fast (id int PRIMARY KEY)")

    error = await refusal(database, TableName("public", "fast"), create=True)

    assert "unlogged" in error.message


async def test_lacking_rights(database: Database) -> None:
    """A role that doesn't own the tables gets the statement for their owner, and does without a heartbeat."""
    role = f"role_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN REPLICATION; GRANT CREATE ON DATABASE {database.name} TO {role}")
    database.execute(f"REVOKE CREATE ON DATABASE {database.name} FROM PUBLIC")
    dsn = database.server.dsn(database.name, role)
    mapped = await tables(database, A)
    try:
        with pytest.raises(ReplicatorError) as caught:
            await ensure_publication(dsn, PUBLICATION, mapped, create=True, heartbeat=False)
        database.execute(f"REVOKE CREATE ON DATABASE {database.name} FROM {role}")
        follow(caught.value, database)
        state = await ensure_publication(dsn, PUBLICATION, mapped, create=True, heartbeat=True)
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

    assert ErrorKind.PERMISSION is caught.value.kind
    assert PublicationState(created=False, added=(), heartbeat=False) == state


async def test_a_role_without_replication(database: Database) -> None:
    """A role that may not make slots is told which right it lacks."""
    role = f"role_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(ReplicatorError) as caught:
            await ensure_slot(database.server.dsn(database.name, role), f"s_{database.name}", create=True)
    finally:
        database.execute(f"DROP ROLE {role}")

    assert ErrorKind.PERMISSION is caught.value.kind
    assert "REPLICATION" in str(caught.value)


async def test_two_processes_at_once(database: Database) -> None:
    """What another process adds in the same moment is no error."""
    await ensured(database, A)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    with database.connect() as other:
        other.execute('ALTER PUBLICATION "the ""one"" p" ADD TABLE "My Schema"."B.""x"')
        ensuring = asyncio.ensure_future(ensured(database))
        await eventually(lambda: database.execute(waits, [database.name]) == [(1,)])
        other.commit()

    assert (B,) == (await ensuring).added
    assert {A, B, HEARTBEAT} == published(database)
