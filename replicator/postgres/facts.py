"""Reads what a plan needs to know about one database, beside its catalog: rights, server, publication, slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from replicator.assess.facts import (
    Facts,
    PublicationFacts,
    PublishedTable,
    Rights,
    ServerFacts,
    SlotFacts,
    TableRights,
)
from replicator.postgres.catalog import OWN_SCHEMA, read_catalog
from replicator.postgres.sqlstate import driver_errors
from replicator.tables import TableName

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from psycopg import AsyncConnection

    from replicator.tables import Catalog, Table

# rds_replication: a provider's role that stands for the attribute.
_ROLE: Final = sql.SQL("""
    SELECT current_user::text AS role, r.rolsuper AS superuser,
        r.rolsuper OR r.rolreplication OR EXISTS (
            SELECT FROM pg_catalog.pg_roles p
            WHERE p.rolname = 'rds_replication' AND pg_catalog.pg_has_role(p.oid, 'MEMBER')
        ) AS replication,
        pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS create_on_database,
        EXISTS (
            SELECT FROM pg_catalog.pg_namespace n
            WHERE n.nspname = %(own)s AND pg_catalog.has_schema_privilege(n.oid, 'CREATE')
        ) AS own_schema,
        (
            SELECT pg_catalog.bool_and(pg_catalog.has_function_privilege(f.oid, 'EXECUTE'))
            FROM pg_catalog.pg_proc f
            WHERE f.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND f.proname IN (
                'pg_replication_origin_create', 'pg_replication_origin_drop', 'pg_replication_origin_oid',
                'pg_replication_origin_session_setup', 'pg_replication_origin_session_reset',
                'pg_replication_origin_xact_setup'
            )
        ) AS origin_functions
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
""")
_TABLES: Final = sql.SQL("""
    SELECT c.oid,
        pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.has_table_privilege(c.oid, 'INSERT'),
        pg_catalog.has_table_privilege(c.oid, 'UPDATE'), pg_catalog.has_table_privilege(c.oid, 'DELETE'),
        pg_catalog.has_table_privilege(c.oid, 'TRUNCATE'), pg_catalog.pg_has_role(c.relowner, 'USAGE'),
        pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), pg_catalog.row_security_active(c.oid)
    FROM pg_catalog.pg_class c WHERE c.oid = ANY(%(tables)s)
""")
_SERVER: Final = sql.SQL("""
    SELECT pg_catalog.pg_postmaster_start_time()::text AS started,
        pg_catalog.current_database()::text AS database,
        pg_catalog.getdatabaseencoding()::text AS encoding,
        pg_catalog.pg_is_in_recovery() AS in_recovery,
        pg_catalog.current_setting('wal_level') AS wal_level,
        pg_catalog.current_setting('max_replication_slots')::int AS slots_max,
        (SELECT count(*)::int FROM pg_catalog.pg_replication_slots) AS slots_used,
        pg_catalog.current_setting('max_wal_senders')::int AS senders_max,
        (SELECT count(*)::int FROM pg_catalog.pg_stat_replication) AS senders_used,
        coalesce(
            pg_catalog.current_setting('max_active_replication_origins', true),
            pg_catalog.current_setting('max_replication_slots')
        )::int AS origins_max,
        (SELECT count(*)::int FROM pg_catalog.pg_replication_origin) AS origins_used,
        (SELECT setting::bigint * 1048576 FROM pg_catalog.pg_settings
            WHERE name = 'max_slot_wal_keep_size' AND setting::bigint >= 0) AS slot_keep_bytes_max,
        (SELECT setting::int * CASE unit WHEN 'min' THEN 60 ELSE 1 END FROM pg_catalog.pg_settings
            WHERE name = 'idle_replication_slot_timeout' AND setting::int > 0) AS slot_idle_seconds_max
""")
_PUBLICATION: Final = sql.SQL("""
    SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, pg_catalog.pg_has_role(pubowner, 'USAGE')
    FROM pg_catalog.pg_publication WHERE pubname = %(name)s
""")
_PUBLISHED_15: Final = sql.SQL("""
    SELECT schemaname::text, tablename::text, attnames::text[], rowfilter
    FROM pg_catalog.pg_publication_tables WHERE pubname = %(name)s
""")
_PUBLISHED_13: Final = sql.SQL("""
    SELECT schemaname::text, tablename::text, NULL::text[], NULL::text
    FROM pg_catalog.pg_publication_tables WHERE pubname = %(name)s
""")
_SLOT: Final = sql.SQL("""
    SELECT pg_catalog.to_jsonb(s) FROM pg_catalog.pg_replication_slots s WHERE slot_name = %(name)s
""")
_SUBSCRIBED: Final = sql.SQL("""
    SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_subscription_rel r
    JOIN pg_catalog.pg_class c ON c.oid = r.srrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
""")
_MONEY_DIGITS: Final = sql.SQL("SELECT pg_catalog.scale('1'::pg_catalog.money::pg_catalog.numeric)")
_VIEW_OF_COLUMN_LISTS: Final = 150000


async def read_facts(
    connection: AsyncConnection[Any],
    tables: Collection[TableName],
    *,
    publication: str | None = None,
    slot: str | None = None,
    catalog: Catalog | None = None,
) -> Facts:
    """Read the facts of one database; changes nothing.

    Args:
        connection: a session of `session.connect`, in autocommit and idle.
        tables: those whose rights, and whether they hold rows, are wanted; their leaf partitions are added.
        publication: the connector's; None where it has none here.
        slot: likewise.
        catalog: where it has been read already.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    if catalog is None:
        catalog = await read_catalog(connection)
    wanted = [catalog.tables[name] for name in tables if name in catalog.tables]
    leaves = [catalog.tables[leaf] for table in wanted for leaf in table.leaves if leaf in catalog.tables]
    every = {table.name: table for table in [*wanted, *leaves]}
    with driver_errors("reading rights and settings"):
        rights = await _read_rights(connection, every)
        return Facts(
            catalog=catalog,
            rights=rights,
            server=await _read_server(connection),
            filled=await _read_filled(connection, wanted, rights),
            publication=await _read_publication(connection, catalog, publication),
            slot=await _read_slot(connection, slot),
            subscribed=frozenset(TableName(*row) for row in await _fetch(connection, _SUBSCRIBED)),
        )


async def read_rights(connection: AsyncConnection[Any], tables: Collection[Table]) -> Rights:
    """What our role may do in this database and with these tables.

    Raises:
        ReplicatorError: CONNECTION.

    """
    with driver_errors("reading rights"):
        return await _read_rights(connection, {table.name: table for table in tables})


async def read_money_digits(connection: AsyncConnection[Any]) -> int:
    """How many fractional digits `money` has here, by lc_monetary.

    Raises:
        ReplicatorError: CONNECTION.

    """
    with driver_errors("reading how money is written"):
        ((digits,),) = await _fetch(connection, _MONEY_DIGITS)
    return int(digits)


async def _read_rights(connection: AsyncConnection[Any], tables: Mapping[TableName, Table]) -> Rights:
    rows = await _fetch(connection, _TABLES, tables=[table.oid for table in tables.values()])
    by_oid = {row[0]: TableRights(*row[1:]) for row in rows}
    (role,) = await _fetch_named(connection, _ROLE, own=OWN_SCHEMA)
    return Rights(
        **role,
        replica_role=await _may_be_replica(connection),
        tables={name: by_oid[table.oid] for name, table in tables.items() if table.oid in by_oid},
    )


async def _may_be_replica(connection: AsyncConnection[Any]) -> bool:
    """Whether this role may set session_replication_role: try it, and take it back."""
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute("SET LOCAL session_replication_role = 'replica'")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


async def _read_server(connection: AsyncConnection[Any]) -> ServerFacts:
    (row,) = await _fetch_named(connection, _SERVER)
    return ServerFacts(identity=(row.pop("started"), row["database"]), **row)


async def _read_filled(
    connection: AsyncConnection[Any], tables: Collection[Table], rights: Rights
) -> dict[TableName, bool | None]:
    """Which tables hold rows, in one statement over those that we may read."""
    found: dict[TableName, bool | None] = dict.fromkeys((table.name for table in tables), None)
    readable = []
    for table in tables:
        allowed = rights.of(table.name)
        if allowed.select and allowed.schema_usage and not allowed.row_security:
            readable.append(table)
    if readable:
        one = sql.SQL("EXISTS (SELECT FROM {})")
        exists = [one.format(sql.Identifier(table.name.schema, table.name.name)) for table in readable]
        query = sql.SQL("SELECT ARRAY[{}]").format(sql.SQL(", ").join(exists))
        cursor = await connection.execute(query)
        ((answers,),) = await cursor.fetchall()
        found.update(zip((table.name for table in readable), answers, strict=True))
    return found


async def _read_publication(
    connection: AsyncConnection[Any], catalog: Catalog, name: str | None
) -> PublicationFacts | None:
    rows = await _fetch(connection, _PUBLICATION, name=name)
    if not rows:
        return None
    insert, update, delete, truncate, via_root, owned = rows[0]
    flags = {"insert": insert, "update": update, "delete": delete, "truncate": truncate}
    query = _PUBLISHED_15 if catalog.server_version >= _VIEW_OF_COLUMN_LISTS else _PUBLISHED_13
    return PublicationFacts(
        operations=frozenset(operation for operation, published in flags.items() if published),
        via_root=via_root,
        owned=owned,
        tables={
            TableName(schema, table): PublishedTable(tuple(columns or ()), row_filter)
            for schema, table, columns, row_filter in await _fetch(connection, query, name=name)
        },
    )


async def _read_slot(connection: AsyncConnection[Any], name: str | None) -> SlotFacts | None:
    rows = await _fetch(connection, _SLOT, name=name)
    if not rows:
        return None
    slot: dict[str, Any] = rows[0][0]  # columns differ from version to version
    lost = slot.get("invalidation_reason") or ("wal_removed" if slot["wal_status"] == "lost" else None)
    return SlotFacts(plugin=slot["plugin"], database=slot["database"], active=slot["active"], lost=lost)


async def _fetch(connection: AsyncConnection[Any], query: sql.SQL, **parameters: Any) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(query, parameters)
    return await cursor.fetchall()


async def _fetch_named(connection: AsyncConnection[Any], query: sql.SQL, **parameters: Any) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()
