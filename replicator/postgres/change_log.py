"""A replication slot as a `captures.ChangeLog`: whole transactions in order, with each change's own LSN."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from replicator.captures import Captured, Portion
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Begin, ChangeEvent, Commit, LogicalMessage, Origin, Truncation
from replicator.ports import SourceLag
from replicator.postgres.catalog import read_catalog
from replicator.postgres.heartbeat import HEARTBEAT, beat
from replicator.postgres.lsn import format_lsn
from replicator.postgres.past_shapes import describe, read_type_names
from replicator.postgres.probe import Probe
from replicator.postgres.session import application_name
from replicator.postgres.slot import MARKER_PREFIX
from replicator.postgres.slots import check_start, free_slot, lost_slot, read_slot
from replicator.postgres.walstream import KEEPALIVE, XLOG_DATA, XLOG_DATA_HEADER_BYTES, WalStream
from replicator.records import Message

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from replicator.captures import Described, Item
    from replicator.events import Relation, StreamItem, Transaction
    from replicator.postgres.slot import Decoder
    from replicator.postgres.slots import Slot
    from replicator.tables import Catalog, TableName

_EVENT_BYTES: Final = 500  # an event's tuples, and its places in lists
_PART_BYTES: Final = 4 << 20
_PART_ITEMS: Final = 5_000
"""A transaction larger than this is given out in parts."""
_PORTION_ITEMS: Final = 20_000
_IDLE_SECONDS: Final = 1.0
_MESSAGES_SINCE: Final = 140_000  # pgoutput's option `messages`
_GONE: Final = frozenset({"42704", "55000"})

_start_lsn = struct.Struct(">xQ").unpack_from  # of an XLogData message


@dataclass(slots=True)
class _Part:
    """Items up to the end of a transaction (`position` says where), or of a part of one."""

    items: list[Item]
    size: int
    position: int | None


class SlotChangeLog:
    """See `captures.ChangeLog` for the contract.

    Args:
        dsn: the source database.
        feed: `connector/capture`.
        slot: name of an existing slot.
        publication: name of an existing publication.
        decoder: of the slot's plugin.
        tables: whose changes are wanted; None for all that are published.
        buffer_bytes_max: estimated memory of what waits; reading stops above it.
        drop_origins: transactions are dropped whose origin, or whose marker, begins with this; '' drops none.
        former: the server's process that read the slot for an earlier attempt of this process.

    Attributes:
        holder: the server's process that reads the slot for this one; None before `take_over`.

    """

    def __init__(
        self,
        dsn: str,
        *,
        feed: str,
        slot: str,
        publication: str,
        decoder: Decoder,
        tables: Collection[TableName] | None = None,
        buffer_bytes_max: int = 64 << 20,
        drop_origins: str = "",
        former: int | None = None,
    ) -> None:
        self.holder = former
        self._dsn = dsn
        self._feed = feed
        self._slot = slot
        self._publication = publication
        self._decoder = decoder
        self._tables = None if tables is None else frozenset(tables)
        self._buffer_bytes_max = buffer_bytes_max
        self._drop_origins = drop_origins
        self._probe = Probe(dsn, feed)
        self._stream: WalStream | None = None
        self._taken: Slot | None = None
        self._catalog: Catalog | None = None
        self._failure: ReplicatorError | None = None
        self._arrived = asyncio.Event()
        self._parts: deque[_Part] = deque()
        self._pending_bytes = 0
        self._paused = False
        self._skip = 0
        self._given = 0  # position of what was given out
        self._idle: int | None = None
        self._idle_at = 0.0
        self._nudged_until = 0.0
        # The open transaction, and its items so far.
        self._transaction: Transaction | None = None
        self._dropping = False
        self._begun = False
        self._heartbeat = False
        self._urgent = False
        self._open: list[Item] = []
        self._open_bytes = 0

    # --- the port -----------------------------------------------------------------------------------------------

    async def take_over(self) -> int:
        """See `captures.ChangeLog`."""
        session = await self._probe.session()
        version = await self._probe.check_source(self._publication)
        slot = await read_slot(session, self._slot)
        if slot is None:
            raise lost_slot(self._slot, "it does not exist", "since the capture last confirmed")
        purpose = f"{self._feed}/wal"
        self._check_successor(slot, application_name(purpose))
        await free_slot(session, slot, application_name(purpose))
        self._decoder.reset()
        self._given = slot.confirmed_lsn
        try:
            self._stream = await WalStream.open(
                self._dsn,
                purpose,
                slot=self._slot,
                start_lsn=slot.confirmed_lsn,
                options=self._options(version),
                receive=self._receive,
                fail=self._failed,
            )
            self._stream.pause()  # until it is known what to leave out
        except ReplicatorError as error:
            if error.sqlstate in _GONE:
                since = f"after {format_lsn(slot.confirmed_lsn)}"
                raise lost_slot(self._slot, error.message, since) from error
            raise
        self.holder = self._stream.backend_pid
        # Only now is it sure that nobody confirms anything.
        self._taken = await read_slot(session, self._slot)
        return slot.confirmed_lsn

    def _check_successor(self, slot: Slot, own_name: str) -> None:
        if self.holder is None or slot.holder_pid in (None, self.holder) or slot.holder_name != own_name:
            return
        raise ReplicatorError(
            f"another process has taken over replication slot {self._slot} (the server's process {slot.holder_pid})",
            kind=ErrorKind.SUPERSEDED,
            hint="It goes on where this one was; nothing is lost, and nothing was produced twice",
        )

    async def skip(self, lsn: int) -> None:
        """See `captures.ChangeLog`."""
        if self._taken is None:
            raise lost_slot(self._slot, "it does not exist", f"after {format_lsn(lsn)}")
        check_start(self._taken, lsn, await self._probe.insert_lsn())
        self._skip = self._given = lsn
        if self._stream is not None:
            self._stream.resume()

    async def take(self) -> Portion:
        """See `captures.ChangeLog`. After a failure, what had arrived whole comes first."""
        if self._stream is None:
            raise ReplicatorError("the source was not started", kind=ErrorKind.INTERNAL)
        loop = asyncio.get_running_loop()
        self._stream.attend()
        while True:
            self._arrived.clear()
            if self._parts and (self._failure is None or self._parts[0].position is not None):
                self._stream.relax()
                return self._give()
            if self._failure is not None:
                raise self._failure
            alarm = None
            if self._idle is not None and self._transaction is None:
                now = loop.time()
                due = self._idle_at + _IDLE_SECONDS - now
                if self._urgent or now < self._nudged_until or due <= 0:
                    self._given, self._idle, self._idle_at, self._urgent = self._idle, None, now, False
                    return Portion((), self._given)
                alarm = loop.call_later(due, self._arrived.set)
            try:
                await self._arrived.wait()
            finally:
                if alarm is not None:
                    alarm.cancel()

    def _give(self) -> Portion:
        """Whole transactions up to the bound, or a part of a large one."""
        parts = self._parts
        first = parts.popleft()
        items, position, size = first.items, first.position, first.size
        while parts and position is not None and parts[0].position is not None and len(items) < _PORTION_ITEMS:
            part = parts.popleft()
            items += part.items
            position, size = part.position, size + part.size
        self._pending_bytes -= size
        if position is not None:
            self._given, self._idle = position, None
        if self._paused and self._stream is not None and self._pending_bytes <= self._buffer_bytes_max // 2:
            self._paused = False
            self._stream.resume()
        return Portion(items, position)

    def confirm(self, lsn: int) -> None:
        """See `captures.ChangeLog`."""
        if self._stream is not None:
            self._stream.confirm(lsn)

    def nudge(self) -> None:
        """See `captures.ChangeLog`. For a second, idle progress is reported without delay."""
        if self._stream is not None:
            self._nudged_until = asyncio.get_running_loop().time() + _IDLE_SECONDS
            self._stream.ping()
            self._arrived.set()

    async def beat(self) -> int:
        """See `captures.ChangeLog`."""
        return await beat(await self._probe.session(), self._feed)

    async def head(self) -> int:
        """See `captures.ChangeLog`."""
        return await self._probe.insert_lsn()

    async def lag(self) -> SourceLag:
        """See `captures.ChangeLog`."""
        return SourceLag(retained_wal_bytes=await self._probe.retained_wal_bytes(self._slot))

    async def described(self, relation: Relation) -> Described:
        """See `captures.ChangeLog`."""
        found = None if self._catalog is None else describe(relation, self._catalog)
        if found is None:
            session = await self._probe.session()
            self._catalog = catalog = await read_catalog(session)
            found = describe(relation, catalog)
            if found is None:
                found = describe(relation, catalog, await read_type_names(session, relation.type_oids))
        assert found is not None
        return found

    async def close(self) -> None:
        """See `captures.ChangeLog`."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
            if self._failure is not None:
                self._probe.shut()
        await self._probe.close()

    def _options(self, version: int) -> dict[str, str]:
        names = sql.Identifier(self._publication).as_string()
        messages = {"messages": "true"} if version >= _MESSAGES_SINCE else {}
        return {"proto_version": "1", "publication_names": names} | messages

    # --- the stream ---------------------------------------------------------------------------------------------

    def _failed(self, error: ReplicatorError) -> None:
        self._failure = error
        self._arrived.set()

    def _receive(self, messages: list[bytes]) -> None:
        at, count, start = 0, len(messages), XLOG_DATA_HEADER_BYTES
        try:
            while at < count:
                data = messages[at]
                at += 1
                if data[0] != XLOG_DATA:
                    self._keepalive(data)
                elif events := self._decoder.feed_rows(messages, at - 1, start):
                    self._add(events, messages[at - 1 : at - 1 + len(events)])
                    at += len(events) - 1
                elif (item := self._decoder.feed(data, start)) is not None:
                    self._take_in(item, data)
        finally:
            self._arrived.set()
        if self._pending_bytes > self._buffer_bytes_max and not self._paused and self._stream is not None:
            self._paused = True
            self._stream.pause()

    def _add(self, events: Sequence[ChangeEvent], messages: Sequence[bytes]) -> None:
        """Keep events of one relation."""
        if self._dropping or not self._wanted(events[0].relation.table):
            return
        self._begin()
        self._open += [Captured(event, _start_lsn(data)[0]) for event, data in zip(events, messages, strict=True)]
        self._grow(sum(map(len, messages)) + _EVENT_BYTES * len(events))

    def _wanted(self, table: TableName) -> bool:
        if table == HEARTBEAT:
            self._heartbeat = True
            return False
        return self._tables is None or table in self._tables

    def _begin(self) -> None:
        """The open transaction has something that is wanted."""
        if not self._begun and self._transaction is not None:
            self._begun = True
            self._open.append(Begin(self._transaction))

    def _grow(self, size: int) -> None:
        self._open_bytes += size
        self._pending_bytes += size
        if self._open_bytes > _PART_BYTES or len(self._open) > _PART_ITEMS:
            self._close_part(None)

    def _close_part(self, position: int | None) -> None:
        self._parts.append(_Part(self._open, self._open_bytes, position))
        self._open, self._open_bytes = [], 0

    def _take_in(self, item: StreamItem, data: bytes) -> None:
        if isinstance(item, ChangeEvent):
            self._add([item], [data])
        elif isinstance(item, Begin):
            self._transaction = item.transaction
            self._dropping = item.transaction.commit_lsn < self._skip
            self._begun = self._heartbeat = False
        elif isinstance(item, Commit):
            self._commit(item)
        elif isinstance(item, Origin):
            self._drop_echo(item.name)
        elif isinstance(item, LogicalMessage):
            self._message(item)
        elif isinstance(item, Truncation):
            for event in item.events:
                self._add([event], [data])

    def _commit(self, item: Commit) -> None:
        self._transaction = None
        self._urgent |= self._heartbeat
        if self._begun:
            self._open.append(item)
            self._close_part(item.end_lsn)
        else:
            self._passed(item.end_lsn)

    def _message(self, item: LogicalMessage) -> None:
        """One outside of transactions is a portion by itself, and says what was passed."""
        if item.prefix == MARKER_PREFIX:
            if item.transactional and not self._begun:
                self._drop_echo(item.content.decode(errors="replace"))
            return
        size = len(item.content) + _EVENT_BYTES
        if item.transactional:
            if self._transaction is not None and not self._dropping:
                transaction = self._transaction
                self._begin()
                self._open.append(
                    Message(item.prefix, item.content, item.lsn, transaction.xid, transaction.commit_time)
                )
                self._grow(size)
        elif item.lsn > self._skip:  # the end of its record
            self._parts.append(_Part([Message(item.prefix, item.content, item.lsn, 0)], size, item.lsn))
            self._pending_bytes += size

    def _drop_echo(self, name: str) -> None:
        """P9: what the other feed of this connector wrote came from here."""
        if self._drop_origins and name.startswith(self._drop_origins):
            self._dropping = True

    def _keepalive(self, data: bytes) -> None:
        if len(data) != KEEPALIVE.size or data[0] != ord("k"):
            raise ReplicatorError(
                f"the source sent a replication message of type {data[:1]!r} and {len(data)} bytes, which is none",
                kind=ErrorKind.DECODE,
            )
        _, wal_end, _, wanted = KEEPALIVE.unpack(data)
        if self._transaction is None:
            self._passed(wal_end)
        if wanted and self._stream is not None:
            self._stream.answer()

    def _passed(self, lsn: int) -> None:
        """Everything before this was sent, and nothing of it since the last part is wanted."""
        if self._parts:
            last = self._parts[-1]
            if last.position is not None:
                last.position = max(last.position, lsn)
        elif lsn > max(self._given, self._idle or 0):
            self._idle = lsn
