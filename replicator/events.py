"""Changes as they come from a source: frozen values that every layer shares.

A value is the bytes that PostgreSQL prints (UTF-8), None for NULL, or `UNCHANGED`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.tables import TableName


class Unchanged(Enum):
    """The type of `UNCHANGED`: a TOASTed value that the change didn't touch and the stream doesn't carry."""

    UNCHANGED = auto()

    def __repr__(self) -> str:
        """A short name."""
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED

Value = bytes | Unchanged | None
Values = tuple[Value, ...]
"""One row's values in the order of its relation's columns."""

Key = tuple[bytes, ...]
"""A row's or aggregate's key: the text of its key columns, never NULL."""


class Op(Enum):
    """What happened to a row. READ is a row of an initial or incremental snapshot (Debezium's `r`)."""

    INSERT = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    TRUNCATE = "t"


class Position(NamedTuple):
    """A place in one lane of a source; ordered; opaque to all but the source that made it.

    `at` is an LSN (slot), or counts what this session has yielded (Kafka: several partitions have no common order but
    the one in which they were read). `ordinal` counts the events of the transaction that commits at `at`, from 1; 0
    means that everything before `at` is done. An event is applied when (its transaction's place, its ordinal) <= the
    checkpoint's position. The end LSN of a commit with ordinal 0 says that the whole transaction is done.
    """

    at: int
    ordinal: int = 0


@dataclass(frozen=True, eq=False)
class Relation:
    """The shape of the rows of one table at one moment of the stream (pgoutput's RELATION, a Debezium schema).

    A new shape is a new object; compare with `is`.

    Attributes:
        table: qualified name.
        columns: names, in the order of `Values`.
        type_oids: oid of each column's type, 0 where the source can't tell.
        typmods: modifier of each column's type, -1 for none; () where the source can't tell.
        key_columns: the columns that are part of the replica identity (all for FULL).
        replica_identity: 'd', 'n', 'f' or 'i'. With 'f' an old tuple is complete; else only its key columns are sent
            and the others are None.

    """

    table: TableName
    columns: tuple[str, ...]
    type_oids: tuple[int, ...] = ()
    key_columns: tuple[str, ...] = ()
    replica_identity: str = "d"
    typmods: tuple[int, ...] = ()
    positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the columns by name."""
        object.__setattr__(self, "positions", {name: at for at, name in enumerate(self.columns)})


@dataclass(slots=True, eq=False)
class Transaction:
    """One source transaction, shared by its events.

    Attributes:
        xid: 32-bit transaction id at the source (0 where unknown).
        commit_lsn: LSN of the commit record (its start); the order of transactions. By Kafka, where it isn't known,
            the LSN of the change itself, which is lower, and no order.
        commit_time: seconds since the Unix epoch, by the source's clock.
        at: `Position.at` of its events where that isn't the commit LSN; else None.

    """

    xid: int
    commit_lsn: int
    commit_time: float
    at: int | None = None


class ChangeEvent(NamedTuple):
    """One change of one row, or the truncation of one table.

    Attributes:
        op: what happened.
        relation: the row's shape.
        before: the old tuple, where the stream carries one (DELETE always, UPDATE when the replica identity's columns
            changed or with FULL). Complete only when `relation.replica_identity == 'f'`.
        after: the new tuple (INSERT, UPDATE, READ); may hold UNCHANGED.
        transaction: where it belongs.
        ordinal: counts this transaction's events from 1, events of unmapped tables included.
    """

    op: Op
    relation: Relation
    before: Values | None
    after: Values | None
    transaction: Transaction
    ordinal: int


class Begin(NamedTuple):
    """A transaction of a PostgreSQL stream begins; its changes follow, in order, up to its `Commit`."""

    transaction: Transaction


class Commit(NamedTuple):
    """A transaction of a PostgreSQL stream is complete.

    Attributes:
        transaction: the one that `Begin` named.
        end_lsn: end of the commit record: `Position(end_lsn)` says that the whole transaction is done.

    """

    transaction: Transaction
    end_lsn: int


class Origin(NamedTuple):
    """Who wrote the current transaction: the name of a replication origin. Comes before the first change."""

    name: str


class LogicalMessage(NamedTuple):
    """What `pg_logical_emit_message` wrote; not counted in ordinals.

    Attributes:
        prefix: names the writer.
        content: any bytes.
        transactional: part of the current transaction; if not, it stands between transactions.
        lsn: where it lies in the WAL.

    """

    prefix: str
    content: bytes
    transactional: bool
    lsn: int


class Truncation(NamedTuple):
    """One TRUNCATE: an event per relation, with consecutive ordinals, and how it was said."""

    events: tuple[ChangeEvent, ...]
    cascade: bool
    restart_identity: bool


StreamItem = ChangeEvent | Truncation | Begin | Commit | Origin | LogicalMessage
"""What a decoder of PostgreSQL's logical stream yields."""


@dataclass(slots=True)
class Batch:
    """Consecutive events of one lane.

    Attributes:
        events: in commit order, then in order within the transaction (`runs.Events`, where some are in runs). May be
            empty (idle progress).
        position: what the checkpoint says once all of it is applied.
        complete: the last transaction is whole. If not, its rest comes in the next batch, `position` lies inside it
            (ordinal > 0), and a target that promises whole transactions must not commit yet.
        transactions: number of source transactions that end in this batch; of a log of several partitions, those of
            which it is the first to have an event (a snapshot's rows are of none).
        commit_time: source commit time of the newest transaction in it, seconds since the epoch; None without events.
        first_commit_time: likewise of the oldest.
        bytes: size of the values, for accounting.

    """

    events: Sequence[ChangeEvent]
    position: Position
    complete: bool = True
    transactions: int = 0
    commit_time: float | None = None
    first_commit_time: float | None = None
    bytes: int = 0
