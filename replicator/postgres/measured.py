"""A reader of verification that tells how long each of its statements took: what the brake goes by."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from replicator.postgres.versions import PostgresVersionedReader, VersionedSnapshot

if TYPE_CHECKING:
    from psycopg import sql

    from replicator.events import Values
    from replicator.tables import Table

Took = Callable[[tuple[str, int], float], None]
"""Told of each statement: its text and the order of magnitude of its rows, and seconds."""


class MeasuredSnapshot(VersionedSnapshot):
    """See `verification.VersionedSnapshot`."""

    took: Took

    async def _read(self, table: Table, query: sql.Composed, parameters: list[Any]) -> list[Values]:
        began = time.monotonic()
        rows = await super()._read(table, query, parameters)
        self._tell(query, len(rows), began)
        return rows

    async def _fetch(self, query: str | sql.Composed, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        began = time.monotonic()
        rows = await super()._fetch(query, parameters)
        self._tell(query, len(rows), began)
        return rows

    def _tell(self, query: str | sql.Composed, rows: int, began: float) -> None:
        text = query if isinstance(query, str) else query.as_string(self._connection)
        self.took((text, rows.bit_length()), time.monotonic() - began)


class MeasuredReader(PostgresVersionedReader):
    """See `PostgresVersionedReader`.

    Args:
        dsn, name, connector, feed, connections_max: as there.
        took: see `Took`.

    """

    snapshots = MeasuredSnapshot

    def __init__(self, dsn: str, name: str, *, connector: str, feed: str, connections_max: int, took: Took) -> None:
        super().__init__(dsn, name, connector=connector, feed=feed, connections_max=connections_max)
        self._took = took

    @asynccontextmanager
    async def versioned(self) -> AsyncIterator[VersionedSnapshot]:
        """One snapshot, measured."""
        async with super().versioned() as snapshot:
            assert isinstance(snapshot, MeasuredSnapshot)
            snapshot.took = self._took
            yield snapshot
