"""COPY between servers: blocks of COPY text out of one session and into another, never taken apart.

`PostgresChunkTarget` is `copies.ChunkTarget`: what a backfill or a resync does in a target transaction besides writes.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import AsyncRawCursor, errors, sql
from psycopg.pq import ExecStatus
from psycopg.waiting import Wait

from replicator.postgres import obstacles, range_sql, state_sql
from replicator.postgres.sqlstate import driver_errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from psycopg import AsyncConnection
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn

    from replicator.events import Key, Values
    from replicator.mapping import KeyMapping
    from replicator.ports import TargetTransaction
    from replicator.postgres.transaction import PostgresTransaction
    from replicator.tables import Table
    from replicator.writes import Write

BLOCK_BYTES: Final = 64 * 1024
"""A block is sent on when it has this size: large enough that its handling costs little, small beside the sockets'
buffers, so that both servers work at once."""

_COMMA: Final = sql.SQL(", ")
_AND: Final = sql.SQL(" AND ")


async def copy_blocks(connection: AsyncConnection[Any], query: sql.Composed) -> AsyncGenerator[bytes, None]:
    """Run a `COPY … TO STDOUT` and yield its output in blocks of whole rows.

    The server sends a message for each row. psycopg would hand out one at a time, at 2 µs each; here all that have
    arrived are drained at one wake-up (0.6 µs a row, client CPU).

    Raises:
        psycopg.Error: as any statement.

    """
    async with connection.cursor() as cursor, cursor.copy(query):
        rows = _Drain(connection.pgconn)
        while block := await connection.wait(rows.block()):
            yield block


class _Drain:
    """Reads an open COPY OUT to its end."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._ended = False

    def block(self) -> PQGen[bytes]:
        """All rows that have arrived, at least one, up to a block; empty at the end."""
        if self._ended:
            return b""
        pgconn = self._pgconn
        rows: list[bytes] = []
        size = 0
        while size < BLOCK_BYTES:
            # https://www.postgresql.org/docs/current/libpq-copy.html: > 0 a row, 0 none yet, -1 the end
            length, row = pgconn.get_copy_data(1)
            if length > 0:
                rows.append(bytes(row))
                size += length
            elif length == 0:
                if rows:
                    break
                yield from _readable(pgconn)
            else:
                yield from self._end()
                break
        return b"".join(rows)

    def _end(self) -> PQGen[None]:
        self._ended = True
        pgconn = self._pgconn
        failed = None
        while True:  # to the last result: the session is busy until then
            while pgconn.is_busy():
                yield from _readable(pgconn)
            result = pgconn.get_result()
            if result is None:
                break
            if result.status != ExecStatus.COMMAND_OK:  # an int, in psycopg's C implementation
                failed = failed or result
        if failed is not None:
            raise errors.error_from_result(failed)


def _readable(pgconn: PGconn) -> PQGen[None]:
    while not (yield Wait.R):
        continue
    pgconn.consume_input()


class PostgresChunkTarget:
    """Chunk writes in the target; see `copies.ChunkTarget`. Has no state: all happens in the transactions given."""

    async def copy_in(
        self, transaction: TargetTransaction, table: Table, columns: tuple[str, ...], blocks: AsyncIterator[bytes]
    ) -> int:
        """COPY blocks into the table; returns rows. COPY takes the given values for identity columns."""
        return await _copy_in(
            await connection_of(transaction), _name(table), columns, blocks, f"copying to {table.name}"
        )

    async def copy_over(
        self,
        transaction: TargetTransaction,
        table: Table,
        columns: tuple[str, ...],
        key: tuple[str, ...],
        blocks: AsyncIterator[bytes],
    ) -> int:
        """COPY blocks into a temporary table, and bring the target's rows of these keys to the same values."""
        connection = await connection_of(transaction)
        doing = f"copying to {table.name}"
        staging = sql.Identifier("pg_temp", _staging_name(table, columns))
        with driver_errors(doing):
            await connection.execute(
                sql.SQL(
                    "CREATE TEMPORARY TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA"
                ).format(staging, _columns(columns), _name(table)),
            )
        rows = await _copy_in(connection, staging, columns, blocks, doing)
        with driver_errors(doing):
            await connection.execute(state_sql.ANY_PLAN)  # our sessions are set for statements that find rows by index
            for statement in _merge(table, columns, key, staging):
                await connection.execute(statement)
            await connection.execute(state_sql.INDEX_PLAN)
        return rows

    async def in_the_way(
        self, transaction: TargetTransaction, write: Write, constraint: str, columns: tuple[str, ...]
    ) -> list[Key]:
        """Values of `columns` of the rows that `constraint` sets against rows of `write`."""
        with driver_errors(f"looking for what is in the way in {write.table.name}"):
            return await obstacles.rows_in_the_way(await connection_of(transaction), write, constraint, columns)

    async def take_away(
        self, transaction: TargetTransaction, table: Table, key: tuple[str, ...], keys: Sequence[Key]
    ) -> list[Values]:
        """Delete the rows of these keys and return them whole."""
        with driver_errors(f"moving rows of {table.name}"):
            return await obstacles.take_away(await connection_of(transaction), table, key, keys)

    async def keys_after(
        self,
        transaction: TargetTransaction,
        table: Table,
        by: tuple[str, ...],
        after: Key | None,
        rows: int,
        *,
        where: str | None = None,
    ) -> list[Key]:
        """Up to `rows` distinct values of `by` after `after`, in order."""
        query = range_sql.distinct_keys(table, by, after=after is not None, where=where)
        bounds: list[object] = [value.decode() for value in after or ()]
        with driver_errors(f"reading keys of {table.name}"):
            return await fetch_keys(await connection_of(transaction), query, [*bounds, rows])

    async def source_keys(
        self, transaction: TargetTransaction, keys: KeyMapping, wanted: Sequence[Key]
    ) -> dict[Key, Key]:
        """Target keys to source keys, from the target's key map."""
        return await own(transaction).source_keys(keys, wanted)


def own(transaction: TargetTransaction) -> PostgresTransaction:
    """The transaction as this package's, which alone makes them."""
    return cast("PostgresTransaction", transaction)


async def connection_of(transaction: TargetTransaction) -> AsyncConnection[Any]:
    """The session of a target transaction, with all that was queued sent."""
    await own(transaction).begin()
    return own(transaction).connection


async def fetch_keys(connection: AsyncConnection[Any], query: sql.Composed, parameters: Sequence[object]) -> list[Key]:
    """Run a query with `$1` parameters whose columns are a key; the values as the server prints them."""
    cursor = AsyncRawCursor(connection)
    await cursor.execute(query, parameters)
    result = cursor.pgresult
    assert result is not None
    columns = range(result.nfields)
    return [tuple(result.get_value(row, column) or b"" for column in columns) for row in range(result.ntuples)]


async def _copy_in(
    connection: AsyncConnection[Any],
    table: sql.Composable,
    columns: tuple[str, ...],
    blocks: AsyncIterator[bytes],
    doing: str,
) -> int:
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(table, _columns(columns))
    with driver_errors(doing):
        async with connection.cursor() as cursor:
            async with cursor.copy(query) as copy:
                async for block in blocks:
                    await copy.write(block)
            return cursor.rowcount


def _merge(table: Table, columns: tuple[str, ...], key: tuple[str, ...], staging: sql.Identifier) -> list[sql.Composed]:
    """Statements that make the table's rows of the staged keys equal to the staged ones.

    A row that is the same already (bytewise: `*=` needs no operators of the types) isn't written again. Not ON
    CONFLICT: it needs an immediate unique index over exactly the key.
    """
    values = {
        "table": _name(table),
        "staging": staging,
        "columns": _columns(columns),
        "match": _AND.join(
            sql.SQL("t.{0} {1} s.{0}").format(sql.Identifier(name), range_sql.equality(table, name)) for name in key
        ),
        "old": sql.SQL("ROW({})::record").format(_columns(columns, "t")),
        "new": sql.SQL("ROW({})::record").format(_columns(columns, "s")),
        "staged": _columns(columns, "s"),
    }
    differing = "t.ctid IS NOT NULL AND {match} AND NOT {old} OPERATOR(pg_catalog.*=) {new}"
    others = tuple(name for name in columns if name not in key or not table.by_name[name].canonical)
    statements = []
    if any(table.by_name[name].identity == "a" for name in others):
        # Such a column can't be updated to a value; only an insert may give it.
        statements.append(sql.SQL("DELETE FROM {table} AS t USING {staging} AS s WHERE " + differing).format(**values))
    elif others:
        statements.append(
            sql.SQL("UPDATE {table} AS t SET {set} FROM {staging} AS s WHERE " + differing).format(
                **values, set=_COMMA.join(sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in others)
            )
        )
    statements.append(
        sql.SQL(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {staged} FROM {staging} AS s "
            "WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {match})"
        ).format(**values)
    )
    return statements


def _staging_name(table: Table, columns: tuple[str, ...]) -> str:
    """One staging table for each shape, kept for the session: making one for each chunk would bloat the catalogs."""
    shape = "\0".join((str(table.name), *(f"{name} {table.by_name[name].type_name}" for name in columns)))
    return f"replicator_chunk_{zlib.crc32(shape.encode()):08x}"


def _name(table: Table) -> sql.Identifier:
    return sql.Identifier(table.name.schema, table.name.name)


def _columns(names: Sequence[str], of: str | None = None) -> sql.Composed:
    return _COMMA.join(sql.Identifier(name) if of is None else sql.Identifier(of, name) for name in names)
