"""What has changed between two looks at a table, and whether its rows may have changed without an event. Pure.

A stream is silent about ATTACH and DETACH of a filled partition, about a rewrite (`ALTER COLUMN … USING`), and about
the default that ADD COLUMN gives to rows that are there. And changes from before a column was renamed have its value
under a name that no mapping knows any more. What tells them from what leaves the rows alone:

    relfilenode   another one after every rewrite, but after VACUUM FULL, CLUSTER, TRUNCATE and SET TABLESPACE too
    version       xmin of a column's row in pg_attribute: another one after every ALTER of that column, also one that
                  ends in the same type; VACUUM FULL touches it only to clear a fast default

So a new relfilenode together with a new version of any column is a rewrite by ALTER, and rows may differ (a VACUUM
FULL of a table with a fast default looks the same: we cannot tell, and say so); a new relfilenode alone is none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replicator.mapping import Mappings
    from replicator.tables import Catalog, Column, Table, TableName


class ChangeKind(StrEnum):
    """What happened to a table."""

    TABLE_MISSING = "table_missing"  # dropped, renamed, or moved to another schema
    TABLE_RECREATED = "table_recreated"  # another table of the same name
    COLUMN_ADDED = "column_added"
    COLUMN_DROPPED = "column_dropped"  # or renamed
    COLUMN_RETYPED = "column_retyped"
    REWRITTEN = "rewritten"
    IDENTITY_CHANGED = "identity_changed"
    PARTITION_ATTACHED = "partition_attached"
    PARTITION_DETACHED = "partition_detached"  # or dropped


class Effect(StrEnum):
    """What a change means for the feed."""

    FITS = "fits"  # no row changed without an event: the feed goes on
    RESYNC = "resync"  # rows may differ from what the stream has told: `replicator resync TABLE`
    STOPS = "stops"  # the feed can't go on as it was compiled


@dataclass(frozen=True)
class Change:
    """One change of one table.

    Attributes:
        kind: see `ChangeKind`.
        effect: see `Effect`.
        mapping: the mapping's name.
        table: the mapped table.
        message: what happened and why it matters, in one sentence.
        column: where one is concerned.
        partition: where one is concerned.

    """

    kind: ChangeKind
    effect: Effect
    mapping: str
    table: TableName
    message: str
    column: str | None = None
    partition: TableName | None = None


@dataclass(frozen=True)
class Watched:
    """A mapped table at one end of a feed.

    Attributes:
        mapping: the mapping's name.
        table: its name.
        key: the columns that hold the aggregate's key.
        carried: the columns that the mapping reads or writes; None where only a user's function knows.
        source: its changes are read; else it is written.

    """

    mapping: str
    table: TableName
    key: tuple[str, ...]
    carried: frozenset[str] | None
    source: bool

    def uses(self, column: str) -> bool:
        """Whether the mapping may need this column."""
        return self.carried is None or column in self.carried


def watched_tables(mappings: Mappings, *, source: bool) -> list[Watched]:
    """The tables of one end of a feed."""
    found = []
    for mapping in mappings.all:
        for side in mapping.sources if source else mapping.targets:
            carried = None
            if mapping.function is None:
                carried = frozenset(mapping.columns if source else mapping.columns.values())
            found.append(Watched(mapping.name, side.table.name, side.key, carried, source))
    return found


def compare_catalogs(before: Catalog, after: Catalog, tables: Collection[Watched]) -> list[Change]:
    """All changes of these tables and of their partitions between two looks at one database."""
    changes = []
    for each in tables:
        old = before.tables.get(each.table)
        if old is None:
            continue
        new = after.tables.get(each.table)
        if new is None:
            changes.append(_missing(old, after, each))
            continue
        changes += compare_tables(old, new, each)
        for leaf in old.leaves:
            was, now = before.tables.get(leaf), after.tables.get(leaf)
            if was is not None and now is not None and leaf in new.leaves:
                changes += _leaf(was, now, each)
    return changes


def compare_tables(before: Table, after: Table, watched: Watched) -> list[Change]:
    """All changes between two looks at one table; leaf partitions are tables of their own for rewrites."""
    if before.oid != after.oid:
        return [
            Change(
                ChangeKind.TABLE_RECREATED,
                Effect.STOPS,
                watched.mapping,
                after.name,
                "it was dropped and made again: "
                + ("the publication doesn't have the new one" if watched.source else "what had been written is gone"),
            )
        ]
    columns, rewrites = _columns(before, after, watched), _rewrites(before, after, watched)
    if any(change.kind is not ChangeKind.COLUMN_DROPPED for change in columns):
        rewrites = [change for change in rewrites if change.effect is not Effect.FITS]  # it is explained
    return [*columns, *rewrites, *_identity(before, after, watched), *_partitions(before, after, watched)]


def _leaf(before: Table, after: Table, watched: Watched) -> list[Change]:
    """Changes of one leaf partition's rows: the partitioned table itself has none, and no default to show for them."""
    added = [
        replace(change, table=watched.table, partition=after.name)
        for change in _columns(before, after, watched)
        if change.kind is ChangeKind.COLUMN_ADDED and change.effect is Effect.RESYNC
    ]
    return added or _rewrites(before, after, watched)


def _missing(old: Table, after: Catalog, watched: Watched) -> Change:
    renamed = next((table.name for table in after.tables.values() if table.oid == old.oid), None)
    what = f"it is called {renamed} now" if renamed is not None else "it is gone"
    return Change(ChangeKind.TABLE_MISSING, Effect.STOPS, watched.mapping, old.name, what)


def _columns(before: Table, after: Table, watched: Watched) -> list[Change]:
    changes = []
    rewritten = before.relfilenode != after.relfilenode
    for name in before.column_names:
        if name not in after.by_name:
            effect = Effect.STOPS if watched.uses(name) else Effect.FITS
            message = f"column {name} was dropped or renamed" + ("" if effect is Effect.STOPS else "; it isn't carried")
            changes.append(Change(ChangeKind.COLUMN_DROPPED, effect, watched.mapping, after.name, message, name))
    for column in after.columns:
        old = before.by_name.get(column.name)
        if old is None:
            former = next((one.name for one in before.columns if one.number == column.number != 0), None)
            changes.append(_added(after, column, watched, former, rewritten=rewritten))
        elif (old.type_oid, old.typmod) != (column.type_oid, column.typmod):
            changes.append(_retyped(after, old, column, watched, rewritten=rewritten))
    return changes


def _added(table: Table, column: Column, watched: Watched, former: str | None, *, rewritten: bool) -> Change:
    effect, message = Effect.FITS, f"column {column.name} was added"
    if watched.source and former is not None:
        effect = Effect.RESYNC
        message = f"column {former} is called {column.name} now: changes from before have it under its former name"
    elif watched.source:
        if not column.generated and (column.fast_default or rewritten):
            effect = Effect.RESYNC
            message += " with a default, which rows that were there show without an event"
    elif not (column.nullable or column.has_default):
        effect = Effect.STOPS
        message += ": NOT NULL without a default, and nothing fills it"
    return Change(ChangeKind.COLUMN_ADDED, effect, watched.mapping, table.name, message, column.name)


def _retyped(table: Table, old: Column, new: Column, watched: Watched, *, rewritten: bool) -> Change:
    message, effect = f"column {new.name} was {old.type_name} and is {new.type_name}", Effect.FITS
    if not watched.uses(new.name):
        message += "; it isn't carried"
    elif rewritten:
        message, effect = f"{message}: its rows were converted without an event", Effect.RESYNC
    else:
        message += "; its rows are as they were"
    return Change(ChangeKind.COLUMN_RETYPED, effect, watched.mapping, table.name, message, new.name)


def _rewrites(before: Table, after: Table, watched: Watched) -> list[Change]:
    """A rewrite of one table or one leaf. Retyped columns of the mapped table itself have been told of already."""
    if before.oid != after.oid or before.relfilenode == after.relfilenode:
        return []
    partition = None if after.name == watched.table else after.name
    altered = [
        column.name
        for column in after.columns
        if (old := before.by_name.get(column.name)) is not None
        and old.version != column.version
        and watched.uses(column.name)
        and (partition is not None or (old.type_oid, old.typmod) == (column.type_oid, column.typmod))
    ]
    where = "it" if partition is None else f"partition {partition}"
    if altered:
        message = f"{where} was rewritten, and {', '.join(altered)} altered: its rows may have changed without an event"
        return [
            Change(ChangeKind.REWRITTEN, Effect.RESYNC, watched.mapping, watched.table, message, altered[0], partition)
        ]
    message = f"{where} was rewritten (VACUUM FULL, CLUSTER, TRUNCATE, SET TABLESPACE): no row changed by that"
    return [Change(ChangeKind.REWRITTEN, Effect.FITS, watched.mapping, watched.table, message, None, partition)]


def _identity(before: Table, after: Table, watched: Watched) -> list[Change]:
    if not watched.source or before.identity_columns == after.identity_columns:
        return []
    wanted = watched.key or after.column_names
    effect, message = Effect.FITS, "its replica identity is another one"
    if not set(wanted) <= set(after.identity_columns):
        effect = Effect.STOPS
        message = "its old tuples no longer carry the key: which row was updated or deleted can't be known"
    return [Change(ChangeKind.IDENTITY_CHANGED, effect, watched.mapping, after.name, message)]


def _partitions(before: Table, after: Table, watched: Watched) -> list[Change]:
    changes = [
        Change(
            ChangeKind.PARTITION_ATTACHED,
            Effect.RESYNC,
            watched.mapping,
            after.name,
            f"partition {leaf} was attached: rows that it held before have no event",
            partition=leaf,
        )
        for leaf in after.leaves
        if leaf not in before.leaves
    ]
    changes += [
        Change(
            ChangeKind.PARTITION_DETACHED,
            Effect.RESYNC,
            watched.mapping,
            after.name,
            f"partition {leaf} was detached or dropped: its rows went without an event",
            partition=leaf,
        )
        for leaf in before.leaves
        if leaf not in after.leaves
    ]
    return changes
