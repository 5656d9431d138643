"""One replication slot and its one reader: the stream opened, decoded, paused, nudged and closed, and the session
beside it. What becomes of what was read is told by who inherits: events for a feed, or items for a log.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Protocol

from psycopg import sql

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import ChangeEvent
from replicator.postgres.heartbeat import beat
from replicator.postgres.lsn import format_lsn
from replicator.postgres.probe import Probe
from replicator.postgres.session import application_name
from replicator.postgres.slots import free_slot, lost_slot
from replicator.postgres.walstream import KEEPALIVE, XLOG_DATA, XLOG_DATA_HEADER_BYTES, WalStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import StreamItem
    from replicator.postgres.slots import Slot

MARKER_PREFIX: Final = "replicator"
"""Prefix of the logical messages that mark a feed's transactions where it may not set an origin."""

_IDLE_SECONDS: Final = 1.0
_ROWS: Final = frozenset({b"I", b"U", b"D"})  # kinds of message that may come in runs
_MESSAGES_SINCE: Final = 140_000  # pgoutput's option `messages`
_GONE: Final = frozenset({"42704", "55000"})  # or invalidated


class Decoder(Protocol):
    """What turns the slot's messages into events: one session's, in order."""

    def feed(self, data: bytes, at: int = 0) -> StreamItem | None:
        """Decode the message that begins at `at`; None for one that says nothing by itself.

        Raises:
            ReplicatorError: DECODE.

        """

    def feed_rows(self, messages: Sequence[bytes], first: int, at: int = 0) -> Sequence[ChangeEvent]:
        """Decode a run of rows of one relation that begins at messages[first]; empty where `feed` is to be asked."""

    def reset(self) -> None:
        """A new session begins, between transactions."""


class SlotReader(ABC):
    """See the module.

    Args:
        dsn: the source database.
        feed: `connector/feed`.
        slot: name of an existing slot.
        publication: name of an existing publication.
        decoder: of the slot's plugin.
        buffer_bytes_max: estimated memory of what waits; reading stops above it. One message more may be held, and a
            message is as large as its row.
        drop_origins: transactions are dropped whose origin, or whose marker, begins with this; '' drops none.
            A marker is a transactional logical message with prefix `replicator`, before the transaction's first change
            (servers from 14 on send them).

    """

    def __init__(
        self,
        dsn: str,
        *,
        feed: str,
        slot: str,
        publication: str,
        decoder: Decoder,
        buffer_bytes_max: int,
        drop_origins: str,
    ) -> None:
        self._dsn = dsn
        self._feed = feed
        self._purpose = f"{feed}/wal"
        self._slot = slot
        self._publication = publication
        self._decoder = decoder
        self._buffer_bytes_max = buffer_bytes_max
        self._drop_origins = drop_origins
        self._probe = Probe(dsn, feed)
        self._stream: WalStream | None = None
        self._failure: ReplicatorError | None = None
        self._arrived = asyncio.Event()
        self._nudged_until = 0.0
        self._idle_at = 0.0
        self._paused = False

    # --- the stream ---------------------------------------------------------------------------------------------

    async def _begin_stream(self, slot: Slot, start_lsn: int, version: int, *, messages: bool) -> WalStream:
        """Free the slot of who reads it, and begin.

        Args:
            slot: as it was read.
            start_lsn: where.
            version: of the server.
            messages: whether logical messages are wanted.

        Raises:
            ReplicatorError: SLOT_LOST, when it is gone, or invalidated, since it was read; with the server's SQLSTATE.

        """
        await free_slot(await self._probe.session(), slot, application_name(self._purpose))
        self._decoder.reset()
        names = sql.Identifier(self._publication).as_string()  # the server reads a list of SQL identifiers
        options = {"proto_version": "1", "publication_names": names}
        if messages and version >= _MESSAGES_SINCE:
            options["messages"] = "true"
        try:
            self._stream = await WalStream.open(
                self._dsn,
                self._purpose,
                slot=self._slot,
                start_lsn=start_lsn,
                options=options,
                receive=self._receive,
                fail=self._failed,
            )
        except ReplicatorError as error:
            if error.sqlstate in _GONE:
                raise lost_slot(self._slot, error.message, f"after {format_lsn(start_lsn)}") from error
            raise
        return self._stream

    def _running(self) -> WalStream:
        if self._stream is None:
            raise ReplicatorError("the source was not started", kind=ErrorKind.INTERNAL)
        return self._stream

    def _failed(self, error: ReplicatorError) -> None:
        self._failure = error
        self._arrived.set()

    async def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            failed = self._failure is not None
            await stream.close()
            if failed:
                self._probe.shut()  # it shares the stream's network: whoever waits on it must not wait for ever

    def _receive(self, messages: list[bytes]) -> None:
        """Decode what arrived: runs of rows at once, all else one by one."""
        at, count, start = 0, len(messages), XLOG_DATA_HEADER_BYTES
        try:
            while at < count:
                data = messages[at]
                at += 1
                if data[0] != XLOG_DATA:
                    self._keepalive(data)
                elif data[start : start + 1] in _ROWS and (events := self._decoder.feed_rows(messages, at - 1, start)):
                    self._add(events, messages[at - 1 : at - 1 + len(events)])
                    at += len(events) - 1
                elif type(item := self._decoder.feed(data, start)) is ChangeEvent:
                    self._add([item], [data])
                elif item is not None:
                    self._boundary(item, data)
        finally:
            self._arrived.set()
        if not self._paused and self._stream is not None and self._is_full():
            self._paused = True
            self._stream.pause()

    def _relieve(self) -> None:
        """Something was taken, and little is left."""
        if self._paused and self._stream is not None:
            self._paused = False
            self._stream.resume()

    def _keepalive(self, data: bytes) -> None:
        if len(data) != KEEPALIVE.size or data[0] != ord("k"):
            raise ReplicatorError(
                f"the source sent a replication message of type {data[:1]!r} and {len(data)} bytes, which is none",
                kind=ErrorKind.DECODE,
            )
        _, wal_end, _, wanted = KEEPALIVE.unpack(data)
        self._passed(wal_end)
        if wanted and self._stream is not None:
            self._stream.answer()

    def _is_echo(self, name: str) -> bool:
        """P9: whether the other feed of this connector wrote a transaction of this origin or marker."""
        return bool(self._drop_origins) and name.startswith(self._drop_origins)

    @abstractmethod
    def _add(self, events: Sequence[ChangeEvent], messages: Sequence[bytes]) -> None:
        """Keep events of one relation, one a message."""

    @abstractmethod
    def _boundary(self, item: StreamItem, data: bytes) -> None:
        """Keep what another message says."""

    @abstractmethod
    def _passed(self, lsn: int) -> None:
        """The server has nothing to send before this LSN but for a transaction that it is in the middle of."""

    @abstractmethod
    def _is_full(self) -> bool:
        """Whether enough waits."""

    # --- waiting ------------------------------------------------------------------------------------------------

    async def _arrival(self, seconds: float | None) -> None:
        """Until something has arrived, or so long."""
        alarm = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._arrived.set)
        try:
            await self._arrived.wait()
        finally:
            if alarm is not None:
                alarm.cancel()

    def _idle_seconds(self, *, urgent: bool) -> float:
        """For how long idle progress is still held back: it is told at most once a second, or at once when urgent."""
        now = asyncio.get_running_loop().time()
        return 0.0 if urgent or now < self._nudged_until else max(0.0, self._idle_at + _IDLE_SECONDS - now)

    def _told_idle(self) -> None:
        self._idle_at = asyncio.get_running_loop().time()

    # --- what both ports have -----------------------------------------------------------------------------------

    def nudge(self) -> None:
        """Ask the server for its position. For a second, idle progress is reported without delay."""
        if self._stream is not None:
            self._nudged_until = asyncio.get_running_loop().time() + _IDLE_SECONDS
            self._stream.ping()
            self._arrived.set()

    async def beat(self) -> int:
        """See `ports.Source`."""
        return await beat(await self._probe.session(), self._feed)

    async def head(self) -> int:
        """See `ports.Source`."""
        return await self._probe.insert_lsn()

    async def close(self) -> None:
        """Report the last confirmed LSN, and end. Idempotent."""
        await self._hang_up()
        await self._probe.close()
