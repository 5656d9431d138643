"""The daemon's part of `repair` and `rederive`: jobs beside the feed, which read both sides as verification does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from replicator.daemon.databases import FORWARD
from replicator.daemon.requests import Done
from replicator.daemon.views import chunk_rows, open_views, rederive_document
from replicator.engine.rederive import Rederive, Rederived
from replicator.engine.repair import Repair, Repaired, Why
from replicator.engine.rewrite import Rewriter
from replicator.engine.verify.pace import Pace
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.fenced_findings import FencedFindings
from replicator.telemetry import BackfillState, TableBackfill

if TYPE_CHECKING:
    from replicator.daemon.digests import DigestGuard
    from replicator.daemon.parts import Parts
    from replicator.daemon.requests import Job, Tell
    from replicator.engine.feed import Feed
    from replicator.mapping import Mapping as TableMapping
    from replicator.mapping import Mappings
    from replicator.telemetry import FeedStatus

_REASONS: Final = {
    Why.DIFFERS: "differ again after they were written: look for a trigger, or a rule, on the upgraded side",
    Why.REFUSED: "were refused",
    Why.DEAD_LETTER: "wait in the dead letter queue: retry or discard them first",
    Why.UNSETTLED: "never stood still afterwards: verify again",
    Why.WITHOUT_KEY: "are of a table without a key: resync it",
}


class RepairDesk:
    """Carries out requests of kind `repair` and `rederive`.

    Args:
        parts: of the connector, its target taken over.
        mappings: of the feed.
        feed: running.
        digests: by which transforms the rows are.
        status: of the feed.

    """

    def __init__(self, parts: Parts, mappings: Mappings, feed: Feed, digests: DigestGuard, status: FeedStatus) -> None:
        self._parts = parts
        self._mappings = mappings
        self._rewriter = Rewriter(feed, reader=parts.reader, target=parts.target, chunks=parts.chunks, status=status)
        self._digests = digests
        self._status = status

    @property
    def jobs(self) -> dict[str, Job]:
        """By kind of request."""
        return {"repair": self.repair, "rederive": self.rederive}

    async def repair(self, payload: Mapping[str, Any], tell: Tell) -> Done:
        """Derive again what is found to differ.

        Args:
            payload: `mappings`: digest by name; `upto`: the highest number of a divergence that is meant.
            tell: see `Tell`.

        Raises:
            ReplicatorError: CONFIG, when this process has other transforms than whoever asks; else as `Repair.run`.

        """
        chosen = self._chosen(payload["mappings"])

        async def told(result: Repaired) -> None:
            await tell(result.to_json())

        async with open_views(self._parts.connector, self._mappings) as views:
            repair = Repair(
                self._rewriter,
                source=views.source,
                target=views.target,
                reached=views.reached,
                store=FencedFindings(self._parts.target, self._parts.connector.name, FORWARD),
                tolerances=self._parts.connector.verify.tolerances,
            )
            result = await repair.run(chosen, payload["upto"], told)
        return Done(_repaired(result), result.to_json())

    async def rederive(self, payload: Mapping[str, Any], tell: Tell) -> Done:
        """Derive again what the present transforms make otherwise than those that wrote it.

        Args:
            payload: `mappings`: digest by name.
            tell: see `Tell`.

        Raises:
            ReplicatorError: CONFIG, when this process has other transforms than whoever asks; else as `Rederive.run`.

        """
        done: dict[str, Rederived] = {}
        async with open_views(self._parts.connector, self._mappings) as views, self._rewriter.watching():
            for mapping in self._chosen(payload["mappings"]):
                if mapping.multiset:
                    done[mapping.name] = Rederived(without_key=True)
                    continue

                async def told(result: Rederived, name: str = mapping.name) -> None:
                    done[name] = result
                    self._show(result, name)
                    await tell(rederive_document(done))

                rederive = Rederive(
                    mapping,
                    self._rewriter,
                    self._parts.target,
                    self._parts.digests,
                    source=views.source,
                    target=views.target,
                    reached=views.reached,
                    pace=Pace(self._parts.connector.verify.rows_per_second_max),
                    chunk_rows=chunk_rows(self._parts.connector),
                    told=told,
                )
                await rederive.run()
                await self._digests.look()
                self._progress(mapping.name).finish(time.time())
        mixed = [name for name in done if name in self._status.transform_changed]
        document = rederive_document(done)
        return Done(_rederived(done, mixed), {**document, "ok": document["ok"] and not mixed})

    def _progress(self, name: str) -> TableBackfill:
        """What the status shows of it."""
        (mapping,) = self._mappings.named((name,))
        table = str(mapping.root.table.name)
        known = self._status.backfill.get(table)
        if known is None or known.state is not BackfillState.COPYING:
            estimate = mapping.root.table.rows_estimate
            known = self._status.backfill[table] = TableBackfill(
                table, rows_estimate=estimate if estimate >= 0 else None
            )
            known.start(time.time())
        return known

    def _show(self, result: Rederived, name: str) -> None:
        progress = self._progress(name)
        progress.advance(time.time(), result.rows - progress.rows_done)

    def _chosen(self, digests: Mapping[str, str]) -> list[TableMapping]:
        """The mappings of these names; their transforms must be the ones that this process runs."""
        known = {mapping.name: mapping for mapping in self._mappings.all}
        chosen = []
        for name, digest in digests.items():
            mapping = known.get(name)
            if mapping is None or mapping.digest != digest:
                what = "doesn't map" if mapping is None else "has another transform of"
                raise ReplicatorError(
                    f"the running daemon {what} {name}",
                    kind=ErrorKind.CONFIG,
                    table=name,
                    hint="nothing was done; restart the daemon, so that it runs the files as they are, then ask again",
                )
            chosen.append(mapping)
        return chosen


def _repaired(result: Repaired) -> str:
    what = f"{result.repaired:,} row{'s' * (result.repaired != 1)} repaired, and verified"
    if result.ok:
        return what
    reasons = [f"{count:,} {_REASONS[why]}" for why, count in sorted(result.counts.items())]
    return f"{what}; {result.counts.total():,} left: {'; '.join(reasons)}"


def _rederived(done: Mapping[str, Rederived], mixed: Sequence[str]) -> str:
    parts = []
    for name, result in done.items():
        if result.without_key:
            parts.append(f"{name}: left alone, for it has no key; `replicator resync` copies it again")
            continue
        what = f"{name}: {result.rows:,} rows compared, {result.aggregates:,} aggregates derived again"
        if result.refused:
            key, message = result.refusals[0]
            what += f"; {result.refused:,} were refused, the first ({', '.join(key)}): {message}"
        elif name in mixed:
            what += (
                "; another process has begun to write by another transform meanwhile: restart all, then rederive again"
            )
        if result.waiting:
            what += f"; {result.waiting:,} wait in the dead letter queue, and are derived when they are retried"
        parts.append(what)
    return "\n".join(parts)
