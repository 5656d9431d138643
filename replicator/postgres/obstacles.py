"""Which rows of a table stand in the way of a row that a unique or exclusion constraint has refused.

Works for any index that excludes rows: over columns or expressions, whole or partial, UNIQUE or EXCLUDE. The index's
own expressions, predicate and operators come from the catalog as the server prints them under our search_path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg import AsyncRawCursor, sql

from replicator.postgres import range_sql

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from replicator.events import Key, Values
    from replicator.tables import Table
    from replicator.writes import Write

_COMMA: Final = sql.SQL(", ")
_AND: Final = sql.SQL(" AND ")

# The refusing index is the table's own, or that of the leaf that the row would have gone to.
# Equality: the exclusion constraint's operators, else strategy 3 of the column's btree operator class.
_INDEX: Final = """
    WITH chosen AS (
        SELECT i.*, x.conexclop
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
        LEFT JOIN pg_catalog.pg_constraint x ON x.conindid = c.oid AND x.conexclop IS NOT NULL
        WHERE c.relname = $3 AND (i.indisunique OR i.indisexclusion) AND i.indrelid IN (
            SELECT t.oid FROM pg_catalog.pg_class t JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
            WHERE n.nspname = $1 AND t.relname = $2
            UNION ALL
            SELECT p.relid FROM pg_catalog.pg_class t JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace,
                LATERAL pg_catalog.pg_partition_tree(t.oid) p
            WHERE n.nspname = $1 AND t.relname = $2 AND t.relkind = 'p'
        )
        LIMIT 1
    )
    SELECT pg_catalog.pg_get_indexdef(chosen.indexrelid, k.n::integer, false),
        pg_catalog.pg_get_expr(chosen.indpred, chosen.indrelid),
        s.nspname::text, o.oprname::text,
        coalesce((pg_catalog.to_jsonb(chosen) ->> 'indnullsnotdistinct')::boolean, false)
    FROM chosen
    CROSS JOIN LATERAL pg_catalog.generate_series(1, chosen.indnkeyatts) AS k(n)
    JOIN pg_catalog.pg_opclass a ON a.oid = chosen.indclass[k.n - 1]
    LEFT JOIN pg_catalog.pg_amop e ON e.amopfamily = a.opcfamily AND e.amoplefttype = a.opcintype
        AND e.amoprighttype = a.opcintype AND e.amopstrategy = 3
    JOIN pg_catalog.pg_operator o ON o.oid = coalesce(chosen.conexclop[k.n], e.amopopr)
    JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
    ORDER BY k.n
"""
_GENERATED: Final = """
    SELECT a.attname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    FROM pg_catalog.pg_class t
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attgenerated <> '' AND NOT a.attisdropped
    JOIN pg_catalog.pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
    WHERE n.nspname = $1 AND t.relname = $2
"""


@dataclass(frozen=True)
class _Part:
    """One column or expression of the index, and the operator by which two rows exclude each other in it."""

    expression: str
    schema: str
    operator: str
    nulls_equal: bool


async def rows_in_the_way(
    connection: AsyncConnection[Any], write: Write, constraint: str, columns: tuple[str, ...]
) -> list[Key]:
    """Values of `columns` of rows that hold what rows of `write` want, whatever their key; none that hold NULL there.

    Empty where the constraint is no index of the table (any more), or depends on a column that `write` doesn't carry.
    """
    cursor = AsyncRawCursor(connection)
    await cursor.execute(_INDEX, [write.table.name.schema, write.table.name.name, constraint])
    found = await cursor.fetchall()
    if not found or not write.rows:
        return []
    parts = [_Part(expression, schema, operator, nulls) for expression, _, schema, operator, nulls in found]
    generated: dict[str, str] = {}
    if any(column.generated for column in write.table.columns):
        await cursor.execute(_GENERATED, [write.table.name.schema, write.table.name.name])
        generated = dict(await cursor.fetchall())
    query = _query(write, parts, found[0][1], columns, generated)
    texts = [
        [value.decode() if isinstance(value, bytes) else None for value in column]
        for column in zip(*write.rows, strict=True)
    ]
    cursor = AsyncRawCursor(connection)
    await cursor.execute(query, texts)
    result = cursor.pgresult
    assert result is not None
    places = range(result.nfields)
    return [tuple(result.get_value(row, place) or b"" for place in places) for row in range(result.ntuples)]


async def take_away(
    connection: AsyncConnection[Any], table: Table, key: tuple[str, ...], keys: Sequence[Key]
) -> list[Values]:
    """Delete the rows of these keys; returns them, with the columns that an INSERT may name."""
    names = [sql.Identifier(f"k{at}") for at in range(len(key))]
    arrays = [sql.SQL(f"pg_catalog.unnest(${place}::pg_catalog.text[])") for place in range(1, len(key) + 1)]
    matches = [
        sql.SQL("t.{} {} u.{}::{}").format(
            sql.Identifier(column), range_sql.equality(table, column), name, sql.SQL(table.by_name[column].cast_type)
        )
        for name, column in zip(names, key, strict=True)
    ]
    query = sql.SQL("DELETE FROM {}{} AS t USING ROWS FROM ({}) AS u({}) WHERE {} RETURNING {}").format(
        sql.SQL("" if table.kind == "p" else "ONLY "),
        sql.Identifier(table.name.schema, table.name.name),
        _COMMA.join(arrays),
        _COMMA.join(names),
        _AND.join(matches),
        _COMMA.join(sql.Identifier("t", name) for name in table.writable),
    )
    cursor = AsyncRawCursor(connection)
    await cursor.execute(query, [[value.decode() for value in column] for column in zip(*keys, strict=True)])
    result = cursor.pgresult
    assert result is not None
    places = range(result.nfields)
    return [tuple(result.get_value(row, place) for place in places) for row in range(result.ntuples)]


def _query(
    write: Write, parts: list[_Part], predicate: str | None, columns: tuple[str, ...], generated: dict[str, str]
) -> sql.Composed:
    table = write.table
    expressions = _COMMA.join(
        sql.SQL("({}) AS {}").format(sql.SQL(part.expression), sql.Identifier(f"x{at}"))
        for at, part in enumerate(parts)
    )
    where = sql.SQL("") if predicate is None else sql.SQL(" WHERE ({})").format(sql.SQL(predicate))
    own = _COMMA.join(
        sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(f"k{at}")) for at, name in enumerate(write.key)
    )
    keys = sql.SQL("{}, ").format(own) if write.key else sql.SQL("")
    conditions = [_excludes(at, part) for at, part in enumerate(parts)]
    if write.key:
        same = _AND.join(
            sql.SQL("held.{0} {1} wanted.{0}").format(sql.Identifier(f"k{at}"), range_sql.equality(table, name))
            for at, name in enumerate(write.key)
        )
        conditions.append(sql.SQL("({}) IS NOT TRUE").format(same))
    named = [sql.Identifier("held", f"c{at}") for at in range(len(columns))]
    return sql.SQL(
        "SELECT DISTINCT {named} FROM (SELECT {columns}, {keys}{expressions} FROM {table}{where}) AS held "
        "JOIN (SELECT {keys}{expressions} FROM ({rows}) AS given{where}) AS wanted ON {conditions} "
        "WHERE ROW({named}) IS NOT NULL"
    ).format(
        named=_COMMA.join(named),
        columns=_COMMA.join(
            sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(f"c{at}"))
            for at, name in enumerate(columns)
        ),
        keys=keys,
        expressions=expressions,
        table=sql.Identifier(table.name.schema, table.name.name),
        where=where,
        rows=_given(table, write.columns, generated),
        conditions=_AND.join(conditions),
    )


def _excludes(at: int, part: _Part) -> sql.Composed:
    sides = {"held": sql.Identifier("held", f"x{at}"), "wanted": sql.Identifier("wanted", f"x{at}")}
    condition = sql.SQL("{held} OPERATOR({schema}.{operator}) {wanted}").format(
        **sides, schema=sql.Identifier(part.schema), operator=sql.SQL(part.operator)
    )
    if not part.nulls_equal:
        return condition
    return sql.SQL("({condition} OR ({held} IS NULL AND {wanted} IS NULL))").format(condition=condition, **sides)


def _given(table: Table, columns: tuple[str, ...], generated: dict[str, str]) -> sql.Composed:
    """The rows of a write, as rows of the table: one text[] parameter a column.

    Generated columns are computed as the table would; others that the write doesn't carry are NULL.
    """
    at = {name: place for place, name in enumerate(columns)}
    values = [
        sql.SQL("{}::{} AS {}").format(
            sql.Identifier("u", f"v{at[column.name]}") if column.name in at else sql.SQL("NULL"),
            sql.SQL(column.cast_type),  # the server's own text, from its catalog
            sql.Identifier(column.name),
        )
        for column in table.columns
        if column.name not in generated
    ]
    computed = [
        sql.SQL(", ({}) AS {}").format(sql.SQL(expression), sql.Identifier(name))
        for name, expression in generated.items()
    ]
    arrays = [sql.SQL(f"pg_catalog.unnest(${place}::pg_catalog.text[])") for place in range(1, len(columns) + 1)]
    names = [sql.Identifier(f"v{place}") for place in range(len(columns))]
    return sql.SQL("SELECT plain.*{} FROM (SELECT {} FROM ROWS FROM ({}) AS u({})) AS plain").format(
        sql.SQL("").join(computed), _COMMA.join(values), _COMMA.join(arrays), _COMMA.join(names)
    )
