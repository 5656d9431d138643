"""Executes writes on a session: builds each statement once, encodes columns, says what was hit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from replicator.errors import ReplicatorError
from replicator.postgres import state_sql
from replicator.postgres.arrays import encode_text_array
from replicator.postgres.copy_lines import copy_blocks
from replicator.postgres.statements import copy_rows, statement_of
from replicator.postgres.wire import Command
from replicator.runs import Rows
from replicator.writes import Write, WriteAction, WriteResult

if TYPE_CHECKING:
    from replicator.events import Values
    from replicator.postgres.sessions import FeedSession
    from replicator.postgres.statement_parts import Statement
    from replicator.tables import Table

_STATEMENTS_MAX: Final = 20_000
_WITHOUT_ROWS: Final = frozenset({WriteAction.TRUNCATE, WriteAction.CLEAR, WriteAction.PRUNE})
_INDEX_PLAN: Final = Command(state_sql.INDEX_PLAN, doing="restoring plan settings")
_ANY_PLAN: Final = Command(state_sql.ANY_PLAN, doing="choosing plan settings")
_AS_ORIGIN: Final = Command(state_sql.ROLE_ORIGIN, doing="taking role origin")
_AS_REPLICA: Final = Command(state_sql.ROLE_REPLICA, doing="taking role replica")
_DEFER: Final = Command(state_sql.DEFER, doing="deferring constraints")

_INSERTING: Final = frozenset({WriteAction.INSERT, WriteAction.APPEND})
_MANY_ROWS: Final = 200  # below, the round trips that COPY needs cost more than it saves
_MERGE_SINCE: Final = 150000
_SLICED: Final = frozenset({WriteAction.UPSERT, WriteAction.UPDATE, WriteAction.DELETE})
_SLICE_ROWS: Final = 2500

Run = Callable[..., Awaitable[list[Any]]]
Copy = Callable[..., Awaitable[int]]


class StatementCache:
    """Statements by everything that they depend on; shared by the sessions of a target."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[Sequence[Table], Statement, str]] = {}

    def of(self, write: Write, *, merges: bool = False) -> tuple[Statement, str]:
        """The statement, and how its errors begin. A table is known by identity: a new catalog makes new ones."""
        at = (
            merges,
            id(write.table),
            write.action,
            write.columns,
            write.key,
            write.scope,
            write.predicate,
            write.owner,
            write.multiset,
            bool(write.rows),
            tuple(id(table) for table in write.also),
        )
        known = self._known.get(at)
        if known is None:
            if len(self._known) >= _STATEMENTS_MAX:
                self._known.clear()
            # The tables are kept beside their statement: their ids stay taken.
            known = ((write.table, *write.also), statement_of(write, merges=merges), f"applying to {write.table.name}")
            self._known[at] = known
        return known[1], known[2]


class Writer:
    """Executes writes in one transaction."""

    def __init__(self, session: FeedSession) -> None:
        self._session = session

    async def write(self, write: Write, run: Run, copy: Copy) -> WriteResult:
        """See `ports.TargetTransaction.write`. `run` executes commands in the transaction, `copy` a COPY."""
        if not write.rows and write.action not in _WITHOUT_ROWS:
            return WriteResult()
        if self._copies(write):
            return await self._copy(write, copy)
        if write.action is WriteAction.PRUNE and not write.keys:
            return WriteResult()
        statement, doing = self._session.statements.of(write, merges=self._merges(write))
        slices = self._slices(write, statement)
        commands = [Command(statement.text, partial(_encoded, one), binary=True, doing=doing) for one in slices]
        try:
            results = await run(*self._around(write, statement, commands))
        except ReplicatorError as error:
            if error.table is None:
                error.table = str(write.table.name)
            raise
        before = self._before(write, statement)
        return _sum(slices, [_result(one, statement, results[before + at]) for at, one in enumerate(slices)])

    def _slices(self, write: Write, statement: Statement) -> list[Write]:
        """The write in slices that are encoded one by one, while the server works on those before.

        Not where a statement's end means something: foreign keys are checked there, sets of rows compared.
        """
        rows = write.rows
        if write.action not in _SLICED or len(rows) < 2 * _SLICE_ROWS or statement.sets or not self._session.replica:
            return [write]
        return [replace(write, rows=rows[at : at + _SLICE_ROWS]) for at in range(0, len(rows), _SLICE_ROWS)]

    def _copies(self, write: Write) -> bool:
        """Whether COPY does the same for less. It refuses a table with row security, which a superuser passes."""
        return (
            write.action in _INSERTING
            and len(write.rows) >= _MANY_ROWS
            and not write.table.row_security
            and not write.table.rules
            and not self._as_origin(write)
        )

    def _merges(self, write: Write) -> bool:
        """Whether MERGE does the same as an upsert for less."""
        return (
            write.action is WriteAction.UPSERT
            and len(write.rows) >= _MANY_ROWS
            and not write.table.rules
            and write.table.arbiter(write.key) is not None
            and self._session.wire.connection.info.server_version >= _MERGE_SINCE
        )

    async def _copy(self, write: Write, copy: Copy) -> WriteResult:
        doing = f"applying to {write.table.name}"
        try:
            return WriteResult(await copy(copy_rows(write), copy_blocks(write.rows), doing=doing))
        except ReplicatorError as error:
            if error.table is None:
                error.table = str(write.table.name)
            raise

    def _as_origin(self, write: Write) -> bool:
        """A deferrable key is checked by a trigger, which the replica role turns off: equal keys would be committed."""
        table = write.table
        deferrable = any(key.deferrable for key in table.unique_keys) or bool(table.deferrable_exclusions)
        return self._session.replica and deferrable

    def _around(self, write: Write, statement: Statement, commands: list[Command]) -> list[Command]:
        if statement.sets:
            commands = [_ANY_PLAN, *commands, _INDEX_PLAN]
        if self._as_origin(write):
            commands = [_AS_ORIGIN, _DEFER, *commands, _AS_REPLICA]
        return commands

    def _before(self, write: Write, statement: Statement) -> int:
        return (1 if statement.sets else 0) + (2 if self._as_origin(write) else 0)


def _encoded(write: Write) -> list[bytes]:
    """A statement's parameters: each column of PRUNE's keys, and of the rows."""
    return [encode_text_array(column) for column in chain(zip(*write.keys, strict=True), _columns(write.rows))]


def _columns(rows: Sequence[Values]) -> Iterable[Sequence[Any]]:
    return map(rows.column, range(rows.width)) if isinstance(rows, Rows) else zip(*rows, strict=True)


def _sum(slices: Sequence[Write], results: Sequence[WriteResult]) -> WriteResult:
    total, first = WriteResult(), 0
    for one, result in zip(slices, results, strict=True):
        total.affected += result.affected
        total.missing.extend(first + at for at in result.missing)
        first += len(one.rows)
    return total


def checks(table: Table, constraints: Sequence[str]) -> list[Command]:
    """Commands that check these deferrable constraints of a table now; afterwards they wait for the commit again."""
    names = sql.SQL(", ").join(sql.Identifier(table.name.schema, name) for name in constraints)
    doing = f"checking {table.name}"
    return [
        Command(sql.SQL("SET CONSTRAINTS {} {}").format(names, sql.SQL(when)).as_bytes(), doing=doing)
        for when in ("IMMEDIATE", "DEFERRED")
    ]


def _result(write: Write, statement: Statement, result: Any) -> WriteResult:
    if statement.ordinals:
        if result.ntuples == len(write.rows):
            return WriteResult(result.ntuples)
        hit = {int.from_bytes(result.get_value(row, 0), "big") - 1 for row in range(result.ntuples)}
        return WriteResult(len(hit), [at for at in range(len(write.rows)) if at not in hit])
    if statement.all_rows:
        return WriteResult(len(write.rows))
    return WriteResult(result.command_tuples or 0)
