"""Recheck: named aggregates are verified again, by the same bracketed looks, after somebody has rewritten them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from replicator.engine.verify.looks import Looker
from replicator.engine.verify.settle import Patience, Settler
from replicator.verification import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.engine.verify.demands import Read
    from replicator.engine.verify.looks import Seen
    from replicator.events import Key
    from replicator.mapping import Mapping as TableMapping
    from replicator.verification import Finding, FindingStore, Reached, Tolerances, VersionedReader


class RememberingLooker(Looker):
    """A looker that knows which aggregates were different when they were looked at last.

    Attributes:
        different: their keys at the source; who gets to know what they are takes them out.

    """

    def __init__(
        self,
        mapping: TableMapping,
        source: VersionedReader,
        target: VersionedReader,
        reached: Reached,
        tolerances: Tolerances,
    ) -> None:
        super().__init__(mapping, source, target, reached, tolerances)
        self.different: set[Key] = set()

    async def rest(self, read: Read) -> Seen:
        """What follows A."""
        seen = await super().rest(read)
        self.different.difference_update(read.keys)
        self.different.update(seen.looks)
        return seen


@dataclass
class Rechecked:
    """What is known of the aggregates that were looked at.

    Attributes:
        findings: rows that differ, proven.
        unsettled: aggregates that could not be decided, by their keys at the source.
        unsettled_lost: those that no key map has, by number of the target table and their keys there.

    """

    findings: list[Finding] = field(default_factory=list)
    unsettled: set[Key] = field(default_factory=set)
    unsettled_lost: set[tuple[int, Key]] = field(default_factory=set)


class _Noting:
    """A store that also notes what is recorded."""

    def __init__(self, store: FindingStore, findings: list[Finding]) -> None:
        self._store = store
        self._findings = findings

    async def record(self, findings: Sequence[Finding]) -> None:
        self._findings += findings
        await self._store.record(findings)


async def recheck(
    looker: RememberingLooker,
    store: FindingStore,
    keys: Sequence[Key],
    lost: Mapping[int, Sequence[Key]],
    patience: Patience,
) -> Rechecked:
    """Look at aggregates until each is decided, or has been looked at for as long as patience lasts.

    Args:
        looker: of their mapping.
        store: gets the findings.
        keys: at the source.
        lost: keys that no key map has, by number of the target table.
        patience: see `Patience`.

    """
    checked = Rechecked()
    targets = looker.mapping.targets
    here = [(str(targets[at].table.name), key) for at, some in lost.items() for key in some]
    progress = Progress(pending=list(keys), lost=here)
    settler = Settler(looker, _Noting(store, checked.findings), progress, patience, time.monotonic)
    await settler.drain()
    proven = {one.source_key for one in checked.findings}
    checked.unsettled = {key for key in looker.different if key not in proven}
    looker.different.clear()
    for at, some in lost.items():
        still, _ = await looker.lost(at, some)
        known = {one.target_key for one in checked.findings if one.table == targets[at].table.name}
        checked.unsettled_lost |= {(at, key) for key in still if key not in known}
    return checked
