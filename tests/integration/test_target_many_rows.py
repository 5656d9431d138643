"""Many rows are inserted by COPY and upserted by MERGE, which have to do what the statements for few rows do."""

from dataclasses import replace
from itertools import cycle, islice

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.target import PostgresTarget
from replicator.runs import Rows
from replicator.writes import Write, WriteAction
from tests.fix_target import MakeTargetWorld, TargetWorld, account, write

MANY = 250
HOSTILE = (b"", b"\\N", b"\\.", b"\\", b"\\\\t", b"a\tb", b"a\nb\r\nc\r", "é😀\x7f".encode(), b" x ", b"{1,2}", None)


async def taken(world: TargetWorld) -> PostgresTarget:
    target = world.target()
    await target.take_over(1)
    return target


async def test_text_arrives_as_it_is(target_world: TargetWorld) -> None:
    """Text that looks like COPY's own marks, NULL and the empty string are kept apart."""
    target = await taken(target_world)
    given = [*enumerate(islice(cycle(HOSTILE), MANY))]
    rows = [account(number, name=text, total=b"1.50") for number, text in given]

    async with target.transaction(0) as tx:
        result = await tx.write(write(target_world.table(), WriteAction.INSERT, *rows))

    assert result.affected == MANY
    found = target_world.database.execute("SELECT id, convert_to(name, 'UTF8') FROM crm.accounts ORDER BY id")
    assert given == found


async def test_identity_and_missing_columns(target_world: TargetWorld) -> None:
    """A GENERATED ALWAYS column takes the source's value; columns that didn't come get their default."""
    target = await taken(target_world)
    rows = [{"id": b"%d" % (1000 + number), "account_id": b"1", "what": b"w%d" % number} for number in range(MANY)]

    async with target.transaction(0) as tx:
        await tx.write(write(target_world.table("grants"), WriteAction.INSERT, *rows))
        await tx.write(
            write(target_world.table("tags"), WriteAction.APPEND, *({"tag": b"t"} for _ in range(MANY)), key=())
        )

    assert [(1000, 1249, MANY)] == target_world.database.execute(
        "SELECT min(id), max(id), count(note IS NULL) FROM crm.grants"
    )
    assert [(MANY, MANY)] == target_world.database.execute("SELECT count(DISTINCT id), count(tag) FROM crm.tags")


@pytest.mark.parametrize(
    "last, kind",
    [
        (account(7, name=b"twice", total=None), ErrorKind.UNIQUE),
        (account(999, name=b"x", total=b"123456789012"), ErrorKind.DATA),
        (account(999, name=b"x", total=b"no number, but a secret"), ErrorKind.DATA),
    ],
)
async def test_a_refused_row_undoes_to_the_savepoint(
    target_world: TargetWorld, last: dict[str, bytes | None], kind: ErrorKind
) -> None:
    """A row that the table refuses is an error of its kind, without the row's values, and the session goes on."""
    target = await taken(target_world)
    rows = [account(number, name=b"n", total=b"1") for number in range(MANY)]
    table = target_world.table()

    async with target.transaction(0) as tx:
        await tx.write(write(table, WriteAction.INSERT, account(5000, name=b"before", total=None)))
        with pytest.raises(ReplicatorError) as caught:
            async with tx.savepoint():
                await tx.write(write(table, WriteAction.INSERT, *rows, last))
        await tx.write(write(table, WriteAction.INSERT, account(5001, name=b"after", total=None)))

    assert (kind, "crm.accounts") == (caught.value.kind, caught.value.table)
    assert "secret" not in caught.value.message
    assert [5000, 5001] == [row[0] for row in target_world.rows()]


async def test_row_security_is_no_obstacle(make_target_world: MakeTargetWorld) -> None:
    """A table with row security, which COPY refuses to many, is written all the same."""
    world = await make_target_world(
        schema="CREATE SCHEMA crm; CREATE TABLE crm.accounts (id bigint PRIMARY KEY, name text);"
        "ALTER TABLE crm.accounts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    )
    target = await taken(world)

    async with target.transaction(0) as tx:
        await tx.write(
            write(world.table(), WriteAction.INSERT, *(account(number, name=b"n") for number in range(MANY)))
        )

    assert MANY == len(world.rows())


SHAPES = {
    "plain": "CREATE TABLE crm.accounts (id bigint PRIMARY KEY, name varchar(20), total numeric(10,2));",
    "ruled": "CREATE TABLE crm.accounts (id bigint PRIMARY KEY, name varchar(20), total numeric(10,2));"
    "CREATE RULE watched AS ON INSERT TO crm.accounts DO ALSO NOTHING;",
    "identity": "CREATE TABLE crm.accounts ("
    "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(20), total numeric(10,2));",
    "partitioned": "CREATE TABLE crm.accounts (id bigint PRIMARY KEY, name varchar(20), total numeric(10,2))"
    "PARTITION BY RANGE (id); CREATE TABLE crm.a PARTITION OF crm.accounts FOR VALUES FROM (0) TO (100);"
    "CREATE TABLE crm.b PARTITION OF crm.accounts DEFAULT;",
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_upserts_update_what_is_there_and_insert_the_rest(make_target_world: MakeTargetWorld, shape: str) -> None:
    """Rows that are there get the given values, the others are inserted, and columns that didn't come stay."""
    world = await make_target_world(schema=f"CREATE SCHEMA crm; {SHAPES[shape]}")
    target = await taken(world)
    table = world.table()
    world.database.execute(
        "INSERT INTO crm.accounts OVERRIDING SYSTEM VALUE SELECT n, 'old', 7 FROM generate_series(0, 149) n"
    )
    rows = [account(number, name=b"new %d" % number) for number in range(MANY)]

    async with target.transaction(0) as tx:
        result = await tx.write(write(table, WriteAction.UPSERT, *rows))
        await tx.write(write(table, WriteAction.UPSERT, *({"id": b"%d" % number} for number in range(MANY + 1))))

    assert result.affected == MANY
    query = "SELECT id, name, total::integer FROM crm.accounts ORDER BY id"
    assert [
        *((number, f"new {number}", 7 if number < 150 else None) for number in range(MANY)),
        (MANY, None, None),
    ] == world.database.execute(query)


async def test_a_refused_upsert_names_its_cause(target_world: TargetWorld) -> None:
    """A unique index other than the key refuses many rows as it refuses one."""
    target = await taken(target_world)
    rows = [account(number, email=b"%d" % (number % 249)) for number in range(MANY)]

    with pytest.raises(ReplicatorError, match="duplicate key") as caught:
        async with target.transaction(0) as tx:
            await tx.write(write(target_world.table(), WriteAction.UPSERT, *rows))

    assert (ErrorKind.UNIQUE, "accounts_email_key") == (caught.value.kind, caught.value.constraint)


async def test_slices_are_one_write(target_world: TargetWorld) -> None:
    """Rows that travel in several slices are counted together, and what an UPDATE has missed is named by its place."""
    target = await taken(target_world)
    table = target_world.table()
    target_world.database.execute(
        "INSERT INTO crm.accounts SELECT n, 'old' FROM generate_series(0, 6999) n WHERE n % 1000 > 0"
    )
    rows = [account(number, name=b"new %d" % number) for number in range(7000)]

    async with target.transaction(0) as tx:
        updated = await tx.write(write(table, WriteAction.UPDATE, *rows))
        deleted = await tx.write(write(table, WriteAction.DELETE, *({"id": row["id"]} for row in rows[:6500])))

    assert (6993, [*range(0, 7000, 1000)]) == (updated.affected, updated.missing)
    assert 6493 == deleted.affected
    assert [(500, "new 6500")] == target_world.database.execute("SELECT count(*), min(name) FROM crm.accounts")


async def test_rows_in_one_list_are_written_as_rows(target_world: TargetWorld) -> None:
    """Inserted, updated and deleted in slices: what came in runs arrives as what came row by row, NULLs included."""
    target = await taken(target_world)
    count = 6000
    accounts = target_world.table()

    def together(action: WriteAction, first: int, last: int, name: bytes | None) -> Write:
        rows = [
            account(number, name=name if number % 7 else b"%d" % number, total=b"1.50") for number in range(first, last)
        ]
        planned = write(accounts, action, *rows)
        return replace(planned, rows=Rows.join([planned.rows], len(planned.columns)))

    async with target.transaction(0) as tx:
        born = await tx.write(together(WriteAction.INSERT, 0, count, b"a\tb"))
        changed = await tx.write(together(WriteAction.UPSERT, 0, count + 100, None))
        keys = Rows([b"%d" % number for number in range(0, count, 2)], 1)
        gone = await tx.write(Write(accounts, WriteAction.DELETE, columns=("id",), key=("id",), rows=keys))

    assert (count, count + 100, count // 2) == (born.affected, changed.affected, gone.affected)
    left = [n for n in range(count + 100) if n % 2 or n >= count]
    assert [(n, None if n % 7 else str(n)) for n in left] == target_world.database.execute(
        "SELECT id, name FROM crm.accounts ORDER BY id"
    )
