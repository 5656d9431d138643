"""The SQL of writes that compare sets: rows of aggregates, and rows without a key.

Whole rows are compared by the text of each column as the target prints it: a given value is cast to the column's
declared type and printed again. So 1.0 is not taken for 1.00, nor `A` for `a` under citext; types without equality need
no exception; NULL equals NULL, as with IS NOT DISTINCT FROM; and unlike that, arrays of text can be hashed. Equal rows
are numbered, so that as many match as there are.
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
    same_text,
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
    texts = [(name, sql.SQL("k.{}").format(names.key(at))) for at, name in enumerate(write.scope)]
    match = AND.join(equal(by_name[name], sql.Identifier("t", name), text) for name, text in texts)
    return match + same_text(write.table, texts)


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


def _exact(write: Write, columns: Sequence[str], names: Names | None = None) -> sql.Composed:
    """A row as one value to compare: of the table, or with `names` of the given rows."""
    by_name, places = write.table.by_name, {name: at for at, name in enumerate(write.columns)}
    if names is None:
        texts = [sql.SQL("{}::text").format(sql.Identifier("t", name)) for name in columns]
    else:
        texts = [
            sql.SQL("v.{}::{}::text").format(names.value(places[name]), sql.SQL(by_name[name].type_name))
            for name in columns
        ]
    return sql.SQL("ARRAY[{}]").format(COMMA.join(sql.SQL('{} COLLATE "C"').format(text) for text in texts))


def _prune_multiset(write: Write) -> Statement:
    names = Names(write.table, write.owner)
    there = _exact(write, write.key)
    wanted = _exact(write, write.key, names)
    return Statement.of(
        sql.SQL(
            "WITH given AS (SELECT {wanted} AS whole, row_number() OVER (PARTITION BY {wanted}) AS nth "
            "FROM {rows}), there AS (SELECT t.ctid AS place, t.tableoid AS part, {there} AS whole, "
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
            "WITH given AS MATERIALIZED (SELECT v.*, {wanted} AS whole, "
            "row_number() OVER (PARTITION BY {wanted}) AS {nth} FROM {rows}), "
            "there AS (SELECT {there} AS whole, row_number() OVER (PARTITION BY {there}) AS nth "
            "FROM {only} AS t WHERE EXISTS (SELECT FROM given AS v WHERE {scope})) "
            "INSERT INTO {table} ({columns}){overriding} SELECT {values} FROM given AS v "
            "WHERE NOT EXISTS (SELECT FROM there WHERE there.whole = v.whole AND there.nth = v.{nth})"
        ).format(
            wanted=_exact(write, write.key, names),
            nth=names.ordinal,
            rows=given([names.value(at) for at in range(len(write.columns))], 1),
            there=_exact(write, write.key),
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
            "FROM (SELECT {wanted} AS whole FROM {rows}) AS g GROUP BY g.whole), "
            "found AS (SELECT f.place, f.part, given.many, row_number() OVER (PARTITION BY given.nr) AS nth "
            "FROM (SELECT t.ctid AS place, t.tableoid AS part, {there} AS whole FROM {only} AS t) AS f "
            "JOIN given ON f.whole = given.whole) "
            "DELETE FROM {only} AS t USING found "
            "WHERE t.ctid = found.place AND t.tableoid = found.part AND found.nth <= found.many"
        ).format(
            wanted=_exact(write, write.columns, names),
            rows=given([names.value(at) for at in range(len(write.columns))], 1),
            there=_exact(write, write.columns),
            only=only(write.table),
        ),
        sets=True,
    )
