"""Looks: the steps A, B and C of the bracketed read (see `brackets`), for many aggregates of one mapping at once."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from replicator.engine.verify.brackets import NOTHING, Difference, Look, Print
from replicator.engine.verify.compare import META, Compared, Found, SideComparer, found_print, of_ours, printed
from replicator.engine.verify.demands import Demand, Demands, Read, SourceReads, getter
from replicator.engine.verify.keys import KeyMaps
from replicator.verification import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from replicator.events import Key, Values
    from replicator.mapping import Mapping
    from replicator.verification import Reached, Tolerances, VersionedReader, VersionedSnapshot


@dataclass(slots=True)
class Seen:
    """What one look found.

    Attributes:
        looks: of the aggregates that are different, by key at the source.
        rows: that the target should have, one number a side.
        filtered: root rows of the source that demand none there, likewise.
        within: values that differ by no more than the declared tolerance, likewise.
        lsn: of A's snapshot.
        reread: rows of the source that were read on top of the range's digests.

    """

    looks: dict[Key, Look] = field(default_factory=dict)
    rows: Counter[int] = field(default_factory=Counter)
    filtered: Counter[int] = field(default_factory=Counter)
    within: Counter[int] = field(default_factory=Counter)
    lsn: int = 0
    reread: int = 0


@dataclass(slots=True)
class _Target:
    """The target in B: what it holds by number of the demand, and what the feed has left to do."""

    found: dict[int, list[list[Values]]]
    waiting: Waiting


class Looker:
    """Looks at aggregates of one mapping.

    Args:
        mapping: with a key.
        source, target: the two databases.
        reached: see `verification.Reached`.
        tolerances: see `verification.Tolerances`.

    """

    def __init__(
        self,
        mapping: Mapping,
        source: VersionedReader,
        target: VersionedReader,
        reached: Reached,
        tolerances: Tolerances,
    ) -> None:
        self.mapping = mapping
        self.comparers = [
            SideComparer(at, side, tolerances.get(side.table.name, {})) for at, side in enumerate(mapping.targets)
        ]
        self.reads = SourceReads(mapping, source)
        self.maps = KeyMaps(source)
        self._source = source
        self._target = target
        self._reached = reached
        self.demands = Demands(mapping, source, target)
        names = mapping.target.table.column_names
        self._root_key = getter([names.index(name) + META for name in mapping.target.key])

    async def by_key(self, keys: Sequence[Key]) -> Seen:
        """All three steps for these aggregates."""
        return await self.rest(await self.reads.by_key(keys))

    async def rest(self, read: Read) -> Seen:
        """What follows A."""
        async with self.after(read.lsn):
            demands = await self.demands.of(read)
        async with self._target.versioned() as snapshot:
            pairs = await self.maps.find(snapshot, self.demands.wanted(demands))
            self.demands.translate(demands, pairs)
            target = await self._of_target(snapshot, demands, read.span)
        seen = Seen(lsn=read.lsn)
        for at in range(len(self.comparers)):
            seen.rows[at] = sum([len(demand.rows[at]) for demand in demands])
            seen.filtered[at] = read.count - sum([bool(demand.rows[at]) for demand in demands])
        compared = await self._compared(demands, target, seen)
        if compared:
            await self._look_again(read, compared, target.waiting, seen)
        return seen

    @asynccontextmanager
    async def after(self, lsn: int) -> AsyncIterator[None]:
        """The block's work, and then the target has everything up to the LSN."""
        waiting = asyncio.ensure_future(self._reached(lsn))
        try:
            yield
            await waiting
        finally:
            waiting.cancel()

    # -- B -----------------------------------------------------------------------------------------------------------

    async def _of_target(
        self, snapshot: VersionedSnapshot, demands: list[Demand], span: tuple[Key | None, Key | None] | None
    ) -> _Target:
        mapping = self.mapping
        found: dict[int, list[list[Values]]] = defaultdict(lambda: [[] for _ in mapping.targets])
        if span is not None:
            await self._roots_of(snapshot, demands, span, found)
        for at, side in enumerate(mapping.targets):
            if at == 0 and span is not None:
                continue
            numbers = [number for number, demand in enumerate(demands) if demand.target_keys[at] is not None]
            keys = [key for number in numbers if (key := demands[number].target_keys[at]) is not None]
            owns = mapping.owns if at == 0 else None
            for row in await snapshot.owned_versions(side.table, side.key, keys, owns=owns):
                first = row[0]
                assert isinstance(first, bytes)
                found[numbers[int(first) - 1]][at].append(row[1:])
        return _Target(found, await snapshot.waiting(mapping.name))

    async def _roots_of(
        self,
        snapshot: VersionedSnapshot,
        demands: list[Demand],
        span: tuple[Key | None, Key | None],
        found: dict[int, list[list[Values]]],
    ) -> None:
        """The target's root rows of a range; of those that nothing demands, a demand of nothing is added."""
        side, after, upto = self.mapping.target, *map(self.demands.casts[0].bound, span)
        numbers = {demand.key: number for number, demand in enumerate(demands)}
        for row in await snapshot.owned_chunk(side.table, side.key, after, upto, owns=self.mapping.owns):
            key = self._root_key(row)
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = len(demands)
                demands.append(Demand(key, [[] for _ in self.mapping.targets], (key,) * len(self.mapping.targets)))
            found[number][0].append(row)

    async def _compared(
        self, demands: Sequence[Demand], target: _Target, seen: Seen
    ) -> list[tuple[Demand, Compared, Found]]:
        """The demands that the target doesn't meet."""
        wrong = self._compare(list(enumerate(demands)), target, seen)
        again = [(number, demands[number]) for number, _, found in wrong if any(found)]
        if again and await printed(self._target, self.comparers, [demand for _, demand in again]):
            numbers = {number for number, _ in again}
            wrong = [one for one in wrong if one[0] not in numbers] + self._compare(again, target, seen)
        return [(demands[number], compared, found) for number, compared, found in wrong]

    def _compare(
        self, demands: Sequence[tuple[int, Demand]], target: _Target, seen: Seen
    ) -> list[tuple[int, Compared, Found]]:
        empty: list[list[Values]] = [[] for _ in self.comparers]
        wrong = []
        for number, demand in demands:
            found = of_ours(target.found.get(number, empty), demand)
            if demand.error is not None:
                wrong.append((number, Compared(()), found))
                continue
            differences: list[Difference] = []
            for at, comparer in enumerate(self.comparers):
                compared = comparer.compare(demand, found[at])
                differences += compared.differences
                seen.within[at] += compared.within
            if differences:
                wrong.append((number, Compared(tuple(differences)), found))
        return wrong

    # -- C -----------------------------------------------------------------------------------------------------------

    async def _look_again(
        self, read: Read, wrong: Sequence[tuple[Demand, Compared, Found]], waiting: Waiting, seen: Seen
    ) -> None:
        again = await self.reads.by_key([demand.key for demand, _, _ in wrong])
        barrier = await self._source.barrier()
        caught_up = await self._caught_up(read, again, wrong, seen)
        for demand, compared, found in wrong:
            key = demand.key
            if key in caught_up:
                continue
            seen.looks[key] = Look(
                before=read.print_of(key),
                target=found_print(found),
                after=again.print_of(key),
                xmin=read.xmin,
                barrier=barrier,
                lsn=read.lsn,
                differences=compared.differences,
                held=key in waiting.deferred,
                proves=self._proves(demand, found),
                letter=waiting.letters.get(key),
                error=demand.error,
            )

    async def _caught_up(
        self, read: Read, again: Read, wrong: Sequence[tuple[Demand, Compared, Found]], seen: Seen
    ) -> set[Key]:
        """Those for which the target had already what the source has in C: they have changed since A."""
        changed = [(one, found) for one, _, found in wrong if read.print_of(one.key) != again.print_of(one.key)]
        if not changed:
            return set()
        keys = [demand.key for demand, _ in changed]
        demands = await self.demands.of(Read(again.rows, keys, None, again.xmin, again.lsn))
        async with self._target.versioned() as snapshot:
            self.demands.translate(demands, await self.maps.find(snapshot, self.demands.wanted(demands)))
        target = _Target({number: list(map(list, found)) for number, (_, found) in enumerate(changed)}, Waiting())
        still = {demand.key for demand, _, _ in await self._compared(demands, target, seen)}
        return {key for key in keys if key not in still}

    def _proves(self, demand: Demand, found: Found) -> bool:
        """Whether the target's rows, unchanged, prove that nothing of the aggregate was applied in between.

        Its root row is written anew by each apply that gives it more columns than its key. Where it is absent, a single
        source table proves it: a row that stays as it is there can't have been taken away here.
        """
        if not found[0]:
            return not any(found) and len(self.mapping.sources) == 1
        own = self.mapping.target.key
        if self.mapping.function is None:
            return any(name not in own for name in self.mapping.columns.values())
        return any(name not in own for row in (demand.rows[0] if demand.rows else ()) for name in row)

    # -- without a key at the source -----------------------------------------------------------------------------------

    async def lost(self, at: int, keys: Sequence[Key]) -> tuple[dict[Key, Look], list[Key]]:
        """Look at keys of one target table that no key map has.

        Returns:
            Those that still have rows there; and the source keys of those that a map has now.

        """
        side, comparer = self.mapping.targets[at], self.comparers[at]
        async with self._source.versioned() as before:
            xmin, lsn = int(before.text.split(":")[0]), before.insert_lsn
        await self._reached(lsn)
        async with self._target.versioned() as snapshot:
            back = await self.maps.back(snapshot, self.mapping, side, keys)
            left = [key for key in keys if key not in back]
            found: defaultdict[Key, list[Values]] = defaultdict(list)
            owns = self.mapping.owns if at == 0 else None
            for row in await snapshot.owned_versions(side.table, side.key, left, owns=owns):
                first = row[0]
                assert isinstance(first, bytes)
                if row[2] == b"t":
                    found[left[int(first) - 1]].append(row[1:])
        barrier = await self._source.barrier()
        looks = {
            key: Look(
                before=NOTHING,
                target=self._print(at, rows),
                after=NOTHING,
                xmin=xmin,
                barrier=barrier,
                lsn=lsn,
                differences=comparer.too_much(rows),
            )
            for key, rows in found.items()
        }
        return looks, list(back.values())

    def _print(self, at: int, rows: Sequence[Values]) -> Print:
        found: list[Sequence[Values]] = [[] for _ in self.comparers]
        found[at] = rows
        return found_print(found)


assert META == 2  # `row[1:]` above: xmin, and whether it is owned
