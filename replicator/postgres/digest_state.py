"""By which transforms the rows of a target are written: `copies.DigestStore` over a table of its own schema.

    begin      a mapping's first row is about to be written; or: another transform writes from now on
    complete   a rederive or a resync has come to its end: all rows are by one transform again

Between the two, both digests are kept: rows from before are by `digest`, those written since by `writes`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from replicator.copies import MappingDigest
from replicator.postgres.copying import own
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.ports import TargetTransaction

_DOING: Final = "keeping the digests of the transforms"

_THERE: Final = "SELECT pg_catalog.to_regclass('replicator.mapping_digest') IS NOT NULL"
_READ: Final = (
    "SELECT d.mapping, d.digest, extract(epoch FROM d.since)::double precision, d.writes, "
    "extract(epoch FROM d.writes_since)::double precision FROM replicator.mapping_digest AS d "
    "WHERE d.connector = $1::text AND d.feed = $2::text"
)
_PROGRESS: Final = (
    "SELECT d.progress FROM replicator.mapping_digest AS d "
    "WHERE d.connector = $1::text AND d.feed = $2::text AND d.mapping = $3::text"
)
_BEGIN: Final = """
    INSERT INTO replicator.mapping_digest (connector, feed, mapping, digest)
    VALUES ($1::text, $2::text, $3::text, $4::text)
    ON CONFLICT (connector, feed, mapping) DO UPDATE SET digest = excluded.digest, since = excluded.since,
        writes = NULL, writes_since = NULL, progress = NULL
"""
_CHANGE: Final = (
    "UPDATE replicator.mapping_digest SET writes = $4::text, writes_since = pg_catalog.clock_timestamp(), "
    "progress = NULL WHERE connector = $1::text AND feed = $2::text AND mapping = $3::text"
)
_SAVE: Final = (
    "UPDATE replicator.mapping_digest SET progress = $4::jsonb "
    "WHERE connector = $1::text AND feed = $2::text AND mapping = $3::text"
)
_COMPLETE: Final = (
    "UPDATE replicator.mapping_digest SET digest = $4::text, since = pg_catalog.clock_timestamp(), writes = NULL, "
    "writes_since = NULL, progress = NULL WHERE connector = $1::text AND feed = $2::text AND mapping = $3::text "
    "AND coalesce(writes, digest) = $4::text "
    "AND coalesce(extract(epoch FROM writes_since)::double precision, 0) = $5::double precision"
)


class PostgresDigestStore:
    """See `copies.DigestStore`.

    Args:
        dsn: the target.
        connector, feed: whose.

    """

    def __init__(self, dsn: str, connector: str, feed: str) -> None:
        self._dsn = dsn
        self._connector = connector
        self._feed = feed

    async def mapping_digests(self) -> dict[str, MappingDigest]:
        """By mapping; empty where the schema is of an earlier version."""
        async with await connect(self._dsn, f"{self._connector}/{self._feed}/digests") as session:
            with driver_errors(_DOING):
                ((there,),) = await fetch(session, _THERE)
                rows = await fetch(session, _READ, self._connector, self._feed) if there else []
        return {mapping: MappingDigest(*values) for mapping, *values in rows}

    async def begin(self, transaction: TargetTransaction, mapping: str, digest: str) -> None:
        """Nothing of the mapping is written yet, and from now on it is by this one."""
        await self._execute(transaction, _BEGIN, mapping, digest)

    async def change(self, transaction: TargetTransaction | None, mapping: str, digest: str) -> None:
        """From now on rows are written by another one; without a transaction, by a process that has no jobs."""
        if transaction is not None:
            await self._execute(transaction, _CHANGE, mapping, digest)
            return
        async with await connect(self._dsn, f"{self._connector}/{self._feed}/digests") as session:
            with driver_errors(_DOING):
                await fetch(session, _CHANGE, self._connector, self._feed, mapping, digest)

    async def progress(self, mapping: str) -> Mapping[str, Any] | None:
        """As `save` left it."""
        async with await connect(self._dsn, f"{self._connector}/{self._feed}/digests") as session:
            with driver_errors(_DOING):
                rows = await fetch(session, _PROGRESS, self._connector, self._feed, mapping)
        return rows[0][0] if rows else None

    async def save(self, transaction: TargetTransaction, mapping: str, progress: Mapping[str, Any] | None) -> None:
        """Store how far a rederive is."""
        text = None if progress is None else json.dumps(progress)
        await self._execute(transaction, _SAVE, mapping, text)

    async def complete(self, transaction: TargetTransaction, mapping: str, seen: MappingDigest) -> None:
        """All rows are by `seen.now`."""
        # repr gives back the very number that was read.
        await self._execute(transaction, _COMPLETE, mapping, seen.now, repr(seen.writes_since or 0.0))

    async def _execute(self, transaction: TargetTransaction, query: str, *values: str | None) -> None:
        parameters = [None if value is None else value.encode() for value in (self._connector, self._feed, *values)]
        await own(transaction).execute(query.encode(), *parameters, doing=_DOING)
