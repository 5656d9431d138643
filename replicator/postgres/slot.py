"""A replication slot as a `ports.Source`: the stream decoded, filtered, buffered within bounds, and confirmed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Begin, ChangeEvent, Commit, LogicalMessage, Origin, Position, Truncation
from replicator.ports import SourceLag
from replicator.postgres.backlog import Backlog
from replicator.postgres.flow import GATHER_SECONDS, GATHERINGS
from replicator.postgres.heartbeat import HEARTBEAT
from replicator.postgres.lsn import format_lsn, parse_lsn
from replicator.postgres.slot_reader import MARKER_PREFIX, SlotReader
from replicator.postgres.slots import check_start, lost_slot, read_slot
from replicator.runs import Run

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from replicator.events import Batch, Relation, StreamItem
    from replicator.postgres.slot_reader import Decoder
    from replicator.tables import TableName

_EVENT_BYTES: Final = 300  # an event's tuples, and its places in lists
_VALUE_BYTES: Final = 48  # a bytes object, without its content, and its place
_ROWS_MAX: Final = 10_000  # of a batch, until one is asked for
_DROP_ALL: Final = 1 << 62  # an ordinal that no transaction reaches


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


class SlotSource(SlotReader):
    """See `ports.Source` for the contract. One slot, one publication, one reader.

    A position between transactions is the end LSN of a commit (or what a keepalive says that the server has passed),
    inside one it is its commit LSN and an ordinal; both are where the server is asked to begin again.

    Args:
        dsn, slot, publication, decoder, buffer_bytes_max, drop_origins: see `SlotReader`.
        connector: the connector's name.
        feed: `forward` or `reverse`.
        tables: the mapped tables; events of others are counted and dropped.

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
        super().__init__(
            dsn,
            feed=f"{connector}/{feed}",
            slot=slot,
            publication=publication,
            decoder=decoder,
            buffer_bytes_max=buffer_bytes_max,
            drop_origins=drop_origins,
        )
        self._tables = frozenset(tables)
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
        self._reset(begin)
        await self._begin_stream(slot, begin.at, version, messages=bool(self._drop_origins))
        return begin

    async def take(self, rows_max: int, bytes_max: int) -> Batch:
        """See `ports.Source`. After a failure, whole transactions that had arrived come first."""
        stream = self._running()
        self._rows_max = rows_max
        for _ in range(GATHERINGS):
            if not stream.flow.flowing or self._backlog.rows >= rows_max // 2 or self._paused or self._failure:
                break
            await asyncio.sleep(GATHER_SECONDS)
        if self._backlog.rows < rows_max or self._failure is not None:
            stream.attend()
        while True:
            self._arrived.clear()
            batch = self._backlog.cut(rows_max, bytes_max, parts=self._failure is None, forced=self._paused)
            if batch is not None:
                stream.relax()
                if self._backlog.pending_bytes <= self._buffer_bytes_max // 2 and self.ready_rows <= self._rows_max:
                    self._relieve()
                return batch
            if self._failure is not None:
                raise self._failure
            due = None
            if self._backlog.idle:
                due = self._idle_seconds(urgent=self._backlog.urgent)
                if not due and (idle := self._backlog.idle_batch()) is not None:
                    self._told_idle()
                    return idle
            await self._arrival(due)

    @property
    def ready_rows(self) -> int:
        """See `ports.Source`."""
        return self._backlog.rows

    def confirm(self, position: Position) -> None:
        """See `ports.Source`."""
        if self._stream is not None:
            self._stream.confirm(position.at)

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

    # --- the stream ---------------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        """Whether enough waits: a batch beside the next one. What is decoded late is still in the processor's cache,
        and a server that waits for us sends in packs, which costs it half.
        """
        return self._backlog.pending_bytes > self._buffer_bytes_max or self.ready_rows >= 2 * self._rows_max

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

    def _boundary(self, item: StreamItem, data: bytes) -> None:
        del data
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
        if self._is_echo(name):
            self._skip = _DROP_ALL

    def _passed(self, lsn: int) -> None:
        if not self._in_transaction and lsn > self._sent:
            self._sent = lsn
            self._backlog.end(Position(lsn), None)
