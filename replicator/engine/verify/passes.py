"""The passes over one mapping: what is known to differ, then ranges of the source, then keys of each target table.

    known     open divergences from earlier: those that are equal now are closed
    ranges    root rows of the source in key order: what is missing or different in the target
    extras    keys of each target table, translated back: what no root row of the source stands behind

Parts are done in order, with the next one read while one is compared; what is in flight is carried along (`settle`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from replicator.engine.verify.alike import digestible, ordered_alike
from replicator.engine.verify.multisets import MultisetLooker, groups
from replicator.engine.verify.ranges import DigestRanges, RowRanges
from replicator.engine.verify.settle import Patience, Settler

if TYPE_CHECKING:
    from replicator.engine.verify.brackets import Difference
    from replicator.engine.verify.looks import Looker, Seen
    from replicator.engine.verify.pace import Pace
    from replicator.engine.verify.ranges import Chunk, Ranges
    from replicator.events import Key
    from replicator.mapping import Mapping, Side
    from replicator.verification import (
        OpenDivergence,
        PassStore,
        Progress,
        Run,
        Scope,
        VerifyStore,
        VersionedReader,
        VersionedSnapshot,
    )

KNOWN_ROWS: Final = 1_000
SAVE_SECONDS: Final = 0.5
_DONE: Final = -1


async def verify_multiset(
    looker: MultisetLooker,
    *,
    store: VerifyStore,
    run: Run,
    progress: Progress,
    patience: Patience,
    saw: Callable[[int], None],
) -> None:
    """The one pass over a table without a key.

    Raises:
        ReplicatorError: as `MappingPasses.run`; the table is then begun again.

    """
    began = time.monotonic()
    mapping = looker.mapping
    progress.counts, progress.pending, progress.lost = {}, [], []
    settler = Settler(looker, store, progress, patience, time.monotonic)
    seen, rows = await looker.whole()
    saw(seen.lsn)
    progress.rows_read = seen.rows[0]
    counts = settler.counts(str(mapping.target.table.name))
    counts.rows = counts.aggregates = seen.rows[0]
    for keys in groups(seen.looks, rows):
        settler.add({key: seen.looks[key] for key in keys})
        await settler.drain()
    await store.close_unseen(run, mapping.name)
    counts.seconds = time.monotonic() - began
    progress.step = _DONE
    await store.save(run, mapping.name, progress)


@dataclass(frozen=True)
class PassSettings:
    """How a run reads.

    Attributes:
        chunk_rows: root rows of one chunk, at most.
        digest_rows: the same where only digests are read.
        patience: see `Patience`.

    """

    chunk_rows: int = 10_000
    digest_rows: int = 50_000
    patience: Patience = field(default_factory=Patience)


class MappingPasses:
    """All passes over one mapping.

    Args:
        looker: of the mapping.
        source, target: the two databases.
        store, run: where progress goes.
        progress: of this mapping.
        scope: what is looked at.
        pace: limits the reading.
        settings: see `PassSettings`.
        saw: told the LSN of every look.

    """

    def __init__(
        self,
        looker: Looker,
        source: VersionedReader,
        target: VersionedReader,
        *,
        store: PassStore,
        run: Run,
        progress: Progress,
        scope: Scope,
        pace: Pace,
        settings: PassSettings,
        saw: Callable[[int], None],
    ) -> None:
        self._looker = looker
        self._source = source
        self._target = target
        self._store = store
        self._run = run
        self._progress = progress
        self._scope = scope
        self._pace = pace
        self._settings = settings
        self._saw = saw
        self._settler = Settler(looker, store, progress, settings.patience, time.monotonic)
        self._chunks: Ranges = RowRanges(looker, source, target, scope.where, span=False)
        self._rows = settings.chunk_rows
        self._saved_at = 0.0
        self._clock = time.monotonic()

    @property
    def _mapping(self) -> Mapping:
        return self._looker.mapping

    async def run(self) -> None:
        """What is left.

        Raises:
            ReplicatorError: nobody applies anything; a database is gone. A further run goes on.

        """
        progress, targets = self._progress, self._mapping.targets
        for side in targets:
            self._settler.counts(str(side.table.name))
        if self._scope.where is None and await ordered_alike(self._mapping, self._source, self._target):
            self._chunks = RowRanges(self._looker, self._source, self._target, None, span=True)
            if digestible(self._mapping):
                self._chunks = DigestRanges(self._looker, self._source, self._target)
                self._rows = self._settings.digest_rows
        steps: list[Callable[[], Awaitable[None]]] = [self._known, self._ranges]
        if self._scope.where is None:
            steps += [self._extras_of(at, side) for at, side in enumerate(targets) if at >= self._chunks.covers]
        while not progress.done and progress.step < len(steps):
            await steps[progress.step]()
            progress.step, progress.after = progress.step + 1, None
            await self._save(at_once=True)
        await self._settler.drain()
        progress.step = _DONE
        self._spent(targets[0])
        await self._save(at_once=True)

    # -- known ---------------------------------------------------------------------------------------------------------

    async def _known(self) -> None:
        """Close what is equal now. What still differs is found again by the passes."""
        mapping, after = self._mapping, 0
        while True:
            page = await self._store.divergences(mapping.name, after, KNOWN_ROWS)
            if not page:
                return
            after = page[-1].id
            await self._store.close(await self._equal(page))

    async def _equal(self, page: list[OpenDivergence]) -> list[int]:
        looker = self._looker
        keys = list(dict.fromkeys(one.source_key for one in page if one.source_key is not None))
        looks = (await looker.by_key(keys)).looks if keys else {}
        wrong = {
            (key, looker.mapping.targets[each.side].table.name, each.kind, each.key)
            for key, look in looks.items()
            for each in look.differences
        }
        closed = [
            one.id
            for one in page
            if one.source_key is not None
            and (one.source_key, one.table, one.kind, one.key) not in wrong
            and (one.source_key not in looks or looks[one.source_key].error is None)
        ]
        for at, side in enumerate(looker.mapping.targets):
            lost = [one for one in page if one.source_key is None and one.table == side.table.name]
            there, _ = await looker.lost(at, [one.target_key for one in lost if one.target_key]) if lost else ({}, [])
            gone = {one.id for one in lost if one.target_key not in there}
            closed += sorted(gone)
        return closed

    # -- ranges --------------------------------------------------------------------------------------------------------

    async def _ranges(self) -> None:
        progress = self._progress
        after: Key | None = progress.after
        in_hand: deque[tuple[Chunk, asyncio.Task[Seen]]] = deque()
        try:
            more = True
            while more or in_hand:
                while more and len(in_hand) < self._chunks.ahead:
                    if not self._sampled(after):
                        after = await self._chunks.end(after, self._rows)
                        more = after is not None
                        continue
                    read = await self._chunks.read(after, self._rows)
                    in_hand.append((read, asyncio.ensure_future(self._chunks.rest(read))))
                    await self._pace.spend(read.count)
                    after, more = read.last, read.last is not None
                if in_hand:
                    read, seeing = in_hand.popleft()
                    await self._chunk(read, await seeing)
        finally:
            for _, seeing in in_hand:
                seeing.cancel()
            await asyncio.gather(*(seeing for _, seeing in in_hand), return_exceptions=True)

    async def _chunk(self, read: Chunk, seen: Seen) -> None:
        progress = self._progress
        self._saw(seen.lsn)
        for at, side in enumerate(self._mapping.targets):
            counts = self._settler.counts(str(side.table.name))
            counts.rows += seen.rows[at]
            counts.aggregates += read.count
            counts.filtered += seen.filtered[at]
            counts.within += seen.within[at]
        progress.rows_read += read.count
        await self._pace.spend(seen.reread)
        await self._settler.turn()  # before these are added: what is seen a second time was some time in between
        self._settler.add(seen.looks)
        await self._settler.bound()
        progress.after = read.last
        self._spent(self._mapping.targets[0])
        if read.last is not None:  # the end is saved with the next step: None is the beginning
            await self._save()

    def _sampled(self, after: Key | None) -> bool:
        """Whether the chunk that begins here is in the sample: the same answer after a resumption."""
        percent = self._scope.sample_percent
        return percent >= 100 or random.Random(f"{self._run.seed}/{after}").random() * 100 < percent  # noqa: S311

    # -- extras --------------------------------------------------------------------------------------------------------

    def _extras_of(self, at: int, side: Side) -> Callable[[], Awaitable[None]]:
        async def extras() -> None:
            await self._extras(at, side)

        return extras

    async def _extras(self, at: int, side: Side) -> None:
        progress = self._progress
        while True:
            sampled = self._sampled(progress.after)
            async with self._target.versioned() as snapshot:
                keys, last = await self._keys_after(snapshot, at, side, progress.after)
                back = await self._looker.maps.back(snapshot, self._mapping, side, keys) if sampled and keys else {}
            if keys and sampled:
                await self._without_source(at, keys, back)
                await self._pace.spend(len(keys))
            await self._settler.turn()
            await self._settler.bound()
            self._spent(side)
            if last is None:
                return
            progress.after = last
            await self._save()

    async def _keys_after(
        self, snapshot: VersionedSnapshot, at: int, side: Side, after: Key | None
    ) -> tuple[list[Key], Key | None]:
        """Aggregates' keys of the next rows of a target table; and where the rows after them begin, None at the end.

        In their own order where an index is known to have it, else in that of the table's own key.
        """
        table, rows = side.table, self._settings.chunk_rows
        where = self._mapping.owns if at == 0 else None
        own = set(side.key)
        if not table.key or any(set(key.columns[: len(own)]) == own for key in table.unique_keys):
            keys = await snapshot.keys_after(table, side.key, after, rows, where=where)
            return keys, keys[-1] if keys else None
        last = await snapshot.count_before(table, table.key, after, rows)
        places = [table.column_names.index(name) + 1 for name in side.key]
        found = await snapshot.chunk_versions(table, table.key, after, last, where=where)
        keys = [tuple(value for place in places if isinstance(value := row[place], bytes)) for row in found]
        return list(dict.fromkeys(key for key in keys if len(key) == len(places))), last

    async def _without_source(self, at: int, keys: list[Key], back: dict[Key, Key]) -> None:
        """Suspect those of some target keys behind which no root row of the source stands."""
        mapping = self._mapping
        root, keys_there = mapping.root, list(back.values())
        asked = await self._looker.reads.casts.possible(keys_there)
        async with self._source.versioned() as snapshot:
            there = await snapshot.as_stored(root.table, root.key, asked, where=mapping.owns_source)
        absent = [key for key in back.values() if key not in there]
        if absent:
            seen = await self._looker.by_key(absent)
            self._saw(seen.lsn)
            # What has a root row in the target was found there.
            looks = {key: look for key, look in seen.looks.items() if at == 0 or not _root_is_wrong(look.differences)}
            self._settler.add(looks)
        self._settler.add_lost(at, [key for key in keys if key not in back])

    # -- progress ------------------------------------------------------------------------------------------------------

    def _spent(self, side: Side) -> None:
        now = time.monotonic()
        self._settler.counts(str(side.table.name)).seconds += now - self._clock
        self._clock = now

    async def _save(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._saved_at >= SAVE_SECONDS:
            self._settler.note()
            await self._store.save(self._run, self._mapping.name, self._progress)
            self._saved_at = time.monotonic()


def _root_is_wrong(differences: Sequence[Difference]) -> bool:
    return any(one.side == 0 for one in differences)
