"""What one feed does with one aggregate: the compiled form of a transform or of a same-shape table. Pure data.

Compiled (see `replicator.compile`) from the connector, the user's transforms and both catalogs, for one direction: the
forward feed's source is the old database, the reverse feed's source is the upgraded one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from replicator.events import Key, Relation, Value, Values

if TYPE_CHECKING:
    from collections.abc import Mapping as MappingType

    from replicator.tables import Table, TableName


@dataclass(frozen=True)
class Side:
    """One table of an aggregate, and its columns that hold the aggregate's key (in the order of the root's key).

    A root without any key has `key == ()`: its table is a multiset of rows.
    """

    table: Table
    key: tuple[str, ...]


@dataclass(frozen=True)
class SourceRows:
    """Rows of one source table, all of one shape."""

    relation: Relation
    rows: Sequence[Values]


@dataclass(frozen=True)
class SourceAggregate:
    """One aggregate as the source has it.

    Attributes:
        key: the aggregate's key at the source.
        tables: one entry a source side, the root first; the root has exactly one row.

    """

    key: Key
    tables: tuple[SourceRows, ...]


TargetRow = dict[str, Value]
"""Column name to value; values that came untouched from the source may be UNCHANGED."""


@dataclass(slots=True)
class Outcome:
    """What the transform made of one aggregate.

    Attributes:
        key: the aggregate's key at the source (translated to the target's later, by the key map).
        rows: one list a target side, the root first. All empty: the aggregate is filtered out (or was deleted), and
            what an earlier version of it left in the target goes.

    """

    key: Key
    rows: list[list[TargetRow]]


class NeedsFetch(BaseException):
    """A transform read a column that is UNCHANGED: fetch the row from the source by its key, then run it again.

    Not an Exception: a transform that catches Exception must not go on without the value.

    Attributes:
        column: which.
        raised: how many there were in this process: it tells of one that a bare `except:` has swallowed.

    """

    raised: ClassVar[int] = 0

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column
        NeedsFetch.raised += 1


AggregateFunction = Callable[[SourceAggregate], Outcome]
"""Runs the user's function on one aggregate and validates what it returned.

Raises:
    NeedsFetch: it read a column that is UNCHANGED.
    ReplicatorError: kind TRANSFORM, naming function, table and key.
"""


@dataclass(frozen=True)
class KeyMapping:
    """How one mapping's keys are translated from this feed's source to its target, and kept in `replicator.key_map`.

    Attributes:
        name: the mapping's name; keys the rows of `replicator.key_map`.
        forward: true when the source is the old database (its keys are column old_key of the map).
        function: source key to target key, for a key that no map has; None where a sequence gives it.
        sequence: qualified name of the target's sequence that gives new keys, where there is no function.

    """

    name: str
    forward: bool
    function: Callable[[Key], Key] | None = None
    sequence: str | None = None


@dataclass(frozen=True)
class Reference:
    """Columns of target rows that hold a key of another mapping (or of this one), to be translated.

    Attributes:
        columns: names of target columns, in the order of the referenced key.
        table: only in rows of this target table; None: in all that have the columns.
        keys: the referenced mapping's translation.

    """

    columns: tuple[str, ...]
    keys: KeyMapping
    table: TableName | None = None


@dataclass(frozen=True, eq=False)
class Mapping:
    """One aggregate's way through one feed.

    Attributes:
        name: stable name: the old root table's qualified name (both directions of a transform share it).
        sources: source tables, root first.
        targets: target tables, root first.
        function: runs the user's code; None for a same-shape mapping.
        columns: same-shape only: source column to target column, of all columns that are carried.
        key_map: translation of the aggregate's key, where it changes.
        references: columns of target rows that are translated.
        owns: SQL predicate on target tables: only such rows are this mapping's.
        owns_source: SQL predicate on source tables: other rows are none of its business.
        lossy: columns that need not survive the round trip, or may round.
        label: how errors name it: function and file, or "same shape".
        digest: changes when the transform's code or its declaration does.

    """

    name: str
    sources: tuple[Side, ...]
    targets: tuple[Side, ...]
    function: AggregateFunction | None = None
    columns: MappingType[str, str] = field(default_factory=dict)
    key_map: KeyMapping | None = None
    references: tuple[Reference, ...] = ()
    owns: str | None = None
    owns_source: str | None = None
    lossy: frozenset[str] = frozenset()
    label: str = "same shape"
    digest: str = ""

    @property
    def root(self) -> Side:
        """The source's root."""
        return self.sources[0]

    @property
    def target(self) -> Side:
        """The target's root."""
        return self.targets[0]

    @cached_property
    def reads_back(self) -> bool:
        """Whether an event isn't the aggregate, so that it is read from the source again.

        Neither is it where only a deferrable constraint keeps the key unique: within a transaction two rows may have
        one key, and an old tuple doesn't say which of them it was.
        """
        key = set(self.root.key)
        indexes = [one for one in self.root.table.unique_keys if set(one.columns) == key]
        return len(self.sources) > 1 or (bool(indexes) and all(one.deferrable for one in indexes))

    @property
    def asks_source(self) -> bool:
        """Whether the source has to say which streamed rows are this mapping's: only it can evaluate `owns_source`."""
        return self.owns_source is not None and not self.reads_back and not self.multiset

    @property
    def takes_runs(self) -> bool:
        """Whether rows of its one table pass as they are, whichever they are: runs of them need not be looked into."""
        return self.function is None and not (self.reads_back or self.asks_source or self.multiset)

    @property
    def multiset(self) -> bool:
        """Whether its rows have no key: never reduced, and a delete takes as many rows as events."""
        return not self.root.key


@dataclass(frozen=True)
class Mappings:
    """All mappings of one feed."""

    all: tuple[Mapping, ...]

    @cached_property
    def by_source(self) -> MappingType[TableName, tuple[Mapping, Side]]:
        """The mapping that a source table belongs to, and its side. A table belongs to one mapping at most."""
        return {side.table.name: (mapping, side) for mapping in self.all for side in mapping.sources}

    @cached_property
    def target_tables(self) -> tuple[Table, ...]:
        """Every target table once, in order of first use."""
        seen = {side.table.name: side.table for mapping in self.all for side in mapping.targets}
        return tuple(seen.values())

    @cached_property
    def source_tables(self) -> tuple[Table, ...]:
        """Every source table once."""
        return tuple(side.table for mapping in self.all for side in mapping.sources)

    def named(self, names: Iterable[str]) -> tuple[Mapping, ...]:
        """The mappings of these names, in order."""
        wanted = set(names)
        return tuple(mapping for mapping in self.all if mapping.name in wanted)
