"""The wire of a replication slot: COPY_BOTH over libpq, driven by the event loop's readiness callbacks.

Messages: https://www.postgresql.org/docs/current/protocol-replication.html (XLogData `w`, keepalive `k`, status `r`).

No task and no thread reads: the loop calls `_readable` when the socket has data, so nothing that awaits can be
cancelled in the middle of a message. A call drains what has arrived, up to a bound that keeps the loop responsive, and
asks the loop to be called again where more is left (libpq may hold whole messages while its socket is quiet).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg import pq, sql

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.flow import GATHER_SECONDS, Flow
from replicator.postgres.lsn import format_lsn
from replicator.postgres.session import connect
from replicator.postgres.slots import left_out
from replicator.postgres.sqlstate import driver_errors, kind_of, to_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg import AsyncConnection

XLOG_DATA: Final = ord("w")
XLOG_DATA_HEADER_BYTES: Final = 25  # 'w', start LSN, end LSN, server time
KEEPALIVE: Final = struct.Struct(">cQqB")  # 'k', end of the WAL, server time, whether an answer is wanted
_STATUS: Final = struct.Struct(">cQQQqB")  # 'r', written, flushed, applied, our time, whether an answer is wanted

_EPOCH_SECONDS: Final = 946_684_800
_MESSAGES_MAX: Final = 256  # a callback: 0.3 to 0.6 ms with decoding, which whoever writes to the target may wait
_BYTES_MAX: Final = 1 << 20
_RELAXED_SECONDS: Final = 0.020  # nobody waits: one look for what the server sent row by row, and it goes in packs
_ATTEND_ROUNDS: Final = 8  # of a callback each: what has come since the last look is read before the next batch is cut
_CONFIRM_SECONDS: Final = 0.05  # confirmations are gathered for this long
_TIMEOUT_SECONDS_MAX: Final = 60.0  # where the server's own is longer or off, a dead connection shows after this
_CLOSE_SECONDS_MAX: Final = 2.0
_DOING: Final = "reading from the replication slot"
_NOT_THERE_YET: Final = "55000"  # object_not_in_prerequisite_state
_UNDEFINED_OBJECT: Final = b"42704"


class WalStream:
    """One running START_REPLICATION. Made by `open`; ends by `close` or by one call of `fail`.

    Attributes:
        confirmed: what is reported as written, flushed and applied: an LSN that the target has committed durably.
        backend_pid: the server's process that sends.
        flow: how the messages come.

    """

    def __init__(
        self,
        connection: AsyncConnection[Any],
        *,
        confirmed: int,
        timeout: float,
        receive: Callable[[list[bytes]], None],
        fail: Callable[[ReplicatorError], None],
    ) -> None:
        self.confirmed = confirmed
        self._connection = connection
        self._pgconn = connection.pgconn
        self._receive = receive
        self._fail = fail
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self.backend_pid = self._pgconn.backend_pid
        self._heard_at = self._loop.time()
        self._sent_at = 0.0
        self._paused = False
        self._relaxed = False
        self.flow = Flow()
        self._armed = False
        self._ended = False
        self._again: asyncio.Handle | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._warned: ReplicatorError | None = None
        connection.add_notice_handler(self._notice)
        self._pgconn.nonblocking = 1
        self._arm()
        self._ticking = self._loop.call_later(timeout / 3, self._tick)
        # What the server sent together with its answer is in libpq already: the socket won't tell.
        self._read_again()
        self._report()

    @classmethod
    async def open(
        cls,
        dsn: str,
        purpose: str,
        *,
        slot: str,
        start_lsn: int,
        options: Mapping[str, str],
        receive: Callable[[list[bytes]], None],
        fail: Callable[[ReplicatorError], None],
    ) -> Self:
        """Connect and start streaming from `start_lsn`, which is reported as confirmed.

        Args:
            dsn: the user's.
            purpose: see `session.conninfo`.
            slot: its name.
            start_lsn: the server begins at this LSN or at the slot's confirmed one, whichever is later.
            options: of the output plugin.
            receive: gets the CopyData payloads that arrived, in order; may raise ReplicatorError.
            fail: called once when the stream can't go on; nothing is received after it.

        Raises:
            ReplicatorError: with the server's SQLSTATE.

        """
        connection = await connect(dsn, purpose, replication="database")
        try:
            with driver_errors(f"starting replication from slot {slot}"):
                row = await (await connection.execute("SHOW wal_sender_timeout", prepare=False)).fetchone()
                timeout = _seconds(row[0]) if row else 0.0
                given = ", ".join(f"{name} {_literal(value)}" for name, value in options.items())
                start = sql.SQL("START_REPLICATION SLOT {} LOGICAL {} ({})").format(
                    sql.Identifier(slot), sql.SQL(format_lsn(start_lsn)), sql.SQL(given)
                )
                await connection.execute(start, prepare=False)
            return cls(
                connection,
                confirmed=start_lsn,
                timeout=min(timeout or _TIMEOUT_SECONDS_MAX, _TIMEOUT_SECONDS_MAX),
                receive=receive,
                fail=fail,
            )
        except BaseException:
            await connection.close()
            raise

    # --- reading ------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading: the server's sending stalls by TCP, and status goes on."""
        if not self._paused and not self._ended:
            self._paused = True
            self._disarm()
            self._unread()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self._ended:
            self._paused = False
            self._heard_at = self._loop.time()
            self._arm()
            self._read_again()

    def relax(self) -> None:
        """Nobody waits: look for data at intervals. The server writes row by row, and each write would wake us."""
        self._relaxed = True

    def attend(self) -> None:
        """Somebody waits: read what is there now, and then whenever there is more; while it flows, soon."""
        relaxed, self._relaxed = self._relaxed, False
        for _ in range(_ATTEND_ROUNDS if relaxed else 0):
            if self._paused or self._ended or not self._readable():
                return

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.add_reader(self._socket, self._readable)

    def _disarm(self) -> None:
        if self._armed:
            self._armed = False
            self._loop.remove_reader(self._socket)

    def _read_again(self) -> None:
        if self._again is None:
            self._again = self._loop.call_soon(self._readable)

    def _unread(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _readable(self) -> bool:
        """Read a callback's worth, and arm for the next; returns whether more is there."""
        self._unread()
        messages: list[bytes] = []
        error: ReplicatorError | None = None
        more = False
        try:
            more = self._drain(messages)
        except psycopg.Error as lost:
            error = to_error(lost, _DOING)
        except ReplicatorError as ended:
            error = ended
        if messages:
            self._heard_at = self._loop.time()
            try:
                self._receive(messages)
            except ReplicatorError as refused:
                error = refused
        if error is not None:
            self._die(error)
        elif not self._paused and not self._ended:
            self.flow.saw(len(messages), self._loop.time())
            self._wait_for_more(more=more)
        return more

    def _wait_for_more(self, *, more: bool) -> None:
        if more:
            self._read_again()
        elif self._relaxed or self.flow.flowing:
            self._disarm()
            self._again = self._loop.call_later(_RELAXED_SECONDS if self._relaxed else GATHER_SECONDS, self._readable)
        else:
            self._arm()

    def _drain(self, messages: list[bytes]) -> bool:
        """Move messages that have arrived to the list; returns whether the bound ended it.

        libpq takes a bounded piece from the socket at a time, and under TLS a rest of a record may hide from the
        socket: only a second read that completes no message proves that nothing is left. It is not asked to read while
        it holds messages: it would move all of them to make room, each time (half of a row's time, for small rows).
        """
        get, consume = self._pgconn.get_copy_data, self._pgconn.consume_input
        add = messages.append
        room = _BYTES_MAX
        fruitless = False
        while True:
            size, data = get(1)
            if self._warned is not None:
                raise self._warned  # the message that came with it lies behind it
            if size > 0:
                add(bytes(data))
                room -= size
                fruitless = False
                if room < 0 or len(messages) >= _MESSAGES_MAX:
                    return True
            elif size == 0:
                if fruitless:
                    return False
                fruitless = True
                consume()
            else:
                raise self._end_of_stream()

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """PostgreSQL 18 only warns where a publication did not exist yet, and leaves all changes out; 17 fails."""
        if diagnostic.sqlstate == _NOT_THERE_YET and diagnostic.severity_nonlocalized == "WARNING":
            self._warned = left_out(diagnostic.message_primary or "")

    def _end_of_stream(self) -> ReplicatorError:
        result = self._pgconn.get_result()
        state = None if result is None else result.error_field(pq.DiagnosticField.SQLSTATE)
        if result is None or state is None:
            return ReplicatorError("the server ended the replication stream", kind=ErrorKind.CONNECTION)
        said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        if state == _UNDEFINED_OBJECT:
            return left_out(said.decode(errors="replace"))
        return ReplicatorError(
            f"the server ended the replication stream: {said.decode(errors='replace')}",
            kind=kind_of(state.decode()),
            sqlstate=state.decode(),
        )

    # --- status ---------------------------------------------------------------------------------------------------

    def confirm(self, lsn: int) -> None:
        """Report this LSN soon."""
        if lsn <= self.confirmed or self._ended:
            return
        self.confirmed = lsn
        if self._soon is None:
            left = self._sent_at + _CONFIRM_SECONDS - self._loop.time()
            if left <= 0:
                self._report()
            else:
                self._soon = self._loop.call_later(left, self._report)

    def answer(self) -> None:
        """Report at once: the server asked for it."""
        self._report()

    def ping(self) -> None:
        """Report, and ask for a keepalive: it brings the server's position, and proves that the server lives."""
        self._report(wanted=True)

    def _report(self, *, wanted: bool = False) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._ended:
            return
        self._sent_at = self._loop.time()
        lsn = self.confirmed
        now = int((time.time() - _EPOCH_SECONDS) * 1e6)
        try:
            # 0: libpq's buffer is full because the server doesn't read; the next tick reports again.
            if self._pgconn.put_copy_data(_STATUS.pack(b"r", lsn, lsn, lsn, now, wanted)):
                self._flush()
        except psycopg.Error as lost:
            self._die(to_error(lost, _DOING))

    def _flush(self) -> None:
        try:
            if self._pgconn.flush():
                self._loop.add_writer(self._socket, self._flush)
            else:
                self._loop.remove_writer(self._socket)
        except psycopg.Error as lost:
            self._die(to_error(lost, _DOING))

    def _tick(self) -> None:
        """Every third of wal_sender_timeout, also while not reading."""
        if not self._paused:
            self._readable()  # after a long stall of this process, what came meanwhile counts as heard
        if self._ended:
            return
        self._ticking = self._loop.call_later(self._timeout / 3, self._tick)
        silent = self._loop.time() - self._heard_at
        if not self._paused and silent > self._timeout:
            self._die(
                ReplicatorError(
                    f"the source's replication connection was silent for {silent:.0f} s, though it was asked to answer",
                    kind=ErrorKind.CONNECTION,
                )
            )
            return
        self._report(wanted=not self._paused)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _die(self, error: ReplicatorError) -> None:
        if not self._ended:
            self._detach()
            self._pgconn.finish()
            self._fail(error)

    def _detach(self) -> None:
        self._ended = True
        self._disarm()
        self._loop.remove_writer(self._socket)
        self._ticking.cancel()
        self._unread()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    async def close(self) -> None:
        """Report the confirmed LSN a last time, end the stream in order, so that the slot is free; 2 seconds at most.

        A server in the middle of a large transaction doesn't listen: then the connection is cut.
        """
        try:
            self._report()
            if not self._ended:
                self._detach()
                with contextlib.suppress(psycopg.Error, TimeoutError):
                    async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                        await self._finish()
        finally:
            await self._connection.close()

    async def _finish(self) -> None:
        pgconn = self._pgconn
        pgconn.put_copy_end()
        pgconn.flush()
        copying = True
        while True:
            pgconn.consume_input()
            while copying and (size := pgconn.get_copy_data(1)[0]):
                copying = size > 0
            if not copying and not pgconn.is_busy():
                return
            arrived = asyncio.Event()
            self._loop.add_reader(self._socket, arrived.set)
            try:
                await arrived.wait()
            finally:
                self._loop.remove_reader(self._socket)


def _literal(text: str) -> str:
    """The replication grammar knows plain quoted strings only: no escapes, backslashes stand for themselves."""
    return "'" + text.replace("'", "''") + "'"


def _seconds(setting: str) -> float:
    """A duration as SHOW prints it: `1min`, `500ms`, `0`."""
    digits = setting.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 0.001}
    return float(digits) * unit[setting[len(digits) :]]
