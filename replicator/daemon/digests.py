"""By which transforms the rows of the upgraded side are, over restarts of the daemon: noticed, kept, told.

A transform that has changed writes from the first change on; rows from before stay as they are until a rederive (or a
resync) is done. Until then both digests are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from replicator.engine.resync import JOB as RESYNC

if TYPE_CHECKING:
    from replicator.copies import CopiedTable, MappingDigest
    from replicator.daemon.parts import Parts
    from replicator.mapping import Mappings
    from replicator.telemetry import FeedStatus


class DigestGuard:
    """Compares the mappings that this process runs with those that wrote.

    Args:
        parts: of the connector, its target taken over.
        mappings: of the feed.
        status: of the feed; its `transform_changed` is kept up to date.

    """

    def __init__(self, parts: Parts, mappings: Mappings, status: FeedStatus) -> None:
        self._parts = parts
        self._mappings = mappings
        self._status = status
        self._known: dict[str, MappingDigest] = {}
        self._log = structlog.get_logger("replicator.daemon").bind(connector=status.connector, feed=status.feed)

    async def begin(self, copies: Mapping[str, CopiedTable], *, begun: bool, leads: bool = True) -> None:
        """Say by which transforms rows are written from now on; before the first of them is.

        Args:
            copies: of the backfill.
            begun: anything was written by this connector before.
            leads: this process has jobs; else it only says what it writes by, for whoever has.

        Raises:
            ReplicatorError: SUPERSEDED, CONNECTION, PERMISSION.

        """
        store = self._parts.digests
        known = await store.mapping_digests()
        digests = {mapping.name: mapping.digest for mapping in self._mappings.all}
        fresh = {name for name in digests if name not in known or not self._written(copies.get(name), begun=begun)}
        changed = {name for name in digests if name not in fresh and known[name].now != digests[name]}
        new = {name for name in fresh if name not in known or known[name].mixed or known[name].digest != digests[name]}
        if leads and (new or changed):
            async with self._parts.target.job("digests") as tx:
                for name in sorted(new):
                    await store.begin(tx, name, digests[name])
                for name in sorted(changed):
                    await store.change(tx, name, digests[name])
                    # What it has copied so far is by the former one: it is begun anew.
                    await self._parts.store.forget(tx, RESYNC, name)
        elif not leads:
            for name in sorted(changed):
                await store.change(None, name, digests[name])
        await self.look()
        for name in self._status.transform_changed:
            self._log.warning(
                "transform changed",
                mapping=name,
                seen_now=name in changed,
                hint="rows from before are by the former one: `replicator rederive` derives again what differs",
            )

    def _written(self, copied: CopiedTable | None, *, begun: bool) -> bool:
        """Whether the target has any row of a mapping."""
        if not self._parts.connector.backfill.enabled:
            return begun
        return copied is not None and (copied.complete or bool(copied.chunks))

    async def look(self) -> None:
        """Read what is kept, and show it."""
        self._known = await self._parts.digests.mapping_digests()
        names = {mapping.name for mapping in self._mappings.all}
        self._status.transform_changed = {
            name: one.writes_since or one.since
            for name, one in sorted(self._known.items())
            if name in names and one.mixed
        }

    async def complete(self, mapping: str) -> None:
        """All rows of the mapping were written anew in this session.

        Raises:
            ReplicatorError: SUPERSEDED, CONNECTION.

        """
        seen = self._known.get(mapping)
        if seen is not None and seen.mixed:
            async with self._parts.target.job("digests") as tx:
                await self._parts.digests.complete(tx, mapping, seen)
            await self.look()
