"""Why the rows that are found wrong are wrong: the facts for `causes`, read when a finding is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from replicator.engine.verify.causes import Facts, Transforms, cause_of, rounding
from replicator.engine.verify.stories import Stories
from replicator.engine.verify.wrapped import WrappedStore
from replicator.verification import Kind

if TYPE_CHECKING:
    from replicator.authorship import Writers
    from replicator.engine.verify.compare import SideComparer
    from replicator.engine.verify.stories import SideStory, Story
    from replicator.events import Key
    from replicator.mapping import Mapping as TableMapping
    from replicator.verification import Finding, Tolerances, VerifyStore, VersionedReader

READ_MAX: Final = 1_000
"""Findings of one mapping, stored at once, whose rows are read again to tell why; where there are more, something is
wrong with the whole.
"""


@dataclass(frozen=True)
class _Seen:
    """What the databases say of one finding's row."""

    finding: Finding
    side: SideStory
    comparer: SideComparer

    @property
    def xmin(self) -> int | None:
        """Who wrote it."""
        return self.side.writer(self.finding.key, self.comparer)


class Investigator:
    """Finds out why.

    Args:
        mappings: by name.
        source, target: the two databases.
        writers: who writes the target's rows.
        transforms: by name of the mapping.
        tolerances: see `verification.Tolerances`.

    """

    def __init__(
        self,
        mappings: Mapping[str, TableMapping],
        source: VersionedReader,
        target: VersionedReader,
        *,
        writers: Writers,
        transforms: Mapping[str, Transforms],
        tolerances: Tolerances,
    ) -> None:
        self._writers = writers
        self._transforms = transforms
        self._stories = {
            name: Stories(mapping, source, target, tolerances)
            for name, mapping in mappings.items()
            if not mapping.multiset
        }

    async def explained(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings, with cause and evidence.

        Raises:
            ReplicatorError: CONNECTION, ...

        """
        by_mapping: defaultdict[str, list[Finding]] = defaultdict(list)
        for one in findings:
            by_mapping[one.mapping].append(one)
        seen: dict[int, _Seen] = {}
        for name, some in by_mapping.items():
            if name in self._stories:
                seen |= await self._read(self._stories[name], some[:READ_MAX])
        xids = {number: xid for number, one in seen.items() if (xid := one.xmin) is not None}
        writers = await self._writers.of(set(xids.values())) if xids else {}
        tables = {one.side.table.name: one.side.table for one in seen.values()}
        triggers = {name: await self._writers.triggers(table) for name, table in tables.items()}
        explained = []
        for one in findings:
            known = seen.get(id(one))
            facts = Facts(
                one.kind,
                one.columns,
                one.evidence.get("dead_letter"),
                transforms=self._transforms.get(one.mapping),
            )
            if known is not None:
                xid = xids.get(id(one))
                facts = replace(
                    facts,
                    writer=None if xid is None else writers.get(xid),
                    triggers=triggers[known.side.table.name],
                    rounded=_rounded(known),
                )
            cause, evidence = cause_of(facts)
            explained.append(replace(one, cause=cause, evidence={**one.evidence, **evidence}))
        return explained

    async def _read(self, stories: Stories, findings: Sequence[Finding]) -> dict[int, _Seen]:
        """By identity of the finding."""
        sides = {side.table.name: at for at, side in enumerate(stories.mapping.targets)}
        known = await stories.of(list(dict.fromkeys(one.source_key for one in findings if one.source_key is not None)))
        lost: dict[tuple[int, Key], Story] = {}
        for at in set(sides.values()):
            keys = [
                one.target_key
                for one in findings
                if one.source_key is None and one.target_key is not None and sides[one.table] == at
            ]
            if keys:
                lost |= {(at, key): story for key, story in (await stories.lost(at, list(dict.fromkeys(keys)))).items()}
        found = {}
        for one in findings:
            at = sides[one.table]
            comparer = stories.comparers[at]
            if one.source_key is not None and one.source_key in known:
                found[id(one)] = _Seen(one, known[one.source_key].sides[at], comparer)
            elif one.target_key is not None and (at, one.target_key) in lost:
                found[id(one)] = _Seen(one, lost[at, one.target_key].sides[0], comparer)
        return found


def _rounded(one: _Seen) -> dict[str, str]:
    finding = one.finding
    pair = one.side.pair(finding.key, one.comparer) if finding.kind is Kind.DIFFERENT else None
    if pair is None:
        return {}
    expected, found = pair
    columns = one.side.table.by_name
    reasons = {name: rounding(columns[name], expected.get(name), found.get(name)) for name in finding.columns}
    return {name: reason for name, reason in reasons.items() if reason is not None}


class ExplainingStore(WrappedStore):
    """See `verification.VerifyStore`; what it records is explained first.

    Args:
        store: where all of it goes.
        investigator: explains.

    """

    def __init__(self, store: VerifyStore, investigator: Investigator) -> None:
        super().__init__(store)
        self._investigator = investigator

    async def record(self, findings: Sequence[Finding]) -> None:
        """Store findings, with their causes."""
        await super().record(await self._investigator.explained(findings))
