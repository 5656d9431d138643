"""A replication slot as a `captures.ChangeLog`: whole transactions in order, with each change's own LSN."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.captures import Captured, CapturedRows, Portion
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Begin, ChangeEvent, Commit, LogicalMessage, Op, Origin, Truncation
from replicator.ports import SourceLag
from replicator.postgres.catalog import read_catalog
from replicator.postgres.heartbeat import HEARTBEAT
from replicator.postgres.lsn import format_lsn
from replicator.postgres.past_shapes import describe, read_type_names
from replicator.postgres.session import application_name, connect
from replicator.postgres.slot_reader import MARKER_PREFIX, SlotReader
from replicator.postgres.slots import check_start, lost_slot, read_slot
from replicator.records import Message
from replicator.runs import Rows, Run

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from replicator.captures import Described, Item
    from replicator.events import Relation, StreamItem, Transaction
    from replicator.postgres.slot_reader import Decoder
    from replicator.postgres.slots import Slot
    from replicator.tables import Catalog, TableName

_EVENT_BYTES: Final = 500  # an event's tuples and values, and its places in lists
_RUN_ROWS: Final = 250  # of one item: 1 ms of encoding
_PART_BYTES: Final = 4 << 20
_PART_CHANGES: Final = 5_000
"""A transaction larger than this is given out in parts."""
_PORTION_CHANGES: Final = 20_000

_start_lsn = struct.Struct(">xQ").unpack_from  # of an XLogData message


@dataclass(slots=True)
class _Part:
    """Items up to the end of a transaction (`position` says where), or of a part of one.

    Attributes:
        changes: how many are in the items.
        size: their memory, estimated.

    """

    items: list[Item]
    changes: int
    size: int
    position: int | None


class SlotChangeLog(SlotReader):
    """See `captures.ChangeLog` for the contract.

    Args:
        dsn, feed, slot, publication, decoder, buffer_bytes_max, drop_origins: see `SlotReader`.
        tables: whose changes are wanted; None for all that are published.
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
        super().__init__(
            dsn,
            feed=feed,
            slot=slot,
            publication=publication,
            decoder=decoder,
            buffer_bytes_max=buffer_bytes_max,
            drop_origins=drop_origins,
        )
        self.holder = former
        self._tables = None if tables is None else frozenset(tables)
        self._taken: Slot | None = None
        self._catalog: Catalog | None = None
        self._parts: deque[_Part] = deque()
        self._pending_bytes = 0
        self._skip = 0
        self._given = 0  # position of what was given out
        self._idle: int | None = None
        # The open transaction, and its items so far.
        self._transaction: Transaction | None = None
        self._dropping = False
        self._begun = False
        self._heartbeat = False
        self._urgent = False
        self._open: list[Item] = []
        self._open_changes = 0
        self._open_bytes = 0

    # --- the port -----------------------------------------------------------------------------------------------

    async def take_over(self) -> int:
        """See `captures.ChangeLog`."""
        session = await self._probe.session()
        version = await self._probe.check_source(self._publication)
        slot = await read_slot(session, self._slot)
        if slot is None:
            raise lost_slot(self._slot, "it does not exist", "since the capture last confirmed")
        self._check_successor(slot, application_name(self._purpose))
        self._given = slot.confirmed_lsn
        stream = await self._begin_stream(slot, slot.confirmed_lsn, version, messages=True)
        stream.pause()  # until it is known what to leave out
        self.holder = stream.backend_pid
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
        stream = self._running()
        stream.attend()
        while True:
            self._arrived.clear()
            if self._parts and (self._failure is None or self._parts[0].position is not None):
                stream.relax()
                return self._give()
            if self._failure is not None:
                raise self._failure
            due = None
            if self._idle is not None and self._transaction is None:
                due = self._idle_seconds(urgent=self._urgent)
                if not due:
                    self._told_idle()
                    self._given, self._idle, self._urgent = self._idle, None, False
                    return Portion((), self._given)
            await self._arrival(due)

    def _give(self) -> Portion:
        """Whole transactions up to the bound, or a part of a large one."""
        parts = self._parts
        first = parts.popleft()
        items, position, changes, size = first.items, first.position, first.changes, first.size
        while parts and position is not None and parts[0].position is not None and changes < _PORTION_CHANGES:
            part = parts.popleft()
            items += part.items
            position, changes, size = part.position, changes + part.changes, size + part.size
        self._pending_bytes -= size
        if position is not None:
            self._given, self._idle = position, None
        if self._pending_bytes <= self._buffer_bytes_max // 2:
            self._relieve()
        return Portion(items, position)

    def confirm(self, lsn: int) -> None:
        """See `captures.ChangeLog`."""
        if self._stream is not None:
            self._stream.confirm(lsn)

    async def lag(self) -> SourceLag:
        """See `captures.ChangeLog`."""
        return SourceLag(retained_wal_bytes=await self._probe.retained_wal_bytes(self._slot))

    async def described(self, relation: Relation) -> Described:
        """See `captures.ChangeLog`."""
        found = None if self._catalog is None else describe(relation, self._catalog)
        if found is None:
            # On a session of its own: whoever asks for the lag meanwhile would ask within the catalog's snapshot.
            async with await connect(self._dsn, f"{self._purpose}/catalog") as session:
                self._catalog = catalog = await read_catalog(session)
                found = describe(relation, catalog)
                if found is None:
                    found = describe(relation, catalog, await read_type_names(session, relation.type_oids))
        assert found is not None
        return found

    # --- the stream ---------------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self._pending_bytes > self._buffer_bytes_max

    def _add(self, events: Sequence[ChangeEvent], messages: Sequence[bytes]) -> None:
        """Keep events of one relation: those of a run as one item, where all of them are of new rows."""
        run = events if isinstance(events, Run) else None
        if self._dropping or not self._wanted(events[0].relation.table if run is None else run.relation.table):
            return
        self._begin()
        lsns = [_start_lsn(data)[0] for data in messages]
        if run is None or run.op is Op.DELETE:
            self._open += map(Captured, events, lsns)
        else:
            self._add_run(run, lsns)
        self._grow(len(events), sum(map(len, messages)))

    def _add_run(self, run: Run, lsns: list[int]) -> None:
        """As part of the item before, where that one is of the same kind and not yet long."""
        op, relation, rows = run.op, run.relation, run.rows
        last = self._open[-1] if self._open else None
        if (
            isinstance(last, CapturedRows)
            and last.relation is relation
            and last.op is op
            and len(last.rows) < _RUN_ROWS
        ):
            rows, lsns = Rows.join([last.rows, rows], rows.width), last.lsns + lsns
            self._open.pop()
        self._open.append(CapturedRows(op, relation, rows, lsns, run.transaction))

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

    def _grow(self, changes: int, content: int) -> None:
        size = content + _EVENT_BYTES * changes
        self._open_changes += changes
        self._open_bytes += size
        self._pending_bytes += size
        if self._open_bytes > _PART_BYTES or self._open_changes > _PART_CHANGES:
            self._close_part(None)

    def _close_part(self, position: int | None) -> None:
        self._parts.append(_Part(self._open, self._open_changes, self._open_bytes, position))
        self._open, self._open_changes, self._open_bytes = [], 0, 0

    def _boundary(self, item: StreamItem, data: bytes) -> None:
        if isinstance(item, Begin):
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
        if item.transactional:
            if self._transaction is not None and not self._dropping:
                transaction = self._transaction
                self._begin()
                self._open.append(
                    Message(item.prefix, item.content, item.lsn, transaction.xid, transaction.commit_time)
                )
                self._grow(1, len(item.content))
        elif item.lsn > self._skip:  # the end of its record
            size = len(item.content) + _EVENT_BYTES
            self._parts.append(_Part([Message(item.prefix, item.content, item.lsn, 0)], 1, size, item.lsn))
            self._pending_bytes += size

    def _drop_echo(self, name: str) -> None:
        if self._is_echo(name):
            self._dropping = True

    def _passed(self, lsn: int) -> None:
        """Nothing of what came since the last part is wanted."""
        if self._transaction is not None:
            return
        if self._parts:
            last = self._parts[-1]
            if last.position is not None:
                last.position = max(last.position, lsn)
        elif lsn > max(self._given, self._idle or 0):
            self._idle = lsn
