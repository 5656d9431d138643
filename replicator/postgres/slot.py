"""A replication slot as a `ports.Source`: the stream decoded, filtered, buffered within bounds, and confirmed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from psycopg import sql

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Begin, ChangeEvent, Commit, LogicalMessage, Origin, Position, Truncation
from replicator.ports import SourceLag
from replicator.postgres.backlog import Backlog
from replicator.postgres.heartbeat import HEARTBEAT, beat
from replicator.postgres.lsn import format_lsn, parse_lsn
from replicator.postgres.probe import Probe
from replicator.postgres.session import application_name
from replicator.postgres.slots import check_start, free_slot, lost_slot, read_slot
from replicator.postgres.walstream import KEEPALIVE, XLOG_DATA, XLOG_DATA_HEADER_BYTES, WalStream
from replicator.runs import Run

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from replicator.events import Batch, Relation, StreamItem
    from replicator.tables import TableName

MARKER_PREFIX: Final = "replicator"
"""Prefix of the logical messages that mark a feed's transactions where it may not set an origin."""

_EVENT_BYTES: Final = 300  # an event's tuples, and its places in lists
_VALUE_BYTES: Final = 48  # a bytes object, without its content, and its place
_IDLE_SECONDS: Final = 1.0
_ROWS_MAX: Final = 10_000  # of a batch, until one is asked for
_MESSAGES_SINCE: Final = 140_000  # pgoutput's option `messages`
_ROWS: Final = frozenset({b"I", b"U", b"D"})  # kinds of message that may come in runs
_DROP_ALL: Final = 1 << 62  # an ordinal that no transaction reaches


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


def format_position(position: Position) -> str:
    """`0/16B3748`, or `0/16B3748#12` inside a transaction."""
    lsn = format_lsn(position.at)
    return f"{lsn}#{position.ordinal}" if position.ordinal else lsn


def parse_position(text: str) -> Position:
    """The inverse of `format_position`.

    Raises:
        ReplicatorError: CONFIG when `format_position` did not write it.

    """
    lsn, _, ordinal = text.partition("#")
    try:
        return Position(parse_lsn(lsn), int(ordinal or "0"))
    except ValueError as error:
        raise ReplicatorError(
            f"{text!r} is not a position of a replication slot",
            kind=ErrorKind.CONFIG,
            hint="The checkpoint was written for another kind of stream, or by hand",
        ) from error


class SlotSource:
    """See `ports.Source` for the contract. One slot, one publication, one reader.

    A position between transactions is the end LSN of a commit (or what a keepalive says that the server has passed),
    inside one it is its commit LSN and an ordinal; both are where the server is asked to begin again.

    Args:
        dsn: the source database.
        connector: the connector's name.
        feed: `forward` or `reverse`.
        slot: name of an existing slot.
        publication: name of an existing publication.
        decoder: of the slot's plugin.
        tables: the mapped tables; events of others are counted and dropped.
        buffer_bytes_max: estimated memory of events that wait; reading stops above it. One message more may be held,
            and a message is as large as its row.
        drop_origins: transactions are dropped whose origin, or whose marker, begins with this; '' drops none.
            A marker is a transactional logical message with prefix `replicator`, before the transaction's first change
            (servers from 14 on send them).

    """

    taken_over = 0

    def __init__(
        self,
        dsn: str,
        *,
        connector: str,
        feed: str,
        slot: str,
        publication: str,
        decoder: Decoder,
        tables: Collection[TableName],
        buffer_bytes_max: int = 64 << 20,
        drop_origins: str = "",
    ) -> None:
        self._dsn = dsn
        self._feed = f"{connector}/{feed}"
        self._slot = slot
        self._publication = publication
        self._decoder = decoder
        self._tables = frozenset(tables)
        self._buffer_bytes_max = buffer_bytes_max
        self._drop_origins = drop_origins
        self._stream: WalStream | None = None
        self._probe = Probe(dsn, self._feed)
        self._failure: ReplicatorError | None = None
        self._arrived = asyncio.Event()
        self._nudged_until = 0.0
        self._idle_at = 0.0
        self._paused = False
        self._rows_max = _ROWS_MAX
        self._reset(Position(0))

    def _reset(self, position: Position) -> None:
        self._start = position
        self._backlog = Backlog(position)
        self._sent = position.at
        self._failure = None
        self._paused = False
        # The open transaction: events up to `_skip` are dropped, `_ordinal` is its last one.
        self._in_transaction = False
        self._skip = 0
        self._ordinal = 0
        self._heartbeat_seen = False
        self._shapes: dict[Relation, tuple[bool, int]] = {}
        self._decoder.reset()

    def map_tables(self, tables: Collection[TableName]) -> None:
        """Replace the mapped tables; for messages that arrive from now on."""
        self._tables = frozenset(tables)
        self._shapes.clear()

    # --- the port -----------------------------------------------------------------------------------------------

    async def start(self, position: Position | None) -> Position:
        """See `ports.Source`. Ends a stream that still runs; may be called again after a failure."""
        await self._hang_up()
        session = await self._probe.session()
        version = await self._probe.check_source(self._publication)
        slot = await read_slot(session, self._slot)
        if slot is None:
            since = "" if position is None else f"after {self.format(position)}"
            raise lost_slot(self._slot, "it does not exist", since)
        begin = Position(slot.confirmed_lsn) if position is None else position
        check_start(slot, begin.at, await self._probe.insert_lsn())
        purpose = f"{self._feed}/wal"
        await free_slot(session, slot, application_name(purpose))
        self._reset(begin)
        try:
            self._stream = await WalStream.open(
                self._dsn,
                purpose,
                slot=self._slot,
                start_lsn=begin.at,
                options=self._options(version),
                receive=self._receive,
                fail=self._failed,
            )
        except ReplicatorError as error:
            if error.sqlstate in {"42704", "55000"}:  # gone, or invalidated, since it was read
                raise lost_slot(self._slot, error.message, f"after {self.format(begin)}") from error
            raise
        return begin

    async def take(self, rows_max: int, bytes_max: int) -> Batch:
        """See `ports.Source`. After a failure, whole transactions that had arrived come first."""
        if self._stream is None:
            raise ReplicatorError("the source was not started", kind=ErrorKind.INTERNAL)
        loop = asyncio.get_running_loop()
        self._rows_max = rows_max
        self._stream.attend()
        while True:
            self._arrived.clear()
            batch = self._backlog.cut(rows_max, bytes_max, parts=self._failure is None, forced=self._paused)
            if batch is not None:
                self._stream.relax()
                self._relieve()
                return batch
            if self._failure is not None:
                raise self._failure
            alarm = None
            if self._backlog.idle:
                now = loop.time()
                due = self._idle_at + _IDLE_SECONDS - now
                if (self._backlog.urgent or now < self._nudged_until or due <= 0) and (
                    idle := self._backlog.idle_batch()
                ) is not None:
                    self._idle_at = now
                    return idle
                alarm = loop.call_later(due, self._arrived.set)
            try:
                await self._arrived.wait()
            finally:
                if alarm is not None:
                    alarm.cancel()

    @property
    def ready_rows(self) -> int:
        """See `ports.Source`."""
        return self._backlog.rows

    def confirm(self, position: Position) -> None:
        """See `ports.Source`."""
        if self._stream is not None:
            self._stream.confirm(position.at)

    def nudge(self) -> None:
        """See `ports.Source`. For a second, idle progress is reported without delay."""
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

    async def passed(self, lsn: int) -> Position:
        """See `ports.Source`."""
        return Position(lsn)

    async def lag(self) -> SourceLag:
        """See `ports.Source`."""
        retained = await self._probe.retained_wal_bytes(self._slot)
        return SourceLag(retained_wal_bytes=retained, sent_position=self.format(Position(self._sent)))

    def format(self, position: Position) -> str:
        """See `ports.Source`."""
        return format_position(position)

    def progress(self, position: Position) -> str:
        """See `ports.Source`."""
        return format_position(position)

    def parse(self, text: str) -> Position:
        """See `ports.Source`.

        Raises:
            ReplicatorError: CONFIG when `format` did not write it.

        """
        return parse_position(text)

    async def close(self) -> None:
        """See `ports.Source`."""
        await self._hang_up()
        await self._probe.close()

    async def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            failed = self._failure is not None
            await stream.close()
            if failed:
                self._probe.shut()  # it shares the stream's network: whoever waits on it must not wait for ever

    def _options(self, version: int) -> dict[str, str]:
        names = sql.Identifier(self._publication).as_string()  # the server reads a list of SQL identifiers
        messages = {"messages": "true"} if self._drop_origins and version >= _MESSAGES_SINCE else {}
        return {"proto_version": "1", "publication_names": names} | messages

    # --- the stream ---------------------------------------------------------------------------------------------

    def _failed(self, error: ReplicatorError) -> None:
        self._failure = error
        self._arrived.set()

    def _is_full(self) -> bool:
        """Whether enough waits: a batch beside the next one. What is decoded late is still in the processor's cache,
        and a server that waits for us sends in packs, which costs it half.
        """
        return self._backlog.pending_bytes > self._buffer_bytes_max or self.ready_rows >= 2 * self._rows_max

    def _relieve(self) -> None:
        few = self._backlog.pending_bytes <= self._buffer_bytes_max // 2 and self.ready_rows <= self._rows_max
        if few and self._paused and self._stream is not None:
            self._paused = False
            self._stream.resume()

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
                    self._boundary(item)
        finally:
            self._arrived.set()
        if self._is_full() and not self._paused and self._stream is not None:
            self._paused = True
            self._stream.pause()

    def _add(self, events: Sequence[ChangeEvent], messages: Sequence[bytes]) -> None:
        """Keep events of one relation, and account for them by their messages' sizes."""
        run = events if isinstance(events, Run) else None
        relation = events[0].relation if run is None else run.relation
        ordinal = events[0].ordinal if run is None else run.first
        wanted, overhead = self._look_up(relation)
        dropped = max(0, self._skip - ordinal + 1)
        self._ordinal = ordinal + len(events) - 1
        if not wanted or dropped >= len(events):
            return
        if run is not None:
            self._backlog.add_run(run[dropped:] if dropped else run, overhead)
        else:
            self._backlog.add(events[dropped:], map(len, messages[dropped:]), overhead)

    def _look_up(self, relation: Relation) -> tuple[bool, int]:
        """Whether the relation is mapped, and the memory that an event of it takes beside its message."""
        found = self._shapes.get(relation)
        if found is None:
            found = relation.table in self._tables, _EVENT_BYTES + _VALUE_BYTES * len(relation.columns)
            self._shapes[relation] = found
        if relation.table == HEARTBEAT:
            self._heartbeat_seen = True
        return found

    def _boundary(self, item: StreamItem) -> None:
        if isinstance(item, Begin):
            self._begin(item.transaction.commit_lsn)
        elif isinstance(item, Commit):
            self._in_transaction = False
            self._sent = max(self._sent, item.end_lsn)
            self._backlog.urgent |= self._heartbeat_seen
            # A restart may bring what was applied already: the position never goes back.
            self._backlog.end(max(Position(item.end_lsn), self._start), item.transaction.commit_time)
        elif isinstance(item, Origin):
            self._drop_echo(item.name)
        elif isinstance(item, LogicalMessage):
            if item.transactional and item.prefix == MARKER_PREFIX and not self._ordinal:
                self._drop_echo(item.content.decode(errors="replace"))
        elif isinstance(item, Truncation):
            for event in item.events:
                self._ordinal = event.ordinal
                wanted, overhead = self._look_up(event.relation)
                if wanted and event.ordinal > self._skip:
                    self._backlog.add([event], [0], overhead)

    def _begin(self, commit_lsn: int) -> None:
        self._in_transaction = True
        self._heartbeat_seen = False
        self._ordinal = 0
        if commit_lsn > self._start.at:
            self._skip = 0
        else:
            self._skip = self._start.ordinal if commit_lsn == self._start.at else _DROP_ALL

    def _drop_echo(self, name: str) -> None:
        """P9: what the other feed of this connector wrote came from here."""
        if self._drop_origins and name.startswith(self._drop_origins):
            self._skip = _DROP_ALL

    def _keepalive(self, data: bytes) -> None:
        if len(data) != KEEPALIVE.size or data[0] != ord("k"):
            raise ReplicatorError(
                f"the source sent a replication message of type {data[:1]!r} and {len(data)} bytes, which is none",
                kind=ErrorKind.DECODE,
            )
        _, wal_end, _, wanted = KEEPALIVE.unpack(data)
        if not self._in_transaction and wal_end > self._sent:
            self._sent = wal_end
            self._backlog.end(Position(wal_end), None)
        if wanted and self._stream is not None:
            self._stream.answer()
