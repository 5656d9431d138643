"""Aggregates that were seen different, looked at again until it is known what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from replicator.engine.verify.brackets import Look, Suspect, Verdict, judge, suspect
from replicator.engine.verify.causes import why_undecided
from replicator.verification import Cause, Counts, Finding, Kind, Progress

if TYPE_CHECKING:
    from replicator.engine.verify.looks import Seen
    from replicator.events import Key
    from replicator.mapping import Mapping as TableMapping
    from replicator.verification import FindingStore

AT_ONCE: Final = 5_000
"""Aggregates of one look."""
POOL_MAX: Final = 20_000
"""In flight at once; with more, no further chunk is read."""
PAUSE_INITIAL: Final = 0.02  # seconds between two looks when nothing else is left to do
PAUSE_MAX: Final = 1.0


class Again(Protocol):
    """Looks at aggregates of one mapping again."""

    mapping: TableMapping

    async def by_key(self, keys: Sequence[Key]) -> Seen:
        """Those that are different."""

    async def lost(self, at: int, keys: Sequence[Key]) -> tuple[dict[Key, Look], list[Key]]:
        """Those keys of a target table that have rows and no source key; and source keys of others."""


@dataclass(frozen=True)
class Patience:
    """When an aggregate counts as unsettled: after so many looks, and so many seconds, that did not decide."""

    looks: int = 12
    seconds: float = 20.0


class Settler:
    """The suspects of one mapping.

    Args:
        looker: looks again.
        store: where findings go.
        progress: counted into; what is in flight at its beginning is taken over.
        patience: see `Patience`.
        clock: monotonic seconds.

    """

    def __init__(
        self,
        looker: Again,
        store: FindingStore,
        progress: Progress,
        patience: Patience,
        clock: Callable[[], float],
    ) -> None:
        self._looker = looker
        self._store = store
        self._progress = progress
        self._patience = patience
        self._clock = clock
        self._unseen: list[Key] = list(progress.pending)
        self._suspects: dict[Key, tuple[Suspect, float]] = {}
        sides = {str(side.table.name): at for at, side in enumerate(looker.mapping.targets)}
        self._lost: dict[tuple[int, Key], tuple[Suspect | None, float]] = {
            (sides[table], key): (None, clock()) for table, key in progress.lost if table in sides
        }
        self._log = structlog.get_logger("replicator.verify").bind(mapping=looker.mapping.name)

    def __len__(self) -> int:
        return len(self._suspects) + len(self._lost) + len(self._unseen)

    def add(self, looks: Mapping[Key, Look]) -> None:
        """These were seen different for the first time."""
        now = self._clock()
        for key, look in looks.items():
            if key not in self._suspects:
                self._suspects[key] = (suspect(look), now)

    def add_lost(self, at: int, keys: Sequence[Key]) -> None:
        """Keys of one target table that no key map has."""
        now = self._clock()
        for key in keys:
            self._lost.setdefault((at, key), (None, now))

    def note(self) -> None:
        """Say in the progress what is in flight."""
        self._progress.pending = [*self._unseen, *self._suspects]
        targets = self._looker.mapping.targets
        self._progress.lost = [(str(targets[at].table.name), key) for at, key in self._lost]

    async def turn(self) -> None:
        """One further look at what is in flight."""
        unseen, self._unseen = self._unseen[:AT_ONCE], self._unseen[AT_ONCE:]
        if unseen:
            self.add((await self._looker.by_key(unseen)).looks)
        keys = list(islice(self._suspects, AT_ONCE))
        if keys:
            await self._again(keys, (await self._looker.by_key(keys)).looks)
        for at in sorted({at for at, _ in self._lost}):
            await self._lost_again(at, list(islice((key for side, key in self._lost if side == at), AT_ONCE)))

    async def bound(self) -> None:
        """Return once there is room for what another chunk may bring."""
        await self._drain(POOL_MAX // 2 if len(self) > POOL_MAX else len(self))

    async def drain(self) -> None:
        """Look until all is decided, or has been looked at for as long as patience lasts."""
        await self._drain(0)

    async def _drain(self, left: int) -> None:
        pause = PAUSE_INITIAL
        longest = min(PAUSE_MAX, self._patience.seconds / self._patience.looks)
        while len(self) > left:
            await self.turn()
            if len(self) > left:
                await asyncio.sleep(pause)
                pause = min(pause * 1.6, longest)

    async def _again(self, keys: Sequence[Key], looks: Mapping[Key, Look]) -> None:
        findings: list[Finding] = []
        for key in keys:
            one, since = self._suspects.pop(key)
            match judge(one, looks.get(key)):
                case Verdict.DIVERGED:
                    findings += self._findings(one, key, None)
                case Verdict.IN_FLIGHT:
                    if self._patient(one, since):
                        self._suspects[key] = (one, since)  # behind the others
                    else:
                        self._unsettled(one, key)
                case Verdict.EQUAL:
                    pass
        await self._record(findings)

    async def _lost_again(self, at: int, keys: Sequence[Key]) -> None:
        looks, found = await self._looker.lost(at, keys)
        self._unseen += found
        findings: list[Finding] = []
        for key in keys:
            one, since = self._lost.pop((at, key))
            look = looks.get(key)
            if look is None:
                continue
            if one is None:
                self._lost[at, key] = (suspect(look), since)
            elif judge(one, look) is Verdict.DIVERGED:
                findings += self._findings(one, None, key)
            elif self._patient(one, since):
                self._lost[at, key] = (one, since)
            else:
                self._unsettled(one, key)
        await self._record(findings)

    def _patient(self, one: Suspect, since: float) -> bool:
        if one.newest.error is not None:
            return False
        return one.looks < self._patience.looks or self._clock() - since < self._patience.seconds

    def _findings(self, one: Suspect, key: Key | None, target_key: Key | None) -> list[Finding]:
        look, mapping = one.newest, self._looker.mapping
        evidence: dict[str, Any] = {"lsn": look.lsn, "looks": one.looks, "barrier": look.barrier}
        if look.letter is not None:
            evidence["dead_letter"] = look.letter
        return [
            Finding(
                mapping=mapping.name,
                table=mapping.targets[each.side].table.name,
                key=each.key,
                kind=each.kind,
                columns=each.columns,
                source_key=key,
                target_key=target_key,
                cause=Cause.UNKNOWN if look.letter is None else Cause.DEAD_LETTER,
                evidence=evidence,
            )
            for each in look.differences
        ]

    async def _record(self, findings: Sequence[Finding]) -> None:
        if not findings:
            return
        await self._store.record(findings)
        for one in findings:
            counts = self.counts(str(one.table))
            counts.missing += one.kind is Kind.MISSING
            counts.extra += one.kind is Kind.EXTRA
            counts.different += one.kind is Kind.DIFFERENT

    def _unsettled(self, one: Suspect, key: Key) -> None:
        look = one.newest
        for at in {each.side for each in look.differences} or {0}:
            self.counts(str(self._looker.mapping.targets[at].table.name)).unsettled += 1
        error = "" if look.error is None else look.error.message
        self._log.warning(
            "unsettled",
            key=[part.decode(errors="replace") for part in key],
            looks=one.looks,
            cause=str(why_undecided(look)),
            error=error or None,
        )

    def counts(self, table: str) -> Counts:
        """Of one target table."""
        return self._progress.counts.setdefault(table, Counts())
