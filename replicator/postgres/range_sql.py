"""SQL that reads rows of one table by key and by range of keys, so that an index serves it.

Boundaries are text, cast to the columns' types. Comparisons name the operators of the type's own btree class, because
under our search_path a bare `=` on citext would be that of text, which no index of the column serves. Ordinary tables
are read with ONLY: rows of inheritance children belong to the children, whose changes the stream carries apart.

Parameters are `$1`, for `AsyncRawCursor`: there a `%` in a name is just that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from replicator.tables import ORDERING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.tables import Table

_AND: Final = sql.SQL(" AND ")
_COMMA: Final = sql.SQL(", ")


def rows(table: Table, by: tuple[str, ...], where: str | None = None) -> sql.Composed:
    """Rows whose columns `by` equal one of the keys: one text[] parameter a column.

    A semi-join: two texts of one value (`1.0` and `1.00`) don't return their row twice.
    """
    return sql.SQL(
        "SELECT {columns} FROM {table} AS t WHERE EXISTS (SELECT FROM {keys} WHERE {match}){where}{order}"
    ).format(
        columns=_columns(table.column_names),
        table=from_table(table),
        keys=_keys(table, by),
        match=_match(table, by),
        where=sql.SQL("") if where is None else sql.SQL(" AND ({})").format(sql.SQL(where)),
        order=_order(table.primary_key.columns if table.primary_key is not None else ()),
    )


def as_stored(table: Table, by: tuple[str, ...], where: str | None = None) -> sql.Composed:
    """For each key that equals a row's: its number among those given (from 1), and the row's own text of it."""
    return sql.SQL(
        "SELECT k.replicator$n, f.* FROM {keys}, LATERAL (SELECT {columns} FROM {table} AS t WHERE {match}{where}) AS f"
    ).format(
        keys=_keys(table, by),
        columns=_columns(by),
        table=from_table(table),
        match=_match(table, by),
        where=sql.SQL("") if where is None else sql.SQL(" AND ({})").format(sql.SQL(where)),
    )


def versions(table: Table, by: tuple[str, ...], *, where: str | None = None, holds: str | None = None) -> sql.Composed:
    """Rows of the given keys: the key's number among those given (from 1), xmin, `holds`, all columns.

    Without `holds` they are in the order of the primary key, as `rows` gives them to a transform.
    """
    order = table.primary_key.columns if table.primary_key is not None and holds is None else ()
    # The connector's predicates stand where only the table's own columns have names.
    return sql.SQL(
        "SELECT k.replicator$n, f.* FROM {keys}, "
        "LATERAL (SELECT t.xmin{holds}, {columns} FROM {table} AS t WHERE {match}{where}) AS f{order}"
    ).format(
        keys=_keys(table, by),
        order=sql.SQL("")
        if not order
        else sql.SQL(" ORDER BY ") + _COMMA.join(sql.Identifier("f", one) for one in order),
        holds=sql.SQL("") if holds is None else sql.SQL(", coalesce(({}), false)").format(sql.SQL(holds)),
        columns=_columns(table.column_names),
        table=from_table(table),
        match=_match(table, by),
        where=sql.SQL("") if where is None else sql.SQL(" AND ({})").format(sql.SQL(where)),
    )


def _keys(table: Table, by: tuple[str, ...]) -> sql.Composed:
    """`k`: the keys that are given, one text[] parameter a column, and their numbers."""
    names = [sql.Identifier(f"k{at}") for at in range(len(by))]
    return sql.SQL(
        "(SELECT {casts}, u.replicator$n FROM ROWS FROM ({arrays}) WITH ORDINALITY AS u({names}, replicator$n)) "
        "AS k({names}, replicator$n)"
    ).format(
        casts=_COMMA.join(
            sql.SQL("u.{}::{}").format(name, _type(table, column)) for name, column in zip(names, by, strict=True)
        ),
        arrays=_COMMA.join(
            sql.SQL("pg_catalog.unnest({}::pg_catalog.text[])").format(number) for number in _numbers(by)
        ),
        names=_COMMA.join(names),
    )


def _match(table: Table, by: tuple[str, ...]) -> sql.Composed:
    return _AND.join(
        sql.SQL("t.{} {} k.{}").format(sql.Identifier(column), _operator(table, column, "="), sql.Identifier(f"k{at}"))
        for at, column in enumerate(by)
    )


def holds(table: Table, given: tuple[str, ...], where: str) -> sql.Composed:
    """Whether a predicate holds for each of the rows that are given: one text[] parameter a column that they have."""
    # Names that no column of the user's has, or the predicate would be ambiguous.
    names = {column: f"replicator${at}" for at, column in enumerate(given)}
    values = [
        sql.SQL("{}::{} AS {}").format(
            sql.SQL("u.{}").format(sql.Identifier(names[column])) if column in names else sql.NULL,
            _type(table, column),
            sql.Identifier(column),
        )
        for column in table.column_names
    ]
    return sql.SQL(
        "SELECT coalesce(({where}), false) FROM ROWS FROM ({arrays}) WITH ORDINALITY AS u({names}, replicator$n), "
        "LATERAL (SELECT {values}) AS t ORDER BY u.replicator$n"
    ).format(
        where=sql.SQL(where),
        arrays=_COMMA.join(
            sql.SQL("pg_catalog.unnest({}::pg_catalog.text[])").format(number) for number in _numbers(given)
        ),
        names=_COMMA.join(map(sql.Identifier, names.values())),
        values=_COMMA.join(values),
    )


def chunk(
    table: Table,
    by: tuple[str, ...],
    *,
    after: bool,
    upto: bool,
    where: str | None = None,
    versions: bool = False,
    holds: str | None = None,
) -> sql.Composed:
    """Rows of a range in the order of `by`; one text parameter a column for each boundary that is there.

    With `versions` a row begins with its xmin, and with `holds` goes on with whether that predicate does.
    """
    lower = _numbers(by) if after else None
    upper = _numbers(by, len(by) if after else 0) if upto else None
    return sql.SQL("SELECT {xmin}{columns} FROM {table} AS t{where}{order}").format(
        xmin=sql.SQL("{}{}").format(
            sql.SQL("t.xmin, ") if versions else sql.SQL(""),
            sql.SQL("") if holds is None else sql.SQL("coalesce(({}), false), ").format(sql.SQL(holds)),
        ),
        columns=_columns(table.column_names),
        table=from_table(table),
        where=_where(table, by, lower, upper, where),
        order=_order(by),
    )


def bounded(table: Table, by: tuple[str, ...], *, after: bool, upto: bool) -> sql.Composable:
    """WHERE of a range; one text parameter a column for each boundary that is there."""
    lower = _numbers(by) if after else None
    upper = _numbers(by, len(by) if after else 0) if upto else None
    return _where(table, by, lower, upper)


def key_at(table: Table, by: tuple[str, ...], *, after: bool, upto: bool = False) -> sql.Composed:
    """The key at a distance (the last parameter, 0-based) from the beginning of a range; none beyond its end."""
    lower = _numbers(by) if after else None
    upper = _numbers(by, len(by) if after else 0) if upto else None
    return sql.SQL("SELECT {columns} FROM {table} AS t{where}{order} OFFSET {offset}::pg_catalog.int8 LIMIT 1").format(
        columns=_columns(by),
        table=from_table(table),
        where=_where(table, by, lower, upper),
        order=_order(by),
        offset=_number(len(by) * (after + upto) + 1),
    )


def distinct_keys(table: Table, by: tuple[str, ...], *, after: bool, where: str | None = None) -> sql.Composed:
    """Distinct values of `by` beyond a boundary, in order, none with a NULL; the last parameter is their number."""
    lower = _numbers(by) if after else None
    whole = sql.SQL("ROW({}) IS NOT NULL").format(_columns(by))
    bounded = _where(table, by, lower, None, where)
    return sql.SQL("SELECT DISTINCT {columns} FROM {table} AS t{where}{order} LIMIT {rows}::pg_catalog.int8").format(
        columns=_columns(by),
        table=from_table(table),
        where=sql.SQL("{}{}{}").format(bounded, _AND if after or where is not None else sql.SQL(" WHERE "), whole),
        order=_order(by),
        rows=_number(len(by) * after + 1),
    )


def sample(table: Table, where: str | None = None) -> sql.Composed:
    """Some rows of some blocks; parameters: percent of the blocks, seed, number of rows."""
    return sql.SQL(
        "SELECT {columns} FROM {table} AS t TABLESAMPLE SYSTEM ({percent}::pg_catalog.float4) "
        "REPEATABLE ({seed}::pg_catalog.float8){where} LIMIT {rows}::pg_catalog.int8"
    ).format(
        columns=_columns(table.column_names),
        table=from_table(table),
        percent=_number(1),
        seed=_number(2),
        rows=_number(3),
        where=_where(table, (), None, None, where),
    )


def copy_out(
    table: Table,
    columns: tuple[str, ...],
    by: tuple[str, ...],
    after: Sequence[str] | None,
    upto: Sequence[str] | None,
    *,
    where: str | None = None,
) -> sql.Composed:
    """COPY of a range, in no order (COPY takes no parameters, so the boundaries are literals)."""
    lower = None if after is None else [sql.Literal(value) for value in after]
    upper = None if upto is None else [sql.Literal(value) for value in upto]
    return sql.SQL("COPY (SELECT {columns} FROM {table} AS t{where}) TO STDOUT").format(
        columns=_columns(columns), table=from_table(table), where=_where(table, by, lower, upper, where)
    )


def older_than_attachment(partition: Table) -> sql.Composed:
    """Whether a leaf has a row that is not newer than its newest attachment; the leaf's oid is the parameter.

    Compared by age, which orders 32-bit xids; one that is negative belongs to a frozen row of half a wraparound ago.
    """
    return sql.SQL(
        """
        SELECT EXISTS (
            SELECT FROM {} AS t WHERE pg_catalog.age(t.xmin) NOT BETWEEN 0 AND (
                SELECT pg_catalog.min(pg_catalog.age(i.xmin)) - 1 FROM pg_catalog.pg_inherits i
                WHERE i.inhrelid IN (SELECT pg_catalog.pg_partition_ancestors($1::pg_catalog.oid::pg_catalog.regclass))
            )
        )
        """
    ).format(from_table(partition))


def older_than_rewrite(partition: Table) -> sql.Composed:
    """Whether a leaf has a row that is older than its newest rewrite; the leaf's oid is the parameter.

    A rewrite makes new catalog rows of the table, its TOAST table and its indexes; later DDL may renew some of them, so
    the oldest is the nearest to it.
    """
    return sql.SQL(
        """
        SELECT EXISTS (
            SELECT FROM {} AS t WHERE pg_catalog.age(t.xmin) NOT BETWEEN 0 AND (
                SELECT pg_catalog.max(pg_catalog.age(c.xmin)) FROM pg_catalog.pg_class c
                WHERE c.oid = $1::pg_catalog.oid
                    OR c.oid = (SELECT reltoastrelid FROM pg_catalog.pg_class WHERE oid = $1::pg_catalog.oid)
                    OR c.oid IN (SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid = $1::pg_catalog.oid)
            )
        )
        """
    ).format(from_table(partition))


def _where(
    table: Table,
    by: tuple[str, ...],
    lower: Sequence[sql.Composable] | None,
    upper: Sequence[sql.Composable] | None,
    where: str | None = None,
) -> sql.Composable:
    """WHERE `lower < by <= upper` and the connector's own predicate; nothing without any."""
    conditions = []
    if lower is not None:
        conditions.append(_compare(table, by, ">", lower))
    if upper is not None:
        conditions.append(_compare(table, by, "<=", upper))
    if where is not None:
        conditions.append(sql.SQL("({})").format(sql.SQL(where)))
    return sql.SQL(" WHERE ") + _AND.join(conditions) if conditions else sql.SQL("")


def _compare(
    table: Table, by: tuple[str, ...], sign: LiteralString, bounds: Sequence[sql.Composable]
) -> sql.Composable:
    """`ROW(a, b) > ROW($1, $2)`: a row comparison, by which a btree index is searched with all columns.

    A row is compared by operators of one name. Where those of its columns have several, or live in several schemas, it
    is written out: `a >= $1 AND (a > $1 OR (a = $1 AND b > $2))`, whose first condition the index serves.
    """
    casts = [sql.SQL("{}::{}").format(bound, _type(table, column)) for column, bound in zip(by, bounds, strict=True)]
    if len({(one.operator_schema, one.operator_names) for one in map(table.by_name.__getitem__, by)}) == 1:
        return sql.SQL("ROW({}) {} ROW({})").format(_columns(by), _operator(table, by[0], sign), _COMMA.join(casts))

    def one(at: int, operator: LiteralString) -> sql.Composed:
        return sql.SQL("{} {} {}").format(sql.Identifier("t", by[at]), _operator(table, by[at], operator), casts[at])

    strict, first = (">", ">=") if sign == ">" else ("<", "<=")
    condition = one(len(by) - 1, sign)
    for at in reversed(range(len(by) - 1)):
        condition = sql.SQL("({} OR ({} AND {}))").format(one(at, strict), one(at, "="), condition)
    return sql.SQL("{} AND {}").format(one(0, first), condition)


def _numbers(by: Sequence[str], given: int = 0) -> list[sql.SQL]:
    """`$1`, `$2`, ...: one a column, after those that are given already."""
    return [_number(given + at) for at in range(1, len(by) + 1)]


def _number(at: int) -> sql.SQL:
    return sql.SQL(f"${at}")


def _columns(names: Sequence[str]) -> sql.Composed:
    return _COMMA.join(sql.Identifier("t", name) for name in names)


def _order(names: Sequence[str]) -> sql.Composable:
    return sql.SQL(" ORDER BY ") + _columns(names) if names else sql.SQL("")


def from_table(table: Table) -> sql.Composed:
    """The table, without inheritance children."""
    name = sql.Identifier(table.name.schema, table.name.name)
    return sql.SQL("{}").format(name) if table.kind == "p" else sql.SQL("ONLY {}").format(name)


def _type(table: Table, column: str) -> sql.SQL:
    return sql.SQL(table.by_name[column].cast_type)  # the server's own text, from its catalog


def _operator(table: Table, column: str, sign: LiteralString) -> sql.Composed:
    found = table.by_name[column]
    name = found.operator_names[ORDERING.index(sign)]  # an operator's name needs no quotes, and takes none
    return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(found.operator_schema or "pg_catalog"), sql.SQL(name))


def equality(table: Table, column: str) -> sql.Composed:
    """The `=` of the column's own type, named with its schema."""
    return _operator(table, column, "=")
