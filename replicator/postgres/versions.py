"""Reads of verification: rows with the transaction that wrote them, and the key map as it is: `VersionedReader`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import AsyncRawCursor, sql

from replicator.postgres import collation_sql, digest_sql, range_sql
from replicator.postgres.reader import CONNECTIONS_MAX, PostgresReader, PostgresSnapshot
from replicator.postgres.sqlstate import driver_errors
from replicator.verification import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import Key, Values
    from replicator.mapping import KeyMapping
    from replicator.tables import Column, Table
    from replicator.verification import BucketDigest, HashedRange

# One search of the index for each key, whatever the plan.
_PAIRS: Final = """
    SELECT f.n, f.found FROM (
        SELECT u.n, (
            SELECT m.{other} FROM replicator.key_map AS m WHERE m.mapping = $1::text AND m.{by} = ARRAY[{names}]
        ) AS found FROM unnest({arrays}) WITH ORDINALITY AS u({names}, n) OFFSET 0
    ) AS f WHERE f.found IS NOT NULL
"""
_MAP_THERE: Final = "SELECT pg_catalog.to_regclass('replicator.key_map') IS NOT NULL"
_DEFERRED: Final = (
    "SELECT d.key FROM replicator.deferred AS d WHERE d.connector = $1::text AND d.feed = $2::text "
    "AND d.mapping = $3::text"
)
_LETTERS: Final = (
    "SELECT l.key, min(l.id) FROM replicator.dead_letter AS l WHERE l.connector = $1::text AND l.feed = $2::text "
    "AND l.mapping = $3::text AND l.discarded_at IS NULL GROUP BY l.key"
)
_TRANSACTION_ID: Final = "SELECT pg_catalog.pg_current_xact_id()::text"


class VersionedSnapshot(PostgresSnapshot):
    """See `verification.VersionedSnapshot`."""

    feed: tuple[str, str] = ("", "")

    async def versions(
        self, table: Table, by: tuple[str, ...], keys: Sequence[Key], *, where: str | None = None
    ) -> list[Values]:
        """All rows of these keys: the key's number, xmin, all columns."""
        if not keys:
            return []
        return await self._read(table, range_sql.versions(table, by, where=where), _columns(keys))

    async def owned_versions(
        self, table: Table, by: tuple[str, ...], keys: Sequence[Key], *, owns: str | None
    ) -> list[Values]:
        """The same, with whether a predicate holds for the row."""
        if not keys:
            return []
        return await self._read(table, range_sql.versions(table, by, holds=owns or "true"), _columns(keys))

    async def chunk_versions(
        self, table: Table, by: tuple[str, ...], after: Key | None, upto: Key | None, *, where: str | None = None
    ) -> list[Values]:
        """All rows of a range: xmin, all columns."""
        query = range_sql.chunk(table, by, after=after is not None, upto=upto is not None, where=where, versions=True)
        return await self._read(table, query, [*_texts(after), *_texts(upto)])

    async def owned_chunk(
        self, table: Table, by: tuple[str, ...], after: Key | None, upto: Key | None, *, owns: str | None
    ) -> list[Values]:
        """All rows of a range: xmin, whether a predicate holds for the row, all columns."""
        query = range_sql.chunk(
            table, by, after=after is not None, upto=upto is not None, versions=True, holds=owns or "true"
        )
        return await self._read(table, query, [*_texts(after), *_texts(upto)])

    async def keys_after(
        self, table: Table, by: tuple[str, ...], after: Key | None, rows: int, *, where: str | None = None
    ) -> list[Key]:
        """Distinct keys after one, in order."""
        query = range_sql.distinct_keys(table, by, after=after is not None, where=where)
        return [cast("Key", row) for row in await self._read(table, query, [*_texts(after), rows])]

    async def digests(self, of: HashedRange) -> dict[int, BucketDigest]:
        """Digests of a range's rows by bucket."""
        buckets = [of.buckets - 1] if of.buckets > 1 else []
        with driver_errors(f"reading {of.table.name}"):
            rows = await self._fetch(digest_sql.digests(of), [*_texts(of.after), *_texts(of.upto), *buckets])
        return {bucket: (count, int(hashes)) for bucket, count, hashes in rows if count}

    async def rows_in_buckets(self, of: HashedRange, buckets: Sequence[int]) -> list[Values]:
        """The range's rows in some buckets: xmin, all columns."""
        return await self._in_buckets(of, buckets, keys=False)

    async def keys_in_buckets(self, of: HashedRange, buckets: Sequence[int]) -> list[Key]:
        """Their keys."""
        return [cast("Key", row) for row in await self._in_buckets(of, buckets, keys=True)]

    async def _in_buckets(self, of: HashedRange, buckets: Sequence[int], *, keys: bool) -> list[Values]:
        query = digest_sql.in_buckets(of, keys=keys)
        return await self._read(of.table, query, [*_texts(of.after), *_texts(of.upto), of.buckets - 1, list(buckets)])

    async def collations(self, table: Table, columns: Sequence[str]) -> tuple[str, ...]:
        """What orders the texts of these columns."""
        query = collation_sql.collations(self._connection.info.server_version)
        with driver_errors(f"reading the collations of {table.name}"):
            found = dict(await self._fetch(query, [table.name.schema, table.name.name, list(columns)]))
        return tuple(found.get(name) or "" for name in columns)

    async def pairs(self, keys: KeyMapping, wanted: Sequence[Key], *, back: bool = False) -> dict[Key, Key]:
        """What this database's key map says; nothing where it has none."""
        if not wanted:
            return {}
        with driver_errors(f"looking up keys of {keys.name}"):
            ((there,),) = await self._fetch(_MAP_THERE, [])
            if not there:
                return {}
            by_old = keys.forward is not back
            by, other = ("old_key", "upgraded_key") if by_old else ("upgraded_key", "old_key")
            names = [f"k{at}" for at in range(len(wanted[0]))]
            arrays = [f"${at + 2}::text[]" for at in range(len(names))]
            query = _PAIRS.format(by=by, other=other, names=", ".join(names), arrays=", ".join(arrays))
            rows = await self._fetch(query, [keys.name, *_columns(wanted)])
        return {wanted[number - 1]: tuple(part.encode() for part in found) for number, found in rows}

    async def waiting(self, mapping: str) -> Waiting:
        """What the feed has left to do of a mapping."""
        with driver_errors("reading what the feed has left to do"):
            deferred = await self._fetch(_DEFERRED, [*self.feed, mapping])
            letters = await self._fetch(_LETTERS, [*self.feed, mapping])
        return Waiting(
            frozenset(tuple(part.encode() for part in key) for (key,) in deferred),
            {tuple(part.encode() for part in key): number for key, number in letters},
        )

    async def printed(self, column: Column, texts: Sequence[bytes]) -> list[bytes | None]:
        """How the server prints these texts as values of the column's type."""
        # Not cast to text, which is no type's own print: true, 10.0.0.1/32, characters without their blanks.
        query = sql.SQL("SELECT u.v::{} FROM unnest($1::text[]) WITH ORDINALITY AS u(v, n) ORDER BY u.n").format(
            sql.SQL(column.cast_type)  # the server's own text, from its catalog
        )
        cursor = AsyncRawCursor(self._connection)
        with driver_errors(f"printing values of column {column.name}"):
            await cursor.execute(query, [[text.decode() for text in texts]])
        result = cursor.pgresult
        assert result is not None
        return [result.get_value(row, 0) for row in range(result.ntuples)]

    async def _fetch(self, query: str | sql.Composed, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        cursor = AsyncRawCursor(self._connection)
        await cursor.execute(query.encode() if isinstance(query, str) else query, parameters)
        return await cursor.fetchall()


class PostgresVersionedReader(PostgresReader):
    """See `verification.VersionedReader`.

    Args:
        dsn: the database.
        name: for application_name.
        connector, feed: whose verification it is.
        connections_max, connect_timeout: as of `PostgresReader`.

    """

    snapshots = VersionedSnapshot

    def __init__(
        self,
        dsn: str,
        name: str,
        *,
        connector: str,
        feed: str,
        connections_max: int = CONNECTIONS_MAX,
        connect_timeout: float = 10,
    ) -> None:
        super().__init__(dsn, name, connections_max=connections_max, connect_timeout=connect_timeout)
        self._feed = (connector, feed)

    @asynccontextmanager
    async def versioned(self) -> AsyncIterator[VersionedSnapshot]:
        """One snapshot."""
        async with self.snapshot() as snapshot:
            assert isinstance(snapshot, VersionedSnapshot)
            snapshot.feed = self._feed
            yield snapshot

    async def barrier(self) -> int:
        """A transaction id, taken now and used for nothing."""
        async with self._connection() as connection:
            with driver_errors("taking a transaction id"):
                await connection.execute("BEGIN READ WRITE")
                row = await (await connection.execute(_TRANSACTION_ID)).fetchone()
                await connection.rollback()
        assert row is not None
        return int(row[0])


def _columns(keys: Sequence[Key]) -> list[list[str]]:
    return [[value.decode() for value in column] for column in zip(*keys, strict=True)]


def _texts(key: Key | None) -> list[str]:
    return [] if key is None else [value.decode() for value in key]
