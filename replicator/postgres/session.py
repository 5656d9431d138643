"""Sessions: how every connection of ours is opened, and the settings that make its text output canonical."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.sqlstate import driver_errors

CANONICAL: Final = {
    # Values travel as text: both sides must print and read them alike, whatever the role's or database's settings.
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "standard_conforming_strings": "on",
    # A checkpoint that was acknowledged must survive a crash: `off` lost a visible, committed row (tried).
    "synchronous_commit": "on",
    # A lost holder must end by itself.
    "idle_in_transaction_session_timeout": "60s",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "off",  # a policy that hides rows is an error, never a silent filter
    "search_path": "pg_catalog",
    "client_min_messages": "warning",  # a slot's stream warns of what it leaves out
}
_KEEPALIVES: Final = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds; without it what was sent to a vanished host is repeated for 15 minutes
}


def application_name(purpose: str) -> str:
    """What the server shows for a session of ours (it keeps 63 bytes)."""
    return f"replicator:{purpose}"[:63]


def configured(dsn: str, *, connect_timeout: float, statement_timeout: float | None) -> str:
    """The user's connection string with the connector's own limits, for every session that is opened with it.

    Args:
        dsn: URI or key=value.
        connect_timeout: seconds.
        statement_timeout: seconds; None leaves the server's own.

    Raises:
        ReplicatorError: CONFIG when it can't be parsed; without its text, which may hold a password.

    """
    try:
        given = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ReplicatorError(
            "a dsn of the connector is no connection string that libpq understands",
            kind=ErrorKind.CONFIG,
            hint="Write postgresql://user@host/dbname or host=... dbname=...; special characters of a password in the "
            "first form are written as %40",
        ) from None
    options = str(given.get("options") or "")
    if statement_timeout is not None:
        options = f"{options} -c statement_timeout={round(statement_timeout * 1000)}".strip()
    return make_conninfo(dsn, connect_timeout=max(2, round(connect_timeout)), options=options)


def conninfo(dsn: str, purpose: str, *, connect_timeout: float = 10, **parameters: str | int) -> str:
    """A connection string with our settings put in.

    Args:
        dsn: the user's, URI or key=value.
        purpose: see `application_name`.
        connect_timeout: seconds, where the DSN says nothing; libpq counts whole ones, at least 2.
        parameters: further libpq parameters, such as `replication="database"`.

    Raises:
        psycopg.ProgrammingError: the DSN can't be parsed.

    """
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    options = " ".join(f"-c {name}={_escaped(value)}" for name, value in CANONICAL.items())
    user_options = str(given.get("options") or "")
    return make_conninfo(
        dsn,
        application_name=application_name(purpose),
        client_encoding="UTF8",
        connect_timeout=int(given.get("connect_timeout") or max(2, int(connect_timeout))),
        options=f"{user_options} {options}".strip(),
        **_KEEPALIVES,
        **parameters,
    )


def conninfo_for_reading(dsn: str, purpose: str, statement_timeout: float) -> str:
    """A connection string for another program: its sessions can't write, and find names in public.

    Args:
        dsn: the user's.
        purpose: see `application_name`.
        statement_timeout: seconds.

    """
    made = conninfo(dsn, purpose)
    options = (
        f"{psycopg.conninfo.conninfo_to_dict(made)['options']} -c default_transaction_read_only=on "
        f"-c search_path=pg_catalog,public -c statement_timeout={max(1, round(statement_timeout * 1000))}"
    )
    return make_conninfo(made, options=options)


def _escaped(value: str) -> str:
    """Libpq's `options` splits at spaces that no backslash precedes."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


async def connect(
    dsn: str, purpose: str, *, autocommit: bool = True, connect_timeout: float = 10, **parameters: Any
) -> AsyncConnection[tuple[Any, ...]]:
    """Open a session with canonical text output; prepared statements are used at once (`prepare_threshold=0`).

    The user's session settings are overridden: `search_path` is pg_catalog, so every name in our SQL is qualified.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION, RESOURCES or CONFIG.

    """
    with driver_errors(f"connecting to PostgreSQL ({purpose})"):
        return await AsyncConnection.connect(
            conninfo(dsn, purpose, connect_timeout=connect_timeout, **parameters),
            autocommit=autocommit,
            prepare_threshold=0,
        )
