"""Writes on real tables: what each action does, to whom, and how."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from replicator.demo.servers import PostgresServer
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.target import PostgresTarget
from replicator.writes import Owner, Write, WriteAction, WriteResult
from tests.fix_target import MakeTargetWorld, TargetWorld, account, write

A = WriteAction


async def executed(target: PostgresTarget, *writes: Write) -> list[WriteResult]:
    """Execute writes in one transaction, with a checkpoint."""
    async with target.transaction(0) as tx:
        return [await tx.write(one) for one in writes]


async def taken(world: TargetWorld) -> PostgresTarget:
    target = world.target()
    await target.take_over(1)
    return target


def grant(number: int, what: str, **values: bytes | None) -> dict[str, bytes | None]:
    return {"account_id": b"%d" % number, "what": what.encode(), **values}


def tag(number: int, text: str | None) -> dict[str, bytes | None]:
    return {"account_id": b"%d" % number, "tag": None if text is None else text.encode()}


async def test_rows_by_key(target_world: TargetWorld) -> None:
    """Insert, upsert, update and delete touch the given columns of the given keys, and nothing else."""
    target = await taken(target_world)
    table = target_world.table()

    results = await executed(
        target,
        write(table, A.INSERT, *(account(number, name=b"a", total=b"1.50") for number in (1, 2, 3))),
        write(table, A.UPSERT, account(2, name=b"b"), account(4, name=b"d")),
        write(table, A.UPSERT, {"id": b"5"}, {"id": b"1"}),
        write(table, A.UPDATE, account(1, email=b"e", total=None), account(9, email=b"x", total=None)),
        write(table, A.UPDATE, {"id": b"1"}, {"id": b"8"}),
        write(table, A.DELETE, {"id": b"3"}, {"id": b"7"}),
    )

    assert [(1, "a", "e", None), (2, "b", None, 1.5), (4, "d", None, None), (5, None, None, None)] == [
        (*row[:3], None if row[3] is None else float(row[3])) for row in target_world.rows()
    ]
    assert [3, 2, 1, 1, 1, 1] == [result.affected for result in results]
    assert [[1], [1]] == [result.missing for result in results if result.missing]


async def test_aggregates_keep_the_rows_that_are_there(target_world: TargetWorld) -> None:
    """Rows that are given again keep their surrogate keys and what wasn't given; others go, or come."""
    target = await taken(target_world)
    grants = target_world.table("grants")
    target_world.database.execute(
        "INSERT INTO crm.grants (account_id, what, note) VALUES (1, 'r', 'kept'), (1, 'w', ''), (2, 'r', 'other')"
    )
    before = {row[1:3]: row[0] for row in target_world.rows("grants")}
    given = [grant(1, "r"), grant(1, "x")]
    matched: dict[str, Any] = {"key": ("account_id", "what"), "scope": ("account_id",)}

    results = await executed(
        target,
        write(grants, A.PRUNE, *given, keys=[(b"1",), (b"3",)], **matched),
        write(grants, A.MERGE, *given, **matched),
        Write(grants, A.PRUNE, scope=("account_id",), keys=[(b"2",)]),
    )

    rows = target_world.rows("grants")
    assert [(1, "r", "kept"), (1, "x", None)] == [row[1:] for row in rows]
    assert before[1, "r"] == rows[0][0]
    assert [1, 1, 1] == [result.affected for result in results]


async def test_rows_without_a_key_are_matched_as_often_as_given(target_world: TargetWorld) -> None:
    """Of equal rows as many stay as are given, with their surrogate keys; NULLs are equal to NULLs."""
    target = await taken(target_world)
    tags = target_world.table("tags")
    target_world.database.execute(
        "INSERT INTO crm.tags (account_id, tag) VALUES (1, 'a'), (1, 'a'), (1, 'a'), (1, NULL), (1, 'gone'), (2, 'a')"
    )
    before = {row[0] for row in target_world.rows("tags")}
    given = [tag(1, "a"), tag(1, "a"), tag(1, None), tag(1, None), tag(1, "new")]
    matched: dict[str, Any] = {"key": ("account_id", "tag"), "scope": ("account_id",), "multiset": True}

    results = await executed(
        target,
        write(tags, A.PRUNE, *given, keys=[(b"1",)], **matched),
        write(tags, A.MERGE, *given, **matched),
    )

    rows = target_world.rows("tags")
    assert sorted([(1, "a"), (1, "a"), (1, None), (1, None), (1, "new"), (2, "a")], key=str) == sorted(
        (row[1:] for row in rows), key=str
    )
    assert 4 == len(before & {row[0] for row in rows})
    assert [2, 2] == [result.affected for result in results]


async def test_exactly_as_many_rows_are_removed(target_world: TargetWorld) -> None:
    """One for each that is given, compared by exact text: 1.0 isn't 1.00, and json has no equality at all."""
    target = await taken(target_world)
    log = target_world.table("log")
    row: dict[str, bytes | None] = {"at": b"2024-01-01 00:00:00+00", "body": b'{"a": 1}', "amount": b"1.0"}
    others = [row | {"amount": b"1.00"}, row | {"body": b'{"a":1}'}, dict.fromkeys(row)]

    results = await executed(
        target,
        write(log, A.APPEND, row, row, row, *others, others[2]),
        write(log, A.REMOVE, row, row, others[2], row | {"amount": b"9"}),
    )

    assert [7, 3] == [result.affected for result in results]
    left = Counter((None if amount is None else str(amount), body) for amount, body in loose_rows(target_world))
    assert {("1.0", '{"a": 1}'): 1, ("1.0", '{"a":1}'): 1, ("1.00", '{"a": 1}'): 1, (None, None): 1} == left


def loose_rows(world: TargetWorld) -> list[tuple[Any, ...]]:
    return world.database.execute("SELECT amount, body::text FROM crm.log")


async def test_only_owned_rows_are_deleted(target_world: TargetWorld) -> None:
    """DELETE, PRUNE and CLEAR leave rows of other mappings alone, and children of their roots."""
    target = await taken(target_world)
    accounts, tags = target_world.table(), target_world.table("tags")
    target_world.database.execute("INSERT INTO crm.accounts (id, name) VALUES (1, 'mine'), (2, 'theirs'), (3, 'mine')")
    target_world.database.execute("INSERT INTO crm.tags (account_id, tag) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    mine = "name = 'mine'"
    owner = Owner(accounts, ("id",), mine)
    by_account: dict[str, Any] = {"scope": ("account_id",), "owner": owner}
    keys = [(b"1",), (b"2",)]

    await executed(
        target,
        Write(tags, A.PRUNE, keys=keys, **by_account),
        Write(accounts, A.DELETE, columns=("id",), key=("id",), rows=keys, predicate=mine),
    )

    assert [2, 3] == [row[0] for row in target_world.rows()]
    assert ["b", "c"] == [row[2] for row in target_world.rows("tags")]
    await executed(target, Write(tags, A.CLEAR, **by_account), Write(accounts, A.CLEAR, predicate=mine))
    assert [2] == [row[0] for row in target_world.rows()]
    assert ["b"] == [row[2] for row in target_world.rows("tags")]


async def test_truncate_takes_tables_together(make_target_world: MakeTargetWorld) -> None:
    """Tables that refer to each other are truncated in one statement."""
    world = await make_target_world(
        schema="CREATE SCHEMA crm; CREATE TABLE crm.a (id int PRIMARY KEY); "
        "CREATE TABLE crm.b (id int REFERENCES crm.a); INSERT INTO crm.a VALUES (1); INSERT INTO crm.b VALUES (1)"
    )
    target = await taken(world)

    await executed(target, Write(world.table("a"), A.TRUNCATE, also=(world.table("b"),)))

    assert [] == world.rows("a") + world.rows("b")


ODD_SCHEMA = """
    CREATE SCHEMA crm; CREATE EXTENSION citext SCHEMA public;
    CREATE TABLE crm."Odd ""x"". Table" (
        "Key" public.citext PRIMARY KEY,
        number bigint GENERATED ALWAYS AS IDENTITY,
        "select" character(3), v1 varchar(3), "a%s{}$1" int[],
        twice bigint GENERATED ALWAYS AS (number * 2) STORED);
    CREATE TABLE crm.parent (id int PRIMARY KEY, body text);
    CREATE TABLE crm.heir () INHERITS (crm.parent);
    CREATE TABLE crm.parts (id int, at date, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE crm.parts_1 PARTITION OF crm.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE crm.parts_2 PARTITION OF crm.parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE crm.bag (at date, body text) PARTITION BY RANGE (at);
    CREATE TABLE crm.bag_1 PARTITION OF crm.bag FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE crm.bag_2 PARTITION OF crm.bag FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
"""


async def test_odd_names_and_columns_that_the_server_fills(make_target_world: MakeTargetWorld) -> None:
    """Identity columns take the source's value at insert and keep it; generated ones follow; citext is one key."""
    world = await make_target_world(schema=ODD_SCHEMA)
    target = await taken(world)
    table = world.table('Odd "x". Table')
    row: dict[str, bytes | None] = {
        "Key": b"Ab", "number": b"77", "select": b"x", "v1": b"yyy", "a%s{}$1": b"{1,NULL}",
    }  # fmt: skip

    await executed(
        target,
        write(table, A.INSERT, row),
        write(table, A.UPSERT, row | {"Key": b"aB", "number": b"78", "v1": b"z"}),
        write(table, A.UPDATE, {"Key": b"AB", "number": b"79", "select": b"u"}),
    )

    assert [("AB", 77, "u  ", "z", [1, None], 154)] == world.rows('Odd "x". Table')
    with pytest.raises(ReplicatorError, match="value too long") as caught:
        await executed(target, write(table, A.UPSERT, row | {"v1": b"long"}))
    assert ErrorKind.DATA is caught.value.kind
    await executed(target, write(table, A.DELETE, {"Key": b"aB"}))  # a lane may be late with it
    assert 1 == len(world.rows('Odd "x". Table'))
    await executed(target, write(table, A.DELETE, {"Key": b"AB"}))
    assert [] == world.rows('Odd "x". Table')


async def test_children_by_inheritance_are_left_alone(make_target_world: MakeTargetWorld) -> None:
    """A row of an inheritance child belongs to the child, whatever its parent's key."""
    world = await make_target_world(schema=ODD_SCHEMA)
    target = await taken(world)
    parent = world.table("parent")
    world.database.execute("INSERT INTO crm.parent VALUES (1, 'p'); INSERT INTO crm.heir VALUES (1, 'h'), (2, 'h')")

    update, delete = await executed(
        target,
        write(parent, A.UPDATE, {"id": b"1", "body": b"new"}, {"id": b"2", "body": b"new"}),
        write(parent, A.DELETE, {"id": b"1"}, {"id": b"2"}),
    )

    assert (1, [1], 1) == (update.affected, update.missing, delete.affected)
    assert [(1, "h"), (2, "h")] == world.rows("heir")


async def test_partitioned_tables_are_written_by_their_root(make_target_world: MakeTargetWorld) -> None:
    """Rows find their partition; rows without a key that share a place in two partitions are told apart."""
    world = await make_target_world(schema=ODD_SCHEMA)
    target = await taken(world)
    parts, bag = world.table("parts"), world.table("bag")
    rows: list[dict[str, bytes | None]] = [
        {"id": b"1", "at": b"2024-05-05", "body": b"a"},
        {"id": b"1", "at": b"2025-05-05", "body": b"b"},
    ]
    loose: list[dict[str, bytes | None]] = [{"at": row["at"], "body": b"x"} for row in rows]

    await executed(
        target,
        write(parts, A.INSERT, *rows),
        write(parts, A.UPSERT, rows[0] | {"body": b"c"}),
        write(parts, A.DELETE, {"id": b"1", "at": b"2025-05-05"}),
        write(bag, A.APPEND, *loose),
        write(bag, A.REMOVE, loose[1]),
    )

    assert ["c"] == [row[2] for row in world.rows("parts")]
    assert ["2024-05-05"] == [str(row[0]) for row in world.rows("bag")]


DEFERRABLE = """
    CREATE SCHEMA crm;
    CREATE TABLE crm.places (id int PRIMARY KEY DEFERRABLE, place int UNIQUE DEFERRABLE INITIALLY DEFERRED);
"""


async def test_deferrable_keys_are_kept_under_the_replica_role(make_target_world: MakeTargetWorld) -> None:
    """Their check is a trigger, which the replica role turns off: two equal keys would be committed (tried)."""
    world = await make_target_world(schema=DEFERRABLE)
    target = await taken(world)
    table = world.table("places")
    rows: list[dict[str, bytes | None]] = [{"id": b"%d" % n, "place": b"%d" % n} for n in (1, 2)]
    await executed(target, write(table, A.UPSERT, *rows))

    # They exchange their places, by two statements: between them both have the same one.
    result, _ = await executed(
        target,
        write(table, A.UPSERT, rows[0] | {"place": b"2"}),
        write(table, A.UPSERT, rows[1] | {"place": b"1"}, {"id": b"3", "place": b"3"}),
    )

    assert ("replica", 1) == (target.role, result.affected)
    assert [(1, 2), (2, 1), (3, 3)] == world.rows("places")
    with pytest.raises(ReplicatorError) as caught:
        await executed(target, write(table, A.APPEND, rows[0]))
    assert (ErrorKind.UNIQUE, "places_pkey") == (caught.value.kind, caught.value.constraint)
    assert [(1, 2), (2, 1), (3, 3)] == world.rows("places")


async def test_triggers_and_foreign_keys_do_not_work_twice(target_world: TargetWorld) -> None:
    """In role replica: no trigger of the application fires, and no delete cascades."""
    world = target_world
    world.database.execute(
        "CREATE FUNCTION crm.boom() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''fired''; END';"
        "ALTER TABLE crm.tags ADD FOREIGN KEY (account_id) REFERENCES crm.accounts ON DELETE CASCADE;"
        "INSERT INTO crm.accounts VALUES (1); INSERT INTO crm.tags (account_id) VALUES (1);"
        "CREATE TRIGGER t BEFORE DELETE ON crm.accounts FOR EACH ROW EXECUTE FUNCTION crm.boom()"
    )
    target = await taken(world)

    await executed(target, write(world.table(), A.DELETE, {"id": b"1"}))

    assert ("replica", 0, 1) == (target.role, len(world.rows()), len(world.rows("tags")))


@pytest.mark.parametrize("rows", [1, 50_000, 100_000])
async def test_any_number_of_rows_is_one_statement(target_world: TargetWorld, rows: int) -> None:
    """One message for one row as for a hundred thousand."""
    target = await taken(target_world)
    table = target_world.table()
    given = Write(
        table, A.INSERT, columns=("id", "name"), key=("id",), rows=[(b"%d" % n, b"name %d" % n) for n in range(rows)]
    )

    inserted, upserted, deleted = await executed(
        target,
        given,
        replace(given, action=A.UPSERT),
        Write(table, A.DELETE, columns=("id",), key=("id",), rows=[(b"%d" % n,) for n in range(1, rows)]),
    )

    assert [rows, rows, rows - 1] == [inserted.affected, upserted.affected, deleted.affected]
    assert [(0, "name 0")] == [row[:2] for row in target_world.rows()]


async def test_plans_are_not_spoilt_by_an_empty_table(target_world: TargetWorld) -> None:
    """A statement that was planned when the table was empty finds rows by index when it is large."""
    world = target_world
    target = await taken(world)
    table = world.table()
    update = write(table, A.UPDATE, account(1, name=b"u"))
    for _ in range(7):
        await executed(target, update, write(table, A.DELETE, {"id": b"0"}))
    world.database.execute(
        "ALTER TABLE crm.accounts SET (autovacuum_enabled = off);"
        "INSERT INTO crm.accounts (id) SELECT generate_series(1, 20000)"
    )
    scans = "SELECT pg_stat_get_xact_numscans('crm.accounts'::regclass)"

    async with target.transaction(0) as tx:
        await tx.write(update)
        await tx.write(write(table, A.DELETE, {"id": b"2"}))
        await tx.begin()
        cursor = await tx.connection.execute(scans)
        found = await cursor.fetchone()

    assert (0,) == found
    assert [(1, "u")] == [row[:2] for row in world.rows()[:1]]


async def test_statements_survive_a_changed_table(target_world: TargetWorld, server18: PostgresServer) -> None:
    """A prepared statement of a table that was altered is planned anew; one of a column that is gone says so."""
    world = target_world
    target = await taken(world)
    old = world.table()
    await executed(target, write(old, A.UPSERT, account(1, name=b"a")))

    world.database.execute("ALTER TABLE crm.accounts ALTER name TYPE varchar(20), ADD extra int DEFAULT 5")
    await executed(target, write(old, A.UPSERT, account(1, name=b"b")), write(old, A.UPDATE, account(1, name=b"c")))
    world.database.execute("ALTER TABLE crm.accounts DROP name")

    with pytest.raises(ReplicatorError) as caught:
        await executed(target, write(old, A.UPSERT, account(1, name=b"d")))
    assert ErrorKind.SCHEMA is caught.value.kind
    await executed(target, write(old, A.UPSERT, account(1)))
    assert [(1, None, None, 5)] == world.rows()
