"""Whole source transactions from several topics, by Debezium's transaction metadata. Pure, no I/O, no clock.

    topic of a table ──▶ queue ──┐
    topic of a table ──▶ queue ──┼─ merged by the events' order ──▶ backlog
    transaction topic ─▶ ends ───┘   transaction by transaction, in the order of their ends

An end names how many events each table has. Each topic has one partition, so its events of one transaction are
consecutive, and a transaction can be given out while it is still being read: the next event is the one with the lowest
order among the heads of the queues that have some left. Nothing is sorted, and nothing but heads must be held.

Where a feed begins, the partitions' beginnings may cut a transaction. What is there of it is given out alone; the rest
is in the copy that the feed begins with.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import ChangeEvent, Op, Transaction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.kafka.backlog import Backlog, Reading
    from replicator.kafka.replays import Mark
    from replicator.partitions import Partition
    from replicator.records import Record, RowChange, TransactionMark
    from replicator.tables import TableName


class _Held(NamedTuple):
    change: RowChange
    reading: Reading
    offset: int
    size: int
    mark: Mark | None


class _End(NamedTuple):
    id: str
    counts: dict[Partition, int]
    reading: Reading
    offset: int


class Merge:
    """Of one session.

    Args:
        topics: of the mapped tables; events of others are not counted.
        transactions: the transaction topic.
        backlog: gets the events.

    """

    def __init__(self, topics: Mapping[TableName, str], transactions: str, backlog: Backlog) -> None:
        self._topics = topics
        self._transactions: Partition = (transactions, 0)
        self._backlog = backlog
        self._queues: dict[Partition, deque[_Held]] = defaultdict(deque)
        self._ends: deque[_End] = deque()
        self._known: set[Partition] = set()
        """Partitions of which a whole transaction was given out: nothing is cut there any more."""
        # Of the transaction that is being given out: what it is, how many events each partition has left, its last one.
        self._open: Transaction | None = None
        self._left: dict[Partition, int] = {}
        self._ordinal = 0

    def add(self, reading: Reading, record: Record, change: RowChange, size: int, mark: Mark | None = None) -> None:
        """One change of a mapped table, and its place in the producer's sequence where it has one.

        Raises:
            ReplicatorError: CONFIG for a change without transaction metadata, but a snapshot's.

        """
        if change.transaction is None and change.op is not Op.READ:
            raise ReplicatorError(
                f"{record} says nothing of its transaction, and stream.atomic needs that",
                kind=ErrorKind.CONFIG,
                table=str(change.relation.table),
                hint="Set Debezium's provide.transaction.metadata=true, or stream.atomic: false",
            )
        self._queues[reading.partition].append(_Held(change, reading, record.offset, size, mark))

    def end(self, reading: Reading, record: Record, mark: TransactionMark) -> None:
        """One record of the transaction topic."""
        if mark.events is not None:
            counts: dict[Partition, int] = defaultdict(int)
            for table, count in mark.tables:
                topic = self._topics.get(table)
                if topic is not None and count:
                    counts[topic, 0] += count
            self._ends.append(_End(mark.id, dict(counts), reading, record.offset))

    def work(self, *, full: bool = False, settled: bool = False) -> None:
        """Give out what can be.

        Args:
            full: there is no room for more: a transaction is begun though not all of it is there.
            settled: nothing has come for a while, and all partitions are read to their ends.

        Raises:
            ReplicatorError: LOG_LOST for a transaction of which events are missing.

        """
        while self._open is not None or self._begin(full=full, settled=settled):
            if not self._go_on():
                return

    def first_held(self, partition: Partition) -> int | None:
        """The offset of the first record that is held of a partition; None for none."""
        queue = self._queues.get(partition)
        if queue:
            return queue[0].offset
        return next((end.offset for end in self._ends if end.reading.partition == partition), None)

    def wanted(self) -> frozenset[Partition]:
        """What must be read though there is no room: without it nothing can be given out."""
        if self._open is not None:
            return frozenset(one for one in self._left if not self._queues[one])
        if self._ends:
            return frozenset(one for one, count in self._ends[0].counts.items() if len(self._queues[one]) < count)
        return frozenset((self._transactions,))

    # --- the beginning of a transaction -----------------------------------------------------------------------------

    def _begin(self, *, full: bool, settled: bool) -> bool:
        """Open the next transaction, where that can be."""
        self._give_snapshot()
        if not self._ends:
            if settled and not self._known:
                self._give_cut(self._queues)
            return False
        end = self._ends[0]
        left: dict[Partition, int] = {}
        for partition, count in end.counts.items():
            there = self._there(end, partition, count, full=full, settled=settled)
            if there is None:
                return False
            if there:
                left[partition] = there
        self._left, self._ordinal = left, 0
        self._open = Transaction(0, 0, 0.0, self._backlog.number)
        if left:
            self._backlog.number += 1
            self._backlog.open = True
        return True

    def _there(self, end: _End, partition: Partition, count: int, *, full: bool, settled: bool) -> int | None:
        """How many events of it are to come from a partition; None where that isn't known yet."""
        if partition in self._known:
            return count
        queue = self._queues[partition]
        ids = [held.change.transaction for held in queue]
        if end.id in ids and ids[0] != end.id:  # what lies before it had its end before the transaction topic begins
            self._give_cut([partition], upto=end.id)
            ids = ids[ids.index(end.id) :]
        there = next((at for at, one in enumerate(ids[:count]) if one != end.id), min(len(ids), count))
        if there == count or full or settled:
            return count if full and there else there
        if there < len(ids) and (there or any(other.id == ids[0] for other in self._ends)):
            return there  # what follows is another one's: the rest lies before the beginning
        return None

    def _give_cut(self, partitions: object, upto: str | None = None) -> None:
        """Give out events whose transaction's end isn't there, each alone."""
        for partition in list(partitions):  # type: ignore[call-overload]  # a mapping or a list
            queue = self._queues[partition]
            while queue and queue[0].change.transaction != upto:
                self._alone(queue.popleft())

    def _give_snapshot(self) -> None:
        for queue in self._queues.values():
            while queue and queue[0].change.transaction is None:
                self._alone(queue.popleft())

    def _alone(self, held: _Held) -> None:
        change, backlog = held.change, self._backlog
        transaction = Transaction(change.xid, change.lsn, change.commit_time, backlog.number)
        backlog.number += 1
        self._give(held, transaction, 1)

    # --- its events -------------------------------------------------------------------------------------------------

    def _go_on(self) -> bool:
        """Give out events of the open transaction; whether it is done."""
        transaction, end = self._open, self._ends[0]
        assert transaction is not None
        while self._left:
            if not all(self._queues[one] for one in self._left):
                return False
            partition = min(self._left, key=lambda one: self._queues[one][0].change.order or 0)
            held = self._queues[partition].popleft()
            if held.change.transaction != end.id:
                raise _missing(end, held, self._left[partition])
            if not self._ordinal:
                change = held.change
                transaction.xid, transaction.commit_lsn = change.xid, change.lsn
                transaction.commit_time = change.commit_time
            self._ordinal += 1
            self._left[partition] -= 1
            if not self._left[partition]:
                del self._left[partition]
                self._known.add(partition)
            self._give(held, transaction, self._ordinal)
        self._ends.popleft()
        self._open = None
        self._backlog.open = False
        if self._ordinal:
            self._backlog.end(end.reading, end.offset + 1)
        return True

    def _give(self, held: _Held, transaction: Transaction, ordinal: int) -> None:
        change = held.change
        event = ChangeEvent(change.op, change.relation, change.before, change.after, transaction, ordinal)
        self._backlog.add(event, held.reading, held.offset + 1, held.size, held.mark)


def _missing(end: _End, held: _Held, left: int) -> ReplicatorError:
    topic, number = held.reading.partition
    return ReplicatorError(
        f"transaction {end.id} lacks {left} events in {topic}/{number}: at offset {held.offset} the next one begins",
        kind=ErrorKind.LOG_LOST,
        table=str(held.change.relation.table),
        hint="Everything before this transaction is applied, nothing of it. Set stream.atomic: false, which applies "
        "what is there, and copy the table anew with `replicator resync`",
    )
