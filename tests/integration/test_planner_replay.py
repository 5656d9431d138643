"""A batch's plan, executed, leaves what writing its aggregates one by one leaves."""

import contextlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from replicator.mapping import Mapping, Outcome, Side, TargetRow
from replicator.planner import order_writes, plan_outcomes
from replicator.postgres.target import PostgresTarget
from replicator.postgres.transaction import PostgresTransaction
from replicator.tables import Catalog, Table, TableName
from tests.fix_target import MakeTargetWorld

SCHEMA = """
    CREATE SCHEMA {0};
    CREATE TABLE {0}.users (id int PRIMARY KEY, name text, note text);
    CREATE TABLE {0}.profiles (user_id int PRIMARY KEY REFERENCES {0}.users, bio text);
    CREATE TABLE {0}.grants (
        id int GENERATED ALWAYS AS IDENTITY, user_id int NOT NULL REFERENCES {0}.users, what text NOT NULL, note text,
        UNIQUE (user_id, what));
    CREATE TABLE {0}.moving (id int PRIMARY KEY, user_id int REFERENCES {0}.users, body text);
    CREATE TABLE {0}.tags (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id int REFERENCES {0}.users, tag text);
"""
TABLES = ("users", "profiles", "grants", "moving", "tags")
COMPARED = {
    "users": "id, name, note",
    "profiles": "user_id, bio",
    "grants": "user_id, what, note",
    "moving": "id, user_id, body",
    "tags": "user_id, tag",
}
TEXT = st.sampled_from([b"a", b"b", b"c"])


def mapping(catalog: Catalog, schema: str) -> Mapping:
    """Users with children of every kind."""
    tables = [catalog.tables[TableName(schema, name)] for name in TABLES]
    keys = [("id",), *[("user_id",)] * 4]
    sides = tuple(Side(table, key) for table, key in zip(tables, keys, strict=True))
    return Mapping("public.users", sides[:1], sides, function=lambda _: Outcome((), []))


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    """What a transform could make of one user. A row of `moving` is of whoever gave it last."""
    number = draw(st.integers(1, 4))
    key = b"%d" % number
    if draw(st.integers(0, 3)) == 0:
        return Outcome((key,), [[], [], [], [], []])
    user: TargetRow = {"id": key, "name": draw(TEXT)}
    if draw(st.booleans()):
        user["note"] = draw(st.none() | TEXT)
    profiles: list[TargetRow] = [{"user_id": key, "bio": draw(TEXT)}] if draw(st.booleans()) else []
    grants: list[TargetRow] = [{"user_id": key, "what": what} for what in draw(st.sets(TEXT))]
    for each in grants:
        if draw(st.booleans()):
            each["note"] = draw(st.none() | TEXT)
    mine = sorted(draw(st.sets(st.integers(1, 3))))
    movers: list[TargetRow] = [{"id": b"%d" % one, "user_id": key, "body": draw(TEXT)} for one in mine]
    tags: list[TargetRow] = [{"user_id": key, "tag": tag} for tag in draw(st.lists(st.none() | TEXT, max_size=4))]
    return Outcome((key,), [[user], profiles, grants, movers, tags])


@st.composite
def batches(draw: st.DrawFn) -> list[list[Outcome]]:
    """Batches in which each user comes once."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        batch = draw(st.lists(outcomes(), max_size=4))
        made.append(list({outcome.key: outcome for outcome in batch}.values()))
    return made


async def write_all(tx: PostgresTransaction, one: Mapping, batch: list[Outcome]) -> None:
    tables: tuple[Table, ...] = tuple(side.table for side in one.targets)
    for write in order_writes(plan_outcomes(one, batch), tables):
        await tx.write(write)


async def contents(connection: AsyncConnection[Any], schema: str) -> dict[str, Counter[Any]]:
    found = {}
    for name, columns in COMPARED.items():
        cursor = await connection.execute(f"SELECT {columns} FROM {schema}.{name}".encode())
        found[name] = Counter(await cursor.fetchall())
    return found


class _RolledBackError(Exception):
    pass


async def compare(target: PostgresTarget, together: Mapping, apart: Mapping, made: list[list[Outcome]]) -> None:
    """Write batches at once here and one by one there, compare after each, and undo all."""
    with contextlib.suppress(_RolledBackError):
        async with target.transaction(0) as tx:
            await tx.begin()
            for batch in made:
                await write_all(tx, together, batch)
                for outcome in batch:
                    await write_all(tx, apart, [outcome])
                assert await contents(tx.connection, "apart") == await contents(tx.connection, "together")
            raise _RolledBackError


@pytest.fixture
async def two_schemas(make_target_world: MakeTargetWorld) -> tuple[PostgresTarget, Mapping, Mapping]:
    """The same tables twice, and a target that holds them."""
    world = await make_target_world(schema=SCHEMA.format("together") + SCHEMA.format("apart"))
    target = world.target()
    await target.take_over(1)
    return target, mapping(world.catalog, "together"), mapping(world.catalog, "apart")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=batches())
async def test_a_batch_equals_its_aggregates_one_by_one(
    two_schemas: tuple[PostgresTarget, Mapping, Mapping], made: list[list[Outcome]]
) -> None:
    """Whatever was there before: rows kept, moved between aggregates, pruned, merged as often as given."""
    target, together, apart = two_schemas
    await compare(target, together, apart, made)
