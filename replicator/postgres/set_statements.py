"""The SQL of writes that compare sets: rows of aggregates, and rows without a key.

Whole rows are compared as records: record equality takes each column's own btree class, wherever its operators live,
and lets NULL equal NULL, as IS NOT DISTINCT FROM does; unlike that, it can be hashed and merged. A column whose type
has no equality is compared by its text. Equal rows are numbered, so that as many match as there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from replicator.postgres.statement_parts import (
    AND,
    COMMA,
    Names,
    Statement,
    equal,
    given,
    match_rows,
    only,
    overriding,
    owned,
    table_name,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.writes import Write


def prune(write: Write) -> Statement:
    """PRUNE: rows of the given aggregates go, unless one of the given rows matches them."""
    if not write.rows:
        return _prune_all(write)
    return _prune_multiset(write) if write.multiset else _prune_keyed(write)


def _scope_keys(write: Write, names: Names) -> sql.Composed:
    arrays = COMMA.join(sql.SQL(f"${at + 1}::text[]") for at in range(len(write.scope)))
    columns = COMMA.join(names.key(at) for at in range(len(write.scope)))
    return sql.SQL("unnest({}) AS k({})").format(arrays, columns)


def _in_scope(write: Write, names: Names) -> sql.Composed:
    by_name = write.table.by_name
    return AND.join(
        equal(by_name[name], sql.Identifier("t", name), sql.SQL("k.{}").format(names.key(at)))
        for at, name in enumerate(write.scope)
    )


def _prune_all(write: Write) -> Statement:
    names = Names(write.table, write.owner)
    return Statement.of(
        sql.SQL("DELETE FROM {} AS t USING {} WHERE {}{}").format(
            only(write.table), _scope_keys(write, names), _in_scope(write, names), owned(write)
        ),
        sets=True,
    )


def _prune_keyed(write: Write) -> Statement:
    names = Names(write.table, write.owner)
    rows = given([names.value(at) for at in range(len(write.columns))], len(write.scope) + 1)
    return Statement.of(
        sql.SQL("DELETE FROM {} AS t USING {} WHERE {}{} AND NOT EXISTS (SELECT FROM {} WHERE {})").format(
            only(write.table),
            _scope_keys(write, names),
            _in_scope(write, names),
            owned(write),
            rows,
            match_rows(write, names),
        ),
        sets=True,
    )


def _comparable(write: Write, columns: Sequence[str], alias: str, names: Names | None = None) -> sql.Composed:
    """The columns as they are compared and numbered: cast to their base types, or to text where nothing compares."""
    by_name, places = write.table.by_name, {name: at for at, name in enumerate(write.columns)}
    parts = []
    for name in columns:
        source = sql.Identifier(alias, name) if names is None else _given_value(alias, names, places[name])
        value = sql.SQL("{}::{}").format(source, sql.SQL(by_name[name].cast_type))
        parts.append(value if by_name[name].operator_schema else sql.SQL("{}::text").format(value))
    return COMMA.join(parts)


def _given_value(alias: str, names: Names, at: int) -> sql.Composed:
    return sql.SQL("{}.{}").format(sql.Identifier(alias), names.value(at))


def _prune_multiset(write: Write) -> Statement:
    names = Names(write.table, write.owner)
    there = _comparable(write, write.key, "t")
    wanted = _comparable(write, write.key, "v", names)
    return Statement.of(
        sql.SQL(
            "WITH given AS (SELECT ROW({wanted}) AS whole, row_number() OVER (PARTITION BY {wanted}) AS nth "
            "FROM {rows}), there AS (SELECT t.ctid AS place, t.tableoid AS part, ROW({there}) AS whole, "
            "row_number() OVER (PARTITION BY {there}) AS nth FROM {only} AS t JOIN {keys} ON {scope}{owned}) "
            "DELETE FROM {only} AS t USING there WHERE t.ctid = there.place AND t.tableoid = there.part "
            "AND NOT EXISTS (SELECT FROM given WHERE given.whole = there.whole AND given.nth = there.nth)"
        ).format(
            wanted=wanted,
            rows=given([names.value(at) for at in range(len(write.columns))], len(write.scope) + 1),
            there=there,
            only=only(write.table),
            keys=_scope_keys(write, names),
            scope=_in_scope(write, names),
            owned=owned(write),
        ),
        sets=True,
    )


def merge_multiset(write: Write) -> Statement:
    """MERGE of rows without a key: of each row, as many are inserted as its aggregate lacks."""
    names = Names(write.table)
    by_name, places = write.table.by_name, {name: at for at, name in enumerate(write.columns)}
    scope = AND.join(
        equal(by_name[name], sql.Identifier("t", name), sql.SQL("v.{}").format(names.value(places[name])))
        for name in write.scope
    )
    return Statement.of(
        sql.SQL(
            "WITH given AS MATERIALIZED (SELECT v.*, ROW({wanted}) AS whole, "
            "row_number() OVER (PARTITION BY {wanted}) AS {nth} FROM {rows}), "
            "there AS (SELECT ROW({there}) AS whole, row_number() OVER (PARTITION BY {there}) AS nth "
            "FROM {only} AS t WHERE EXISTS (SELECT FROM given AS v WHERE {scope})) "
            "INSERT INTO {table} ({columns}){overriding} SELECT {values} FROM given AS v "
            "WHERE NOT EXISTS (SELECT FROM there WHERE there.whole = v.whole AND there.nth = v.{nth})"
        ).format(
            wanted=_comparable(write, write.key, "v", names),
            nth=names.ordinal,
            rows=given([names.value(at) for at in range(len(write.columns))], 1),
            there=_comparable(write, write.key, "t"),
            only=only(write.table),
            scope=scope,
            table=table_name(write.table),
            columns=COMMA.join(map(sql.Identifier, write.columns)),
            overriding=overriding(write),
            values=values(write, names),
        ),
        sets=True,
    )


def remove(write: Write) -> Statement:
    """REMOVE: for each given row exactly one equal row goes."""
    names = Names(write.table)
    return Statement.of(
        sql.SQL(
            "WITH given AS MATERIALIZED (SELECT g.whole, count(*) AS many, row_number() OVER () AS nr "
            "FROM (SELECT ROW({wanted}) AS whole FROM {rows}) AS g GROUP BY g.whole), "
            "found AS (SELECT f.place, f.part, given.many, row_number() OVER (PARTITION BY given.nr) AS nth "
            "FROM (SELECT t.ctid AS place, t.tableoid AS part, ROW({there}) AS whole FROM {only} AS t) AS f "
            "JOIN given ON f.whole = given.whole) "
            "DELETE FROM {only} AS t USING found "
            "WHERE t.ctid = found.place AND t.tableoid = found.part AND found.nth <= found.many"
        ).format(
            wanted=_comparable(write, write.columns, "v", names),
            rows=given([names.value(at) for at in range(len(write.columns))], 1),
            there=_comparable(write, write.columns, "t"),
            only=only(write.table),
        ),
        sets=True,
    )
