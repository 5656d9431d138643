"""Rederive: after a transform has changed, only the aggregates whose outcome is another one are derived again.

    the passes of verification, by the new transform ▸ what is proven to differ is rewritten ▸ the new digest is stored

Rows are compared as verification compares them, so nothing is written for what is only on its way, nor for what the
new transform makes as the old one did. What it leaves out now is removed, and what it newly yields is inserted. An
aggregate that never stands still is written as well: deriving is always right. Beside the running feed, at a limited
rate; progress is kept in the target, and a run that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from replicator.engine.recheck import RememberingLooker
from replicator.engine.verify.passes import MappingPasses, PassSettings
from replicator.engine.verify.settle import Patience
from replicator.verification import Kind, Progress, Run, Scope

if TYPE_CHECKING:
    from replicator.copies import DigestStore, MappingDigest
    from replicator.engine.rewrite import Rewriter, Rewritten
    from replicator.engine.verify.pace import Pace
    from replicator.events import Key
    from replicator.mapping import Mapping as TableMapping
    from replicator.ports import Target
    from replicator.verification import Finding, OpenDivergence, Reached, VersionedReader

REFUSALS_MAX: Final = 100
"""Aggregates that a report names."""
_PATIENCE: Final = Patience(looks=6, seconds=5)
_JOB: Final = "rederive"


@dataclass
class Rederived:
    """What a rederive came to so far.

    Attributes:
        rows: rows of the source's root that were compared.
        rows_estimate: that there are, about; None: unknown.
        kinds: rows of the target that were not as the transform makes them: by kind.
        aggregates: that were derived again.
        deleted: rows whose aggregates no key map has.
        waiting: aggregates of which a change waits in the dead letter queue: left alone.
        refused: that were refused, by the target or the transform.
        refusals: the first of them: key and reason.
        without_key: the table has none, so nothing was done: a resync copies it again.

    """

    rows: int = 0
    rows_estimate: int | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    aggregates: int = 0
    deleted: int = 0
    waiting: int = 0
    refused: int = 0
    refusals: list[tuple[list[str], str]] = field(default_factory=list)
    without_key: bool = False

    @property
    def ok(self) -> bool:
        """All rows are by the new transform."""
        return not self.refused and not self.without_key

    def found(self, findings: Sequence[Finding]) -> None:
        """These rows differ."""
        for one in findings:
            self.kinds[str(one.kind)] = self.kinds.get(str(one.kind), 0) + 1

    def wrote(self, done: Rewritten) -> None:
        """These aggregates were derived again."""
        self.aggregates += done.aggregates
        self.deleted += done.deleted
        self.waiting += len(done.waiting)
        self.refused += len(done.refused)
        room = REFUSALS_MAX - len(self.refusals)
        for key, error in list(done.refused.items())[: max(0, room)]:
            self.refusals.append(([part.decode("utf-8", "replace") for part in key], error.message))

    def to_json(self) -> dict[str, Any]:
        """As it is told, while it runs and afterwards."""
        return {
            "ok": self.ok,
            "done": self.rows,
            "total": self.rows_estimate,
            "missing": self.kinds.get(Kind.MISSING, 0),
            "extra": self.kinds.get(Kind.EXTRA, 0),
            "different": self.kinds.get(Kind.DIFFERENT, 0),
            "aggregates": self.aggregates,
            "deleted": self.deleted,
            "dead_letters": self.waiting,
            "refused": self.refused,
            "refusals": [{"key": key, "message": message} for key, message in self.refusals],
            "without_key": self.without_key,
        }


Told = Callable[[Rederived], Awaitable[None]]


class Comparison:
    """Finds the rows of one mapping that are not as the transform makes them; a `PassStore` that keeps nothing.

    Args:
        mapping: with a key.
        source, target: the two databases, as verification reads them.
        reached: see `verification.Reached`.
        pace: limits the reading.
        chunk_rows: of one chunk, at most.
        told: is told how far it is.

    """

    def __init__(
        self,
        mapping: TableMapping,
        *,
        source: VersionedReader,
        target: VersionedReader,
        reached: Reached,
        pace: Pace,
        chunk_rows: int,
        told: Told,
    ) -> None:
        estimate = mapping.root.table.rows_estimate
        self.result = Rederived(rows_estimate=estimate if estimate >= 0 else None)
        self.progress = Progress()
        self.mapping = mapping
        # Not with the connector's tolerances: what has changed by so little has changed.
        self.looker = RememberingLooker(mapping, source, target, reached, {})
        self._source = source
        self._target = target
        self._pace = pace
        self._settings = PassSettings(chunk_rows, patience=_PATIENCE)
        self._told = told

    async def run(self) -> Rederived:
        """Compare what is left.

        Raises:
            ReplicatorError: CONNECTION and whatever else keeps it from reading.

        """
        passes = MappingPasses(
            self.looker,
            self._source,
            self._target,
            store=self,
            run=Run(0, {}, resumed=False, seed=0),
            progress=self.progress,
            scope=Scope((self.mapping.name,)),
            pace=self._pace,
            settings=self._settings,
            saw=lambda _: None,
        )
        await passes.run()
        return self.result

    async def record(self, findings: Sequence[Finding]) -> None:
        """These rows differ, proven."""
        self.looker.different.difference_update(one.source_key for one in findings if one.source_key is not None)
        self.result.found(findings)

    async def save(self, run: Run, mapping: str, progress: Progress) -> None:
        """This is how far it is."""
        del run, mapping
        self.result.rows = progress.rows_read
        await self._told(self.result)

    async def divergences(self, mapping: str, after: int, rows: int) -> list[OpenDivergence]:
        """None: what was found by another transform says nothing."""
        del mapping, after, rows
        return []

    async def close(self, ids: Sequence[int]) -> None:
        """Nothing of it is open."""


class Rederive(Comparison):
    """Derives again what the comparison finds; for its arguments see there.

    Args:
        rewriter: of the running feed; within its `watching`.
        writes: the target, taken over by the feed.
        digests: progress, and by which transform the rows are.

    """

    def __init__(
        self,
        mapping: TableMapping,
        rewriter: Rewriter,
        writes: Target,
        digests: DigestStore,
        *,
        source: VersionedReader,
        target: VersionedReader,
        reached: Reached,
        pace: Pace,
        chunk_rows: int,
        told: Told,
    ) -> None:
        super().__init__(
            mapping, source=source, target=target, reached=reached, pace=pace, chunk_rows=chunk_rows, told=told
        )
        self._rewriter = rewriter
        self._writes = writes
        self._digests = digests
        self._log = structlog.get_logger("replicator.rederive").bind(mapping=mapping.name)

    async def run(self) -> Rederived:
        """Derive again what differs, and store the digest of the transform once all is done.

        Raises:
            ReplicatorError: SUPERSEDED, REASSIGNED, CONNECTION, …: the next run goes on.

        """
        name = self.mapping.name
        seen = (await self._digests.mapping_digests()).get(name)
        kept = await self._digests.progress(name)
        if kept is not None:
            self._resume(kept)
        self._log.info("rederive started", resumed=kept is not None)
        await super().run()
        await self._write(list(self.looker.different))  # what was never decided
        await self._finish(seen)
        result = self.result
        self._log.info("rederive complete", rows=result.rows, aggregates=result.aggregates, refused=result.refused)
        return result

    async def _finish(self, seen: MappingDigest | None) -> None:
        async with self._writes.job(_JOB) as tx:
            await self._digests.save(tx, self.mapping.name, None)
            if seen is not None and self.result.ok:
                await self._digests.complete(tx, self.mapping.name, seen)
        await self._told(self.result)

    async def record(self, findings: Sequence[Finding]) -> None:
        """These rows differ, proven: their aggregates are derived again, at once."""
        await super().record(findings)
        await self._write(list(dict.fromkeys(one.source_key for one in findings if one.source_key is not None)))
        for at, side in reversed(list(enumerate(self.mapping.targets))):
            lost = {
                one.target_key: None
                for one in findings
                if one.source_key is None and one.target_key is not None and one.table == side.table.name
            }
            if lost:
                self.result.wrote(await self._rewriter.delete(self.mapping, self.mapping.targets[at], list(lost)))

    async def _write(self, keys: Sequence[Key]) -> None:
        if keys:
            self.result.wrote(await self._rewriter.write(self.mapping, keys))

    async def save(self, run: Run, mapping: str, progress: Progress) -> None:
        """Keep it: a run that is killed goes on here."""
        await super().save(run, mapping, progress)
        async with self._writes.job(_JOB) as tx:
            await self._digests.save(tx, mapping, self._document(progress))

    # -- as it is kept -------------------------------------------------------------------------------------------------

    def _document(self, progress: Progress) -> dict[str, Any]:
        return {
            "step": progress.step,
            "after": None if progress.after is None else _texts(progress.after),
            "pending": [_texts(key) for key in {*progress.pending, *self.looker.different}],
            "lost": [[table, _texts(key)] for table, key in progress.lost],
            "result": self.result.to_json(),
        }

    def _resume(self, kept: Mapping[str, Any]) -> None:
        done = kept["result"]
        self.progress = Progress(
            step=kept["step"],
            after=None if kept["after"] is None else _key(kept["after"]),
            rows_read=done["done"],
            pending=[_key(key) for key in kept["pending"]],
            lost=[(table, _key(key)) for table, key in kept["lost"]],
        )
        self.result = Rederived(
            rows=done["done"],
            rows_estimate=self.result.rows_estimate,
            kinds={str(kind): done[kind] for kind in Kind},
            aggregates=done["aggregates"],
            deleted=done["deleted"],
            waiting=done["dead_letters"],
            refused=done["refused"],
            refusals=[(one["key"], one["message"]) for one in done["refusals"]],
        )


def _texts(key: Key) -> list[str]:
    return [part.decode() for part in key]


def _key(texts: object) -> Key:
    return tuple(text.encode() for text in cast("list[str]", texts))
