"""What the schema watch has seen and found, in the tables of the schema `replicator`: `copies.SchemaStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from replicator.copies import StaleMapping
from replicator.postgres import state_sql
from replicator.postgres.copying import own
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.ports import TargetTransaction

_DOING: Final = "reading and writing what the schema watch has seen"


class PostgresSchemaStore:
    """See `copies.SchemaStore`.

    Args:
        dsn: the target.
        connector, feed: whose.

    """

    def __init__(self, dsn: str, connector: str, feed: str) -> None:
        self._dsn = dsn
        self._connector = connector
        self._feed = feed

    async def seen(self) -> dict[str, str]:
        """What the last look saw, by end."""
        return dict(await self._read(state_sql.SCHEMA_SEEN))

    async def stale(self) -> list[StaleMapping]:
        """The mappings that need a resync, the oldest reason first."""
        return [StaleMapping(*row) for row in await self._read(state_sql.STALE)]

    async def see(self, transaction: TargetTransaction, seen: Mapping[str, str], stale: Mapping[str, str]) -> None:
        """Store what a look saw and found."""
        for side, content in seen.items():
            await self._execute(transaction, state_sql.SCHEMA_SEE, side, content)
        for mapping, reason in stale.items():
            await self._execute(transaction, state_sql.STALE_SINCE, mapping, reason)

    async def mended(self, transaction: TargetTransaction, stale: StaleMapping) -> None:
        """Forget a reason that a resync has mended."""
        await self._execute(transaction, state_sql.MENDED, stale.mapping, stale.since)

    async def _read(self, query: str) -> list[tuple[Any, ...]]:
        async with await connect(self._dsn, f"{self._connector}/{self._feed}/schema") as session:
            with driver_errors(_DOING):
                return await fetch(session, query, self._connector, self._feed)

    async def _execute(self, transaction: TargetTransaction, query: bytes, *values: str) -> None:
        parameters = (value.encode() for value in (self._connector, self._feed, *values))
        await own(transaction).execute(query, *parameters, doing=_DOING)
