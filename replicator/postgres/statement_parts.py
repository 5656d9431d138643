"""Parts of the SQL of writes: given rows as arrays, casts, equality, ownership.

Every column is one `text[]` parameter; a value is cast to its column's type without modifier, so that the assignment to
the column checks lengths and domains (an explicit cast to `varchar(3)` would truncate silently). Equality names the
operator of the type's own btree class: our sessions see only pg_catalog, where citext would compare as text.

Ordinary tables are written with ONLY, as they are read: rows of an inheritance child belong to the child.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replicator.tables import Column, Table
    from replicator.writes import Owner, Write

COMMA: Final = sql.SQL(", ")
AND: Final = sql.SQL(" AND ")
NOTHING: Final = sql.SQL("")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as it is prepared.

    Attributes:
        text: SQL with `$1`, ... in place of the columns' arrays: those of `Write.keys` first, then those of `rows`.
        sets: it compares sets without an index of which we know, so it wants joins of all kinds and a plan of its own.
        ordinals: it returns the ordinals (from 1) of the rows that were hit.
        all_rows: it writes every row given, though its command tag counts a part of them.

    """

    text: bytes
    sets: bool = False
    ordinals: bool = False
    all_rows: bool = False

    @classmethod
    def of(
        cls, composed: sql.Composable, *, sets: bool = False, ordinals: bool = False, all_rows: bool = False
    ) -> Statement:
        """Render it."""
        return cls(composed.as_bytes(), sets, ordinals, all_rows)


class Names:
    """Names of a statement's parts that no column of the table has, so that an owner's predicate stays unambiguous."""

    def __init__(self, table: Table, owner: Owner | None = None) -> None:
        taken = (*table.column_names, *(owner.table.column_names if owner is not None else ()))
        self._prefix = "v"
        while any(name.startswith(self._prefix) for name in taken):
            self._prefix += "_"

    def value(self, at: int) -> sql.Identifier:
        """The 0-based column of the given rows."""
        return sql.Identifier(f"{self._prefix}{at + 1}")

    def key(self, at: int) -> sql.Identifier:
        """The 0-based column of the given aggregates' keys."""
        return sql.Identifier(f"{self._prefix}k{at + 1}")

    @property
    def ordinal(self) -> sql.Identifier:
        """The given row's number, from 1."""
        return sql.Identifier(f"{self._prefix}n")


def table_name(table: Table) -> sql.Identifier:
    """The table's qualified name."""
    return sql.Identifier(table.name.schema, table.name.name)


def only(table: Table) -> sql.Composed:
    """The table without inheritance children; a partitioned one with its partitions."""
    return sql.SQL("{}" if table.kind == "p" else "ONLY {}").format(table_name(table))


def cast(column: Column, value: sql.Composable) -> sql.Composed:
    """A text brought to the column's type."""
    if column.cast_type == "text":
        return sql.SQL("{}").format(value)
    return sql.SQL("{}::{}").format(value, sql.SQL(column.cast_type))  # the server's own text, from its catalog


def equal(column: Column, left: sql.Composable, right: sql.Composable) -> sql.Composed:
    """Equality of a column and a text, by the index where there is one."""
    if not column.operator_schema:
        return sql.SQL("{}::text = {}::text").format(left, cast(column, right))
    if column.operator_schema == "pg_catalog":
        return sql.SQL("{} = {}").format(left, cast(column, right))
    operator = sql.SQL("OPERATOR({}.=)").format(sql.Identifier(column.operator_schema))
    return sql.SQL("{} {} {}").format(left, operator, cast(column, right))


def same_text(table: Table, pairs: Iterable[tuple[str, sql.Composable]]) -> sql.Composable:
    """` AND ...`: what keeps a delete from rows whose key is equal but another text; nothing where there is none.

    `Ann` of citext becomes `ANN` by a delete of the one and an upsert of the other, in any order (by two lanes, say):
    the delete must not take what the upsert has made of that row. A given value is printed as the column prints it.

    Args:
        table: of the rows, `t`.
        pairs: key columns, and the texts that are given for them.

    """
    texts = sql.SQL(' AND {}::text COLLATE "C" = {}::{}::text COLLATE "C"')
    return sql.Composed(
        [
            texts.format(sql.Identifier("t", name), text, sql.SQL(column.type_name))
            for name, text in pairs
            if not (column := table.by_name[name]).canonical
        ]
    )


def given(names: Sequence[sql.Identifier], first: int, ordinal: sql.Identifier | None = None) -> sql.Composed:
    """`unnest($1::text[], ...) [WITH ORDINALITY] AS v(v1, ...)`; the first parameter is `$first`."""
    arrays = COMMA.join(sql.SQL(f"${first + at}::text[]") for at in range(len(names)))
    if ordinal is None:
        return sql.SQL("unnest({}) AS v({})").format(arrays, COMMA.join(names))
    return sql.SQL("unnest({}) WITH ORDINALITY AS v({})").format(arrays, COMMA.join([*names, ordinal]))


def owned(write: Write) -> sql.Composable:
    """` AND ...`: what keeps a delete within the rows that the mapping owns; nothing where it owns the table."""
    if write.predicate is not None:
        return sql.SQL(" AND ({})").format(sql.SQL(write.predicate))  # the connector's own SQL
    if write.owner is None:
        return NOTHING
    owner = write.owner
    match = AND.join(
        sql.SQL("{} = {}").format(sql.Identifier("r", root), sql.Identifier("t", child))
        if owner.table.by_name[root].operator_schema == "pg_catalog"
        else equal(
            owner.table.by_name[root], sql.Identifier("r", root), sql.SQL("{}::text").format(sql.Identifier("t", child))
        )
        for root, child in zip(owner.key, write.scope, strict=True)
    )
    return sql.SQL(" AND EXISTS (SELECT FROM {} AS r WHERE {} AND ({}))").format(
        only(owner.table), match, sql.SQL(owner.predicate)
    )


def match_rows(write: Write, names: Names) -> sql.Composed:
    """`t.key = v.key`, by the columns of `write.key`."""
    by_name, places = write.table.by_name, {name: at for at, name in enumerate(write.columns)}
    return AND.join(
        equal(by_name[name], sql.Identifier("t", name), sql.SQL("v.{}").format(names.value(places[name])))
        for name in write.key
    )


def is_indexed(table: Table, columns: Iterable[str]) -> bool:
    """Whether a unique index is known to find rows by these columns."""
    within = set(columns)
    return any(within.issuperset(key.columns) for key in table.unique_keys)


def overriding(write: Write) -> sql.SQL:
    """A GENERATED ALWAYS identity column takes the value that the source gave it."""
    always = any(write.table.by_name[name].identity == "a" for name in write.columns)
    return sql.SQL(" OVERRIDING SYSTEM VALUE") if always else NOTHING


def values(write: Write, names: Names) -> sql.Composed:
    """The given values, cast."""
    by_name = write.table.by_name
    return COMMA.join(
        cast(by_name[name], sql.SQL("v.{}").format(names.value(at))) for at, name in enumerate(write.columns)
    )
