"""The publication on a source: made, checked, and extended by tables. What a DBA made is checked and never changed
beyond adding tables, and only where the connector says `create`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors, sql

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.heartbeat import HEARTBEAT, MAKE_HEARTBEAT
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors, to_error
from replicator.tables import TableName, quote_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from psycopg import AsyncConnection

    from replicator.tables import Table

# Row filters and column lists came with PostgreSQL 15: to_jsonb of a row has them or hasn't.
_PUBLICATION: Final = """
SELECT p.oid, p.pubviaroot, ARRAY(
    SELECT o.name FROM (VALUES ('insert', p.pubinsert), ('update', p.pubupdate), ('delete', p.pubdelete),
        ('truncate', p.pubtruncate)) AS o (name, published) WHERE NOT o.published)
FROM pg_catalog.pg_publication p WHERE p.pubname = %s
"""
_PUBLISHED: Final = """
SELECT t.schemaname::pg_catalog.text, t.tablename::pg_catalog.text FROM pg_catalog.pg_publication_tables t
WHERE t.pubname = %s
"""
_MEMBERS: Final = """
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
       pg_catalog.to_jsonb(r) OPERATOR(pg_catalog.->>) 'prqual' IS NOT NULL,
       pg_catalog.to_jsonb(r) OPERATOR(pg_catalog.->>) 'prattrs' IS NOT NULL
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.prpubid = %s
"""
_PUBLISHED_ROOTS: Final = """
SELECT t.schemaname::pg_catalog.text, t.tablename::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(c.oid) AS a (relid)
JOIN pg_catalog.pg_class r ON r.oid = a.relid JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace
JOIN pg_catalog.pg_publication_tables t ON t.schemaname = s.nspname AND t.tablename = r.relname
WHERE n.nspname = %s AND c.relname = %s AND t.pubname = %s AND c.relispartition AND r.oid <> c.oid
"""
_HEARTBEAT_RIGHTS: Final = """
SELECT pg_catalog.has_table_privilege(c.oid, 'INSERT') AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')
   AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""


@dataclass(frozen=True)
class PublicationState:
    """What `ensure_publication` found or did.

    Attributes:
        created: the publication was made now.
        added: the tables that were added to it now, those of a new one included; the heartbeat is not among them.
        heartbeat: the source has a heartbeat that this role may write, and the publication carries it.

    """

    created: bool
    added: tuple[TableName, ...]
    heartbeat: bool


async def ensure_publication(
    dsn: str, name: str, tables: Sequence[Table], *, create: bool, heartbeat: bool
) -> PublicationState:
    """See that a publication carries every change of these tables.

    Make it before the slot: a slot reads the publication as it was at each moment of the WAL, and what was committed
    before it existed is in no stream (the stream then ends with an error).
    Adding a table waits for a VACUUM or an index build that runs on it; it stops neither readers nor writers.

    Args:
        dsn: the source's.
        name: the publication's.
        tables: the mapped tables, as the source's catalog has them; at least one.
        create: make what lacks; off where a DBA made it, and then nothing is changed.
        heartbeat: make (with `create`) or look for the heartbeat table.

    Raises:
        ReplicatorError: CONFIG with the statement to run when something lacks or doesn't fit; PERMISSION likewise.

    """
    async with await connect(dsn, "setup") as connection:
        beats = heartbeat and await _ensure_heartbeat(connection, create=create)
        with driver_errors(f"reading publication {name}"):
            row = await (await connection.execute(_PUBLICATION, [name])).fetchone()
        if row is None:
            await _create(connection, name, tables, create=create)
            beats = beats and await _add_heartbeat(connection, name)
            return PublicationState(created=True, added=tuple(table.name for table in tables), heartbeat=beats)
        oid, via_root, unpublished = row
        if unpublished:
            raise _unfit(name, f"leaves out {', '.join(unpublished)}", _set(name, "publish", _OPERATIONS))
        published = await _names(connection, _PUBLISHED, name)
        lacking = [table for table in tables if table.name not in published]
        await _check_lists(connection, name, oid, {table.name for table in tables})
        if not via_root and any(table.kind == "p" for table in lacking):
            roots = ", ".join(str(table.name) for table in lacking if table.kind == "p")
            reason = f"shows partitioned tables by their partitions ({roots})"
            raise _unfit(name, reason, _set(name, "publish_via_partition_root", "true"))
        await _check_roots(connection, name, lacking)
        await _add(connection, name, lacking, create=create)
        if beats and HEARTBEAT not in published:
            beats = create and await _add_heartbeat(connection, name)
        return PublicationState(created=False, added=tuple(table.name for table in lacking), heartbeat=beats)


_OPERATIONS: Final = "insert, update, delete, truncate"


async def publication_gaps(
    dsn: str, name: str, tables: Collection[TableName], *, whole: bool = True
) -> dict[TableName, str]:
    """Why the changes of some mapped tables aren't all in the stream now, in words that follow the table's name.

    Empty also without a publication: the stream itself then fails at the first change that it would leave out.

    Args:
        dsn: the source's.
        name: the publication's.
        tables: the mapped ones.
        whole: look also for rows, columns and operations that are left out; else that may be meant so.

    Raises:
        ReplicatorError: CONNECTION.

    """
    quoted = quote_identifier(name)
    async with await connect(dsn, "publication") as connection:
        with driver_errors(f"reading publication {name}"):
            row = await (await connection.execute(_PUBLICATION, [name])).fetchone()
            if row is None:
                return {}
            members = await (await connection.execute(_MEMBERS, [row[0]])).fetchall()
        published = await _names(connection, _PUBLISHED, name)
    gaps = {table: f"is not in publication {quoted}" for table in tables if table not in published}
    if not whole:
        return gaps
    for schema, relation, rows_filtered, columns in members:
        if rows_filtered or columns:
            what = "some rows" if rows_filtered else "some columns"
            gaps.setdefault(TableName(schema, relation), f"is in publication {quoted} with {what} only")
    if row[2]:
        for table in tables:
            gaps.setdefault(table, f"is in publication {quoted} without its {', '.join(row[2])}")
    return {table: why for table, why in gaps.items() if table in tables}


async def _names(connection: AsyncConnection[Any], query: str, *params: object) -> set[TableName]:
    with driver_errors("reading the tables of a publication"):
        rows = await (await connection.execute(query.encode(), params)).fetchall()
    return {TableName(*row) for row in rows}


async def _check_lists(connection: AsyncConnection[Any], name: str, oid: int, mapped: Collection[TableName]) -> None:
    with driver_errors(f"reading the tables of publication {name}"):
        rows = await (await connection.execute(_MEMBERS, [oid])).fetchall()
    for schema, relation, rows_filtered, columns in rows:
        table = TableName(schema, relation)
        if table in mapped and (rows_filtered or columns):
            what = "some rows" if rows_filtered else "some columns"
            quoted = quote_identifier(name)
            raise ReplicatorError(
                f"publication {quoted} carries only {what} of {table}",
                kind=ErrorKind.CONFIG,
                table=str(table),
                hint="A filtered table can't be compared with its copy, and a row that moves across the filter is lost."
                " Filter in the transform. Run on the source:"
                f" ALTER PUBLICATION {quoted} DROP TABLE ONLY {table};"
                f" ALTER PUBLICATION {quoted} ADD TABLE ONLY {table}; then begin again with a new backfill",
            )


async def _check_roots(connection: AsyncConnection[Any], name: str, lacking: Sequence[Table]) -> None:
    """A partition whose root is in the publication is published under the root's name."""
    for table in lacking:
        roots = await _names(connection, _PUBLISHED_ROOTS, table.name.schema, table.name.name, name)
        if roots:
            root = min(roots)
            raise ReplicatorError(
                f"publication {quote_identifier(name)} shows {table.name} as part of {root}",
                kind=ErrorKind.CONFIG,
                table=str(table.name),
                hint=f"Map {root}, not its partitions",
            )


async def _create(connection: AsyncConnection[Any], name: str, tables: Sequence[Table], *, create: bool) -> None:
    statement = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish = {}, publish_via_partition_root = true)")
    given = statement.format(
        sql.Identifier(name), _table_list([table.name for table in tables]), sql.Literal(_OPERATIONS)
    )
    if not create:
        raise ReplicatorError(
            f"publication {quote_identifier(name)} does not exist on the source",
            kind=ErrorKind.CONFIG,
            hint=f"Run there: {given.as_string()}; or let the connector make it (stream.create: true)",
        )
    _check_identities(name, tables)
    await _run(connection, given, f"making publication {quote_identifier(name)}")


async def _add(connection: AsyncConnection[Any], name: str, lacking: Sequence[Table], *, create: bool) -> None:
    if not lacking:
        return
    names = [table.name for table in lacking]
    statement = sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(name), _table_list(names))
    if not create:
        listed = ", ".join(map(str, names))
        raise _unfit(name, f"lacks {len(names)} mapped table(s): {listed}", statement.as_string())
    _check_identities(name, lacking)
    await _run(connection, statement, f"adding tables to publication {quote_identifier(name)}")


def _check_identities(name: str, tables: Sequence[Table]) -> None:
    """A published table without replica identity refuses the application's own UPDATE and DELETE."""
    bare = [table for table in tables if not table.identity_columns]
    if bare:
        statements = "; ".join(f"ALTER TABLE {table.name} REPLICA IDENTITY FULL" for table in bare)
        raise ReplicatorError(
            f"{', '.join(str(table.name) for table in bare)} can't enter publication {quote_identifier(name)}: without"
            " a replica identity the source would refuse every UPDATE and DELETE of the application",
            kind=ErrorKind.CONFIG,
            table=str(bare[0].name),
            hint=f"Give the table a primary key, or run on the source: {statements}",
        )
    unlogged = [table for table in tables if table.persistence != "p"]
    if unlogged:
        raise ReplicatorError(
            f"{unlogged[0].name} is unlogged: its changes are in no stream",
            kind=ErrorKind.CONFIG,
            table=str(unlogged[0].name),
            hint=f"Run on the source: ALTER TABLE {unlogged[0].name} SET LOGGED; or leave the table out",
        )


async def _ensure_heartbeat(connection: AsyncConnection[Any], *, create: bool) -> bool:
    """Whether the heartbeat table is there and may be written; made where it lacks and the rights allow."""
    with driver_errors("looking for the heartbeat table"):
        query = await connection.execute(_HEARTBEAT_RIGHTS, [HEARTBEAT.schema, HEARTBEAT.name])
        row = await query.fetchone()
        if row is not None or not create:
            return row is not None and bool(row[0])
        try:
            async with connection.transaction():
                for statement in MAKE_HEARTBEAT:
                    await connection.execute(statement)
        except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction):
            return False
        except (errors.UniqueViolation, errors.DuplicateTable):
            return await _ensure_heartbeat(connection, create=False)  # another process made it at the same moment
    return True


async def _add_heartbeat(connection: AsyncConnection[Any], name: str) -> bool:
    statement = sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(name), _table_list([HEARTBEAT]))
    try:
        await _run(connection, statement, "adding the heartbeat to the publication")
    except ReplicatorError as error:
        if error.kind is ErrorKind.PERMISSION:
            return False
        raise
    return True


async def _run(connection: AsyncConnection[Any], statement: sql.Composed, doing: str) -> None:
    try:
        await connection.execute(statement)
    except errors.DuplicateObject:
        return  # another process of the same connector did it at the same moment
    except errors.InsufficientPrivilege as refused:
        error = to_error(refused, doing)
        error.hint = f"Let the owner of the tables run on the source: {statement.as_string(connection)}"
        raise error from refused
    except psycopg.Error as refused:
        raise to_error(refused, doing) from refused


def _table_list(names: Sequence[TableName]) -> sql.Composed:
    """ONLY: tables that inherit are mapped by themselves, or not at all."""
    return sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(name.schema, name.name)) for name in names)


def _set(name: str, option: str, value: str) -> str:
    statement = sql.SQL("ALTER PUBLICATION {} SET ({} = {})")
    return statement.format(sql.Identifier(name), sql.SQL(option), sql.Literal(value)).as_string()


def _unfit(name: str, reason: str, statement: str) -> ReplicatorError:
    return ReplicatorError(
        f"publication {quote_identifier(name)} {reason}",
        kind=ErrorKind.CONFIG,
        hint=f"Run on the source: {statement}; `replicator resync` afterwards a table whose changes were left out",
    )
