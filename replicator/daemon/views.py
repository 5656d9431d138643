"""Both databases as verification reads them, for a job that looks at them and then writes, or only looks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.verifying import CHUNK_ROWS_MAX, mappings_of, reached_by_target
from replicator.postgres.versions import PostgresVersionedReader

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.engine.rederive import Rederived
    from replicator.mapping import Mappings
    from replicator.verification import Reached

_READERS: Final = 8


@dataclass(frozen=True)
class Views:
    """Both databases, what tells how far the feed is, and the mappings between them."""

    source: PostgresVersionedReader
    target: PostgresVersionedReader
    reached: Reached
    mappings: Mappings


@asynccontextmanager
async def open_views(connector: Connector, mappings: Mappings | None = None) -> AsyncIterator[Views]:
    """Sessions that end with the block.

    Args:
        connector: its file.
        mappings: that a running feed has; None: as the files are now.

    Raises:
        ReplicatorError: CONFIG, CONNECTION, PERMISSION.

    """
    async with AsyncExitStack() as stack:
        source, target = (
            PostgresVersionedReader(
                dsn, f"{connector.name}/repair", connector=connector.name, feed=FORWARD, connections_max=_READERS
            )
            for dsn in (old_dsn(connector), upgraded_dsn(connector))
        )
        for reader in (source, target):
            stack.push_async_callback(reader.close)
        if mappings is None:
            mappings = await mappings_of(connector, source, target)
        reached = await stack.enter_async_context(reached_by_target(connector, mappings))
        yield Views(source, target, reached, mappings)


def chunk_rows(connector: Connector) -> int:
    """Rows that are compared at once."""
    return min(connector.backfill.chunk_rows, CHUNK_ROWS_MAX)


def rederive_document(done: Mapping[str, Rederived]) -> dict[str, Any]:
    """What a rederive came to so far, by mapping and in all."""
    known = [one.rows_estimate for one in done.values()]
    totals = [one for one in known if one is not None]
    return {
        "ok": all(one.ok for one in done.values()),
        "done": sum(one.rows for one in done.values()),
        "total": sum(totals) if len(totals) == len(known) else None,
        "mappings": {name: one.to_json() for name, one in done.items()},
    }
