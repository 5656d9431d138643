"""Kafka as a `ports.Source`: the partitions that a consumer group gives to this process, decoded, within bounds.

    thread ──records──▶ decoding ──▶ backlog ──take──▶ feed ──▶ target, which moves the ledger's offsets
      │                 (slices)                         │
      └─ assigned: identity, take over, where to begin   └─ confirm: what a revocation waits for

Every event gets a transaction of its own, numbered as it was read: partitions have no common order but that one. The
order of each partition is kept, and all that has arrived commits together. With `stream.atomic` the events of a source
transaction share one, and come whole (`atomic`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Position
from replicator.kafka.admin import Admin
from replicator.kafka.beginning import Beginning
from replicator.kafka.logs import Log
from replicator.kafka.offsets import progress_text
from replicator.kafka.session import Session
from replicator.kafka.settings import client_settings, consumer_settings, max_poll_seconds, scrub_of
from replicator.kafka.topics import Topics
from replicator.ports import SourceLag

if TYPE_CHECKING:
    from collections.abc import Collection

    from replicator.config import KafkaStream
    from replicator.events import Batch
    from replicator.partitions import Ledger, Marker, ProducerProof, RecordDecoder, Registry
    from replicator.tables import TableName

_IDLE_SECONDS: Final = 1.0
_LEDGER_SECONDS: Final = 0.1
_MARGIN_SECONDS: Final = 10.0
"""Of `max.poll.interval.ms`, for what follows a callback of a rebalance."""


class KafkaSource:
    """See `ports.Source` for the contract, and `partitions` for what it needs.

    Args:
        stream: the connector's section.
        connector: its name.
        tables: the mapped tables; changes of others only move the offsets.
        decoder: of the stream's format.
        ledger: of the target.
        marker: of the source database.
        proof: of whoever fills the topics.
        registry: where the decoder's schemas come from.

    Raises:
        ReplicatorError: CONFIG for a setting that would break a promise.

    """

    def __init__(
        self,
        stream: KafkaStream,
        *,
        connector: str,
        tables: Collection[TableName],
        decoder: RecordDecoder,
        ledger: Ledger,
        marker: Marker,
        proof: ProducerProof,
        registry: Registry | None = None,
    ) -> None:
        self.topics = Topics(stream, tables)
        self._stream = stream
        self._connector = connector
        self._tables = frozenset(tables)
        self._decoder = decoder
        self._ledger = ledger
        self._marker = marker
        self._proof = proof
        self._registry = registry
        self._settings = consumer_settings(stream, connector)
        self._max_poll_seconds = max_poll_seconds(stream)
        self._scrub = scrub_of(stream)
        self._admin = Admin(client_settings(stream), self._scrub, Log(self._scrub, connector=connector))
        self._session: Session | None = None
        self._applied: Beginning | None = None
        self._nudged_until = 0.0
        self._idle_at = 0.0

    # --- the port ---------------------------------------------------------------------------------------------------

    async def start(self, position: Position | None) -> Position:
        """See `ports.Source`. Joins the group; where partitions begin is told by the ledger, whatever `position` is.

        Raises:
            ReplicatorError: LOG_LOST, CONNECTION, PERMISSION, CONFIG.

        """
        del position
        await self.close()
        beginning = self._beginning()
        await beginning.check()
        session = Session(
            decoder=self._decoder,
            registry=self._registry,
            tables=self._tables,
            ledger=self._ledger,
            proof=self._proof,
            admin=self._admin,
            beginning=beginning,
            scrub=self._scrub,
            whole=self.topics if self._stream.atomic else None,
        )
        session.open(
            self._settings,
            bytes_max=max(self._stream.buffer_bytes_max // 2, 1),
            grace_seconds=max(self._max_poll_seconds - _MARGIN_SECONDS, self._max_poll_seconds / 2),
            connector=self._connector,
        )
        self._session = session
        return Position(session.backlog.number)

    async def take(self, rows_max: int, bytes_max: int) -> Batch:
        """See `ports.Source`. After a failure, what had been read before comes first, unless it was lost."""
        session = self._running()
        loop = asyncio.get_running_loop()
        while True:
            session.changed.clear()
            batch = session.cut(rows_max, bytes_max) or session.levelled()
            if batch is not None:
                return batch
            if session.failure is not None:
                raise session.failure
            now = loop.time()
            due = self._idle_at + _IDLE_SECONDS - now
            if due <= 0 or now < self._nudged_until:
                idle = session.backlog.idle(session.readings.values())
                if idle is not None:
                    self._idle_at = now
                    return idle
                alarm = None
            else:
                alarm = loop.call_later(due, session.changed.set)
            try:
                await session.changed.wait()
            finally:
                if alarm is not None:
                    alarm.cancel()

    @property
    def ready_rows(self) -> int:
        """See `ports.Source`."""
        return 0 if self._session is None else self._session.backlog.rows

    @property
    def taken_over(self) -> int:
        """See `ports.Source`."""
        return 0 if self._session is None else self._session.taken_over

    def confirm(self, position: Position) -> None:
        """See `ports.Source`. Kafka is told every few seconds, for monitoring tools."""
        if self._session is not None:
            self._session.confirm(position)

    def nudge(self) -> None:
        """See `ports.Source`. For a second, idle progress is reported without delay."""
        if self._session is not None:
            self._nudged_until = asyncio.get_running_loop().time() + _IDLE_SECONDS
            self._session.changed.set()

    async def beat(self) -> int:
        """See `ports.Source`."""
        return await self._marker.beat()

    async def head(self) -> int:
        """See `ports.Source`."""
        return await self._marker.head()

    async def passed(self, lsn: int) -> Position:
        """See `ports.Source`."""
        return await self._running().passed(lsn)

    async def lag(self) -> SourceLag:
        """See `ports.Source`. The backlog is what the target has not committed yet, of this process's partitions."""
        retained = await self._marker.retained_wal_bytes()
        session = self._session
        if session is None:
            return SourceLag(retained_wal_bytes=retained)
        confirmed = dict(session.confirmed)
        backlog: int | None = None
        if confirmed:
            ends = await self._admin.ends(confirmed)
            if ends.keys() == confirmed.keys():
                backlog = sum(max(0, end - confirmed[one]) for one, end in ends.items())
        return SourceLag(retained, backlog, self.format(Position(session.backlog.number)))

    def format(self, position: Position) -> str:
        """See `ports.Source`: the newest event at or before it, as `topic/partition:offset`."""
        newest = None if self._session is None else self._session.yielded.newest(position)
        if newest is None:
            return "the beginning"
        _, (topic, number), next_offset = newest
        return f"{topic}/{number}:{next_offset - 1}"

    def progress(self, position: Position) -> str:
        """See `ports.Source`."""
        if self._session is None:
            return ""
        yielded = self._session.yielded
        return progress_text(yielded.progress(position), yielded.marks(position))

    def parse(self, text: str) -> Position:
        """See `ports.Source`: no text says where a session was.

        Raises:
            ReplicatorError: CONFIG.

        """
        raise ReplicatorError(
            f"{text!r} is a position of another kind of stream: Kafka's are kept for each partition",
            kind=ErrorKind.CONFIG,
            hint="Set stream.kind back, or give the connector another name and let it copy all tables anew",
        )

    async def close(self) -> None:
        """See `ports.Source`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # --- beside the port --------------------------------------------------------------------------------------------

    async def mark_beginning(self, tables: Collection[TableName]) -> None:
        """Have every partition of these tables that exists now, and that nobody has begun, begin at its end.

        For tables that are to be copied from the source, by who leads the group, once the producer's position is held
        back: what lies before is in the copy.

        Raises:
            ReplicatorError: LOG_LOST, CONNECTION, PERMISSION.

        """
        await self._beginning().mark({self.topics.transactions, *(self.topics.by_table[table] for table in tables)})

    async def applied(self, lsn: int) -> None:
        """Wait until the group has applied everything that was committed on the source before `lsn`, by the ledger's
        word alone: for one who isn't a member. Needs no `start`. Cancel-safe.

        Raises:
            ReplicatorError: as `passed`.

        """
        await self._proof.produced(lsn)
        beginning = self._applied = self._applied or self._beginning()
        await beginning.refresh()
        ends = await self._admin.ends(beginning.partitions())
        while True:
            offsets = await self._ledger.offsets()
            if all(offsets.get(partition, 0) >= end for partition, end in ends.items()):
                return
            await asyncio.sleep(_LEDGER_SECONDS)

    def _beginning(self) -> Beginning:
        transactions = self.topics.transactions if self._stream.atomic else None
        return Beginning(self._admin, self._ledger, self.topics.tables, transactions=transactions)

    def _running(self) -> Session:
        if self._session is None:
            raise ReplicatorError("the source was not started", kind=ErrorKind.INTERNAL)
        return self._session
