"""Items of a source's stream to records of a log, in order: envelopes, keys, tombstones, marks of transactions.

insert                   c
update                   u; of its key: d, tombstone, c
delete                   d, tombstone
truncate                 t, without key
transaction              BEGIN, its records, END with how many there were
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.captures import Captured, CapturedRows, NewRows, Records
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Begin, ChangeEvent, Commit, Op
from replicator.records import Beat, Message, RowChange, TransactionMark

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from replicator.captures import (
        ChangeLog,
        Headers,
        Item,
        RecordEncoder,
        SchemaRegistry,
        SchemaText,
        TransactionalLog,
    )
    from replicator.events import Relation, Transaction, Values
    from replicator.tables import TableName

_OPERATIONS: Final = {Op.INSERT: "insert", Op.UPDATE: "update", Op.DELETE: "delete", Op.TRUNCATE: "truncate"}
_NEW_KEY, _OLD_KEY = "__debezium.newkey", "__debezium.oldkey"


@dataclass(frozen=True)
class CaptureTopics:
    """Where records go.

    Attributes:
        of_table: a table's changes.
        transactions: beginnings and ends of transactions; None where they are not told.
        messages: logical messages.
        heartbeats: None where there are none.

    """

    of_table: Callable[[TableName], str]
    transactions: str | None
    messages: str
    heartbeats: str | None


@dataclass(slots=True, eq=False)
class _Shape:
    """A relation that was told to the encoder."""

    topic: str
    table: str
    key: tuple[int, ...]


class Recording:
    """One attempt's.

    Args:
        source: describes relations.
        log: has topics made, and gets the records.
        encoder: knows no shapes.
        registry: where the encoder has schemas registered; None where it needs none.
        topics: see `CaptureTopics`.
        tombstones: whether a delete is followed by one.

    Attributes:
        count: records that were added since the last `flush`.
        produced_records: all that the log was given; likewise
        produced_bytes: of their keys and values.
        rows: changes by table and operation, and
        commits: commit times of transactions that ended, since the last `clear`.

    """

    def __init__(
        self,
        source: ChangeLog,
        log: TransactionalLog,
        encoder: RecordEncoder,
        registry: SchemaRegistry | None,
        topics: CaptureTopics,
        *,
        tombstones: bool,
    ) -> None:
        self.count = 0
        self.produced_records = 0
        self.produced_bytes = 0
        self.rows: Counter[tuple[str, str]] = Counter()
        self.commits: list[float] = []
        self._source = source
        self._log = log
        self._encoder = encoder
        self._registry = registry
        self._topics = topics
        self._tombstones = tombstones
        self._shapes: dict[Relation, _Shape] = {}
        self._pending: defaultdict[str, Records] = defaultdict(Records)
        # The source's transaction whose end has not been seen.
        self._transaction: Transaction | None = None
        self._id = ""
        self._order = 0
        self._orders: Counter[TableName] = Counter()
        self._messages = 0
        self._last_commit = 0

    async def begin(self, position: int) -> None:
        """Make the topics that every capture has; what is recorded begins after this LSN."""
        self._last_commit = position
        topics, encoder = self._topics, self._encoder
        for topic, schemas in (
            (topics.transactions, encoder.marks),
            (topics.heartbeats, encoder.beats),
            (topics.messages, encoder.messages),
        ):
            if topic is not None:
                await self._log.make_topics([topic], single=True)
                await self._learn(schemas(topic))

    def clear(self) -> None:
        """A transaction of the log begins."""
        self.rows.clear()
        self.commits.clear()

    async def flush(self) -> None:
        """Give the log what was added."""
        pending, self._pending = self._pending, defaultdict(Records)
        self.produced_records += self.count
        self.count = 0
        for topic, records in pending.items():
            self.produced_bytes += records.size
            await self._log.produce(topic, records)

    def beat(self, now: float) -> None:
        """Add a heartbeat."""
        if self._topics.heartbeats is not None:
            self._put(self._topics.heartbeats, *self._encoder.beat(Beat(now)))

    async def add(self, item: Item, now: float) -> None:
        """Add an item's records."""
        if isinstance(item, CapturedRows):
            shape = self._shapes.get(item.relation) or await self._shape(item.relation)
            if not self._add_rows(item, shape, now):
                for ordinal, (row, lsn) in enumerate(zip(item.rows, item.lsns, strict=True), 1):
                    event = ChangeEvent(item.op, item.relation, None, row, item.transaction, ordinal)
                    self._change(event, lsn, shape, now)
        elif isinstance(item, Captured):
            event, lsn = item
            shape = self._shapes.get(event.relation) or await self._shape(event.relation)
            self._change(event, lsn, shape, now)
        elif isinstance(item, Begin):
            self._enter(item.transaction, now)
        elif isinstance(item, Commit):
            self._leave(item, now)
        else:
            self._put(self._topics.messages, *self._encoder.message(self._placed(item), now))

    def _add_rows(self, item: CapturedRows, shape: _Shape, now: float) -> bool:
        """Add the records of many rows, unless the encoder leaves them to be encoded one by one."""
        op, relation, rows, lsns, transaction = item
        told = self._topics.transactions is not None
        records = self._encoder.new_rows(
            NewRows(
                op,
                relation,
                rows,
                lsns,
                transaction.xid,
                transaction.commit_time,
                self._last_commit,
                self._id if told else None,
                self._order + 1,
                self._orders[relation.table] + 1,
            ),
            now,
        )
        if records is None:
            return False
        count = len(rows)
        self._order += count
        self._orders[relation.table] += count
        self.rows[shape.table, _OPERATIONS[op]] += count
        pending = self._pending[shape.topic]
        pending.keys += records.keys
        pending.values += records.values
        self.count += count
        return True

    def _placed(self, message: Message) -> Message:
        """A message with its place: in its transaction, of whose events it is one, or by itself."""
        if self._transaction is None:
            self._last_commit = message.lsn
        else:
            self._order += 1
            self._messages += 1
            if self._topics.transactions is not None:
                message = message._replace(transaction=self._id, order=self._order, table_order=self._messages)
        return message._replace(sequence=(self._last_commit, message.lsn))

    def _put(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        self._pending[topic].add(key, value, headers)
        self.count += 1

    def _enter(self, transaction: Transaction, now: float) -> None:
        self._transaction = transaction
        self._id = str(transaction.xid)
        self._order = self._messages = 0
        self._orders.clear()
        self._mark(transaction, now, None)

    def _leave(self, commit: Commit, now: float) -> None:
        transaction, self._transaction = self._transaction, None
        self.commits.append(commit.transaction.commit_time)
        self._last_commit = commit.end_lsn
        if transaction is not None:
            self._mark(transaction, now, self._order)

    def _mark(self, transaction: Transaction, now: float, events: int | None) -> None:
        """A transaction's beginning, or its end with the number of its events."""
        if self._topics.transactions is not None:
            identity = f"{self._id}:{transaction.commit_lsn}"
            mark = TransactionMark(identity, events, tuple(self._orders.items()), transaction.commit_time)
            self._put(self._topics.transactions, *self._encoder.mark(mark, now))

    def _change(self, event: ChangeEvent, lsn: int, shape: _Shape, now: float) -> None:
        encoder, relation = self._encoder, event.relation
        op, before, after = event.op, event.before, event.after
        self.rows[shape.table, _OPERATIONS[op]] += 1
        if op is Op.TRUNCATE:
            self._put(shape.topic, None, encoder.value(self._described(event, op, None, None, lsn), now))
            return
        if op is Op.DELETE:
            assert before is not None
            self._delete(event, before, lsn, shape, now)
            return
        assert after is not None
        if before is not None:
            after = _completed(after, before, shape.key, full=relation.replica_identity == "f")
            if any(before[at] != after[at] and before[at] is not None for at in shape.key):
                new, old = encoder.header(relation, after), encoder.header(relation, before)
                self._delete(event, before, lsn, shape, now, headers=((_NEW_KEY, new),))
                change = self._described(event, Op.INSERT, None, after, lsn)
                self._put(shape.topic, encoder.key(relation, after), encoder.value(change, now), ((_OLD_KEY, old),))
                return
        change = self._described(event, op, before, after, lsn)
        self._put(shape.topic, encoder.key(relation, after), encoder.value(change, now))

    def _delete(
        self, event: ChangeEvent, before: Values, lsn: int, shape: _Shape, now: float, *, headers: Headers = ()
    ) -> None:
        key = self._encoder.key(event.relation, before)
        change = self._described(event, Op.DELETE, before, None, lsn)
        self._put(shape.topic, key, self._encoder.value(change, now), headers)
        if self._tombstones and key is not None:
            self._put(shape.topic, key, None, headers)

    def _described(
        self, event: ChangeEvent, op: Op, before: Values | None, after: Values | None, lsn: int
    ) -> RowChange:
        relation, transaction = event.relation, event.transaction
        self._order += 1
        self._orders[relation.table] += 1
        told = self._topics.transactions is not None
        return RowChange(
            op,
            relation,
            before,
            after,
            transaction.xid,
            lsn,
            transaction.commit_time,
            self._id if told else None,
            self._order if told else None,
            (self._last_commit, lsn),
            self._orders[relation.table] if told else None,
        )

    async def _shape(self, relation: Relation) -> _Shape:
        """Tell the encoder of a new shape, and make its topic.

        Raises:
            ReplicatorError: SCHEMA where old rows don't carry the key: a delete, or an update of the key, would leave
                its row behind with every reader.

        """
        described = await self._source.described(relation)
        if relation.replica_identity == "i" and not set(described.key) <= set(relation.key_columns):
            raise ReplicatorError(
                f"old rows of {relation.table} carry ({', '.join(relation.key_columns)}), its replica identity, but "
                f"not its primary key ({', '.join(described.key)}), which is the key of its records",
                kind=ErrorKind.SCHEMA,
                table=str(relation.table),
                hint=f"Nothing of this change is in Kafka. Run ALTER TABLE {relation.table} REPLICA IDENTITY DEFAULT "
                "on the source; what was written to the table before that can't be captured: take it out of the "
                "connector, start the capture until it has passed, then put it back and copy the table anew",
            )
        topic = self._topics.of_table(relation.table)
        await self._log.make_topics([topic])
        await self._learn(self._encoder.shape(topic, described))
        found = _Shape(topic, str(relation.table), tuple(relation.positions[name] for name in described.key))
        self._shapes[relation] = found
        return found

    async def _learn(self, schemas: Collection[SchemaText]) -> None:
        for schema in schemas:
            if self._registry is None:
                raise ReplicatorError("no registry was given for schemas", kind=ErrorKind.INTERNAL)
            self._encoder.learn(schema, await self._registry.register(schema.subject, schema.text))


def _completed(after: Values, before: Values, key: Sequence[int], *, full: bool) -> Values:
    """The new row with what the old one has of its unchanged TOASTed values: all with FULL, else those of the key."""
    if UNCHANGED not in after:
        return after
    at = range(len(after)) if full else key
    row = list(after)
    for position in at:
        if row[position] is UNCHANGED:
            row[position] = before[position]
    return tuple(row)
