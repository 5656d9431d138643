"""Repair: what verification has found to differ is derived again, and nothing else; then it is verified again.

    open divergences ▸ look ▸ what still differs is rewritten (`rewrite.py`) ▸ looks ▸ closed, or left with the reason

Page by page, beside the running feed and the application. What is closed stays closed: a repair that was killed is
begun again, and finds what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import structlog

from replicator.engine.recheck import RememberingLooker, recheck
from replicator.engine.verify.settle import Patience
from replicator.verification import Kind

if TYPE_CHECKING:
    from replicator.engine.recheck import Rechecked
    from replicator.engine.rewrite import Rewriter, Rewritten
    from replicator.events import Key
    from replicator.mapping import Mapping as TableMapping
    from replicator.verification import Finding, OpenDivergence, Reached, Tolerances, VerifyStore, VersionedReader

PAGE_ROWS: Final = 1_000
LEFT_MAX: Final = 100
"""Rows that a report names."""
_PATIENCE: Final = Patience(seconds=30)


class Why(StrEnum):
    """Why a row was not repaired."""

    DIFFERS = "differs"  # it was written, and differs again: something on the target changes what is written
    REFUSED = "refused"  # the target, or the transform, has refused its aggregate
    DEAD_LETTER = "dead_letter"  # a change of its aggregate waits in the dead letter queue: that comes first
    UNSETTLED = "unsettled"  # it was written, and never stood still afterwards: verify it again
    WITHOUT_KEY = "without_key"  # a table without a key: only a resync mends it


@dataclass(frozen=True)
class Left:
    """One row that was not repaired; no value of it."""

    mapping: str
    table: str
    key: tuple[str, ...]
    kind: str
    why: Why
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the report shows it."""
        return {
            "mapping": self.mapping,
            "table": self.table,
            "key": list(self.key),
            "kind": self.kind,
            "why": str(self.why),
            "message": self.message,
        }


@dataclass
class Repaired:
    """What a repair came to so far.

    Attributes:
        done: divergences that were looked at.
        repaired: of these, those that are equal now.
        counts: of those that are left, by reason; a row that differs in another way than before counts as well.
        left: the first of them.

    """

    done: int = 0
    repaired: int = 0
    counts: Counter[Why] = field(default_factory=Counter)
    left: list[Left] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is left."""
        return not self.counts.total()

    def leave(self, left: Left) -> None:
        """One more is left."""
        self.counts[left.why] += 1
        if len(self.left) < LEFT_MAX:
            self.left.append(left)

    def to_json(self) -> dict[str, Any]:
        """As it is told, while it runs and afterwards."""
        return {
            "ok": self.ok,
            "done": self.done,
            "repaired": self.repaired,
            "left": {str(why): count for why, count in sorted(self.counts.items())},
            "rows": [one.to_json() for one in self.left],
        }


class Repair:
    """Repairs the open divergences of some mappings.

    Args:
        rewriter: of the running feed.
        source, target: the two databases, as verification reads them.
        reached: see `verification.Reached`.
        store: findings, in the target.
        tolerances: see `verification.Tolerances`.

    """

    def __init__(
        self,
        rewriter: Rewriter,
        *,
        source: VersionedReader,
        target: VersionedReader,
        reached: Reached,
        store: VerifyStore,
        tolerances: Tolerances,
    ) -> None:
        self._rewriter = rewriter
        self._source = source
        self._target = target
        self._reached = reached
        self._store = store
        self._tolerances = tolerances
        self._log = structlog.get_logger("replicator.repair")

    async def run(
        self, mappings: Sequence[TableMapping], upto: int, tell: Callable[[Repaired], Awaitable[None]]
    ) -> Repaired:
        """Repair what is open of these mappings.

        Args:
            mappings: which.
            upto: the highest number of a divergence that is meant.
            tell: is told how far it is, after each page.

        Raises:
            ReplicatorError: SUPERSEDED, REASSIGNED, CONNECTION, …: what is closed is kept, the rest is open.

        """
        result = Repaired()
        async with self._rewriter.watching():
            for mapping in mappings:
                after = 0
                while page := [
                    one for one in await self._store.divergences(mapping.name, after, PAGE_ROWS) if one.id <= upto
                ]:
                    after = page[-1].id
                    await self._page(mapping, page, result)
                    await tell(result)
        self._log.info("repaired", repaired=result.repaired, left=result.counts.total())
        return result

    async def _page(self, mapping: TableMapping, page: Sequence[OpenDivergence], result: Repaired) -> None:
        result.done += len(page)
        if mapping.multiset:
            for one in page:
                result.leave(_left(mapping, one, Why.WITHOUT_KEY))
            return
        looker = RememberingLooker(mapping, self._source, self._target, self._reached, self._tolerances)
        keys = list(dict.fromkeys(one.source_key for one in page if one.source_key is not None))
        lost = _lost(mapping, page)
        differing = list((await looker.by_key(keys)).looks) if keys else []
        written = await self._rewriter.write(mapping, differing)
        for at in sorted(lost, reverse=True):  # children before the rows that they refer to
            await self._rewriter.delete(mapping, mapping.targets[at], lost[at])
        looker.different.clear()
        again = [key for key in keys if key not in written.waiting]
        checked = await recheck(looker, self._store, again, lost, _PATIENCE)
        respelled = _respelled(mapping, checked.findings)
        if respelled:
            for at in sorted(respelled, reverse=True):
                await self._rewriter.delete(mapping, mapping.targets[at], respelled[at], respelled=True)
            checked = await recheck(looker, self._store, again, lost, _PATIENCE)
        await self._judge(mapping, page, written, checked, result)

    async def _judge(
        self,
        mapping: TableMapping,
        page: Sequence[OpenDivergence],
        written: Rewritten,
        checked: Rechecked,
        result: Repaired,
    ) -> None:
        """Close what is equal; say of the rest why it is left."""
        found = {(one.table, one.key, one.kind): one for one in checked.findings}
        closed = []
        for one in page:
            if (one.table, one.key, one.kind) in found:
                continue  # counted below, with what is new
            why = _undecided(mapping, one, written, checked)
            if why is None:
                closed.append(one.id)
            else:
                error = written.refused.get(one.source_key or ())
                result.leave(_left(mapping, one, why, "" if error is None else error.message))
        await self._store.close(closed)
        result.repaired += len(closed)
        for each in found.values():
            error = None if each.source_key is None else written.refused.get(each.source_key)
            left = Left(
                mapping.name,
                str(each.table),
                _text(each.key),
                str(each.kind),
                Why.DIFFERS if error is None else Why.REFUSED,
                "" if error is None else error.message,
            )
            result.leave(left)


def _lost(mapping: TableMapping, page: Sequence[OpenDivergence]) -> dict[int, list[Key]]:
    """Keys that no key map has, by number of the target table."""
    sides = {side.table.name: at for at, side in enumerate(mapping.targets)}
    found: dict[int, dict[Key, None]] = {}
    for one in page:
        if one.source_key is None and one.target_key is not None and one.table in sides:
            found.setdefault(sides[one.table], {})[one.target_key] = None
    return {at: list(keys) for at, keys in found.items()}


def _respelled(mapping: TableMapping, findings: Sequence[Finding]) -> dict[int, list[Key]]:
    """By number of the target table: keys of rows that are too much, under another text than their aggregate's key.

    A write of the aggregate doesn't touch them: `Ann` and `ANN` of citext are two while one becomes the other.
    """
    sides = {side.table.name: at for at, side in enumerate(mapping.targets)}
    found: dict[int, dict[Key, None]] = {}
    for one in findings:
        at = sides[one.table]
        side = mapping.targets[at]
        columns = side.table.key or side.key
        if one.kind is not Kind.EXTRA or one.source_key is None or not set(side.key) <= set(columns):
            continue
        key = tuple(one.key[columns.index(name)] for name in side.key)
        if key != one.source_key and mapping.key_map is None:
            found.setdefault(at, {})[key] = None
    return {at: list(keys) for at, keys in found.items()}


def _undecided(mapping: TableMapping, one: OpenDivergence, written: Rewritten, checked: Rechecked) -> Why | None:
    """Why it isn't known that this one is equal; None: it is."""
    if one.source_key is not None:
        if one.source_key in written.waiting:
            return Why.DEAD_LETTER
        if one.source_key in checked.unsettled:
            return Why.REFUSED if one.source_key in written.refused else Why.UNSETTLED
        return None
    unsettled = {(mapping.targets[at].table.name, key) for at, key in checked.unsettled_lost}
    return Why.UNSETTLED if (one.table, one.target_key) in unsettled else None


def _left(mapping: TableMapping, one: OpenDivergence, why: Why, message: str = "") -> Left:
    return Left(mapping.name, str(one.table), _text(one.key), str(one.kind), why, message)


def _text(key: Key) -> tuple[str, ...]:
    return tuple(part.decode("utf-8", "replace") for part in key)
