"""The ports of a capture: a source's changes put into a log of partitions. A port's docstring is its contract.

ChangeLog ──Portion──▶ engine.capture ──RowChange, ...──▶ RecordEncoder ──Records──▶ TransactionalLog
    ▲                                                                                      │
    └──────────────────────── confirm(lsn), once the log has committed it ◀────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from replicator.events import Begin, ChangeEvent, Commit
from replicator.records import Message

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from replicator.events import Op, Relation, Transaction, Values
    from replicator.ports import SourceLag
    from replicator.records import Beat, RowChange, TransactionMark
    from replicator.runs import Rows
    from replicator.tables import Table


class Captured(NamedTuple):
    """A change, and the LSN at which it lies."""

    event: ChangeEvent
    lsn: int


class CapturedRows(NamedTuple):
    """Changes of one relation that follow each other: all inserts, or all updates of which no old row is told, and no
    new value left out.
    """

    op: Op
    relation: Relation
    rows: Rows
    lsns: list[int]
    transaction: Transaction


Item = Begin | Captured | CapturedRows | Message | Commit
"""Changes and messages of a transaction stand between its beginning and its commit; a message outside any doesn't."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What has arrived.

    Attributes:
        items: in order. None of transactions that are dropped (see `ChangeLog`), but for the end that they move.
        position: everything that was committed before this LSN is in this portion or came before; None inside of a
            transaction, whose rest comes next.

    """

    items: Sequence[Item]
    position: int | None


@dataclass(frozen=True)
class Described:
    """A relation, and what its stream doesn't tell.

    Attributes:
        relation: as the stream has it.
        table: with exactly its columns, in its order.
        key: the columns of a record's key: the primary key, else the replica identity's index; () for neither.
        enums: as `Catalog.enums`.

    """

    relation: Relation
    table: Table
    key: tuple[str, ...]
    enums: Mapping[str, tuple[str, ...]]


class ChangeLog(Protocol):
    """The source's changes with what only a log wants to know of them.

    Order, drops and bounds as of `ports.Source`: transactions of the other feed are left out, and so are changes of
    tables that are not captured, the heartbeat's among them.
    """

    async def take_over(self) -> int:
        """Begin, as the only reader; returns the LSN where it begins.

        The first call of a process ends another reader of this capture, which may be frozen. A later one doesn't:
        who reads then has taken over from this process.

        Raises:
            ReplicatorError: SUPERSEDED; SLOT_BUSY, SLOT_LOST, CONNECTION, PERMISSION.

        """

    async def skip(self, lsn: int) -> None:
        """Leave out what was committed before this LSN; called once, before the first `take`.

        Raises:
            ReplicatorError: SLOT_LOST when the source no longer has what comes after it, or never had it.

        """

    async def take(self) -> Portion:
        """Wait until there is something, then return all that has arrived, up to the bound. Cancel-safe.

        Without items when the position moved by idle progress: at most once a second, or at once after a heartbeat.

        Raises:
            ReplicatorError: CONNECTION, DECODE, SLOT_LOST.

        """

    def confirm(self, lsn: int) -> None:
        """The log has committed everything before this LSN, durably."""

    def nudge(self) -> None:
        """Ask the server for its position."""

    async def beat(self) -> int:
        """As `ports.Source.beat`."""

    async def head(self) -> int:
        """As `ports.Source.head`."""

    async def lag(self) -> SourceLag:
        """As `ports.Source.lag`."""

    async def described(self, relation: Relation) -> Described:
        """What the catalog says about a relation, now that its first row of this shape was read."""

    async def close(self) -> None:
        """Report the last confirmed LSN, and end. Idempotent."""


Headers = tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Records:
    """Records of one topic, in order.

    Attributes:
        keys: of each.
        values: of each; None is a tombstone.
        headers: by its place in the order, of each that has some.

    """

    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: dict[int, Headers] = field(default_factory=dict)

    def add(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Add one."""
        if headers:
            self.headers[len(self.keys)] = headers
        self.keys.append(key)
        self.values.append(value)

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum([len(one) for one in self.keys if one]) + sum([len(one) for one in self.values if one])


@dataclass(frozen=True)
class SchemaText:
    """A schema to be registered.

    Attributes:
        subject: under which name.
        text: Avro's JSON.

    """

    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class NewRows:
    """Changes of one transaction that follow each other: all inserts, or all updates, of one relation.

    Attributes:
        op: which of them.
        relation: of a `RecordEncoder.shape`.
        rows: as they are now, without UNCHANGED; nothing of the old ones is told.
        lsns: of each.
        xid, commit_time, last_commit: the same in all of them; see `RowChange`, whose `sequence` the last one begins.
        transaction: likewise; None where it isn't told, nor are the places.
        order, table_order: of the first.

    """

    op: Op
    relation: Relation
    rows: Rows
    lsns: Sequence[int]
    xid: int
    commit_time: float
    last_commit: int
    transaction: str | None
    order: int
    table_order: int


class RecordEncoder(Protocol):
    """Changes to keys and values of a log's records: pure; whoever fills the log does what I/O it asks for."""

    def shape(self, topic: str, described: Described) -> Collection[SchemaText]:
        """Rows of this relation go to this topic from now on.

        Returns:
            What has to be registered and learned before the first of them is encoded; nothing where keys and values
            carry their own schema, or none.

        Raises:
            ReplicatorError: CONFIG for a column that can't be written without loss, names the setting.

        """

    def marks(self, topic: str) -> Collection[SchemaText]:
        """Likewise of the records of `mark`, which go to this topic."""

    def beats(self, topic: str) -> Collection[SchemaText]:
        """Likewise of `beat`."""

    def messages(self, topic: str) -> Collection[SchemaText]:
        """Likewise of `message`."""

    def learn(self, schema: SchemaText, number: int) -> None:
        """The number under which the registry has it."""

    def key(self, relation: Relation, row: Values) -> bytes | None:
        """The record's key of a row; None for a table without one.

        Args:
            relation: of a `shape`.
            row: of which only the key's columns are looked at; none of them is UNCHANGED.

        """

    def header(self, relation: Relation, row: Values) -> bytes:
        """The key as a header's value (`__debezium.newkey`, `__debezium.oldkey`)."""

    def value(self, change: RowChange, now: float) -> bytes:
        """The envelope of a change; of a `shape`, but for a truncation.

        Args:
            change: all of it, with an update of a key as DELETE and INSERT already.
            now: seconds since the epoch, by our clock.

        """

    def new_rows(self, changes: NewRows, now: float) -> Records | None:
        """Records of many changes, in less time than `key` and `value` of each take; None where it takes these."""

    def mark(self, mark: TransactionMark, now: float) -> tuple[bytes, bytes]:
        """Key and value of a transaction's beginning or end."""

    def beat(self, beat: Beat) -> tuple[bytes, bytes]:
        """Key and value of a heartbeat."""

    def message(self, message: Message, now: float) -> tuple[bytes, bytes]:
        """Key and value of a logical message."""


class SchemaRegistry(Protocol):
    """Where schemas are registered."""

    async def register(self, subject: str, schema: str) -> int:
        """Its number; the same text under the same subject gets the same one.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION; SCHEMA when the subject's rule of compatibility refuses it.

        """


@dataclass(frozen=True)
class Progress:
    """What the log itself says about how far it was filled: stored in the transaction that holds the records.

    Attributes:
        lsn: everything that was committed on the source before it is in the log.
        owner: the process that wrote it; a process that finds another one's has been superseded.

    """

    lsn: int
    owner: str


class TransactionalLog(Protocol):
    """A log that takes records in transactions, from one producer at a time.

    Raised by every method: CONNECTION; SUPERSEDED when another producer has taken over. After any error the
    transaction is undone (at the latest when the next producer opens the log), and only `close` may be called.
    """

    async def progress(self) -> Progress | None:
        """How far the log is filled, by committed transactions; None for one that nobody has filled yet."""

    async def open(self) -> Progress | None:
        """Become the one producer: whoever was it before commits nothing more. Then as `progress`."""

    async def make_topics(self, topics: Collection[str], *, single: bool = False) -> None:
        """Make those that lack.

        Args:
            topics: their names.
            single: of one partition, whatever the settings say: its records have an order.

        """

    async def begin(self) -> None:
        """A transaction."""

    async def produce(self, topic: str, records: Records) -> None:
        """Add records in order; waits while the producer's own queue is full.

        A record without key goes to partition 0, so that a table without key keeps its order.
        """

    async def commit(self, progress: Progress) -> None:
        """Store the progress, and commit; returns when the brokers have all of it."""

    async def close(self) -> None:
        """Undo an open transaction, and end. Idempotent."""
