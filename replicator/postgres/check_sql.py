"""The SQL of checks: what a database demands of its tables by itself, and the rows that don't meet it.

Equality is the constraint's own operator, named with its schema: our sessions see only pg_catalog. Ordinary tables are
read with ONLY, as the server's own checks do. Parameters are `$1`, for `AsyncRawCursor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from replicator.postgres import range_sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.checks import ForeignKeyRule, SequenceRule, UniqueRule
    from replicator.tables import Table

# Parameter: oids of tables. Constraints that a partition has from its parent are the parent's, where that one is among
# the tables too. `conperiod` and `conenforced` are of version 18.
FOREIGN_KEYS: Final[LiteralString] = """
    SELECT f.conrelid, f.conname::text, pairs.own, n.nspname::text, c.relname::text, pairs.other, c.relkind = 'p',
        pairs.operators, pairs.collations, f.confmatchtype = 'f',
        coalesce((pg_catalog.to_jsonb(f) ->> 'conperiod')::boolean, false), f.convalidated,
        coalesce((pg_catalog.to_jsonb(f) ->> 'conenforced')::boolean, true)
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_class c ON c.oid = f.confrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_constraint parent ON parent.oid = f.conparentid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(one.attname::text ORDER BY k.n) AS own,
            pg_catalog.array_agg(other.attname::text ORDER BY k.n) AS other,
            pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY k.n) AS operators,
            pg_catalog.array_agg(
                CASE WHEN l.oid IS NOT NULL AND other.attcollation <> one.attcollation
                    THEN pg_catalog.format('%I.%I', ls.nspname, l.collname)
                END ORDER BY k.n
            ) AS collations
        FROM ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.confkey), pg_catalog.unnest(f.conpfeqop))
            WITH ORDINALITY AS k(own, other, operator, n)
        JOIN pg_catalog.pg_attribute one ON one.attrelid = f.conrelid AND one.attnum = k.own
        JOIN pg_catalog.pg_attribute other ON other.attrelid = f.confrelid AND other.attnum = k.other
        JOIN pg_catalog.pg_operator o ON o.oid = k.operator
        JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
        LEFT JOIN pg_catalog.pg_collation l ON l.oid = other.attcollation
        LEFT JOIN pg_catalog.pg_namespace ls ON ls.oid = l.collnamespace
    ) AS pairs
    WHERE f.contype = 'f' AND f.conrelid = ANY($1::pg_catalog.oid[])
        AND (parent.oid IS NULL OR parent.conrelid <> ALL($1::pg_catalog.oid[]))
    ORDER BY f.conrelid, f.conname
"""
# Their check is a trigger, which a session in replica role passes by. `indnullsnotdistinct` is of version 15.
UNIQUE_KEYS: Final[LiteralString] = """
    SELECT u.conrelid, u.conname::text, columns.names,
        coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
    FROM pg_catalog.pg_constraint u
    JOIN pg_catalog.pg_index i ON i.indexrelid = u.conindid
    LEFT JOIN pg_catalog.pg_constraint parent ON parent.oid = u.conparentid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.n)
        FROM pg_catalog.unnest(u.conkey) WITH ORDINALITY AS k(attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = u.conrelid AND a.attnum = k.attnum
    ) AS columns(names)
    WHERE u.contype IN ('p', 'u') AND u.condeferrable AND NOT i.indisexclusion
        AND u.conrelid = ANY($1::pg_catalog.oid[])
        AND (parent.oid IS NULL OR parent.conrelid <> ALL($1::pg_catalog.oid[]))
    ORDER BY u.conrelid, u.conname
"""
# By ownership (serial, identity), by the column's default, or by that of its domain.
SEQUENCES: Final[LiteralString] = """
    SELECT DISTINCT found.attrelid, found.attname::text, n.nspname::text, s.relname::text, q.seqcycle
    FROM (
        SELECT a.attrelid, a.attname, d.objid AS sequence
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY($1::pg_catalog.oid[])
      UNION ALL
        SELECT a.attrelid, a.attname, d.refobjid
        FROM pg_catalog.pg_attrdef f
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated = ''
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        WHERE f.adrelid = ANY($1::pg_catalog.oid[])
      UNION ALL
        SELECT a.attrelid, a.attname, d.refobjid
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = a.atttypid
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        WHERE a.attrelid = ANY($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.atthasdef
    ) AS found
    JOIN pg_catalog.pg_class s ON s.oid = found.sequence AND s.relkind = 'S'
    JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
    JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
    ORDER BY 1, 2, 3, 4
"""
DEFERRED: Final[LiteralString] = (
    "SELECT pg_catalog.count(*) FROM replicator.deferred AS d WHERE d.connector = $1::text AND d.feed = $2::text"
)
DEFERRED_THERE: Final[LiteralString] = "SELECT pg_catalog.to_regclass('replicator.deferred') IS NOT NULL"
TYPES: Final[LiteralString] = (
    "SELECT pg_catalog.format_type(u.oid, -1) "
    "FROM pg_catalog.unnest($1::pg_catalog.oid[]) WITH ORDINALITY AS u(oid, n) ORDER BY u.n"
)

_AND: Final = sql.SQL(" AND ")
_COMMA: Final = sql.SQL(", ")


def _number(at: int) -> sql.SQL:
    return sql.SQL(f"${at}")


def _columns(names: Sequence[str]) -> sql.Composed:
    return _COMMA.join(sql.Identifier("t", name) for name in names)


def _from(table: Table) -> sql.Composed:
    name = sql.Identifier(table.name.schema, table.name.name)
    return sql.SQL("{}").format(name) if table.kind == "p" else sql.SQL("ONLY {}").format(name)


def named(rule: ForeignKeyRule) -> tuple[str, ...]:
    """The columns by which an orphan is told: the table's key, else those that refer."""
    return rule.table.key or rule.columns


def orphans(rule: ForeignKeyRule, *, after: bool, upto: bool) -> sql.Composed:
    """Orphans of a range of the table's key; the last parameter is their number."""
    by = rule.table.key
    return sql.SQL("SELECT {columns} FROM {table} AS t{range}{so} {orphaned} LIMIT {rows}::pg_catalog.int8").format(
        columns=_columns(named(rule)),
        table=_from(rule.table),
        range=range_sql.bounded(rule.table, by, after=after, upto=upto),
        so=_AND if after or upto else sql.SQL(" WHERE"),
        orphaned=_orphaned(rule),
        rows=_number(len(by) * (after + upto) + 1),
    )


def orphans_of(rule: ForeignKeyRule) -> sql.Composed:
    """Those of some orphans that still are, in order: one text[] parameter a column. NULL equals NULL."""
    names = named(rule)
    numbers = [_number(at + 1) for at in range(len(names))]
    values = [sql.Identifier(f"k{at}") for at in range(len(names))]
    return sql.SQL(
        "SELECT DISTINCT {columns} FROM {table} AS t JOIN ROWS FROM ({arrays}) AS k({values}) ON {match} "
        "WHERE {orphaned} ORDER BY {columns}"
    ).format(
        columns=_columns(names),
        table=_from(rule.table),
        arrays=_COMMA.join(sql.SQL("pg_catalog.unnest({}::pg_catalog.text[])").format(number) for number in numbers),
        values=_COMMA.join(values),
        match=_AND.join(_told(rule, name, value) for name, value in zip(names, values, strict=True)),
        orphaned=_orphaned(rule),
    )


def _told(rule: ForeignKeyRule, name: str, value: sql.Identifier) -> sql.Composed:
    column = rule.table.by_name[name]
    equal = sql.SQL("t.{} {} k.{}::{}").format(
        sql.Identifier(name), range_sql.equality(rule.table, name), value, sql.SQL(column.cast_type)
    )
    if rule.table.key:
        return equal
    return sql.SQL("({} OR (t.{} IS NULL AND k.{} IS NULL))").format(equal, sql.Identifier(name), value)


def _orphaned(rule: ForeignKeyRule) -> sql.Composed:
    """Whether the row `t` refers to nothing, or, with MATCH FULL, by halves."""
    whole = _AND.join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in rule.columns)
    lacks = sql.SQL("({} AND NOT EXISTS ({}))").format(whole, _referenced(rule))
    if not rule.full or len(rule.columns) == 1:
        return lacks
    some = sql.SQL(" OR ").join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in rule.columns)
    return sql.SQL("({} OR (NOT ({}) AND ({})))").format(lacks, whole, some)


def _referenced(rule: ForeignKeyRule) -> sql.Composed:
    """The rows that `t` refers to."""
    table = sql.Identifier(rule.referenced.schema, rule.referenced.name)
    match = _AND.join(
        sql.SQL("p.{} {} t.{}{}").format(
            sql.Identifier(other),
            sql.SQL(operator),  # the server's own text, from its catalog, like the collation
            sql.Identifier(own),
            sql.SQL("") if collation is None else sql.SQL(" COLLATE {}").format(sql.SQL(collation)),
        )
        for other, operator, own, collation in zip(
            rule.referenced_columns, rule.operators, rule.columns, rule.collations, strict=True
        )
    )
    place = table if rule.referenced_partitioned else sql.SQL("ONLY {}").format(table)
    if not rule.period:
        return sql.SQL("SELECT FROM {} AS p WHERE {}").format(place, match)
    return sql.SQL(
        "SELECT FROM (SELECT p.{other} AS r FROM {place} AS p WHERE {match}) AS c "
        "HAVING t.{own} OPERATOR(pg_catalog.<@) pg_catalog.range_agg(c.r)"
    ).format(
        other=sql.Identifier(rule.referenced_columns[-1]),
        place=place,
        match=match,
        own=sql.Identifier(rule.columns[-1]),
    )


def duplicates(rule: UniqueRule) -> sql.Composed:
    """Values that several rows have; the parameter is their number. GROUP BY takes the type's own equality."""
    columns = _columns(rule.columns)
    whole = _AND.join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in rule.columns)
    return sql.SQL(
        "SELECT {columns} FROM {table} AS t{where} GROUP BY {columns} HAVING pg_catalog.count(*) > 1 "
        "LIMIT $1::pg_catalog.int8"
    ).format(
        columns=columns,
        table=_from(rule.table),
        where=sql.SQL("") if rule.nulls else sql.SQL(" WHERE {}").format(whole),
    )


def sequence_state(rule: SequenceRule) -> sql.Composed:
    """What comes next, the increment, and the column's furthest value; parameters: the sequence's schema and name."""
    return sql.SQL(
        "SELECT s.last_value::pg_catalog.numeric + CASE WHEN s.is_called THEN q.seqincrement ELSE 0 END, "
        "q.seqincrement, CASE WHEN q.seqincrement > 0 "
        "THEN (SELECT pg_catalog.floor(pg_catalog.max(t.{column})) FROM {table} AS t) "
        "ELSE (SELECT pg_catalog.floor(pg_catalog.min(t.{column})) FROM {table} AS t) END "
        "FROM {sequence} AS s, pg_catalog.pg_sequence AS q "
        "WHERE q.seqrelid = (SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n "
        "ON n.oid = c.relnamespace WHERE n.nspname = $1::text AND c.relname = $2::text)"
    ).format(
        column=sql.Identifier(rule.column),
        table=_from(rule.table),
        sequence=sql.Identifier(rule.sequence.schema, rule.sequence.name),
    )


def texts(keys: Sequence[Sequence[bytes | None]]) -> list[list[str | None]]:
    """Keys as parameters: one array a column."""
    return [[None if value is None else value.decode() for value in column] for column in zip(*keys, strict=True)]
