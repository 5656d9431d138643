"""Copies: what a backfill or a resync stores about its progress, and what it needs from the target besides writes.

The types and ports of `replicator.engine.backfill` and `replicator.engine.resync`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from replicator.events import Key, Values
    from replicator.mapping import KeyMapping
    from replicator.ports import TargetTransaction
    from replicator.tables import Table, TableName
    from replicator.writes import Write


@dataclass(frozen=True)
class Chunk:
    """One key range of one mapping's source root, copied from one snapshot in one target transaction.

    Attributes:
        mapping: the mapping's name.
        number: ascends in key order; not dense, so that what is left between two chunks can be cut again.
        after, upto: the range `after < key <= upto`; None is open. A table without a key is one chunk, open on both
            sides.
        rows: rows read from the source's root.
        insert_lsn: the snapshot's; 0 before it is copied.

    """

    mapping: str
    number: int
    after: Key | None
    upto: Key | None
    rows: int = 0
    insert_lsn: int = 0


@dataclass(frozen=True)
class CopiedTable:
    """How far the copy of one mapping is, as the target has it committed.

    Attributes:
        mapping: the mapping's name.
        rows: rows of the source's root in the chunks that are done.
        insert_lsn: the largest of all snapshots that were copied; the feed is consistent once it has passed it.
        complete: all is copied.
        chunks: what is copied, in order of number; empty once `complete`.

    """

    mapping: str
    rows: int
    insert_lsn: int
    complete: bool
    chunks: tuple[Chunk, ...] = ()


@dataclass(frozen=True)
class MultisetCut:
    """What the copy of a table without a key already holds: the feed drops its events seen by the snapshot.

    Attributes:
        table: the source table.
        snapshot: `pg_current_snapshot()` text of the copy's one snapshot.
        lsn: past this position no event can be in it, and the cut is forgotten.

    """

    table: TableName
    snapshot: str
    lsn: int


@dataclass(frozen=True)
class StaleMapping:
    """A mapping some of whose rows may have changed without an event: it needs a resync.

    Attributes:
        mapping: its name.
        reason: what happened, in one sentence.
        since: when that was noticed, as the target prints it; another one for every new reason.

    """

    mapping: str
    reason: str
    since: str


@dataclass(frozen=True)
class MappingDigest:
    """By which transform the rows of one mapping are written (`Mapping.digest` of it).

    Attributes:
        digest: all rows are by this one, where `writes` is None; else those from before it changed.
        since: since when, seconds since the epoch.
        writes: by which rows have been written since it changed, also where it has changed back.
        writes_since: when that was noticed.

    """

    digest: str
    since: float
    writes: str | None = None
    writes_since: float | None = None

    @property
    def now(self) -> str:
        """By which rows are written now."""
        return self.digest if self.writes is None else self.writes

    @property
    def mixed(self) -> bool:
        """Whether there may be rows by another one than `now`: until a rederive, or a resync, is done."""
        return self.writes is not None


class DigestStore(Protocol):
    """By which transforms the rows of a target are written, in the target."""

    async def mapping_digests(self) -> dict[str, MappingDigest]:
        """By name of the mapping; one that nobody has begun to write is absent."""

    async def progress(self, mapping: str) -> Mapping[str, Any] | None:
        """How far a rederive is, as it was saved; None where none has begun since the transform changed."""

    async def save(self, transaction: TargetTransaction, mapping: str, progress: Mapping[str, Any] | None) -> None:
        """Store how far a rederive is."""

    async def complete(self, transaction: TargetTransaction, mapping: str, seen: MappingDigest) -> None:
        """All rows are by `seen.now`; nothing is changed where it has changed since that was read."""


class SchemaStore(Protocol):
    """What a feed's schema watch has seen and found, in the target, so that nothing happens unseen over a restart."""

    async def seen(self) -> dict[str, str]:
        """What the last look saw, by end (`source`, `target`); empty before the first."""

    async def stale(self) -> list[StaleMapping]:
        """The mappings that need a resync."""

    async def see(self, transaction: TargetTransaction, seen: Mapping[str, str], stale: Mapping[str, str]) -> None:
        """Store what a look saw, in place of the last, and its reasons for a resync by mapping."""

    async def mended(self, transaction: TargetTransaction, stale: StaleMapping) -> None:
        """A resync that began after this was noticed is done; a reason that came since stays."""


class BackfillStore(Protocol):
    """The state of copies, in the target, written in the transactions that write the rows (exactly once)."""

    async def load(self, job: str) -> dict[str, CopiedTable]:
        """Every mapping's copy of this job (`backfill` or `resync`), by mapping name."""

    async def begin(self, transaction: TargetTransaction, job: str, mappings: Sequence[str]) -> None:
        """Say that these mappings are copied by this job; those that it has already stay as they are."""

    async def record(self, transaction: TargetTransaction, job: str, chunk: Chunk) -> None:
        """Store a copied chunk; the same number again replaces it."""

    async def finish(self, transaction: TargetTransaction, job: str, mapping: str) -> None:
        """The table is complete; its chunks are folded into one row."""

    async def forget(self, transaction: TargetTransaction, job: str, mapping: str) -> None:
        """Forget what is copied: a new resync begins."""

    async def record_cut(self, transaction: TargetTransaction, mapping: str, cut: MultisetCut) -> None:
        """Store the snapshot of a table without a key, in place of an earlier one."""

    async def cuts(self) -> list[MultisetCut]:
        """All stored cuts."""

    async def defer(self, transaction: TargetTransaction, mapping: str, keys: Sequence[Key]) -> None:
        """Store aggregates that the target refused for a unique value: written once the feed has caught up."""

    async def deferred(self) -> list[tuple[str, Key]]:
        """Mapping names and source keys of deferred aggregates."""

    async def settled(self, transaction: TargetTransaction, mapping: str, key: Key) -> None:
        """A deferred aggregate is written, or parked."""

    async def caught_up_lsn(self) -> int:
        """The largest `insert_lsn` of anything copied, 0 without: `catching_up` lasts until the position passes it."""


class ChunkTarget(Protocol):
    """What a copy does in a target transaction besides `TargetTransaction.write`."""

    async def copy_in(
        self, transaction: TargetTransaction, table: Table, columns: tuple[str, ...], blocks: AsyncIterator[bytes]
    ) -> int:
        """COPY blocks of COPY text format into the table; returns rows. Identity columns take the given values.

        Raises:
            ReplicatorError: UNIQUE (rows are there, or a value moved), DATA, SCHEMA, PERMISSION, or a retried kind.
                The transaction is then aborted.

        """

    async def copy_over(
        self,
        transaction: TargetTransaction,
        table: Table,
        columns: tuple[str, ...],
        key: tuple[str, ...],
        blocks: AsyncIterator[bytes],
    ) -> int:
        """The same into a temporary table; from there rows that differ are updated by `key`, missing ones inserted.

        Returns the rows that came. Raises as `copy_in`.
        """

    async def in_the_way(
        self, transaction: TargetTransaction, write: Write, constraint: str, columns: tuple[str, ...]
    ) -> list[Key]:
        """Rows of `write.table` that `constraint` (unique or exclusion) sets against a row of `write` with another key.

        Returns their values of `columns`, each once; a row with a NULL among them can't be named and is left out.
        """

    async def take_away(
        self, transaction: TargetTransaction, table: Table, key: tuple[str, ...], keys: Sequence[Key]
    ) -> list[Values]:
        """Delete the rows of these keys and return them: all columns that an INSERT may name (`Table.writable`)."""

    async def keys_after(
        self,
        transaction: TargetTransaction,
        table: Table,
        by: tuple[str, ...],
        after: Key | None,
        rows: int,
        *,
        where: str | None = None,
    ) -> list[Key]:
        """Up to `rows` distinct values of `by` in the target after `after`, in the server's order, none with NULL."""

    async def source_keys(
        self, transaction: TargetTransaction, keys: KeyMapping, wanted: Sequence[Key]
    ) -> dict[Key, Key]:
        """Target keys to source keys, from the target's key map; those that it doesn't have are left out."""
