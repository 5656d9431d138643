"""Records of a log such as Kafka, and what a codec makes of them: frozen values that every layer shares.

Record ──codec (Debezium's envelope, JSON or Avro)──▶ RowChange | TransactionMark | Beat | Message | None
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple, overload

from replicator.events import Op, Relation, Values
from replicator.runs import Origins, Rows, sides_of
from replicator.tables import TableName


class Record(NamedTuple):
    """One record of a topic.

    Attributes:
        topic, partition, offset: where it lies.
        timestamp_ms: the broker's or the producer's, milliseconds since the epoch; None where there is none.
        key, value: as they lie there; a value of None is a tombstone.
        headers: name and value, in order.

    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def __str__(self) -> str:
        """The place, for messages."""
        return f"{self.topic}/{self.partition}:{self.offset}"


class RowChange(NamedTuple):
    """One change of one row, or the truncation of one table, as a record says it.

    Attributes:
        op: what happened; READ is a row of a snapshot.
        relation: the row's shape.
        before, after: as in `events.ChangeEvent`.
        xid: 32-bit transaction id at the source, 0 where the record has none.
        lsn: LSN of the change, 0 where the record has none. No unique id, and no order across transactions.
        commit_time: seconds since the epoch, by the source's clock (for a snapshot's row: when it was read).
        transaction: Debezium's id of the transaction, before the colon; None without transaction metadata.
        order: the event's place in that transaction, from 1 (`transaction.total_order`); None likewise.
        sequence: Debezium's `source.sequence`: (last commit LSN, event LSN); None where the record has none.
        table_order: its place among the transaction's events of its table, from 1; None where it isn't told.

    """

    op: Op
    relation: Relation
    before: Values | None
    after: Values | None
    xid: int
    lsn: int
    commit_time: float
    transaction: str | None = None
    order: int | None = None
    sequence: tuple[int, int] | None = None
    table_order: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RowChanges(Sequence[RowChange]):
    """What consecutive records of one topic say: changes of one kind, of rows of one relation. Not what
    `RowChange.transaction`, `order` and `table_order` say: those are None.

    Attributes:
        op: what happened to each; never TRUNCATE.
        relation: the rows' shape.
        rows: the new ones; of a DELETE the old ones. An UPDATE has no old ones.
        whole: no value is UNCHANGED.
        origins: of each.
        sequences: of each, as `RowChange.sequence`.

    """

    op: Op
    relation: Relation
    rows: Rows
    whole: bool
    origins: Origins
    sequences: Sequence[tuple[int, int] | None]

    def __len__(self) -> int:
        """How many."""
        return len(self.sequences)

    def __iter__(self) -> Iterator[RowChange]:
        """One after the other."""
        nothing = repeat(None)
        told = (*self.origins, nothing, nothing, self.sequences)
        return map(RowChange, repeat(self.op), repeat(self.relation), *sides_of(self.op, self.rows), *told)

    @overload
    def __getitem__(self, at: int) -> RowChange: ...
    @overload
    def __getitem__(self, at: slice) -> list[RowChange]: ...

    def __getitem__(self, at: int | slice) -> RowChange | list[RowChange]:
        """One change, or several."""
        return list(self)[at]


class TransactionMark(NamedTuple):
    """A record of the transaction topic.

    Attributes:
        id: as `RowChange.transaction`.
        events: None for BEGIN; for END how many data events the transaction has, of all captured tables.
        tables: for END, how many of them each table has.
        commit_time: seconds since the epoch.

    """

    id: str
    events: int | None
    tables: tuple[tuple[TableName, int], ...]
    commit_time: float


class Beat(NamedTuple):
    """A heartbeat record: the producer is alive. It proves nothing about other partitions."""

    at: float


class Message(NamedTuple):
    """A logical decoding message (`op: m`).

    Attributes:
        prefix: names the writer.
        content: any bytes.
        lsn: where it lies in the WAL.
        xid: of its transaction; 0 for one outside of any.
        commit_time: seconds since the epoch; None where it isn't told.
        sequence, transaction, order, table_order: as of `RowChange`.

    """

    prefix: str
    content: bytes
    lsn: int
    xid: int
    commit_time: float | None = None
    sequence: tuple[int, int] | None = None
    transaction: str | None = None
    order: int | None = None
    table_order: int | None = None


Decoded = RowChange | TransactionMark | Beat | Message | None
"""What one record says; None: nothing (a tombstone, a change of an unmapped table, a schema change record)."""


@dataclass(frozen=True)
class RegistrySchema:
    """A schema of a registry.

    Attributes:
        kind: how records name it: 'id' (Confluent's 4 bytes, Apicurio's contentId of 4 or 8) or 'global' (Apicurio's
            globalId).
        id: its number.

    """

    kind: str
    id: int
