"""SQLSTATE to `ErrorKind`: the one table, and the one place where a driver's exception becomes ours.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYNTAX: Final = "42601"
_QUOTED: Final = re.compile(r'".*"', re.DOTALL)
_CODES: Final = {
    "40001": ErrorKind.SERIALIZATION,
    "40P01": ErrorKind.SERIALIZATION,
    "55P03": ErrorKind.TIMEOUT,  # lock_not_available
    "57014": ErrorKind.TIMEOUT,  # query_canceled: statement_timeout, or an administrator
    "25P03": ErrorKind.CONNECTION,  # idle_in_transaction_session_timeout
    "25P04": ErrorKind.CONNECTION,  # transaction_timeout
    "57P05": ErrorKind.CONNECTION,  # idle_session_timeout
    "25006": ErrorKind.READ_ONLY,
    "23505": ErrorKind.UNIQUE,
    "23P01": ErrorKind.UNIQUE,  # exclusion_violation: a value that may move, too
    "42501": ErrorKind.PERMISSION,
    "28000": ErrorKind.PERMISSION,
    "28P01": ErrorKind.PERMISSION,
    "3D000": ErrorKind.CONFIG,  # database does not exist
    "55006": ErrorKind.SLOT_BUSY,  # object_in_use
    "57P01": ErrorKind.CONNECTION,
    "57P02": ErrorKind.CONNECTION,
    "57P03": ErrorKind.CONNECTION,
    "57P04": ErrorKind.CONFIG,  # database dropped
    "53400": ErrorKind.RESOURCES,
    "54000": ErrorKind.DATA,  # program_limit_exceeded: an index row too large, say
    "54001": ErrorKind.DATA,
    "44000": ErrorKind.DATA,  # WITH CHECK OPTION
    "P0001": ErrorKind.DATA,  # RAISE EXCEPTION in a trigger or a domain's function
    "P0004": ErrorKind.DATA,
    "22023": ErrorKind.DATA,
    "0A000": ErrorKind.SCHEMA,  # feature_not_supported
    "2BP01": ErrorKind.SCHEMA,
    "55000": ErrorKind.SCHEMA,  # object_not_in_prerequisite_state
    "428C9": ErrorKind.SCHEMA,  # generated_always
    "42804": ErrorKind.SCHEMA,  # datatype_mismatch
    "XX000": ErrorKind.INTERNAL,
}
_CLASSES: Final = {
    "08": ErrorKind.CONNECTION,
    "22": ErrorKind.DATA,
    "23": ErrorKind.DATA,
    "53": ErrorKind.RESOURCES,
    "58": ErrorKind.RESOURCES,  # I/O error of the server
    "42": ErrorKind.SCHEMA,
    "40": ErrorKind.SERIALIZATION,
    "28": ErrorKind.PERMISSION,
}


def kind_of(sqlstate: str | None) -> ErrorKind:
    """The kind of a server error; INTERNAL for a code that nobody has thought of (the default is to stop)."""
    if sqlstate is None:
        return ErrorKind.CONNECTION
    return _CODES.get(sqlstate) or _CLASSES.get(sqlstate[:2]) or ErrorKind.INTERNAL


def _raised(sqlstate: str) -> bool:
    """Whether RAISE said it: PL/pgSQL's own codes, or one that no server has."""
    return sqlstate.startswith("P0") or (kind_of(sqlstate) is ErrorKind.INTERNAL and not sqlstate.startswith("XX"))


def to_error(error: psycopg.Error, doing: str) -> ReplicatorError:
    """Turn a driver's exception into ours. The server's DETAIL is left out: it shows row values.

    Args:
        error: what psycopg raised.
        doing: what was being done, to open the message: "applying to crm.orders".

    """
    diag = error.diag
    primary = diag.message_primary or str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    kind = kind_of(diag.sqlstate)
    if diag.sqlstate == _SYNTAX and diag.statement_position is None:
        kind = ErrorKind.DATA  # no place in the statement: it is a value that tsquery, ltree, ... can't read
    if diag.sqlstate is not None and kind is ErrorKind.DATA and diag.sqlstate[:2] in ("22", "42"):
        # Such messages quote the value: 'invalid input syntax for type integer: "..."', 'value "..." is out of range'.
        primary = _QUOTED.sub("…", primary)
    hint = diag.message_hint
    if diag.sqlstate is not None and _raised(diag.sqlstate):
        # The user wrote that text, and may have put the row into it.
        primary, hint = "a function or trigger raised an exception", "Its text is in the server's log"
    table = f"{diag.schema_name}.{diag.table_name}" if diag.schema_name and diag.table_name else None
    return ReplicatorError(
        f"{doing}: {primary}",
        kind=kind,
        table=table,
        column=diag.column_name,
        constraint=diag.constraint_name,
        hint=hint,
        sqlstate=diag.sqlstate,
    )


@contextmanager
def driver_errors(doing: str) -> Iterator[None]:
    """Within the block, psycopg's exceptions leave as `ReplicatorError`."""
    try:
        yield
    except psycopg.Error as error:
        raise to_error(error, doing) from error
    except OSError as error:
        raise ReplicatorError(f"{doing}: {error}", kind=ErrorKind.CONNECTION) from error
