"""The source's tables, read on connections of their own: `ports.Reader` for PostgreSQL.

Values leave as the bytes that the server printed; nothing is decoded on the way.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

import psycopg
from psycopg import AsyncRawCursor, sql
from psycopg.pq import TransactionStatus

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Relation
from replicator.postgres import range_sql
from replicator.postgres.catalog import read_catalog
from replicator.postgres.copying import copy_blocks
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence

    from psycopg import AsyncConnection

    from replicator.events import Key, Values
    from replicator.tables import Catalog, Table, TableName

CONNECTIONS_MAX: Final = 4
_BLOCKS_FOR_A_ROW: Final = 3  # a sample takes blocks, and not every one has its share of rows
DELAY_MIN: Final = 0.001  # seconds; a commit is visible microseconds after it is in the WAL ...
DELAY_MAX: Final = 0.05  # ... or, with a synchronous standby, as late as that one answers

_SESSION: Final = (
    # Keys differ in number and place from call to call: a generic plan for ten keys would serve ten thousand.
    "SET plan_cache_mode = 'force_custom_plan'; SET jit = 'off'"
)
_BEGIN: Final[LiteralString] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
_IMPORT: Final[LiteralString] = "SET TRANSACTION SNAPSHOT {};"
_EXPORT: Final = "SELECT pg_catalog.pg_export_snapshot()"
# One message with BEGIN: the snapshot is the SELECT's, and the LSN is read after it. On a standby the newest LSN that
# may be visible is the newest received.
_LOOK: Final[LiteralString] = """
    SELECT pg_catalog.pg_current_snapshot()::text,
        CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
            ELSE pg_catalog.pg_current_wal_insert_lsn()
        END - '0/0'::pg_catalog.pg_lsn
"""


def unseen(xids: Collection[int], snapshot: str) -> set[int]:
    """Those of some transactions, all committed in the WAL, that a snapshot doesn't see yet.

    Args:
        xids: 32 bits each, as the stream carries them.
        snapshot: as the server prints it: `xmin:xmax:xip,...`, 64 bits each. `xmax` is one past the newest completed
            transaction, and gives the epoch; `xip` are those below it that were in progress.

    """
    _, xmax, in_progress = snapshot.split(":")
    running = frozenset(map(int, in_progress.split(","))) if in_progress else frozenset()
    return {xid for xid in xids if not _seen(xid, int(xmax), running)}


def _seen(xid: int, xmax: int, in_progress: Collection[int]) -> bool:
    ahead = (xid - xmax) & 0xFFFFFFFF
    if ahead < 1 << 30:  # an event is ahead of a snapshot by a few transactions, never by a billion
        return False
    return xmax + ahead - (1 << 32) not in in_progress


class PostgresSnapshot:
    """One REPEATABLE READ snapshot; see `ports.SourceSnapshot`."""

    def __init__(self, connection: AsyncConnection[Any], text: str, insert_lsn: int) -> None:
        self.text = text
        self.insert_lsn = insert_lsn
        self._connection = connection

    async def rows(
        self, table: Table, by: tuple[str, ...], keys: Sequence[Key], *, where: str | None = None
    ) -> list[Values]:
        """All rows whose columns `by` equal one of `keys`; one statement."""
        if not keys:
            return []
        parameters = [[value.decode() for value in column] for column in zip(*keys, strict=True)]
        return await self._read(table, range_sql.rows(table, by, where), parameters)

    async def as_stored(
        self, table: Table, by: tuple[str, ...], keys: Sequence[Key], *, where: str | None = None
    ) -> dict[Key, Key]:
        """Those keys that equal a row's, and the row's own text; one statement."""
        if not keys:
            return {}
        parameters = [[value.decode() for value in column] for column in zip(*keys, strict=True)]
        found = await self._read(table, range_sql.as_stored(table, by, where), parameters)
        return {keys[int(cast("bytes", row[0])) - 1]: cast("Key", row[1:]) for row in found}

    async def chunk(
        self, table: Table, by: tuple[str, ...], after: Key | None, upto: Key | None, *, where: str | None = None
    ) -> list[Values]:
        """All rows with `after < by <= upto`, ordered by `by`."""
        query = range_sql.chunk(table, by, after=after is not None, upto=upto is not None, where=where)
        return await self._read(table, query, [*_strings(after), *_strings(upto)])

    async def count_before(
        self, table: Table, by: tuple[str, ...], after: Key | None, rows: int, *, upto: Key | None = None
    ) -> Key | None:
        """The key `rows` rows after `after`; None when there are fewer (up to `upto`)."""
        query = range_sql.key_at(table, by, after=after is not None, upto=upto is not None)
        found = await self._read(table, query, [*_strings(after), *_strings(upto), rows - 1])
        return tuple(value for value in found[0] if isinstance(value, bytes)) if found else None

    async def sample(self, table: Table, rows: int, seed: int, *, where: str | None = None) -> list[Values]:
        """Up to `rows` rows from blocks all over the table; the same seed finds the same rows of an unchanged one."""
        query = range_sql.sample(table, where)
        expected = max(1, table.rows_estimate)
        percent = min(100.0, 100 * _BLOCKS_FOR_A_ROW * rows / expected)
        found = await self._read(table, query, [percent, seed, rows])
        if len(found) < rows and percent < 100:  # few rows match, or the statistics are old
            found = await self._read(table, query, [100.0, seed, rows])
        return found

    async def copy_out(
        self,
        table: Table,
        columns: tuple[str, ...],
        by: tuple[str, ...],
        after: Key | None,
        upto: Key | None,
        *,
        where: str | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The same range as COPY text, in blocks of whole rows."""
        lower = None if after is None else _strings(after)
        upper = None if upto is None else _strings(upto)
        query = range_sql.copy_out(table, columns, by, lower, upper, where=where)
        with driver_errors(f"copying from {table.name}"):
            async with aclosing(copy_blocks(self._connection, query)) as blocks:
                async for block in blocks:
                    yield block

    async def any_row(self, partition: Table, query: sql.Composed) -> bool:
        """Whether one is there, by a query whose parameter is the partition's oid."""
        ((found,),) = await self._read(partition, query, [str(partition.oid)])
        return found == b"t"

    async def holds(self, table: Table, columns: tuple[str, ...], rows: Sequence[Values], where: str) -> list[bool]:
        """See `PostgresReader.holds`."""
        at = [place for place, name in enumerate(columns) if name in table.by_name]
        texts = [[value.decode() if isinstance(value := row[place], bytes) else None for row in rows] for place in at]
        query = range_sql.holds(table, tuple(columns[place] for place in at), where)
        return [found == b"t" for (found,) in await self._read(table, query, texts)]

    async def export(self) -> str:
        """A name by which other sessions take this snapshot, as long as it is open."""
        with driver_errors("exporting a snapshot"):
            return await _one(await self._connection.execute(_EXPORT))

    async def _read(self, table: Table, query: sql.Composed, parameters: list[Any]) -> list[Values]:
        with driver_errors(f"reading {table.name}"):
            cursor = AsyncRawCursor(self._connection)
            await cursor.execute(query, parameters)
        result = cursor.pgresult
        assert result is not None
        value = result.get_value
        columns = range(result.nfields)
        return [tuple([value(row, column) for column in columns]) for row in range(result.ntuples)]


class PostgresReader:
    """Reads of one database's tables; see `ports.Reader`.

    Args:
        dsn: the database.
        name: the connector's, for application_name.
        connections_max: snapshots open at once; a further one waits. Who holds a snapshot must not ask for another
            one, nor for the catalog, while that many hold theirs.
        connect_timeout: seconds.

    """

    snapshots: type[PostgresSnapshot] = PostgresSnapshot

    def __init__(
        self, dsn: str, name: str, *, connections_max: int = CONNECTIONS_MAX, connect_timeout: float = 10
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._connect_timeout = connect_timeout
        self._free = asyncio.Semaphore(connections_max)
        self._idle: list[AsyncConnection[Any]] = []
        self._relations: dict[TableName, tuple[Table, Relation]] = {}
        self._closed = False

    @asynccontextmanager
    async def snapshot(
        self, visible: Collection[int] = (), *, exported: str | None = None
    ) -> AsyncIterator[PostgresSnapshot]:
        """A snapshot in which the transactions `visible` (32-bit xids, 0 is passed over) have become visible.

        With `exported`, the one that another session has exported by this name.
        """
        async with self._connection() as connection:
            waiting = {xid for xid in visible if xid}
            delay = DELAY_MIN
            while True:
                snapshot, insert_lsn = await self._begin(connection, exported)
                waiting = unseen(waiting, snapshot)
                if not waiting:
                    break
                with driver_errors("reading the source"):
                    await connection.rollback()
                await asyncio.sleep(delay)
                delay = min(2 * delay, DELAY_MAX)
            yield self.snapshots(connection, snapshot, insert_lsn)

    async def holds(self, table: Table, relation: Relation, rows: Sequence[Values], where: str) -> list[bool]:
        """For each row of the stream, whether the predicate holds; one statement."""
        if not rows:
            return []
        async with self._connection() as connection:
            return await PostgresSnapshot(connection, "", 0).holds(table, relation.columns, rows, where)

    def relation(self, table: Table) -> Relation:
        """The shape of the rows that a snapshot returns for this table: one object as long as the table is the same."""
        known = self._relations.get(table.name)
        if known is not None and (known[0] is table or known[0] == table):
            return known[1]
        relation = Relation(
            table=table.name,
            columns=table.column_names,
            type_oids=tuple(column.type_oid for column in table.columns),
            key_columns=table.identity_columns,
            replica_identity=table.replica_identity,
        )
        self._relations[table.name] = (table, relation)
        return relation

    async def wait_for_running(self) -> None:
        """Wait until every transaction that was running at the call has ended, and is visible to new snapshots.

        A snapshot's xmax is no bound of what runs: it is one past the newest *completed* transaction, and the ids of
        those in progress may lie beyond. So a transaction id is taken, and waited for everything below it.
        """
        async with self._connection() as connection:
            with driver_errors("waiting for running transactions"):
                await connection.execute("BEGIN READ WRITE")
                cursor = await connection.execute("SELECT pg_catalog.pg_current_xact_id()::text")
                mine = await _one(cursor)
                await connection.rollback()
                delay = DELAY_MIN
                while True:
                    cursor = await connection.execute(
                        "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text"
                    )
                    if int(await _one(cursor)) > int(mine):
                        return
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, DELAY_MAX)

    async def catalog(self) -> Catalog:
        """The source's catalog now."""
        async with self._connection() as connection:
            return await read_catalog(connection)

    async def held_rows_when_attached(self, partition: Table) -> bool:
        """Whether a leaf partition holds rows that are not newer than the newest attachment above it."""
        async with self.snapshot() as snapshot:
            return await snapshot.any_row(partition, range_sql.older_than_attachment(partition))

    async def holds_rows_from_before_rewrite(self, partition: Table) -> bool:
        """Whether a leaf partition holds rows that are older than its newest rewrite, so that this was no TRUNCATE."""
        async with self.snapshot() as snapshot:
            return await snapshot.any_row(partition, range_sql.older_than_rewrite(partition))

    async def close(self) -> None:
        """End all idle connections; those in use end with their snapshot. Idempotent."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """One of the pool's connections, outside a transaction; given back if it can be used again."""
        async with self._free:
            connection = await self._acquire()
            try:
                yield connection
                if connection.info.transaction_status is not TransactionStatus.IDLE:
                    with driver_errors("ending a snapshot"):
                        await connection.rollback()
            finally:
                # Whatever left the block early (an error, a cancellation) may have left a statement running.
                if self._closed or connection.info.transaction_status is not TransactionStatus.IDLE:
                    await connection.close()
                else:
                    self._idle.append(connection)

    async def _acquire(self) -> AsyncConnection[Any]:
        """An idle connection that still answers, or a new one."""
        if self._closed:
            raise ReplicatorError("this reader is closed", kind=ErrorKind.INTERNAL)
        while self._idle:
            connection = self._idle.pop()
            try:
                await connection.execute("", prepare=False)  # a server restart ends idle sessions unseen
            except psycopg.Error:
                await connection.close()
            except BaseException:  # cancelled
                await connection.close()
                raise
            else:
                return connection
        connection = await connect(
            self._dsn, f"{self._name}:reader", autocommit=True, connect_timeout=self._connect_timeout
        )
        try:
            with driver_errors("preparing a session"):
                await connection.execute(_SESSION, prepare=False)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _begin(self, connection: AsyncConnection[Any], exported: str | None) -> tuple[str, int]:
        """Open the transaction; returns its snapshot as text, and the LSN after it."""
        taken = sql.SQL("") if exported is None else sql.SQL(_IMPORT).format(sql.Literal(exported))
        with driver_errors("reading the source"):
            cursor = await connection.execute(sql.SQL(_BEGIN) + taken + sql.SQL(_LOOK), prepare=False)
            while cursor.nextset():
                pass
            row = await cursor.fetchone()
        assert row is not None
        return str(row[0]), int(row[1])


async def _one(cursor: psycopg.AsyncCursor[Any]) -> str:
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


def _strings(key: Key | None) -> list[str]:
    return [] if key is None else [value.decode() for value in key]
