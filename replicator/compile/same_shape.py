"""Tables of the same shape: which column goes where, and which columns hold the key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from replicator.compile.keys import Translated, reference
from replicator.compile.problems import Problems, meant
from replicator.compile.sides import is_unique
from replicator.mapping import Mapping, Reference, Side
from replicator.tables import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from collections.abc import Mapping as MappingType

    from replicator.tables import Catalog, Table, TableName
    from replicator.transforms import Transform


class TablePattern(Protocol):
    """One table, or all of a schema."""

    @property
    def wildcard(self) -> bool:
        """Whether all tables of the schema are meant."""

    def matches(self, table: TableName) -> bool:
        """Whether this names the table."""


class TableEntry(Protocol):
    """One entry of a connector's `tables`: see `replicator.config`."""

    @property
    def old(self) -> TablePattern:
        """Which old table(s)."""

    @property
    def columns(self) -> MappingType[str, str]:
        """Renamed columns: old name to upgraded name."""

    @property
    def drop(self) -> Collection[str]:
        """Old columns that the upgraded table doesn't have."""

    @property
    def references(self) -> MappingType[str, TableName]:
        """Old columns that hold a key which a transform changes, to the old root table of that transform."""

    @property
    def lossy(self) -> Collection[str]:
        """Columns that need not survive."""

    @property
    def key(self) -> tuple[str, ...] | None:
        """Old columns of a unique index, where the table has no primary key."""

    @property
    def exclude(self) -> Collection[TableName]:
        """What a wildcard leaves out."""

    def upgraded_table(self, table: TableName) -> TableName:
        """The upgraded name of an old table that `old` matches."""


@dataclass(frozen=True)
class Pair:
    """One old table and what the connector says of it."""

    old: TableName
    upgraded: TableName
    entry: TableEntry


def pairs_of(
    entries: Iterable[TableEntry], transforms: Iterable[Transform[Any, Any]], old: Catalog, problems: Problems
) -> list[Pair]:
    """Every old table that an entry names, alone or by a wildcard.

    A wildcard leaves out what has an entry of its own, what a transform claims, what it excludes, and partitions: their
    partitioned table stands for them.
    """
    listed = list(entries)
    claimed = {side.table: transform for transform in transforms for side in transform.old}
    single = {name for name in old.tables for entry in listed if not entry.old.wildcard and entry.old.matches(name)}
    pairs = []
    for entry in listed:
        if not entry.old.wildcard:
            name = next((name for name in old.tables if entry.old.matches(name)), None)
            pairs.extend(_single(entry, name, claimed, old, problems))
            continue
        matched = [name for name in old.tables if entry.old.matches(name)]
        if not matched:
            problems.add(entry.old, entry.old, "the old database has no table there", "Correct the name of the schema")
        pairs.extend(
            Pair(name, entry.upgraded_table(name), entry)
            for name in matched
            if name not in single
            and name not in claimed
            and name not in entry.exclude
            and old.tables[name].parent is None
        )
    return pairs


def _single(
    entry: TableEntry,
    name: TableName | None,
    claimed: MappingType[TableName, Transform[Any, Any]],
    old: Catalog,
    problems: Problems,
) -> list[Pair]:
    if name is None:
        problems.add(
            entry.old, entry.old, "the old database has no such table", meant(str(entry.old), map(str, old.tables))
        )
        return []
    if name in claimed:
        problems.add(
            name,
            name,
            f"it has an entry in tables, and transform {claimed[name].place} maps it",
            "Remove one; what the entry says can be said in the decorator",
        )
        return []
    if problems.table(name, name, old, "old") is None:
        return []
    return [Pair(name, entry.upgraded_table(name), entry)]


def _upgraded_table(pair: Pair, upgraded: Catalog, problems: Problems) -> Table | None:
    """Of a wildcard's table it may be meant that it stays behind."""
    if pair.upgraded in upgraded.tables or not pair.entry.old.wildcard:
        return problems.table(str(pair.old), pair.upgraded, upgraded, "upgraded")
    old = str(pair.old)
    quoted = f"'{old}'" if '"' in old else old
    right = meant(str(pair.upgraded), map(str, upgraded.tables)).rstrip("?")
    remedy = f"{right}; or leave it behind: exclude: [{quoted}], beside the wildcard"
    problems.add(old, pair.upgraded, "the upgraded database has no such table", remedy)
    return None


def same_shape(
    pair: Pair,
    old: Catalog,
    upgraded: Catalog,
    translated: MappingType[str, Translated],
    problems: Problems,
    *,
    forward: bool,
) -> Mapping | None:
    """The mapping of one table without Python, in one direction; None where there were problems."""
    name = str(pair.old)
    old_table = old.tables[pair.old]
    upgraded_table = _upgraded_table(pair, upgraded, problems)
    if upgraded_table is None or not _names_exist(pair, old_table, upgraded_table, problems):
        return None
    carried = _carried(pair, old_table, upgraded_table, problems, forward=forward)
    key = _key(pair, old_table, upgraded_table, carried, problems)
    if key is None:
        return None
    digest = _digest(pair, (old_table, upgraded_table), key, carried)
    ends = (Side(old_table, key), Side(upgraded_table, tuple(carried[column] for column in key)))
    if not forward:
        carried = {new: column for column, new in carried.items()}
        ends = (ends[1], ends[0])
    source, target = ends
    _check_filled(pair, target.table, carried.values(), problems, forward=forward)
    _check_identity(pair, source, target, carried, problems)
    references = _references(pair, target, translated, problems, forward=forward)
    return Mapping(
        name=name,
        sources=(source,),
        targets=(target,),
        columns=carried,
        references=references,
        lossy=frozenset(pair.entry.lossy),
        digest=digest,
    )


def _digest(pair: Pair, tables: tuple[Table, Table], key: tuple[str, ...], carried: MappingType[str, str]) -> str:
    """Of what is said of the table, and of the columns that are carried; the same in both directions."""
    old, upgraded = tables
    columns = [
        (name, old.by_name[name].type_name, new, upgraded.by_name[new].type_name)
        for name, new in sorted(carried.items())
    ]
    references = sorted((column, str(to)) for column, to in pair.entry.references.items())
    declared = (str(pair.old), str(pair.upgraded), key, columns, references)
    return hashlib.sha256(repr(declared).encode()).hexdigest()


def _names_exist(pair: Pair, old: Table, upgraded: Table, problems: Problems) -> bool:
    """Whether every column that the entry names is there."""
    name, entry = str(pair.old), pair.entry
    found = [
        problems.columns(name, old, entry.columns, "columns"),
        problems.columns(name, upgraded, entry.columns.values(), "columns"),
        problems.columns(name, old, entry.drop, "drop"),
        problems.columns(name, old, entry.references, "references"),
        problems.columns(name, old, entry.key or (), "key"),
        all(column in old.by_name or column in upgraded.by_name for column in entry.lossy)
        or problems.columns(name, old, entry.lossy, "lossy"),
    ]
    return all(found)


def _carried(pair: Pair, old: Table, upgraded: Table, problems: Problems, *, forward: bool) -> dict[str, str]:
    """Old column to upgraded column, of all that are written in this direction."""
    carried = {}
    for column in old.columns:
        if column.name in pair.entry.drop:
            continue
        new = pair.entry.columns.get(column.name, column.name)
        counterpart = upgraded.by_name.get(new)
        if counterpart is None:
            problems.add(
                pair.old,
                pair.upgraded,
                f"it has no column {new} for {old.name}'s {column.name}",
                f"Name it in columns ({column.name}: its new name), or in drop",
            )
            continue
        source, target = (column, counterpart) if forward else (counterpart, column)
        if target.generated:
            continue
        if source.generated:
            problems.add(
                pair.old,
                (old if forward else upgraded).name,
                f"column {source.name} is generated here and not at the other side; a stream doesn't carry it",
                f"Add {column.name} to drop and give the other side a default, or write a transform",
            )
            continue
        carried[column.name] = new
    return carried


def _key(
    pair: Pair, old: Table, upgraded: Table, carried: MappingType[str, str], problems: Problems
) -> tuple[str, ...] | None:
    """The old columns that identify a row on both sides; () for a table without a key, None for a problem."""
    if pair.entry.key is not None:
        candidates = [pair.entry.key]
        if not is_unique(old, pair.entry.key):
            names = ", ".join(pair.entry.key)
            problems.add(
                pair.old,
                old.name,
                f"key names ({names}), and no unique index over columns that are NOT NULL has exactly these",
                "Name the columns of one, or leave key out",
            )
            return None
    else:
        candidates = [key.columns for key in old.unique_keys if key.usable or key.primary]
    if not candidates:
        return ()
    for key in candidates:
        if all(column in carried for column in key) and is_unique(upgraded, tuple(carried[column] for column in key)):
            return key
    wanted = ", ".join(carried.get(column, column) for column in candidates[0])
    problems.add(
        pair.old,
        upgraded.name,
        f"no unique index over ({wanted}), NOT NULL, to find its rows by",
        f"Add one, or name another key of {old.name} in key",
    )
    return None


def _check_filled(pair: Pair, target: Table, filled: Iterable[str], problems: Problems, *, forward: bool) -> None:
    """A column that must have a value gets one."""
    given = set(filled)
    for column in target.columns:
        if column.name in given or column.generated or column.nullable or column.has_default:
            continue
        problems.add(
            pair.old,
            target.name,
            f"nothing fills column {column.name}, which is NOT NULL without a default",
            "Give it a default, or write a transform"
            if forward
            else "Give it a default, for rows that are born on the upgraded side; or set cutover.reverse to off",
        )


def _check_identity(pair: Pair, source: Side, target: Side, carried: MappingType[str, str], problems: Problems) -> None:
    """A GENERATED ALWAYS identity column can be inserted, but no UPDATE can set it to a value."""
    for name, new in carried.items():
        column = target.table.by_name[new]
        if column.identity == "a" and new not in target.key and source.table.by_name[name].identity != "a":
            problems.add(
                pair.old,
                target.table.name,
                f"column {new} is GENERATED ALWAYS AS IDENTITY, so an update of {name} could not be carried over",
                f"ALTER TABLE {target.table.name} ALTER {quote_identifier(new)} SET GENERATED BY DEFAULT (it can be "
                "set back after the cutover), or drop the column",
            )


def _references(
    pair: Pair, target: Side, translated: MappingType[str, Translated], problems: Problems, *, forward: bool
) -> tuple[Reference, ...]:
    made = []
    for column, to in pair.entry.references.items():
        name = pair.entry.columns.get(column, column) if forward else column
        found = reference(
            str(pair.old),
            columns=(name,),
            table=None,
            to=str(to),
            targets=(target,),
            translated=translated,
            problems=problems,
        )
        if found is not None:
            made.append(found)
    return tuple(made)
