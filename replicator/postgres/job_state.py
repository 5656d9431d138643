"""How far a request of the command line is: a document in its row, while the daemon carries it out and afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from replicator.postgres.session import application_name, connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping

_TELL: Final = "UPDATE replicator.request SET detail = $2::jsonb WHERE id = $1::bigint"
_DETAIL: Final = "SELECT r.detail FROM replicator.request AS r WHERE r.id = $1::bigint"
_ANYBODY: Final = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a WHERE a.application_name = $1::text "
    "AND a.datname = pg_catalog.current_database())"
)


class JobState:
    """The documents of requests.

    Args:
        dsn: the target.
        connector: its name.

    """

    def __init__(self, dsn: str, connector: str) -> None:
        self._dsn = dsn
        self._connector = connector

    async def tell(self, request: int, detail: Mapping[str, Any]) -> None:
        """Say how far it is, or what came of it."""
        await self._fetch(_TELL, request, Jsonb(dict(detail)))

    async def detail(self, request: int) -> dict[str, Any] | None:
        """What was said last; None before anything was."""
        rows = await self._fetch(_DETAIL, request)
        return rows[0][0] if rows else None

    async def anybody(self, purpose: str) -> bool:
        """Whether any process of ours has a session of this purpose on the target."""
        ((there,),) = await self._fetch(_ANYBODY, application_name(purpose))
        return bool(there)

    async def _fetch(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        async with await connect(self._dsn, f"{self._connector}/jobs") as session:
            with driver_errors("telling how far a request is"):
                return await fetch(session, query, *values)
