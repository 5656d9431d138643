"""The SQL of writes: one statement per table, action and set of columns, whatever the number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import sql

from replicator.postgres.set_statements import merge_multiset, prune, remove
from replicator.postgres.statement_parts import (
    COMMA,
    Names,
    Statement,
    cast,
    given,
    is_indexed,
    match_rows,
    only,
    overriding,
    owned,
    same_text,
    table_name,
    values,
)
from replicator.writes import Write, WriteAction

if TYPE_CHECKING:
    from collections.abc import Callable


def statement_of(write: Write, *, merges: bool = False) -> Statement:
    """The statement that executes a write; it depends on everything in it but rows and keys.

    Args:
        write: what to do.
        merges: an UPSERT goes by MERGE.

    """
    return merge(write) if merges else _BUILDERS[write.action](write)


# -- INSERT, UPSERT, UPDATE, DELETE ------------------------------------------------------------------------------------


def insert(write: Write) -> Statement:
    """INSERT and APPEND."""
    return Statement.of(_insert(write, Names(write.table)))


def copy_rows(write: Write) -> bytes:
    """INSERT and APPEND of many rows, whose text follows. COPY takes the given values for identity columns."""
    columns = COMMA.join(map(sql.Identifier, write.columns))
    return sql.SQL("COPY {} ({}) FROM STDIN").format(table_name(write.table), columns).as_bytes()


def _insert(write: Write, names: Names) -> sql.Composed:
    return sql.SQL("INSERT INTO {} AS t ({}){} SELECT {} FROM {}").format(
        table_name(write.table),
        COMMA.join(map(sql.Identifier, write.columns)),
        overriding(write),
        values(write, names),
        given([names.value(at) for at in range(len(write.columns))], 1),
    )


def _settable(write: Write) -> list[tuple[int, str]]:
    """Columns that an UPDATE sets: not the key, unless an equal one may have another text.

    A GENERATED ALWAYS identity column can't be set.
    """
    columns = [(at, write.table.by_name[name]) for at, name in enumerate(write.columns)]
    return [
        (at, column.name)
        for at, column in columns
        if (column.name not in write.key or not column.canonical) and column.identity != "a"
    ]


def upsert(write: Write) -> Statement:
    """UPSERT, and MERGE of rows that are matched by a unique key."""
    arbiter = write.table.arbiter(write.key)
    if arbiter is None:
        return _update_or_insert(write)
    names = Names(write.table)
    sets = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for _, name in _settable(write)]
    return Statement.of(
        sql.SQL("{} ON CONFLICT ({}) DO {}").format(
            _insert(write, names),
            COMMA.join(map(sql.Identifier, arbiter.columns)),
            sql.SQL("UPDATE SET {}").format(COMMA.join(sets)) if sets else sql.SQL("NOTHING"),
        )
    )


def merge(write: Write) -> Statement:
    """UPSERT of many rows, by SQL's MERGE (15 and later): ON CONFLICT locks each row before it updates it, in the WAL
    too, a fifth of its time. It does not wait for others that insert the same key, so nobody else may.
    """
    names, by_name = Names(write.table), write.table.by_name
    columns = [names.value(at) for at in range(len(write.columns))]
    cast_once = COMMA.join(
        sql.SQL("{} AS {}").format(cast(by_name[name], sql.SQL("v.{}").format(column)), column)
        for name, column in zip(write.columns, columns, strict=True)
    )
    sets = [sql.SQL("{} = v.{}").format(sql.Identifier(name), columns[at]) for at, name in _settable(write)]
    return Statement.of(
        sql.SQL(
            "MERGE INTO {table} AS t USING (SELECT {values} FROM {given}) AS v ON {match} "
            "WHEN MATCHED THEN {update} WHEN NOT MATCHED THEN INSERT ({columns}){overriding} VALUES ({inserted})"
        ).format(
            table=only(write.table),
            values=cast_once,
            given=given(columns, 1),
            match=match_rows(write, names),
            update=sql.SQL("UPDATE SET {}").format(COMMA.join(sets)) if sets else sql.SQL("DO NOTHING"),
            columns=COMMA.join(map(sql.Identifier, write.columns)),
            overriding=overriding(write),
            inserted=COMMA.join(sql.SQL("v.{}").format(column) for column in columns),
        )
    )


def _update_or_insert(write: Write) -> Statement:
    """Without an index that ON CONFLICT can name (none, or a deferrable one): update, and insert what was not hit."""
    names = Names(write.table)
    columns = [names.value(at) for at in range(len(write.columns))]
    hit = sql.SQL("hit AS ({})").format(_update(write, names, sql.SQL("given AS v")))
    return Statement.of(
        sql.SQL(
            "WITH given AS MATERIALIZED (SELECT * FROM {given}), {hit} INSERT INTO {table} ({columns}){overriding} "
            "SELECT {values} FROM given AS v WHERE v.{ordinal} NOT IN (SELECT hit.{ordinal} FROM hit)"
        ).format(
            given=given(columns, 1, names.ordinal),
            hit=hit,
            table=table_name(write.table),
            columns=COMMA.join(map(sql.Identifier, write.columns)),
            overriding=overriding(write),
            values=values(write, names),
            ordinal=names.ordinal,
        ),
        sets=not is_indexed(write.table, write.key),
        all_rows=True,
    )


def update(write: Write) -> Statement:
    """UPDATE of the columns that are not in the key; returns the ordinals of the rows that were hit."""
    names = Names(write.table)
    columns = [names.value(at) for at in range(len(write.columns))]
    text = _update(write, names, given(columns, 1, names.ordinal))
    return Statement.of(text, sets=not is_indexed(write.table, write.key), ordinals=True)


def _update(write: Write, names: Names, source: sql.Composable) -> sql.Composed:
    by_name = write.table.by_name
    sets = [
        sql.SQL("{} = {}").format(sql.Identifier(name), cast(by_name[name], sql.SQL("v.{}").format(names.value(at))))
        for at, name in _settable(write)
    ]
    if not sets:  # nothing but the key came: all that is left to find out is whether the row is there
        return sql.SQL("SELECT v.{} FROM {} JOIN {} AS t ON {}").format(
            names.ordinal, source, only(write.table), match_rows(write, names)
        )
    return sql.SQL("UPDATE {} AS t SET {} FROM {} WHERE {} RETURNING v.{}").format(
        only(write.table), COMMA.join(sets), source, match_rows(write, names), names.ordinal
    )


def delete(write: Write) -> Statement:
    """DELETE by key, of owned rows."""
    names = Names(write.table, write.owner)
    columns = [names.value(at) for at in range(len(write.columns))]
    places = {name: names.value(at) for at, name in enumerate(write.columns)}
    return Statement.of(
        sql.SQL("DELETE FROM {} AS t USING {} WHERE {}{}{}").format(
            only(write.table),
            given(columns, 1),
            match_rows(write, names),
            same_text(write.table, [(name, sql.SQL("v.{}").format(places[name])) for name in write.key]),
            owned(write),
        ),
        sets=not is_indexed(write.table, write.key),
    )


# -- whole tables ------------------------------------------------------------------------------------------------------


def truncate(write: Write) -> Statement:
    """TRUNCATE of one table, or of several that refer to each other."""
    return Statement.of(
        sql.SQL("TRUNCATE TABLE {}").format(COMMA.join(only(one) for one in (write.table, *write.also)))
    )


def clear(write: Write) -> Statement:
    """DELETE of all rows, or of all that are owned."""
    return Statement.of(sql.SQL("DELETE FROM {} AS t WHERE true{}").format(only(write.table), owned(write)), sets=True)


def _merge(write: Write) -> Statement:
    return merge_multiset(write) if write.multiset else upsert(write)


_BUILDERS: Final[dict[WriteAction, Callable[[Write], Statement]]] = {
    WriteAction.INSERT: insert,
    WriteAction.APPEND: insert,
    WriteAction.UPSERT: upsert,
    WriteAction.UPDATE: update,
    WriteAction.DELETE: delete,
    WriteAction.PRUNE: prune,
    WriteAction.MERGE: _merge,
    WriteAction.REMOVE: remove,
    WriteAction.TRUNCATE: truncate,
    WriteAction.CLEAR: clear,
}
