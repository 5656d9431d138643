"""Writes: what the planner wants done to target tables, and what a target adapter executes. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import Key, Values
    from replicator.mapping import KeyMapping
    from replicator.tables import Table


class WriteAction(Enum):
    """One statement's meaning. `key` and `columns` are those of the `Write`.

    In every action rows are unique by `key` within one write, except in APPEND and REMOVE.
    """

    INSERT = "insert"  # plain INSERT: the rows are not there (23505: the batch is replayed with UPSERT)
    UPSERT = "upsert"  # insert, or update the columns that are not in `key`
    UPDATE = "update"  # by `key`, sets the columns not in `key`; rows that hit nothing are reported
    DELETE = "delete"  # by `key`; columns == key
    PRUNE = (
        "prune"  # delete rows of aggregates `keys` (by aggregate key `scope`) that no row of `rows` matches by `key`
    )
    MERGE = "merge"  # by `key`: update what is there, insert what is missing (multiset: as many as given)
    APPEND = "append"  # insert rows of a table without a key
    REMOVE = "remove"  # delete exactly one row for each row given, matched by all `columns` IS NOT DISTINCT FROM
    TRUNCATE = "truncate"  # TRUNCATE the table
    CLEAR = "clear"  # DELETE all rows for which `predicate` holds (TRUNCATE of an owned subset)


@dataclass(frozen=True)
class Translation:
    """Column positions (within `Write.columns`, or `scope` for PRUNE's keys) that hold a key to be translated.

    Attributes:
        at: the positions, in the order of the key.
        keys: the translation.
        kept: those of them that the translation must leave as they are: a part of the row's own key, by which alone it
            is deleted.

    """

    at: tuple[int, ...]
    keys: KeyMapping
    kept: tuple[int, ...] = ()


@dataclass(frozen=True)
class Owner:
    """Whose a child's rows are: those of root rows (matched by `key` = the write's `scope`) with this predicate."""

    table: Table
    key: tuple[str, ...]
    predicate: str


@dataclass(slots=True)
class Write:
    """One statement: an action on one table with one set of columns, for any number of rows.

    Attributes:
        table: the target table.
        action: see `WriteAction`.
        columns: names of the columns of `rows`.
        key: the columns (a subset of `columns`) by which a row is identified.
        rows: values in the order of `columns`; bytes or None (never UNCHANGED).
        scope: PRUNE and MERGE: the columns that hold the aggregate's key.
        keys: PRUNE: the aggregates' keys.
        predicate: owned subset: DELETE, PRUNE, CLEAR touch only rows for which it holds; an UPSERT replaces whatever
            is under its key. An SQL expression over the table's own column names.
        owner: the same for a child: its rows are touched only where the root row under their `scope` is owned.
        multiset: MERGE and PRUNE with rows that may be equal: match as many as given.
        translations: where keys must be translated before execution (`scope_translations` for `keys`).
        also: TRUNCATE: further tables of the same statement.
        mapping: name of the mapping it comes from, for errors and metrics.

    """

    table: Table
    action: WriteAction
    columns: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    rows: Sequence[Values] = ()
    scope: tuple[str, ...] = ()
    keys: Sequence[Key] = ()
    predicate: str | None = None
    owner: Owner | None = None
    multiset: bool = False
    translations: tuple[Translation, ...] = ()
    scope_translations: tuple[Translation, ...] = ()
    also: tuple[Table, ...] = ()
    mapping: str = ""


@dataclass(slots=True)
class WriteResult:
    """What one write did.

    Attributes:
        affected: rows inserted, updated or deleted.
        missing: UPDATE only: positions in `rows` whose key was not on the target.

    """

    affected: int = 0
    missing: list[int] = field(default_factory=list)
