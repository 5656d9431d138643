"""A store that also tells the status of a running daemon how far its verification is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from replicator.telemetry import VerifyStatus
    from replicator.verification import Finding, OpenDivergence, Progress, Run, Scope, VerifyStore


class TellingStore:
    """See `verification.VerifyStore`; rows that were compared are counted in the status as they are stored.

    Args:
        store: where all of it goes.
        status: told.

    """

    def __init__(self, store: VerifyStore, status: VerifyStatus) -> None:
        self._store = store
        self._status = status
        self._counted: dict[tuple[str, str], int] = {}

    async def begin(self, scope: Scope) -> Run:
        """Begin, or go on; what an earlier process has compared is not counted again."""
        run = await self._store.begin(scope)
        self._counted = {
            (mapping, table): counts.rows
            for mapping, progress in run.progress.items()
            for table, counts in progress.counts.items()
        }
        return run

    async def save(self, run: Run, mapping: str, progress: Progress) -> None:
        """Store how far a mapping is."""
        await self._store.save(run, mapping, progress)
        for table, counts in progress.counts.items():
            before = self._counted.get((mapping, table), 0)
            self._status.rows[table] += max(0, counts.rows - before)  # a table without key may begin again
            self._counted[mapping, table] = counts.rows

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
