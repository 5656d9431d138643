"""Row values are never logged: what a server says of a value it refuses reaches our errors without the value."""

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from tests.fix_postgres import Database

REFUSED = [
    ("integer", "secret"),
    ("smallint", "31313131"),
    ("numeric(4,1)", "31313131"),
    ("date", "3131-31-31"),
    ("timestamptz", "2024-01-01 secret"),
    ("uuid", 'se"cr"et'),
    ("jsonb", '{"secret'),
    ("boolean", "secret"),
    ("bit(3)", "secret"),
    ("inet", "secret"),
    ("int4[]", "{secret}"),
    ("varchar(3)", "secret"),
    ("crm.mood", "secret"),
    ("crm.small", "31313131"),
    ("money", "secret"),
    ("bytea", "\\xsecret"),
    ("tsquery", "secret &"),
    ("crm.ltree", "secret..!"),
    ("int4range", "[secret,)"),
]


@pytest.mark.parametrize("type_name, value", REFUSED)
async def test_a_refused_value_is_not_told(old_database: Database, type_name: str, value: str) -> None:
    """The error says what is wrong with it and where, and has no part of it."""
    old_database.execute(
        "CREATE SCHEMA crm; CREATE EXTENSION ltree SCHEMA crm;"
        "CREATE TYPE crm.mood AS ENUM ('fine'); CREATE DOMAIN crm.small AS int CHECK (value < 9);"
        f"CREATE TABLE t (v {type_name})"
    )
    async with await connect(old_database.dsn, "test") as session:
        with pytest.raises(ReplicatorError) as caught, driver_errors("applying to public.t"):
            await session.execute(f"INSERT INTO public.t SELECT %s::{type_name.partition('(')[0]}".encode(), [value])

    assert ErrorKind.DATA is caught.value.kind
    for part in ("secret", "3131"):
        assert part not in str(caught.value)


@pytest.mark.parametrize("code", ["P0001", "UX123"])
async def test_a_users_exception_is_not_told(old_database: Database, code: str) -> None:
    """What a user's function says when it raises may hold the row: our error says only that it did."""
    raising = f"RAISE EXCEPTION 'no secret' USING ERRCODE = '{code}', HINT = 'mind the secret'"
    async with await connect(old_database.dsn, "test") as session:
        with pytest.raises(ReplicatorError) as caught, driver_errors("applying to public.t"):
            await session.execute(f"DO $$BEGIN {raising}; END$$".encode())

    assert "secret" not in str(caught.value)
    assert "raised an exception" in str(caught.value)
