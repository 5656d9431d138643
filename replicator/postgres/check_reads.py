"""Reads of checks: what a database demands by itself, and the business's own SQL: `checks.CheckReader`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import AsyncRawCursor

from replicator.checks import Answer, ForeignKeyRule, Rules, SequenceRule, SequenceState, UniqueRule
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres import check_sql
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.versions import PostgresVersionedReader, VersionedSnapshot
from replicator.tables import Column, TableName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from psycopg import AsyncConnection
    from psycopg.pq.abc import PGresult

    from replicator.events import Key, Values
    from replicator.tables import Table

_INTEGERS: Final = frozenset({"smallint", "integer", "bigint", "numeric"})
_DESCRIBE_SECONDS: Final = 10.0
_ASKING: Final = (
    # A scan that begins where another one happens to be gives its first rows in another order each time.
    "SELECT pg_catalog.set_config('statement_timeout', %s, true), "
    "pg_catalog.set_config('search_path', 'pg_catalog, public', true), "
    "pg_catalog.set_config('synchronize_seqscans', 'off', true)"
)


class CheckSnapshot(VersionedSnapshot):
    """See `checks.CheckSnapshot`."""

    async def ask(self, query: str, rows_max: int, timeout_seconds: float) -> Answer:
        """Run somebody's query through a cursor, so that no more of its result comes than is wanted."""
        with driver_errors("its SQL"):
            result = await self._asked(query, rows_max + 1, timeout_seconds)
            columns = await self._columns(result)
        rows: list[Values] = [
            tuple([result.get_value(row, at) for at in range(result.nfields)]) for row in range(result.ntuples)
        ]
        return Answer(columns, rows[:rows_max], more=len(rows) > rows_max)

    async def describe(self, query: str) -> tuple[Column, ...]:
        """The columns of somebody's query, which is planned and not run."""
        with driver_errors("its SQL"):
            return await self._columns(await self._asked(query, 0, _DESCRIBE_SECONDS))

    async def _asked(self, query: str, rows: int, timeout_seconds: float) -> PGresult:
        """The first rows of a query."""
        connection = self._connection
        await connection.execute(_ASKING, [f"{max(1, round(timeout_seconds * 1000))}ms"])
        # Binary only to have it sent as one statement: a second one behind a semicolon is then an error.
        text = b"DECLARE replicator_check NO SCROLL CURSOR FOR " + query.strip().removesuffix(";").encode()
        await connection.execute(text, binary=True, prepare=False)
        cursor = await connection.execute(f"FETCH {rows} FROM replicator_check".encode(), prepare=False)
        result = cursor.pgresult
        assert result is not None
        if not result.nfields:
            raise ReplicatorError("its SQL returns no column", kind=ErrorKind.CONFIG)
        await connection.execute("CLOSE replicator_check", prepare=False)
        return result

    async def _columns(self, result: PGresult) -> tuple[Column, ...]:
        oids = [result.ftype(at) for at in range(result.nfields)]
        types = await self._fetch(check_sql.TYPES, [oids])
        return tuple(
            Column((result.fname(at) or b"").decode(), oids[at], name, name, typmod=-1)
            for at, (name,) in enumerate(types)
        )

    async def orphans(
        self, rule: ForeignKeyRule, after: Key | None, upto: Key | None, rows_max: int
    ) -> list[tuple[bytes | None, ...]]:
        """Orphans of a range."""
        query = check_sql.orphans(rule, after=after is not None, upto=upto is not None)
        bounds = [value.decode() for key in (after, upto) if key is not None for value in key]
        return _keys(await self._read(rule.table, query, [*bounds, rows_max]))

    async def orphans_of(
        self, rule: ForeignKeyRule, keys: Sequence[tuple[bytes | None, ...]]
    ) -> list[tuple[bytes | None, ...]]:
        """Those that still are."""
        return _keys(await self._read(rule.table, check_sql.orphans_of(rule), check_sql.texts(keys))) if keys else []

    async def duplicates(self, rule: UniqueRule, rows_max: int) -> list[tuple[bytes | None, ...]]:
        """Keys that several rows have."""
        return _keys(await self._read(rule.table, check_sql.duplicates(rule), [rows_max]))

    async def state(self, rule: SequenceRule) -> SequenceState:
        """A sequence and its column."""
        with driver_errors(f"reading sequence {rule.sequence}"):
            ((upcoming, increment, furthest),) = await self._fetch(
                check_sql.sequence_state(rule), [rule.sequence.schema, rule.sequence.name]
            )
        return SequenceState(int(upcoming), int(increment), None if furthest is None else int(furthest))

    async def deferred(self) -> int:
        """Aggregates that the feed has not written yet."""
        with driver_errors("reading what the feed has left to do"):
            ((there,),) = await self._fetch(check_sql.DEFERRED_THERE, [])
            ((count,),) = await self._fetch(check_sql.DEFERRED, [*self.feed]) if there else ((0,),)
        return int(count)


class PostgresCheckReader(PostgresVersionedReader):
    """See `checks.CheckReader`."""

    snapshots = CheckSnapshot

    @asynccontextmanager
    async def checking(
        self, visible: Collection[int] = (), *, exported: str | None = None
    ) -> AsyncIterator[CheckSnapshot]:
        """One snapshot, in which nothing can be written."""
        async with self.snapshot(visible, exported=exported) as snapshot:
            assert isinstance(snapshot, CheckSnapshot)
            snapshot.feed = self._feed
            yield snapshot

    async def rules(self, tables: Collection[Table]) -> Rules:
        """What the database demands of these tables by itself."""
        by_oid = {table.oid: table for table in tables}
        async with self._connection() as connection:
            with driver_errors("reading the constraints of mapped tables"):
                foreign = await _fetch(connection, check_sql.FOREIGN_KEYS, [list(by_oid)])
                unique = await _fetch(connection, check_sql.UNIQUE_KEYS, [list(by_oid)])
                sequences = await _fetch(connection, check_sql.SEQUENCES, [list(by_oid)])
        return Rules(
            tuple(sorted((_foreign_key(by_oid[oid], *row) for oid, *row in foreign), key=_place)),
            tuple(
                sorted(
                    (UniqueRule(name, by_oid[oid], tuple(names), nulls=nulls) for oid, name, names, nulls in unique),
                    key=_place,
                )
            ),
            tuple(
                SequenceRule(TableName(schema, name), by_oid[oid], column, cycles=cycles)
                for oid, column, schema, name, cycles in sequences
                if by_oid[oid].by_name[column].cast_type.removeprefix("pg_catalog.") in _INTEGERS
            ),
        )


def _place(rule: ForeignKeyRule | UniqueRule) -> tuple[TableName, str]:
    return rule.table.name, rule.name


def _foreign_key(table: Table, name: str, own: list[str], schema: str, referenced: str, *row: Any) -> ForeignKeyRule:
    other, partitioned, operators, collations, full, period, validated, enforced = row
    return ForeignKeyRule(
        name,
        table,
        tuple(own),
        TableName(schema, referenced),
        tuple(other),
        referenced_partitioned=partitioned,
        operators=tuple(operators),
        collations=tuple(collations),
        full=full,
        period=period,
        validated=validated,
        enforced=enforced,
    )


def _keys(rows: Sequence[Values]) -> list[tuple[bytes | None, ...]]:
    return [cast("tuple[bytes | None, ...]", row) for row in rows]


async def _fetch(connection: AsyncConnection[Any], query: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    cursor = AsyncRawCursor(connection)
    await cursor.execute(query.encode(), parameters)
    return await cursor.fetchall()
