"""Records to events, on the event loop, in slices: the loop stays free for whoever else it serves."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from itertools import count, groupby, islice, repeat
from operator import add
from typing import TYPE_CHECKING, Any, Final

import structlog

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import ChangeEvent, Op, Transaction
from replicator.kafka.arrivals import End, size_of
from replicator.kafka.backlog import Late
from replicator.kafka.replays import OutOfOrderError
from replicator.records import Record, RowChange, RowChanges, TransactionMark
from replicator.runs import LogRun

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from replicator.events import Relation, Value
    from replicator.kafka.atomic import Merge
    from replicator.kafka.backlog import Backlog, Reading
    from replicator.kafka.replays import Mark
    from replicator.partitions import Partition, RecordDecoder, Registry
    from replicator.records import Decoded, RegistrySchema
    from replicator.tables import TableName

_EVENT_BYTES: Final = 600  # an event with its transaction, its tuples, and its places in lists
_ROW_BYTES: Final = 300  # a row of a run: where it comes from, its sequence, and its places in lists
_VALUE_BYTES: Final = 48  # a bytes object, without its content, and its place
_SLICE_SECONDS: Final = 0.005
_RUN: Final = 500
"""Records that are read at once, between two looks at the clock: 2 ms."""
_FEW: Final = 4
"""Fewer events cost less one by one."""
_SETTLED_SECONDS: Final = 5.0
"""After so long without any record, what waits for others at the beginning of a feed waits in vain."""
_new_event: Final[Callable[[Iterable[Any]], ChangeEvent]] = partial(tuple.__new__, ChangeEvent)


class Decoding:
    """From what the consumer hands over to the backlog.

    Args:
        decoder: of the connector's format.
        registry: where its schemas come from; None where it needs none.
        tables: the mapped ones.
        readings: this process's partitions; records of others are dropped.
        backlog: gets the events.
        partitions_of: how many partitions a topic has.
        forgetting: the statement that has the target forget a partition's sequence.
        release: what was handed over is not held any more; bytes.
        full: whether there is no room for more.
        progressed: something was read.
        merge: puts whole transactions together, where the connector asks for them.

    Attributes:
        wanted: partitions that must be read though there is no room.
        passed: how many records were read, or dropped.

    """

    def __init__(
        self,
        decoder: RecordDecoder,
        registry: Registry | None,
        *,
        tables: Collection[TableName],
        readings: Mapping[Partition, Reading],
        backlog: Backlog,
        partitions_of: Callable[[str], int],
        forgetting: Callable[[Partition], str],
        release: Callable[[int], None],
        full: Callable[[], bool],
        progressed: Callable[[], None],
        merge: Merge | None = None,
    ) -> None:
        self._decoder = decoder
        self._registry = registry
        self._tables = frozenset(tables)
        self._readings = readings
        self._backlog = backlog
        self._partitions_of = partitions_of
        self._forgetting = forgetting
        self._release = release
        self._full = full
        self._progressed = progressed
        self._waiting: deque[Record | End] = deque()
        self._merge = merge
        self.wanted: frozenset[Partition] = frozenset()
        self.passed = 0
        self._more = asyncio.Event()
        self._log = structlog.get_logger("replicator.kafka")

    def add(self, arrivals: Iterable[Record | End]) -> None:
        """Take what arrived."""
        self._waiting.extend(arrivals)
        self._more.set()

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forget what waits of these partitions."""
        kept: deque[Record | End] = deque()
        for one in self._waiting:
            if (one.topic, one.partition) not in partitions:
                kept.append(one)
            elif type(one) is Record:
                self._release(size_of((one,)))
                self.passed += 1
        self._waiting = kept

    async def run(self) -> None:
        """Decode, until cancelled.

        Raises:
            ReplicatorError: DECODE, SCHEMA, LOG_LOST for what can't be read; everything before it is in the backlog.
                CONNECTION, PERMISSION of the registry.

        """
        while True:
            settled = not await self._arrivals()
            self._more.clear()
            while self._waiting or settled:
                try:
                    needed = self._slice(time.monotonic() + _SLICE_SECONDS)
                    if self._merge is not None:
                        self._give_out(self._merge, settled=settled)
                finally:
                    self._progressed()
                settled = False
                if needed:
                    await self._learn(needed)
                await asyncio.sleep(0)

    async def _arrivals(self) -> bool:
        """Wait for more; False when a merge has waited long enough."""
        if self._merge is None:
            return await self._more.wait()
        try:
            async with asyncio.timeout(_SETTLED_SECONDS):
                return await self._more.wait()
        except TimeoutError:
            return not all(reading.at_end for reading in self._readings.values())

    def _give_out(self, merge: Merge, *, settled: bool) -> None:
        merge.work(full=self._full(), settled=settled)
        self.wanted = merge.wanted()
        for reading in self._readings.values():
            held = merge.first_held(reading.partition)
            reading.read = reading.upto(reading.seen if held is None else held)

    def _slice(self, until: float) -> Collection[RegistrySchema]:
        """Decode for a while; returns schemas without which the next record can't be read."""
        waiting = self._waiting
        while waiting and time.monotonic() < until:
            first = waiting[0]
            reading = self._readings.get((first.topic, first.partition))
            if reading is None or first.offset < reading.seen:
                self._pass((first,))  # given up meanwhile, or read before
            elif type(first) is Record:
                if needed := self._read(reading, self._run_of(first)):
                    return needed
            else:
                reading.seen = first.offset
                reading.at_end = True
                self._follow(reading)
                self._pass((first,))
        return ()

    def _run_of(self, first: Record) -> list[Record]:
        """The first records that wait, as long as they are of one partition and in its order."""
        topic, partition, offset = first.topic, first.partition, first.offset
        records = []
        for one in islice(self._waiting, _RUN):
            if type(one) is not Record or one.offset < offset or one.partition != partition or one.topic != topic:
                break
            offset = one.offset + 1
            records.append(one)
        return records

    def _read(self, reading: Reading, records: Sequence[Record]) -> Collection[RegistrySchema]:
        """Take in the first of these records; returns what its decoder needs first."""
        read = self._decoder.decode_rows if self._merge is None else self._decoder.decode_run
        decoded: Sequence[Decoded | RowChanges] = read(records)
        if not decoded:
            return self._decoder.needs(records[0])
        at = 0
        for stretch in _stretches(decoded):
            some = records[at : at + len(stretch)]
            at += len(some)
            if isinstance(stretch, RowChanges) and self._say_run(some, stretch, reading):
                self._seen(reading, some)
                continue
            changes = list(stretch)
            if self._say_all(some, changes, reading):
                self._seen(reading, some)
                continue
            for record, change in zip(some, changes, strict=True):
                self._say(record, change, reading)
                self._seen(reading, (record,))
        return ()

    def _seen(self, reading: Reading, records: Sequence[Record]) -> None:
        reading.seen = records[-1].offset + 1
        reading.at_end = False
        self._follow(reading)
        self._pass(records)

    def _follow(self, reading: Reading) -> None:
        if self._merge is None:
            reading.read = reading.upto(reading.seen)

    def _pass(self, first: Sequence[Record | End]) -> None:
        """The first that wait are done with."""
        for _ in first:
            self._waiting.popleft()
        if type(first[0]) is Record:
            self._release(size_of(first))  # type: ignore[arg-type]  # an end is always alone
            self.passed += len(first)

    async def _learn(self, needed: Collection[RegistrySchema]) -> None:
        for schema in needed:
            if self._registry is None:
                raise ReplicatorError(
                    f"a record names schema {schema.id} of a registry, and the connector names none",
                    kind=ErrorKind.CONFIG,
                    hint="Set stream.schema_registry",
                )
            self._decoder.learn(schema, await self._registry.schema(schema))

    def _say(self, record: Record, decoded: Decoded, reading: Reading) -> None:
        merge = self._merge
        if type(decoded) is not RowChange:
            if type(decoded) is TransactionMark and merge is not None:
                merge.end(reading, record, decoded)
            return
        op, relation, sequence = decoded.op, decoded.relation, decoded.sequence
        before, after = decoded.before, decoded.after
        if relation.table not in self._tables:
            return
        mark = None
        if sequence is not None and op is not Op.READ:
            if not self._is_new(record, decoded, sequence, reading):
                return
            mark = reading.sequences.mark
        if op is Op.TRUNCATE and self._partitions_of(record.topic) > 1:
            raise _unordered(record, relation.table)
        size = _EVENT_BYTES + _size(before) + _size(after)
        self._release(-size)  # held now in another form
        if merge is not None:
            merge.add(reading, record, decoded, size, mark)
            return
        backlog = self._backlog
        number = backlog.number
        backlog.number = number + 1
        transaction = Transaction(decoded.xid, decoded.lsn, decoded.commit_time, number)
        event = ChangeEvent(op, relation, before, after, transaction, 1)
        backlog.add(event, reading, record.offset + 1, size, mark)

    def _say_all(self, records: Sequence[Record], decoded: Sequence[Decoded], reading: Reading) -> bool:
        """Likewise of several; False, and nothing is done, for any that aren't plain changes of one relation."""
        if self._merge is not None or len(decoded) < _FEW or set(map(type, decoded)) != {RowChange}:
            return False
        ops, relations, befores, afters, xids, lsns, times, _, _, sequences, _ = zip(*decoded, strict=True)
        kinds = set(map(id, ops))
        relation: Relation = relations[0]
        if relations.count(relation) != len(relations) or id(Op.TRUNCATE) in kinds:
            return False
        if relation.table not in self._tables:
            return True
        if len(kinds) > 1 and id(Op.READ) in kinds:
            return False
        marks = _marks(ops[0], sequences, reading)
        if marks is None:
            return False
        sizes = [_EVENT_BYTES + size for size in map(_size, afters)]
        if befores.count(None) != len(befores):
            sizes = list(map(add, sizes, map(_size, befores)))
        self._release(-sum(sizes))  # held now in another form
        backlog, number = self._backlog, self._backlog.number
        backlog.number = number + len(ops)
        transactions = map(Transaction, xids, lsns, times, count(number))
        events = list(map(_new_event, zip(ops, relations, befores, afters, transactions, repeat(1), strict=False)))
        backlog.add_all(events, reading, [record.offset + 1 for record in records], sizes, marks)
        return True

    def _say_run(self, records: Sequence[Record], changes: RowChanges, reading: Reading) -> bool:
        """Likewise of a run; False, and nothing is done, where each has to be looked at."""
        if changes.relation.table not in self._tables:
            return True
        if not changes.whole:
            return False
        marks = _marks(changes.op, changes.sequences, reading)
        if marks is None:
            return False
        rows, backlog = changes.rows, self._backlog
        size = len(records) * _ROW_BYTES + _size(rows.values)
        self._release(-size)  # held now in another form
        run = LogRun(changes.op, changes.relation, rows, changes.origins, number=backlog.number, size=size)
        backlog.number += len(records)
        backlog.add_run(run, reading, [record.offset + 1 for record in records], marks)
        return True

    def _is_new(self, record: Record, change: RowChange, sequence: tuple[int, int], reading: Reading) -> bool:
        """Whether it isn't part of a replay.

        Raises:
            ReplicatorError: LOG_LOST for one that is late.

        """
        sequences = reading.sequences
        this = Late(change.relation.table, record.offset, sequence)
        try:
            new = sequences.is_new(sequence)
        except OutOfOrderError as late:
            raise _late(reading.partition, reading.late or this, late, self._forgetting) from None
        if not sequences.unproven:
            reading.late = None
        elif reading.late is None:
            reading.late = this
            self._log.info(
                "a record goes back: passed over, if the producer repeats all from there", record=str(record)
            )
        return new


def _marks(op: Op, sequences: Sequence[tuple[int, int] | None], reading: Reading) -> list[Mark | None] | None:
    """What is known of the order up to each of these changes, all of a snapshot or none; None where each has to be
    looked at.
    """
    return [None] * len(sequences) if op is Op.READ else reading.sequences.are_new(sequences)


def _stretches(decoded: Sequence[Decoded | RowChanges]) -> Iterable[Sequence[Decoded]]:
    """Runs, and what lies between them."""
    for is_run, some in groupby(decoded, key=lambda one: isinstance(one, RowChanges)):
        if is_run:
            yield from some  # type: ignore[misc]  # all are runs
        else:
            yield list(some)  # type: ignore[arg-type]  # none is a run


def _size(values: Sequence[Value] | None) -> int:
    if values is None:
        return 0
    try:
        return _VALUE_BYTES * len(values) + len(b"".join(values))  # type: ignore[arg-type]  # else it is counted one by one
    except TypeError:
        return _VALUE_BYTES * len(values) + sum([len(value) for value in values if type(value) is bytes])


def _late(
    partition: Partition, record: Late, late: OutOfOrderError, forgetting: Callable[[Partition], str]
) -> ReplicatorError:
    newest, this = ("/".join(map(str, one)) for one in (late.newest, record.sequence))
    return ReplicatorError(
        f"{partition[0]}/{partition[1]}:{record.offset} goes back in its partition: its source.sequence is {this}, "
        f"after {newest}, and this is no replay of what came before",
        kind=ErrorKind.LOG_LOST,
        table=str(record.table),
        hint="Everything before it is applied, it is not. A worker of Kafka Connect that had been frozen may have sent "
        "what it still had in hand (set exactly.once.source.support=enabled), or the source was restored to an earlier "
        "state. Find out which; then have the feed go on with this record: stop all its processes, run "
        f"`{forgetting(partition)}` in the target, start again, and copy the table anew with `replicator resync`",
    )


def _unordered(record: Record, table: TableName) -> ReplicatorError:
    return ReplicatorError(
        f"{table} was truncated ({record}), and its topic has several partitions: which changes came before can't be "
        "told",
        kind=ErrorKind.LOG_LOST,
        table=str(table),
        hint="Everything before it in its own partition is applied, nothing after it. Copy the table anew with "
        "`replicator resync`, or give it a topic of one partition",
    )
