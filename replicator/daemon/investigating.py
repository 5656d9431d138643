"""What finds out why rows are wrong, made of a connector's parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from replicator.daemon.databases import FORWARD, upgraded_dsn
from replicator.engine.verify.causes import Transforms
from replicator.engine.verify.investigate import Investigator
from replicator.postgres.digest_state import PostgresDigestStore
from replicator.postgres.writers import PostgresWriters

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.mapping import Mapping
    from replicator.verification import VersionedReader


@asynccontextmanager
async def open_investigator(
    connector: Connector, mappings: Sequence[Mapping], source: VersionedReader, target: VersionedReader
) -> AsyncIterator[Investigator]:
    """See `Investigator`; its session ends with the block.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    writers = PostgresWriters(upgraded_dsn(connector), connector.name)
    try:
        yield Investigator(
            {mapping.name: mapping for mapping in mappings},
            source,
            target,
            writers=writers,
            transforms=await transforms_of(connector, mappings),
            tolerances=connector.verify.tolerances,
        )
    finally:
        await writers.close()


async def transforms_of(connector: Connector, mappings: Sequence[Mapping]) -> dict[str, Transforms]:
    """By which transforms the rows of mappings are, by name.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    known = await PostgresDigestStore(upgraded_dsn(connector), connector.name, FORWARD).mapping_digests()
    made = {}
    for mapping in mappings:
        one = known.get(mapping.name)
        made[mapping.name] = (
            Transforms(mapping.digest)
            if one is None
            else Transforms(mapping.digest, one.now, one.digest if one.mixed else None, one.writes_since)
        )
    return made
