"""The ports: what the engine needs from the outside. A port's docstring is its contract.

Adapters (`replicator.postgres`, `replicator.kafka`) implement them; `replicator.daemon` wires them. All methods raise
`ReplicatorError` with a kind; no driver exception crosses a port.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from replicator.events import Batch, Key, Position, Relation, Values
    from replicator.mapping import KeyMapping
    from replicator.tables import Catalog, Table, TableName
    from replicator.writes import Write, WriteResult


@dataclass(frozen=True)
class SourceLag:
    """What a source knows about how far behind it is. None: unknown (never 0 for unknown).

    Attributes:
        retained_wal_bytes: WAL that the slot holds back.
        backlog_offsets: records per partition not yet read, summed; None for a slot.
        sent_position: how far the source has been read.

    """

    retained_wal_bytes: int | None = None
    backlog_offsets: int | None = None
    sent_position: str | None = None


class Source(Protocol):
    """One feed's stream of changes.

    Order: batches come in commit order; events of one transaction are consecutive. Transactions that the other feed of
    the same connector wrote (by origin, or by marker) are dropped here (P9), and count as progress.
    Duplicates: none after `start`; everything at or before the start position is dropped here.
    Bounded: at most the configured bytes are buffered; then it stops reading, and still sends feedback.
    """

    async def start(self, position: Position | None) -> Position:
        """Begin after `position` (None: at the source's own start, for a new feed); returns where it begins.

        Raises:
            ReplicatorError: SLOT_BUSY, SLOT_LOST (missing, invalidated, or confirmed past `position`: what is lost and
                what to do), CONNECTION, PERMISSION.

        """

    async def take(self, rows_max: int, bytes_max: int) -> Batch:
        """Wait until there is something, then return all that has arrived, up to both limits (at least one event).

        Ends at a transaction's end where the limits allow; a transaction larger than a limit comes in parts
        (`complete` False). Without events it returns an empty batch when the position moved by idle progress (at most
        once a second, or at once after `nudge`). Cancel-safe: a cancelled take loses nothing.

        Raises:
            ReplicatorError: CONNECTION, DECODE, SLOT_LOST.

        """

    @property
    def ready_rows(self) -> int:
        """Events decoded and waiting."""

    @property
    def taken_over(self) -> int:
        """How often, since `start`, it has taken a part of the log over from another process; 0 for a slot. What that
        one has left in the target beside its rows (dead letters, cuts of copies) is read again when this has risen,
        before anything that `take` returns then is applied.
        """

    def confirm(self, position: Position) -> None:
        """The target has committed everything up to `position`, durably. Sent with the next feedback, soon."""

    def nudge(self) -> None:
        """Ask the server for its position at once, so that an idle source reports progress without delay."""

    async def beat(self) -> int:
        """Write the heartbeat row on the source; returns an LSN after everything that was committed before this call.

        Raises:
            ReplicatorError: PERMISSION (no heartbeat possible; the caller then uses `head`), CONNECTION.

        """

    async def head(self) -> int:
        """The source's insert LSN now, without writing anything."""

    async def passed(self, lsn: int) -> Position:
        """The drain proof's first half: a position that the feed reaches only after it applied everything that was
        committed on the source before `lsn`. A slot knows it at once; by Kafka it is known once whoever fills the
        topics has proven that all of it is in them, which this waits for. Cancel-safe.

        Raises:
            ReplicatorError: CONFIG where nothing can prove it (says what the connector lacks); CONNECTION.

        """

    async def lag(self) -> SourceLag:
        """How far behind this source is."""

    def format(self, position: Position) -> str:
        """For people: `0/16B3748` or `0/16B3748#12` (slot), `topic/partition:offset` (Kafka)."""

    def progress(self, position: Position) -> str:
        """What the checkpoint stores once everything up to `position` is applied.

        A slot's is what `format` says. Kafka's names the next offset of each partition in which something was yielded
        since the last `confirm`ed position: `topic/partition:offset`, joined by commas.
        """

    def parse(self, text: str) -> Position:
        """The inverse of `progress`, for a slot."""

    async def close(self) -> None:
        """Send the last confirmed position and end. Idempotent."""


class SourceSnapshot(Protocol):
    """One REPEATABLE READ snapshot of the source."""

    insert_lsn: int
    """`pg_current_wal_insert_lsn()` taken after the snapshot: everything visible in it lies before."""

    text: str
    """`pg_current_snapshot()` as the server prints it, xmin:xmax:xip: which transactions this snapshot sees."""

    async def rows(
        self, table: Table, by: tuple[str, ...], keys: Sequence[Key], *, where: str | None = None
    ) -> list[Values]:
        """All rows whose columns `by` equal one of `keys`; values in the order of `table.column_names`, ordered by
        primary key where there is one. One statement, whatever the number of keys. `where` is the connector's
        predicate (`Mapping.owns_source`), an SQL expression over the table's own column names.
        """

    async def as_stored(
        self, table: Table, by: tuple[str, ...], keys: Sequence[Key], *, where: str | None = None
    ) -> dict[Key, Key]:
        """Those keys that equal a row's, and that row's own text of them: equal values may differ in their text (`Ann`
        and `ANN` of citext, 1.0 and 1.00), and between two tables often do.
        """

    async def chunk(
        self, table: Table, by: tuple[str, ...], after: Key | None, upto: Key | None, *, where: str | None = None
    ) -> list[Values]:
        """All rows with `after < by <= upto` in `by`'s index order (None: unbounded), ordered by it. `by` may be
        empty when both bounds are None: the whole table, in no order.
        """

    async def count_before(
        self, table: Table, by: tuple[str, ...], after: Key | None, rows: int, *, upto: Key | None = None
    ) -> Key | None:
        """The key `rows` rows after `after` in index order; None when there are fewer (up to `upto`)."""

    def copy_out(
        self,
        table: Table,
        columns: tuple[str, ...],
        by: tuple[str, ...],
        after: Key | None,
        upto: Key | None,
        *,
        where: str | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The same range as COPY text format, in blocks of bytes that hold whole rows, about 64 KiB each.

        Its caller closes it (`contextlib.aclosing`), also when it stops halfway: the session is busy until then.
        """


class Reader(Protocol):
    """Reads of the source's tables, on connections of its own."""

    def snapshot(self, visible: Collection[int] = ()) -> AbstractAsyncContextManager[SourceSnapshot]:
        """A snapshot in which all transactions `visible` (32-bit xids) have become visible; waits for that.

        A commit is in the WAL before it is visible: without the wait an older state would be read.
        """

    async def holds(self, table: Table, relation: Relation, rows: Sequence[Values], where: str) -> list[bool]:
        """For each row of the stream, whether the connector's predicate `where` holds for it, as the source says.

        A column that the shape lacks is NULL. UNCHANGED values are not allowed. NULL counts as false.
        """

    def relation(self, table: Table) -> Relation:
        """The shape of the rows that a snapshot returns for this table."""

    async def wait_for_running(self) -> None:
        """Wait until every transaction that was running at the call has ended (and is visible to new snapshots)."""

    async def catalog(self) -> Catalog:
        """The source's catalog now."""

    async def held_rows_when_attached(self, partition: Table) -> bool:
        """Whether a leaf partition holds rows from before it was attached, whose inserts are in no stream.

        True also for rows of the very transaction that attached it: then we cannot tell.
        """

    async def holds_rows_from_before_rewrite(self, partition: Table) -> bool:
        """Whether a leaf partition holds rows that are older than its newest rewrite, so that this was no TRUNCATE."""


@dataclass(frozen=True)
class Checkpoint:
    """One lane's progress, stored in the target with the data.

    Attributes:
        lane: 0-based.
        position: text, made by `Source.format`; None for a new feed.
        commit_time: source commit time of the newest applied transaction, seconds since the epoch.

    """

    lane: int
    position: str | None
    commit_time: float | None = None


@dataclass(frozen=True)
class DeadLetter:
    """One aggregate change set aside.

    Attributes:
        id: number in `replicator.dead_letter`; 0 before it is stored.
        mapping: the mapping's name.
        key: the aggregate's key at the source.
        table: the source table of the event.
        op: the event's `Op` value.
        position: where the event lies, as text.
        kind: ErrorKind value, or 'behind' for one that waits behind an earlier one of its key.
        message: the error's text.
        before, after: the event's values by column name (text, None, or absent for UNCHANGED).
        request: None, 'retry' or 'discard': what an operator asked for.

    """

    mapping: str
    key: Key
    table: TableName
    op: str
    position: str
    kind: str
    message: str
    before: Mapping[str, str | None] | None = None
    after: Mapping[str, str | None] | None = None
    id: int = 0
    request: str | None = None


class TargetTransaction(Protocol):
    """One target transaction of one lane. Everything in it commits together with the checkpoint, or not at all (P1).

    It holds the row lock on the epoch that it compared (P2), carries the feed's origin or marker (P9), and runs under
    the replica role where allowed.
    """

    async def lock(self, stripes: Collection[int]) -> None:
        """Take the gate shared, then these hash stripes (0..1023), in ascending order."""

    async def lock_all(self) -> None:
        """Take the gate exclusively: no other lane, and no resync chunk, is in an apply transaction."""

    async def translate(self, keys: KeyMapping, wanted: Collection[Key], *, create: bool) -> dict[Key, Key]:
        """Source keys to target keys: the target's map, then the source's map, then function or sequence.

        With `create` new pairs are stored in the target's map; without, a key that only a sequence could give is left
        out of the answer, and nothing is stored.
        """

    async def write(self, write: Write) -> WriteResult:
        """Execute one write whose translations are done.

        Raises:
            ReplicatorError: DATA (which constraint), UNIQUE, SCHEMA, PERMISSION, or a kind that is retried.

        """

    async def check(self, table: Table) -> None:
        """Check a table's deferrable unique and exclusion constraints now, which else wait for the commit.

        Raises:
            ReplicatorError: UNIQUE.

        """

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """A subtransaction: released at the end, rolled back when an exception leaves it."""

    async def park(self, letters: Sequence[DeadLetter]) -> None:
        """Store dead letters."""

    async def unpark(self, ids: Collection[int]) -> None:
        """Remove dead letters that were applied."""

    async def discard(self, ids: Collection[int]) -> None:
        """Mark dead letters as discarded: they wait no longer, and are kept as a record."""

    async def void(self, mappings: Collection[str]) -> None:
        """Mark all dead letters of these mappings as discarded: what they are about was truncated."""

    async def checkpoint(self, position: str, commit_time: float | None, *, durable: bool = True) -> None:
        """Move the lane's checkpoint, by compare-and-set from the position that this lane last wrote.

        Unless `durable`, the commit may return before a crash of the target can't undo it: then nothing of the source
        may be given up for it. The next durable commit on this target, by whoever, makes it so.

        Raises:
            ReplicatorError: SUPERSEDED when epoch or position are not what this lane wrote; REASSIGNED when a partition
                that it moves is another process's.

        """

    async def ping(self) -> None:
        """Keep an open transaction's session alive while nothing else is sent."""


class Target(Protocol):
    """The target database of one feed."""

    @property
    def role(self) -> str:
        """`replica`, or `origin` where that role may not be taken; known after `take_over`."""

    async def take_over(self, lanes: int) -> list[Checkpoint]:
        """Become the feed's one writer: raise the epoch, end the former holder's backends, return the checkpoints.

        Raises:
            ReplicatorError: CONFIG when `lanes` differs from the stored count and lanes stand at different positions
                (lanes at one position are re-laid here).

        """

    def transaction(self, lane: int) -> AbstractAsyncContextManager[TargetTransaction]:
        """Begin on the lane's own connection; commits at the end of the block, rolls back when an exception leaves it.

        Raises:
            ReplicatorError: COMMIT_UNKNOWN when COMMIT's answer was lost; take over again to know.

        """

    def job(self, worker: str) -> AbstractAsyncContextManager[TargetTransaction]:
        """Begin a transaction of a job beside the lanes (backfill, resync, repair), on this worker's own connection.

        The epoch is compared under a SHARED lock of its row, so that workers don't wait for each other and a take-over
        waits for (or ends) them. Replica role, origin or marker as for a lane. There is no checkpoint in it.

        Raises:
            ReplicatorError: SUPERSEDED; REASSIGNED when another process of the group leads; COMMIT_UNKNOWN when
                COMMIT's answer was lost (the job reads its own state).

        """

    async def dead_letters(self) -> list[DeadLetter]:
        """All that are parked, in order of their id."""

    async def catalog(self) -> Catalog:
        """The target's catalog now."""

    async def close(self) -> None:
        """End all connections. Idempotent."""
