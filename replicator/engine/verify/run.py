"""One run of verification: every mapping, one after the other, resumable, at a limited rate.

Both databases stay in use. No snapshot lives longer than a chunk; memory is bounded by chunks and by what is in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog

from replicator.engine.verify.looks import Looker
from replicator.engine.verify.multisets import MultisetLooker
from replicator.engine.verify.passes import MappingPasses, PassSettings, verify_multiset
from replicator.telemetry import TableBackfill
from replicator.verification import Counts, Progress, Scope

if TYPE_CHECKING:
    from replicator.engine.verify.pace import Pace
    from replicator.mapping import Mapping as TableMapping
    from replicator.verification import Reached, Run, Tolerances, VerifyStore, VersionedReader

SAMPLE_CHUNK_ROWS = 1_000
"""Of a chunk of a sample: many small ones say more than few large ones."""


@dataclass
class Report:
    """What a run came to.

    Attributes:
        run: its number.
        resumed: it went on with one that was interrupted.
        tables: by target table.
        first_lsn, last_lsn: the source's WAL at the first and the last look of this process; None without one.
        checks: results of the connector's own rules: name, ok, severity. Filled in by who runs them.
        tolerances: what the connector lets pass.

    """

    run: int
    resumed: bool
    tables: dict[str, Counts] = field(default_factory=dict)
    first_lsn: int | None = None
    last_lsn: int | None = None
    checks: list[dict[str, Any]] = field(default_factory=list)
    tolerances: Tolerances = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is wrong, nothing is undecided, and no check that blocks has failed."""
        return all(counts.ok for counts in self.tables.values()) and all(
            check["ok"] or check["severity"] != "block" for check in self.checks
        )

    def saw(self, lsn: int) -> None:
        """A look was taken at this LSN."""
        if lsn:
            self.first_lsn = lsn if self.first_lsn is None else min(self.first_lsn, lsn)
            self.last_lsn = max(self.last_lsn or 0, lsn)


class Verification:
    """Verifies the mappings of one feed.

    Args:
        mappings: which, in order.
        source, target: readers of the two databases; each must allow four snapshots at once.
        reached: see `verification.Reached`.
        store: progress and findings, in the target.
        tolerances: see `verification.Tolerances`.
        scope: what is looked at; its digests are filled in here.
        pace: limits the reading.
        settings: see `PassSettings`.
        clock: seconds since the epoch.

    """

    def __init__(
        self,
        mappings: Sequence[TableMapping],
        *,
        source: VersionedReader,
        target: VersionedReader,
        reached: Reached,
        store: VerifyStore,
        tolerances: Tolerances,
        scope: Scope,
        pace: Pace,
        settings: PassSettings,
        clock: Callable[[], float],
    ) -> None:
        self._mappings = mappings
        self._source = source
        self._target = target
        self._reached = reached
        self._store = store
        self._tolerances = tolerances
        self._scope = replace(scope, digests={mapping.name: mapping.digest for mapping in mappings})
        self._pace = pace
        self._settings = settings
        if scope.sample_percent < 100:
            rows = min(settings.chunk_rows, SAMPLE_CHUNK_ROWS)
            self._settings = replace(settings, chunk_rows=rows, digest_rows=rows)
        self._clock = clock
        self._log = structlog.get_logger("replicator.verify")
        self.progress: dict[str, TableBackfill] = {
            mapping.name: TableBackfill(
                str(mapping.root.table.name),
                rows_estimate=mapping.root.table.rows_estimate if mapping.root.table.rows_estimate >= 0 else None,
            )
            for mapping in mappings
        }
        """By mapping, for people to watch."""

    async def run(self) -> Report:
        """Verify what is left; `finish` stores the report.

        Raises:
            ReplicatorError: CONNECTION and whatever else keeps it from reading; a further run of this scope goes on.

        """
        run = await self._store.begin(self._scope)
        report = Report(run.id, run.resumed, tolerances=self._declared())
        self._tell("verification started", run=run.id, resumed=run.resumed, mappings=len(self._mappings))
        for mapping in self._mappings:
            progress = run.progress.setdefault(mapping.name, Progress())
            await self._verify(run, mapping, progress, report)
            for table, counts in progress.counts.items():
                report.tables.setdefault(table, Counts()).add(counts)
        self._run = run
        return report

    async def finish(self, report: Report, document: Mapping[str, Any]) -> None:
        """Store the report: the run is complete."""
        await self._store.finish(self._run, document)
        self._tell("verification complete", run=report.run, ok=report.ok)

    def _tell(self, event: str, **facts: Any) -> None:
        """Log it; a pass of the daemon is no news: what it finds is, and `status` shows the pass."""
        log = self._log.debug if self._scope.continuous else self._log.info
        log(event, **facts)

    def _declared(self) -> Tolerances:
        tables = {side.table.name for mapping in self._mappings for side in mapping.targets}
        return {table: columns for table, columns in self._tolerances.items() if table in tables}

    async def _verify(self, run: Run, mapping: TableMapping, progress: Progress, report: Report) -> None:
        shown = self.progress[mapping.name]
        shown.rows_done = progress.rows_read
        shown.start(self._clock())

        def saw(lsn: int) -> None:
            report.saw(lsn)
            shown.advance(self._clock(), progress.rows_read - shown.rows_done)

        if not progress.done and mapping.multiset:
            await verify_multiset(
                MultisetLooker(mapping, self._source, self._target, self._reached),
                store=self._store,
                run=run,
                progress=progress,
                patience=self._settings.patience,
                saw=saw,
            )
        elif not progress.done:
            looker = Looker(mapping, self._source, self._target, self._reached, self._tolerances)
            passes = MappingPasses(
                looker,
                self._source,
                self._target,
                store=self._store,
                run=run,
                progress=progress,
                scope=self._scope,
                pace=self._pace,
                settings=self._settings,
                saw=saw,
            )
            await passes.run()
        shown.advance(self._clock(), progress.rows_read - shown.rows_done)
        shown.finish(self._clock())
