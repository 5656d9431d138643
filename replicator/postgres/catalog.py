"""Reads the catalogs of PostgreSQL 13 to 18 into `Catalog`: a handful of statements, whatever the number of tables."""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from replicator.postgres.column_types import ColumnTypes, read_types
from replicator.postgres.sqlstate import driver_errors
from replicator.tables import Catalog, Column, ForeignKey, Table, TableName, Trigger, UniqueKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from psycopg import AsyncConnection

OWN_SCHEMA: Final = "replicator"

# bytes: pages that the last VACUUM counted; `_SIZES` is exact, but waits for locks.
_TABLES: Final = sql.SQL("""
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text, c.relrowsecurity,
        c.relpersistence::text, c.reltuples::bigint, c.relfilenode,
        CASE c.relkind WHEN 'r'
            THEN (c.relpages::bigint + coalesce(toast.relpages, 0)) * pg_catalog.current_setting('block_size')::bigint
            ELSE 0
        END,
        c.relhasrules
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
        AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', %(own)s)
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0
                AND d.deptype = 'e'
        )
    ORDER BY n.nspname, c.relname
""")
_COLUMNS: Final = sql.SQL("""
    SELECT a.attrelid, a.attname::text, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypmod,
        a.attnotnull, a.atthasdef, a.attgenerated::text, a.attidentity::text, a.atthasmissing,
        a.xmin::text::bigint, a.attnum::integer,
        EXISTS (SELECT FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation AND NOT l.collisdeterministic)
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY(%(tables)s) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
""")
_INDEXES: Final = sql.SQL("""
    SELECT i.indrelid, c.relname::text, i.indisprimary, i.indisreplident, NOT i.indimmediate, i.indisexclusion,
        i.indisunique AND NOT i.indisexclusion AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL,
        columns.names, columns.not_null
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    CROSS JOIN LATERAL (
        SELECT coalesce(pg_catalog.array_agg(a.attname::text ORDER BY k.n), '{}'),
            coalesce(pg_catalog.bool_and(a.attnotnull), false)
        FROM pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE k.n <= i.indnkeyatts
    ) AS columns(names, not_null)
    WHERE i.indrelid = ANY(%(tables)s) AND i.indisready AND (i.indisunique OR i.indisexclusion)
    ORDER BY i.indrelid, NOT i.indisprimary, NOT i.indisreplident, c.relname
""")
# A key that points at a partitioned table has one more row for each partition: their parent is of the same table.
_FOREIGN_KEYS: Final = sql.SQL("""
    SELECT f.conrelid, f.conname::text, own.names, n.nspname::text, c.relname::text, other.names, f.condeferrable,
        f.confdeltype::text, f.convalidated
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_class c ON c.oid = f.confrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_constraint parent ON parent.oid = f.conparentid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.n)
        FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS k(attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum
    ) AS own(names)
    CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.n)
        FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY AS k(attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum
    ) AS other(names)
    WHERE f.contype = 'f' AND f.conrelid = ANY(%(tables)s) AND parent.conrelid IS DISTINCT FROM f.conrelid
    ORDER BY f.conrelid, f.conname
""")
_TRIGGERS: Final = sql.SQL("""
    SELECT t.tgrelid, t.tgname::text, t.tgenabled::text
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE t.tgrelid = ANY(%(tables)s) AND NOT t.tgisinternal AND n.nspname <> %(own)s
    ORDER BY t.tgrelid, t.tgname
""")
# Every partition below every partitioned table, at any depth.
_PARTITIONS: Final = sql.SQL("""
    WITH RECURSIVE below(root, oid, depth) AS (
        SELECT i.inhparent, i.inhrelid, 1 FROM pg_catalog.pg_inherits i
        JOIN pg_catalog.pg_class c ON c.oid = i.inhparent AND c.relkind = 'p'
        WHERE i.inhparent = ANY(%(tables)s)
      UNION ALL
        SELECT b.root, i.inhrelid, b.depth + 1 FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
    )
    SELECT b.root, b.oid, b.depth = 1, c.relkind <> 'p', n.nspname::text, c.relname::text
    FROM below b
    JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relkind IN ('r', 'p', 'f')
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    ORDER BY b.root, n.nspname, c.relname
""")
_ENUMS: Final = sql.SQL("""
    SELECT pg_catalog.format_type(e.enumtypid, -1), pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
    FROM pg_catalog.pg_enum e GROUP BY e.enumtypid
""")
_SIZES: Final = sql.SQL("""
    SELECT t.oid, pg_catalog.pg_table_size(t.oid) FROM pg_catalog.unnest(%(tables)s::pg_catalog.oid[]) AS t(oid)
""")
# Sizes are worth a wait, but not behind somebody's VACUUM FULL.
_SIZES_LOCK_TIMEOUT: Final = sql.SQL("SET LOCAL lock_timeout = '500ms'")

_Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class _Found:
    """What the statements returned: rows of one table under its oid."""

    tables: _Rows
    types: ColumnTypes
    columns: dict[int, _Rows]
    indexes: dict[int, _Rows]
    foreign_keys: dict[int, _Rows]
    triggers: dict[int, _Rows]
    leaves: dict[int, list[tuple[int, TableName]]]
    parents: dict[int, int]
    sizes: dict[int, int]


async def read_catalog(connection: AsyncConnection[Any]) -> Catalog:
    """Read what this database's catalogs say about its tables, from one snapshot.

    Nine statements, whatever the number of tables; takes no lock on any table that somebody could hold for long:
    where the exact size can't be had within half a second, `bytes` is what the last VACUUM counted.

    Args:
        connection: a session of `session.connect` (search_path is pg_catalog), in autocommit or idle.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    with driver_errors("reading the catalog"):
        async with _snapshot(connection):
            tables = await _fetch(connection, _TABLES, [])
            oids = [row[0] for row in tables]
            leaves, parents = _partitions(await _fetch(connection, _PARTITIONS, oids))
            found = _Found(
                tables=tables,
                types=await read_types(connection, oids),
                columns=_by_table(await _fetch(connection, _COLUMNS, oids)),
                indexes=_by_table(await _fetch(connection, _INDEXES, oids)),
                foreign_keys=_by_table(await _fetch(connection, _FOREIGN_KEYS, oids)),
                triggers=_by_table(await _fetch(connection, _TRIGGERS, oids)),
                leaves=leaves,
                parents=parents,
                sizes=await _sizes(connection, {row[0]: row[9] for row in tables}),
            )
            enums = {name: tuple(labels) for name, labels in await _fetch(connection, _ENUMS, [])}
    names = {row[0]: TableName(row[1], row[2]) for row in tables}
    made = [_table(row, names, found) for row in tables]
    return Catalog(connection.info.server_version, {table.name: table for table in made}, enums)


def _table(row: tuple[Any, ...], names: dict[int, TableName], found: _Found) -> Table:
    oid, _, _, kind, identity, row_security, persistence, rows_estimate, relfilenode, _, rules = row
    columns, indexes, leaves = found.columns[oid], found.indexes[oid], found.leaves[oid]
    return Table(
        name=names[oid],
        columns=tuple(_column(column, found.types) for column in columns),
        unique_keys=tuple(
            UniqueKey(key[1], tuple(key[7]), primary=key[2], deferrable=key[4], not_null=key[8])
            for key in indexes
            if key[6]
        ),
        other_unique_indexes=tuple(key[1] for key in indexes if not key[6]),
        deferrable_exclusions=tuple(key[1] for key in indexes if key[4] and not key[6]),
        foreign_keys=tuple(map(_foreign_key, found.foreign_keys[oid])),
        replica_identity=identity,
        identity_columns=_identity_columns(identity, columns, indexes),
        kind=kind,
        leaves=tuple(name for _, name in leaves),
        parent=names.get(found.parents.get(oid, 0)),
        triggers=tuple(Trigger(name, enabled) for _, name, enabled in found.triggers[oid]),
        row_security=row_security,
        rules=rules,
        persistence=persistence,
        rows_estimate=rows_estimate,
        bytes=found.sizes[oid] + sum(found.sizes.get(leaf, 0) for leaf, _ in leaves),
        oid=oid,
        relfilenode=relfilenode,
    )


def _partitions(rows: _Rows) -> tuple[dict[int, list[tuple[int, TableName]]], dict[int, int]]:
    """The leaves below each partitioned table, and the direct parent of each partition."""
    leaves: dict[int, list[tuple[int, TableName]]] = defaultdict(list)
    parents: dict[int, int] = {}
    for root, oid, direct, leaf, schema, name in rows:
        if leaf:
            leaves[root].append((oid, TableName(schema, name)))
        if direct:
            parents[oid] = root
    return leaves, parents


@asynccontextmanager
async def _snapshot(connection: AsyncConnection[Any]) -> AsyncIterator[None]:
    """One snapshot for several statements; the caller's, where it has a transaction open."""
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        yield
        return
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.execute("SET LOCAL jit = 'off'")  # compiling these took ten times as long as running them
        yield


async def _fetch(connection: AsyncConnection[Any], query: sql.SQL, tables: list[int]) -> _Rows:
    cursor = await connection.execute(query, {"tables": tables, "own": OWN_SCHEMA})
    return await cursor.fetchall()


def _by_table(rows: _Rows) -> dict[int, _Rows]:
    found: dict[int, _Rows] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    return found


async def _sizes(connection: AsyncConnection[Any], estimates: dict[int, int]) -> dict[int, int]:
    """Exact sizes in bytes, or the estimates where a lock is in the way. NULL: the table was dropped meanwhile."""
    try:
        async with connection.transaction(force_rollback=True):  # takes the setting back
            await connection.execute(_SIZES_LOCK_TIMEOUT)
            exact: dict[int, int | None] = dict(await _fetch(connection, _SIZES, list(estimates)))
    except psycopg.errors.LockNotAvailable:
        return estimates
    return {oid: estimate if (size := exact.get(oid)) is None else size for oid, estimate in estimates.items()}


def _column(row: tuple[Any, ...], types: ColumnTypes) -> Column:
    _, name, oid, type_name, typmod, not_null, has_default, generated, identity, fast_default, *rest = row
    version, number, folds = rest
    operators = types.operator_schema(oid)
    return Column(
        name=name,
        type_oid=oid,
        type_name=type_name,
        cast_type=types.cast_type(oid),
        typmod=typmod,
        nullable=not (not_null or types.not_null(oid)),
        has_default=has_default or bool(identity) or types.has_default(oid),
        generated=generated,
        identity=identity,
        comparable=operators == "pg_catalog",
        operator_schema=operators,
        operator_names=types.operator_names(oid),
        base_typmod=types.typmod(oid, typmod),
        fast_default=fast_default,
        version=version,
        number=number,
        canonical=not folds and types.canonical(oid),
        domain_elements=types.domain_elements(oid),
    )


def _foreign_key(row: tuple[Any, ...]) -> ForeignKey:
    _, name, columns, schema, table, referenced, deferrable, on_delete, validated = row
    return ForeignKey(
        name=name,
        columns=tuple(columns),
        referenced=TableName(schema, table),
        referenced_columns=tuple(referenced),
        deferrable=deferrable,
        on_delete=on_delete,
        validated=validated,
    )


def _identity_columns(identity: str, columns: _Rows, indexes: Iterable[tuple[Any, ...]]) -> tuple[str, ...]:
    """What an old tuple carries. A deferrable primary key serves as no identity: then the default is nothing."""
    if identity == "f":
        return tuple(row[1] for row in columns)
    if identity in "di":
        for _, _, primary, chosen, deferrable, _, _, names, _ in indexes:
            if (chosen if identity == "i" else primary) and not deferrable:
                return tuple(names)
    return ()
