"""A store that also tells the status of a running daemon how far its verification is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.engine.verify.wrapped import WrappedStore

if TYPE_CHECKING:
    from replicator.telemetry import VerifyStatus
    from replicator.verification import Progress, Run, Scope, VerifyStore


class TellingStore(WrappedStore):
    """See `verification.VerifyStore`; rows that were compared are counted in the status as they are stored.

    Args:
        store: where all of it goes.
        status: told.

    """

    def __init__(self, store: VerifyStore, status: VerifyStatus) -> None:
        super().__init__(store)
        self._status = status
        self._counted: dict[tuple[str, str], int] = {}

    async def begin(self, scope: Scope) -> Run:
        """Begin, or go on; what an earlier process has compared is not counted again."""
        run = await super().begin(scope)
        self._counted = {
            (mapping, table): counts.rows
            for mapping, progress in run.progress.items()
            for table, counts in progress.counts.items()
        }
        return run

    async def save(self, run: Run, mapping: str, progress: Progress) -> None:
        """Store how far a mapping is, and count."""
        await super().save(run, mapping, progress)
        for table, counts in progress.counts.items():
            before = self._counted.get((mapping, table), 0)
            self._status.rows[table] += max(0, counts.rows - before)  # a table without key may begin again
            self._counted[mapping, table] = counts.rows
