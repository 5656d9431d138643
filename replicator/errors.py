"""The closed set of error kinds, and the one exception that carries them.

An error gets its kind at the edge where it is first seen (an adapter maps a SQLSTATE, a codec knows that bytes are
malformed); everybody above only looks at the kind. `ACTIONS` is the one table that says what the engine does about it.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class ErrorKind(StrEnum):
    """What went wrong, as far as the reaction differs."""

    CONNECTION = "connection"  # connection refused, lost or timed out; server starting up or shutting down
    SERIALIZATION = "serialization"  # serialization failure or deadlock: the transaction was rolled back whole
    TIMEOUT = "timeout"  # lock, statement or idle timeout: rolled back whole
    RESOURCES = "resources"  # too many connections, disk full, out of memory on a server
    READ_ONLY = "read_only"  # the target refuses writes (standby, default_transaction_read_only, a fence)
    COMMIT_UNKNOWN = "commit_unknown"  # the answer to COMMIT was lost: only the checkpoint can tell
    SUPERSEDED = "superseded"  # another process holds a higher epoch
    REASSIGNED = "reassigned"  # a partition of a log, or the lead of its group, is another process's now
    SLOT_BUSY = "slot_busy"  # the slot is held by another session
    SLOT_LOST = "slot_lost"  # slot missing, invalidated, or ahead of the checkpoint: changes are lost
    LOG_LOST = "log_lost"  # a log's offset out of range, its topic gone or made again: changes are lost, or unknown
    DATA = "data"  # the target refuses this row: constraint, length, type, encoding
    UNIQUE = "unique"  # 23505 on an index other than the key: may be a value that moves between rows
    TRANSFORM = "transform"  # a user's transform raised, or returned what can't be written
    DECODE = "decode"  # bytes of the stream that this codec can't read
    RESHAPED = "reshaped"  # a table got a column that the mappings don't know: compile them again from the catalogs
    SCHEMA = "schema"  # a table or column is not what the mapping expects
    PERMISSION = "permission"  # a right lacks
    CONFIG = "config"  # the connector can't work as written
    INTERNAL = "internal"  # a broken invariant of ours


class Action(Enum):
    """What the engine does about an error of some kind."""

    RETRY = "retry"  # the same work again, with backoff and jitter, without end (metrics and status show it)
    ISOLATE = "isolate"  # replay event by event to find the guilty one; then stop, or park it in the dead letter queue
    YIELD = "yield"  # another process took over: end this feed without an error of the data
    STOP = "stop"  # the feed stops; nothing is lost; a person decides


ACTIONS: Final[Mapping[ErrorKind, Action]] = {
    ErrorKind.CONNECTION: Action.RETRY,
    ErrorKind.SERIALIZATION: Action.RETRY,
    ErrorKind.TIMEOUT: Action.RETRY,
    ErrorKind.RESOURCES: Action.RETRY,
    ErrorKind.READ_ONLY: Action.RETRY,
    ErrorKind.COMMIT_UNKNOWN: Action.RETRY,
    ErrorKind.REASSIGNED: Action.RETRY,
    ErrorKind.SLOT_BUSY: Action.RETRY,
    ErrorKind.RESHAPED: Action.RETRY,
    ErrorKind.SUPERSEDED: Action.YIELD,
    ErrorKind.DATA: Action.ISOLATE,
    ErrorKind.UNIQUE: Action.ISOLATE,
    ErrorKind.TRANSFORM: Action.ISOLATE,
    ErrorKind.SLOT_LOST: Action.STOP,
    ErrorKind.LOG_LOST: Action.STOP,
    ErrorKind.DECODE: Action.STOP,
    ErrorKind.SCHEMA: Action.STOP,
    ErrorKind.PERMISSION: Action.STOP,
    ErrorKind.CONFIG: Action.STOP,
    ErrorKind.INTERNAL: Action.STOP,
}


class ReplicatorError(Exception):
    """An error for the person who reads it at 3 a.m.

    Args:
        message: what failed, in one sentence, without row values and without secrets.
        kind: decides the reaction, see `ACTIONS`.
        table: the table's qualified name, where one is concerned.
        key: the key of the row or aggregate, as its text values, where one is concerned.
        column: the column, where one is concerned.
        constraint: the constraint or index, where one is concerned.
        hint: what was kept, and what to do next.
        sqlstate: the server's code, where a server said it.

    """

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        table: str | None = None,
        key: tuple[str, ...] | None = None,
        column: str | None = None,
        constraint: str | None = None,
        hint: str | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.table = table
        self.key = key
        self.column = column
        self.constraint = constraint
        self.hint = hint
        self.sqlstate = sqlstate

    @property
    def action(self) -> Action:
        """The engine's reaction to this error."""
        return ACTIONS[self.kind]

    def __str__(self) -> str:
        """The message with place and hint, in one paragraph."""
        places = [
            f"{name} {value}"
            for name, value in (
                ("table", self.table),
                ("key", None if self.key is None else "(" + ", ".join(self.key) + ")"),
                ("column", self.column),
                ("constraint", self.constraint),
                ("SQLSTATE", self.sqlstate),
            )
            if value is not None and value not in self.message
        ]
        text = self.message + (f" [{'; '.join(places)}]" if places else "")
        return f"{text}. {self.hint}" if self.hint else text

    def facts(self) -> dict[str, str]:
        """The fields for a structured log line or a JSON answer; absent ones left out."""
        pairs = {
            "error_kind": str(self.kind),
            "table": self.table,
            "key": None if self.key is None else "(" + ", ".join(self.key) + ")",
            "column": self.column,
            "constraint": self.constraint,
            "sqlstate": self.sqlstate,
            "hint": self.hint,
        }
        return {name: value for name, value in pairs.items() if value is not None}
