"""Checks: what else must hold beside the rows, and what finding that out needs of the two databases.

    row counts     of each table of the target, explained by what was filtered out and by fan-out
    foreign keys   no row without the row that it refers to; also where the constraint is not valid yet
    unique keys    no two rows of one key, where the server checks that by a trigger, which replicas pass by
    sequences      none behind the columns that it fills
    SQL            the business's own rules: two queries that agree, or one that returns no row
    suites         of Great Expectations

The types and ports of `replicator.engine.checks`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from replicator.ports import SourceSnapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from replicator.events import Key, Values
    from replicator.tables import Column, Table, TableName


class Severity(StrEnum):
    """What a check that fails stands in the way of."""

    BLOCK = "block"  # of a certificate, and so of a cutover
    WARN = "warn"  # of nothing: it is told, and kept


class CheckKind(StrEnum):
    """What a check looks at."""

    ROWS = "rows"
    FOREIGN_KEY = "foreign_key"
    UNIQUE = "unique"
    SEQUENCE = "sequence"
    SQL = "sql"
    GREAT_EXPECTATIONS = "great_expectations"


@dataclass(frozen=True)
class CheckResult:
    """What one check said.

    Attributes:
        name: unique in its connector.
        kind: see `CheckKind`.
        ok: None: it could not be decided (the rows never stood still, or the SQL failed); that is not ok.
        severity: see `Severity`.
        message: in a sentence or two; no value of a row, unless the check asks for them.
        keys: of the first rows that are wrong, as text.
        position: the source's WAL, as a number: what was looked at had everything before it; None: it looked at the
            source alone.
        seconds: how long it took.

    """

    name: str
    kind: CheckKind
    ok: bool | None
    severity: Severity = Severity.BLOCK
    message: str = ""
    keys: tuple[str, ...] = ()
    position: int | None = None
    seconds: float = 0.0

    @property
    def blocks(self) -> bool:
        """Whether it stands in the way of a certificate."""
        return self.ok is not True and self.severity is Severity.BLOCK


@dataclass(frozen=True)
class SqlRule:
    """A rule of the business.

    Attributes:
        name: as the connector has it.
        old, upgraded: queries; both must agree, one alone must return no row. Neither: never.
        severity: see `Severity`.
        tolerance: the difference of numbers that is let pass (of moments, in seconds).
        timeout_seconds: of each query.
        show: the message may show values.

    """

    name: str
    old: str | None
    upgraded: str | None
    severity: Severity = Severity.BLOCK
    tolerance: Decimal | None = None
    timeout_seconds: float = 60.0
    show: bool = False


@dataclass(frozen=True)
class SuiteRule:
    """A suite of Great Expectations for one table of the upgraded database, or for a query's result.

    Attributes:
        name: as the connector has it.
        suite: JSON file.
        table: which.
        query: SQL, in place of a table.
        severity, timeout_seconds: as in `SqlRule`.

    """

    name: str
    suite: Path
    table: TableName | None = None
    query: str | None = None
    severity: Severity = Severity.BLOCK
    timeout_seconds: float = 60.0


@dataclass(frozen=True)
class SuiteResult:
    """What one run of a suite said.

    Attributes:
        expectations: how many it has.
        failed: those that are not met, in its words; no values.
        errors: those that could not be evaluated.

    """

    expectations: int
    failed: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


RunSuite = Callable[[SuiteRule], Awaitable[SuiteResult]]
"""Runs a suite once.

Raises:
    ReplicatorError: CONFIG when the library isn't installed, or the file is no suite; CONNECTION.
"""


@dataclass(frozen=True)
class ForeignKeyRule:
    """A foreign key of a table, as its orphans are looked for.

    Attributes:
        name: the constraint's.
        table, columns: that refer.
        referenced, referenced_columns: what to.
        referenced_partitioned: rows of partitions count.
        operators: `=` of each pair of columns, referenced first, as SQL.
        collations: in which each pair is compared, as SQL; None: none.
        full: MATCH FULL: a reference is whole or NULL.
        period: the last pair are ranges, and many rows may cover one.
        validated: false: NOT VALID.
        enforced: false: the server doesn't check it at all.

    """

    name: str
    table: Table
    columns: tuple[str, ...]
    referenced: TableName
    referenced_columns: tuple[str, ...]
    referenced_partitioned: bool
    operators: tuple[str, ...]
    collations: tuple[str | None, ...]
    full: bool = False
    period: bool = False
    validated: bool = True
    enforced: bool = True


@dataclass(frozen=True)
class UniqueRule:
    """A deferrable unique key, whose check is a trigger.

    Attributes:
        name: the constraint's.
        table, columns: whose rows are to differ.
        nulls: two rows with a NULL are equal (NULLS NOT DISTINCT).

    """

    name: str
    table: Table
    columns: tuple[str, ...]
    nulls: bool = False


@dataclass(frozen=True)
class SequenceRule:
    """A sequence that fills a column of integers: it owns it, or the column's default asks it.

    Attributes:
        sequence: its qualified name.
        table, column: what it fills.
        cycles: it begins again at its end.

    """

    sequence: TableName
    table: Table
    column: str
    cycles: bool = False


@dataclass(frozen=True)
class SequenceState:
    """A sequence and its column in one snapshot.

    Attributes:
        upcoming: what `nextval` gives next.
        increment: negative: it counts down.
        furthest: the column's largest value (its least, where it counts down); None: there is none.

    """

    upcoming: int
    increment: int
    furthest: int | None

    @property
    def behind(self) -> bool:
        """Whether it would give a value that is there already, or comes before one."""
        if self.furthest is None:
            return False
        return self.upcoming <= self.furthest if self.increment > 0 else self.upcoming >= self.furthest


@dataclass(frozen=True)
class Rules:
    """What a database demands of some tables by itself."""

    foreign_keys: tuple[ForeignKeyRule, ...] = ()
    unique_keys: tuple[UniqueRule, ...] = ()
    sequences: tuple[SequenceRule, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The result of a query.

    Attributes:
        columns: names and types.
        rows: as the server prints them.
        more: there were more than were wanted.

    """

    columns: tuple[Column, ...]
    rows: list[Values] = field(default_factory=list)
    more: bool = False


class CheckSnapshot(SourceSnapshot, Protocol):
    """One REPEATABLE READ snapshot, in which nothing can be written."""

    async def export(self) -> str:
        """A name by which other sessions of this database take this snapshot, as long as it is open."""

    async def ask(self, query: str, rows_max: int, timeout_seconds: float) -> Answer:
        """Run somebody's query: one statement that returns rows. Names are looked up in pg_catalog and public.

        Raises:
            ReplicatorError: SCHEMA, DATA, PERMISSION, TIMEOUT, CONFIG (it is none): what is wrong with the query.

        """

    async def describe(self, query: str) -> tuple[Column, ...]:
        """The columns of somebody's query, which is planned and not run.

        Raises:
            ReplicatorError: as `ask`.

        """

    async def orphans(
        self, rule: ForeignKeyRule, after: Key | None, upto: Key | None, rows_max: int
    ) -> list[tuple[bytes | None, ...]]:
        """Keys of rows of a range (of the table's key; None: open) that refer to nothing, at most so many.

        Where the table has no key, the values that refer.
        """

    async def orphans_of(
        self, rule: ForeignKeyRule, keys: Sequence[tuple[bytes | None, ...]]
    ) -> list[tuple[bytes | None, ...]]:
        """Those of these (see `orphans`) that still refer to nothing."""

    async def duplicates(self, rule: UniqueRule, rows_max: int) -> list[tuple[bytes | None, ...]]:
        """Keys that several rows have, at most so many."""

    async def state(self, rule: SequenceRule) -> SequenceState:
        """A sequence and its column."""

    async def deferred(self) -> int:
        """Aggregates that the feed into this database has not written yet, and knows it."""


class CheckReader(Protocol):
    """Reads one database for checks, on connections of its own."""

    def checking(
        self, visible: Collection[int] = (), *, exported: str | None = None
    ) -> AbstractAsyncContextManager[CheckSnapshot]:
        """One snapshot; ends with the block.

        Args:
            visible: as in `ports.Reader.snapshot`.
            exported: the name of another session's, which is taken.

        """

    async def barrier(self) -> int:
        """See `verification.VersionedReader`."""

    async def rules(self, tables: Collection[Table]) -> Rules:
        """What the database demands of these tables by itself, each in order of names."""


@dataclass(frozen=True)
class Standstill:
    """Both databases at one position: the target is what the feed makes of all that the source shows, and no more.

    Attributes:
        source, target: read by nobody else.
        position: LSN of the source; what the target shows was committed before it.

    """

    source: CheckSnapshot
    target: CheckSnapshot
    position: int


StandStill = Callable[[], AbstractAsyncContextManager["Standstill | str"]]
"""Takes both databases at one position, until the block ends; a text says why that can't be."""


class CheckStore(Protocol):
    """Results over time, in the target."""

    async def record(self, results: Sequence[CheckResult], run: int | None) -> None:
        """Keep results; `run` is the verification that they were a part of."""

    async def newest(self) -> list[dict[str, Any]]:
        """The newest result of each check, in order of names: as JSON."""
