"""Verification: what it finds, what it stores about its progress, and what it needs from the two databases.

The types and ports of `replicator.engine.verify`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from replicator.ports import Reader, SourceSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replicator.events import Key, Relation, Values
    from replicator.mapping import KeyMapping
    from replicator.tables import Column, Table, TableName

Reached = Callable[[int], Awaitable[None]]
"""Returns when everything that was committed on the source before this LSN is applied (and visible) on the target.

Raises:
    ReplicatorError: CONNECTION, when nobody applies anything.
"""

Tolerances = dict["TableName", dict[str, Decimal]]
"""By target table and column: the difference of numbers (of moments, in seconds) that the connector lets pass."""


class Kind(StrEnum):
    """What is wrong with a row of the target."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"


class Cause(StrEnum):
    """Why a row differs, as far as is known."""

    LAG = "lag"  # it is on its way; of what stays undecided, never of a finding
    TRANSFORM_CHANGED = "transform_changed"  # the row is by another transform than the one that compares
    OUTSIDE_WRITE = "outside_write"  # somebody else has written the row, or a trigger has changed what was written
    ROUNDING = "rounding"  # its column can't hold more of the value
    DEAD_LETTER = "dead_letter"  # a change of its aggregate waits in the dead letter queue
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One row of the target that is proven not to be what the source demands.

    Attributes:
        mapping: the mapping's name.
        table: the target table.
        key: the row's key there; of a missing row whose key nobody has made yet, the aggregate's key at the source.
        kind: see `Kind`.
        columns: those that differ, of a row that is different.
        source_key: the aggregate's key at the source; None where no map has one.
        target_key: the aggregate's key in `table`, as its rows hold it; None where nobody has made it yet.
        cause: see `Cause`.
        evidence: LSNs, xids, numbers of looks; never a value of the row.

    """

    mapping: str
    table: TableName
    key: Key
    kind: Kind
    columns: tuple[str, ...] = ()
    source_key: Key | None = None
    target_key: Key | None = None
    cause: Cause = Cause.UNKNOWN
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenDivergence:
    """A finding that is stored and not closed: enough to look at its aggregate again.

    Attributes:
        id: its number in the store.
        table, key, kind, source_key, target_key: as in `Finding`.

    """

    id: int
    table: TableName
    key: Key
    kind: Kind
    source_key: Key | None
    target_key: Key | None


@dataclass
class Counts:
    """What was found in one target table so far.

    Attributes:
        rows: rows that the target should have, of what was looked at.
        aggregates: root rows of the source that were read for them.
        filtered: those of them that give no row here.
        missing, extra, different: rows that are proven wrong.
        unsettled: aggregates that could not be decided.
        within: values that differ by no more than the declared tolerance.
        seconds: spent on it, waiting for the feed included.

    """

    rows: int = 0
    aggregates: int = 0
    filtered: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    unsettled: int = 0
    within: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Nothing is wrong and nothing is undecided."""
        return not (self.missing or self.extra or self.different or self.unsettled)

    def add(self, other: Counts) -> None:
        """Add what another part of the table came to."""
        self.rows += other.rows
        self.aggregates += other.aggregates
        self.filtered += other.filtered
        self.missing += other.missing
        self.extra += other.extra
        self.different += other.different
        self.unsettled += other.unsettled
        self.within += other.within
        self.seconds += other.seconds


@dataclass(frozen=True)
class Scope:
    """What one run looks at.

    Attributes:
        tables: names of mappings; empty for all.
        where: SQL on the old root table: only its rows are looked at. With it no row is called extra for lack of one.
        sample_percent: of the chunks, chosen by chance; 100 for all.
        digests: of the mappings, by name: a run goes on only where its transforms are the same.
        continuous: it is a pass of the daemon, which nobody else goes on with.

    """

    tables: tuple[str, ...] = ()
    where: str | None = None
    sample_percent: float = 100.0
    digests: Mapping[str, str] = field(default_factory=dict)
    continuous: bool = False

    @property
    def whole(self) -> bool:
        """Whether everything of its tables is looked at."""
        return self.where is None and self.sample_percent >= 100

    def to_json(self) -> dict[str, Any]:
        """As it is stored and compared."""
        return {
            "tables": sorted(self.tables),
            "where": self.where,
            "sample_percent": self.sample_percent,
            "digests": dict(sorted(self.digests.items())),
            **({"continuous": True} if self.continuous else {}),
        }


@dataclass
class Progress:
    """How far a run is with one mapping; what is before it is decided, but for the keys in `pending`.

    Attributes:
        step: which part of the work, in order; -1 when all is done.
        after: the last key of it that is done; None at its beginning.
        rows_read: rows of the source's root, and in later steps of target tables.
        counts: by target table.
        pending: source keys that are in flight.
        lost: target tables and keys that are in flight and have no source key.

    """

    step: int = 0
    after: Key | None = None
    rows_read: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)
    pending: list[Key] = field(default_factory=list)
    lost: list[tuple[str, Key]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the mapping is verified."""
        return self.step < 0


@dataclass(frozen=True)
class Run:
    """One run as it is stored.

    Attributes:
        id: its number.
        progress: by mapping.
        resumed: it had begun before.
        seed: chooses the sample: the same after a resumption.

    """

    id: int
    progress: dict[str, Progress]
    resumed: bool
    seed: int


@dataclass(frozen=True)
class Waiting:
    """What the target has not written yet of one mapping, and knows it. Keys at the source.

    Attributes:
        deferred: aggregates that wait for a unique value, and will be derived again.
        letters: aggregates with a change in the dead letter queue: key to the letter's number.

    """

    deferred: frozenset[Key] = frozenset()
    letters: Mapping[Key, int] = field(default_factory=dict)


@dataclass(frozen=True)
class HashedColumn:
    """A column as it goes into the hash of a row. Equal values of it must have equal bytes on both sides.

    Attributes:
        name: as in the catalog.
        form: `text` its characters (those of a `character` without blanks at the end), `integer` and `bigint` as
            such, `uuid`, `sent` the type's binary form, `number` that of a number without zeros at its end, `printed`
            as the server prints it.
        nullable: on either side.

    """

    name: str
    form: str = "printed"
    nullable: bool = True


BucketDigest = tuple[int, int]
"""Rows, and the sum of their hashes."""


@dataclass(frozen=True)
class HashedRange:
    """A range of rows of one table, `after < by <= upto`, and what of them is hashed.

    Attributes:
        table, by, after, upto: the range.
        columns: in the same order and forms on both sides.
        buckets: a power of two: into so many the rows are divided by their hashes.

    """

    table: Table
    columns: tuple[HashedColumn, ...]
    by: tuple[str, ...]
    after: Key | None
    upto: Key | None
    buckets: int


class VersionedSnapshot(SourceSnapshot, Protocol):
    """A snapshot that tells which transaction wrote a row: every row begins with its `xmin`, as text."""

    async def versions(
        self, table: Table, by: tuple[str, ...], keys: Sequence[Key], *, where: str | None = None
    ) -> list[Values]:
        """All rows whose columns `by` equal one of `keys`: the key's number (from 1), xmin, `table.column_names`.

        A row that equals several of the keys comes once for each. `where` filters.
        """

    async def owned_versions(
        self, table: Table, by: tuple[str, ...], keys: Sequence[Key], *, owns: str | None
    ) -> list[Values]:
        """The same, with `t` or `f` after xmin: whether the connector's predicate holds for the row."""

    async def chunk_versions(
        self, table: Table, by: tuple[str, ...], after: Key | None, upto: Key | None, *, where: str | None = None
    ) -> list[Values]:
        """All rows with `after < by <= upto`, ordered by `by`: xmin, `table.column_names`."""

    async def owned_chunk(
        self, table: Table, by: tuple[str, ...], after: Key | None, upto: Key | None, *, owns: str | None
    ) -> list[Values]:
        """The same, with `t` or `f` after xmin: whether the connector's predicate holds for the row."""

    async def keys_after(
        self, table: Table, by: tuple[str, ...], after: Key | None, rows: int, *, where: str | None = None
    ) -> list[Key]:
        """Up to `rows` distinct values of `by` after `after`, in order, none with a NULL."""

    async def digests(self, of: HashedRange) -> dict[int, BucketDigest]:
        """Digests of a range's rows by bucket, those without rows left out."""

    async def rows_in_buckets(self, of: HashedRange, buckets: Sequence[int]) -> list[Values]:
        """The range's rows in these buckets: xmin, `table.column_names`."""

    async def keys_in_buckets(self, of: HashedRange, buckets: Sequence[int]) -> list[Key]:
        """The keys (`by`) of the range's rows in these buckets."""

    async def collations(self, table: Table, columns: Sequence[str]) -> tuple[str, ...]:
        """What orders the texts of these columns: the same on two servers that order them alike; "" where unknown."""

    async def pairs(self, keys: KeyMapping, wanted: Sequence[Key], *, back: bool = False) -> dict[Key, Key]:
        """What this database's key map says of these source keys (`back`: target keys); the rest is left out."""

    async def waiting(self, mapping: str) -> Waiting:
        """What the feed has left to do of a mapping, as the target's own tables say in this snapshot."""

    async def printed(self, column: Column, texts: Sequence[bytes]) -> list[bytes | None]:
        """How this server prints these texts as values of the column's type, without its modifier.

        Raises:
            ReplicatorError: DATA, when one of them is no value of the type.

        """


class VersionedReader(Reader, Protocol):
    """Reads one database's tables, on connections of its own."""

    def versioned(self) -> AbstractAsyncContextManager[VersionedSnapshot]:
        """One REPEATABLE READ snapshot; ends with the block."""

    def relation(self, table: Table) -> Relation:
        """The shape of a snapshot's rows of this table, without what precedes them."""

    async def barrier(self) -> int:
        """A transaction id (64 bits) that is taken now: whatever has written anything so far has a lower one.

        A snapshot's own xmax is no such bound: it is one past the newest *completed* transaction, and one that is in
        the WAL already, but not yet visible, may have a higher id.
        """


class FindingStore(Protocol):
    """Where findings go."""

    async def record(self, findings: Sequence[Finding]) -> None:
        """Store findings: new ones are opened, known ones are seen again (and opened again where they were closed)."""


class PassStore(FindingStore, Protocol):
    """What the passes over one mapping keep."""

    async def save(self, run: Run, mapping: str, progress: Progress) -> None:
        """Store how far a mapping is."""

    async def divergences(self, mapping: str, after: int, rows: int) -> list[OpenDivergence]:
        """Up to `rows` open ones of a mapping with an id above `after`, in order."""

    async def close(self, ids: Sequence[int]) -> None:
        """They are equal now: closed, and kept."""


class VerifyStore(PassStore, Protocol):
    """What is known of verification, in the target."""

    async def begin(self, scope: Scope) -> Run:
        """Begin a run, or go on with one of the same scope that was interrupted and that nobody else goes on with."""

    async def close_unseen(self, run: Run, mapping: str) -> None:
        """Close what is open of a mapping and was not seen in this run."""

    async def finish(self, run: Run, result: Mapping[str, Any]) -> None:
        """The run is complete; `result` is its report."""
