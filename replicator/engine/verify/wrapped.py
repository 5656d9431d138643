"""A store of verification around another one: what a subclass doesn't say is what the inner one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replicator.verification import Finding, OpenDivergence, Progress, Run, Scope, VerifyStore


class WrappedStore:
    """See `verification.VerifyStore`.

    Args:
        store: the inner one.

    """

    def __init__(self, store: VerifyStore) -> None:
        self._store = store

    async def begin(self, scope: Scope) -> Run:
        """Begin, or go on."""
        return await self._store.begin(scope)

    async def save(self, run: Run, mapping: str, progress: Progress) -> None:
        """Store how far a mapping is."""
        await self._store.save(run, mapping, progress)

    async def record(self, findings: Sequence[Finding]) -> None:
        """Store findings."""
        await self._store.record(findings)

    async def divergences(self, mapping: str, after: int, rows: int) -> list[OpenDivergence]:
        """Open ones of a mapping."""
        return await self._store.divergences(mapping, after, rows)

    async def close(self, ids: Sequence[int]) -> None:
        """Close them."""
        await self._store.close(ids)

    async def close_unseen(self, run: Run, mapping: str) -> None:
        """Close what was not seen in this run."""
        await self._store.close_unseen(run, mapping)

    async def finish(self, run: Run, result: Mapping[str, Any]) -> None:
        """The run is complete."""
        await self._store.finish(run, result)
