"""A session driven at libpq's level: prepared statements, pipelined, with parameters that are bytes already.

psycopg's cursors convert each parameter and wait for each answer. Here what need not be waited for (BEGIN, the epoch's
check, SAVEPOINT) is queued and travels in front of the next statement: a transaction of one row costs two round trips.
Between two calls the session is an ordinary psycopg connection.

https://www.postgresql.org/docs/current/libpq-pipeline-mode.html: after an error the server skips all up to the next
synchronisation point, of which each `run` has exactly one, at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final, NoReturn

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.waiting import Wait

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.sqlstate import to_error

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

TEXT: Final = 0
BINARY: Final = 1
_NUMBERS: Final = count(1)  # a name is never used twice, whoever else drives the same session
_PREPARED_MAX: Final = 1000  # statements kept in a session, 10 to 30 kB each in the server


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """One statement to execute.

    Attributes:
        text: SQL, prepared once a session; `$1`, ... are cast to their types in it.
        parameters: in PostgreSQL's text or binary format; or what makes them when their turn to be sent has come, while
            the server works on the commands before.
        binary: format of the parameters, and of the result.
        doing: opens the message of an error: "applying to crm.orders".

    """

    text: bytes
    parameters: Sequence[bytes | None] | Callable[[], Sequence[bytes | None]] = ()
    binary: bool = False
    doing: str = ""


class Wire:
    """One session, used by one task at a time; a ping from another is left out while it is busy.

    Attributes:
        connection: for what is not pipelined (COPY, reads of the catalog).
        queue: commands that travel in front of the next ones.
        broken: the session is lost or its state unknown; it is closed.
        failed: the command that the last error came from.

    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection
        self.queue: list[Command] = []
        self.broken = False
        self.failed: Command | None = None
        self._prepared: dict[bytes, bytes] = {}
        self._lock = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether something is being executed."""
        return self._lock.locked()

    async def run(self, *commands: Command) -> list[PGresult]:
        """Execute what is queued and then these commands, in one round trip.

        Returns:
            The results of `commands`.

        Raises:
            ReplicatorError: of the first command that failed; those after it were not executed. CONNECTION when the
                session is lost: then it isn't known which were.

        """
        async with self._lock:
            queued, self.queue = self.queue, []
            todo = [*queued, *commands]
            self.failed = None
            try:
                results = await self._execute(todo)
            except (psycopg.Error, OSError) as error:
                self._break()
                raise _lost(error, todo) from error
            except BaseException:  # cancelled: what the server has done isn't known
                self._break()
                raise
        return self._checked(todo, results)[len(queued) :]

    async def copy(self, text: bytes, blocks: Iterable[bytes], *, doing: str) -> int:
        """Execute a `COPY … FROM STDIN`; nothing may be queued. Returns how many rows it took.

        Args:
            text: the statement.
            blocks: its data; the server works on one while the next is made.
            doing: opens the message of an error.

        Raises:
            ReplicatorError: as `run`.

        """
        command = Command(text, doing=doing)
        async with self._lock:
            self.failed = None
            try:
                result = await self.connection.wait(_copy(self.connection.pgconn, text, blocks))
            except (psycopg.Error, OSError) as error:
                self._break()
                raise _lost(error, [command]) from error
            except BaseException:  # cancelled: what the server has done isn't known
                self._break()
                raise
        if result is None or result.status != ExecStatus.COMMAND_OK:
            self._fail(command, result)
        return result.command_tuples or 0

    async def _execute(self, commands: Sequence[Command]) -> list[list[PGresult]]:
        """The results of each command: that of its preparation, where it was prepared here, and its own."""
        pgconn = self.connection.pgconn
        pgconn.enter_pipeline_mode()
        counts = [self._send(pgconn, command) for command in commands]
        pgconn.pipeline_sync()
        results = iter(await self.connection.wait(_communicate(pgconn)))
        pgconn.exit_pipeline_mode()
        return [list(islice(results, count)) for count in counts]

    def _send(self, pgconn: PGconn, command: Command) -> int:
        name = self._prepared.get(command.text)
        count = 1
        if name is None:
            count += self._prepare(pgconn, command.text)
            name = self._prepared[command.text]
        form = BINARY if command.binary else TEXT
        parameters = command.parameters() if callable(command.parameters) else command.parameters
        pgconn.send_query_prepared(name, parameters, [form] * len(parameters), form)
        return count

    def _prepare(self, pgconn: PGconn, text: bytes) -> int:
        count = 1
        if len(self._prepared) >= _PREPARED_MAX:
            oldest = next(iter(self._prepared))
            pgconn.send_query_params(b"DEALLOCATE " + self._prepared.pop(oldest), [])
            count += 1
        name = self._prepared[text] = b"replicator_%d" % next(_NUMBERS)
        pgconn.send_prepare(name, text)
        return count

    def _checked(self, commands: Sequence[Command], results: Sequence[Sequence[PGresult]]) -> list[PGresult]:
        found: list[PGresult] = []
        for command, own in zip(commands, results, strict=True):
            statuses = [result.status for result in own]
            if not own or any(status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK) for status in statuses):
                self._forget(commands, results)
                failure = next((one for one in own if one.status == ExecStatus.FATAL_ERROR), None)
                self._fail(command, failure)
            found.append(own[-1])
        return found

    def _fail(self, command: Command, result: PGresult | None) -> NoReturn:
        self.failed = command
        if result is None:
            self._break()
            raise ReplicatorError(f"{command.doing}: the connection was lost", kind=ErrorKind.CONNECTION)
        cause = psycopg.errors.error_from_result(result, encoding="utf-8")
        error = to_error(cause, command.doing)
        if error.kind is ErrorKind.CONNECTION:
            self._break()
        raise error from cause

    def _forget(self, commands: Sequence[Command], results: Sequence[Sequence[PGresult]]) -> None:
        """A statement whose preparation failed, or was skipped, isn't there."""
        for command, own in zip(commands, results, strict=True):
            if len(own) > 1 and any(one.status != ExecStatus.COMMAND_OK for one in own[:-1]):
                self._prepared.pop(command.text, None)

    def _break(self) -> None:
        self.broken = True
        self.connection.pgconn.finish()

    async def close(self) -> None:
        """End the session. Idempotent."""
        self.broken = True
        await self.connection.close()


def _communicate(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """Send all that libpq holds while reading what comes, up to the synchronisation point."""
    yield from _flush(pgconn)
    results: list[PGresult] = []
    while True:
        result = yield from _result(pgconn)
        if result is None:  # the end of one command's results, or of the session
            if pgconn.status == ConnStatus.BAD:
                return results
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def _copy(pgconn: PGconn, text: bytes, blocks: Iterable[bytes]) -> PQGen[PGresult | None]:
    """Execute a COPY FROM STDIN; its last result, or that of its failure. None: the session was lost."""
    pgconn.send_query(text)
    yield from _flush(pgconn)
    result = yield from _result(pgconn)
    if result is not None and result.status == ExecStatus.COPY_IN:
        for block in blocks:
            pgconn.put_copy_data(block)  # libpq sends what the socket takes, and keeps the rest
        pgconn.put_copy_end()
        yield from _flush(pgconn)
        result = yield from _result(pgconn)
    while (yield from _result(pgconn)) is not None:
        pass
    return result


def _flush(pgconn: PGconn) -> PQGen[None]:
    while pgconn.flush():
        ready = yield Wait.RW
        if ready & Wait.R:
            pgconn.consume_input()


def _result(pgconn: PGconn) -> PQGen[PGresult | None]:
    while pgconn.is_busy():
        while not (yield Wait.R):
            pass
        pgconn.consume_input()
    return pgconn.get_result()


def _lost(error: psycopg.Error | OSError, commands: Sequence[Command]) -> ReplicatorError:
    doing = commands[-1].doing if commands else "talking to PostgreSQL"
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return to_error(error, doing)
    said = str(error).strip().splitlines() or [type(error).__name__]
    return ReplicatorError(f"{doing}: {said[0]}", kind=ErrorKind.CONNECTION)
