"""Ranges of a mapping's root, read for a look: row by row, or by digests that both servers compute.

    rows      the source's rows of the range; the target's by their keys
    digests   of each range; of one that differs, in buckets of rows by hash; only buckets that differ are read

Digests serve where nothing but names lies between the two tables, and where both servers order the keys alike
(see `alike`): then the same range holds the same rows, and what is too much is seen.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

from replicator.engine.chunks import Portion
from replicator.engine.verify.alike import hashed
from replicator.engine.verify.demands import Read, getter
from replicator.engine.verify.looks import Looker, Seen
from replicator.equality import Equality
from replicator.verification import BucketDigest, HashedRange

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from replicator.events import Key, Values
    from replicator.verification import VersionedReader

BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one chunk's root rows that are held in memory, about."""
BUCKETS: Final = 1024
REREAD_ROWS_MAX: Final = 10_000
"""Of buckets that differ, at once."""
FRESH_SECONDS: Final = 1.0
"""How long it is good to know where a range ends: rows come, and it must not become much too large."""
_TARGET_ROWS: Final = 2
"""So many times the source's rows the target may have in one range; one that has more ends sooner."""


class Chunk(Protocol):
    """A range that A was read of."""

    @property
    def last(self) -> Key | None:
        """Its end."""

    @property
    def lsn(self) -> int:
        """Everything visible in A lies before."""

    @property
    def count(self) -> int:
        """Its rows."""


class Ranges(Protocol):
    """Reads and looks at ranges."""

    ahead: int
    """Chunks in hand at once: one is read while others wait for the feed, or for the target."""
    covers: int
    """In so many of the target tables, the root first, rows that no row of the source stands behind are seen, too."""

    async def end(self, after: Key | None, rows_max: int) -> Key | None:
        """Where the next range ends, of `rows_max` rows at most; None at the end of the table."""

    async def read(self, after: Key | None, rows_max: int) -> Chunk:
        """A of the next range, of `rows_max` rows at most."""

    async def rest(self, chunk: Chunk) -> Seen:
        """What follows."""


class _Ends:
    """Where ranges end: after so many rows of the source, or (of a span) before too many rows of the target."""

    def __init__(self, looker: Looker, source: VersionedReader, target: VersionedReader, *, span: bool) -> None:
        self._looker = looker
        self._source = source
        self._target = target
        self._span = span

    async def after(self, after: Key | None, rows_max: int) -> Key | None:
        mapping, cast, cast_there = self._looker.mapping, self._looker.reads.casts, self._looker.demands.casts[0]
        root, there = mapping.root, mapping.target
        async with self._source.versioned() as snapshot:
            last = await snapshot.count_before(root.table, root.key, cast.bound(after), rows_max)
        if self._span:
            bounds = cast_there.bound(after), cast_there.bound(last)
            async with self._target.versioned() as snapshot:
                sooner = await snapshot.count_before(
                    there.table, there.key, bounds[0], _TARGET_ROWS * rows_max, upto=bounds[1]
                )
            last = last if sooner is None else sooner
        return last


class RowRanges:
    """Row by row.

    Args:
        looker: of the mapping.
        source, target: the two databases.
        where: the operator's SQL on the source's root.
        span: the target's root rows are found by the same range, for both sides order their keys alike.

    """

    def __init__(
        self, looker: Looker, source: VersionedReader, target: VersionedReader, where: str | None, *, span: bool
    ) -> None:
        self._looker = looker
        self._ends = _Ends(looker, source, target, span=span)
        self._where = where
        self.ahead = 2  # they are held in memory
        self._span = span
        self.covers = 1 if span else 0
        self._portion = Portion(looker.mapping.root.table, BYTES_MAX)

    async def end(self, after: Key | None, rows_max: int) -> Key | None:
        """See `Ranges`."""
        return await self._ends.after(after, rows_max)

    async def read(self, after: Key | None, rows_max: int) -> Read:
        """See `Ranges`; no more than may be held in memory."""
        last = await self._ends.after(after, max(1, min(self._portion.rows, rows_max)))
        read = await self._looker.reads.by_range(after, last, self._where, span=self._span)
        rows = (row for tables in read.rows.values() for rows in tables for row in rows)
        self._portion.saw(read.count, sum(map(_size, rows)))
        return read

    async def rest(self, chunk: Chunk) -> Seen:
        """See `Ranges`."""
        return await self._looker.rest(cast("Read", chunk))


@dataclass(slots=True)
class Digested:
    """A range of which the source's digests were read; `lsn` and `last` as of `Chunk`."""

    of: HashedRange
    digests: dict[int, BucketDigest]
    lsn: int
    after: Key | None
    last: Key | None

    @property
    def count(self) -> int:
        """Its rows."""
        return sum(rows for rows, _ in self.digests.values())


@dataclass(frozen=True, slots=True)
class _Upcoming:
    """Where a range ends: `of` is where it begins, and how many rows it may have; `at` is when that was so."""

    of: tuple[Key | None, int]
    end: Key | None
    at: float


class DigestRanges:
    """By digests.

    Args:
        looker: of a mapping that is `digestible`, with keys that are `ordered_alike`.
        source, target: the two databases.

    """

    ahead = 6
    covers = 1

    def __init__(self, looker: Looker, source: VersionedReader, target: VersionedReader) -> None:
        mapping = looker.mapping
        self._looker = looker
        self._source = source
        self._target = target
        self._ends = _Ends(looker, source, target, span=True)
        self._hashed, self._hashed_there = hashed(mapping)
        self._portion = Portion(mapping.root.table, BYTES_MAX)
        names = mapping.root.table.column_names
        self._key_of = getter([names.index(name) + 1 for name in mapping.root.key])
        by_name = mapping.target.table.by_name
        self._equality = [Equality(by_name[name]) for name in mapping.target.key]
        self._upcoming: _Upcoming | None = None
        self._restless = False  # the last range had differences: the next one is read in buckets at once

    async def end(self, after: Key | None, rows_max: int) -> Key | None:
        """See `Ranges`."""
        known, self._upcoming = self._upcoming, None
        if known is not None and known.of == (after, rows_max) and time.monotonic() - known.at < FRESH_SECONDS:
            return known.end
        return await self._ends.after(after, rows_max)

    async def read(self, after: Key | None, rows_max: int) -> Digested:
        """See `Ranges`. Of the rows nothing is held, so there may be more of them.

        Meanwhile it is found out where the next range ends, which takes a third of the time that a digest does.
        """
        last = await self.end(after, rows_max)
        if last is None:
            return await self._digested(after, last, BUCKETS if self._restless else 1)
        looking = asyncio.ensure_future(self._ends.after(last, rows_max))
        try:
            digested = await self._digested(after, last, BUCKETS if self._restless else 1)
            self._upcoming = _Upcoming((last, rows_max), await looking, time.monotonic())
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        return digested

    async def _digested(self, after: Key | None, last: Key | None, buckets: int) -> Digested:
        root, bound = self._looker.mapping.root, self._looker.reads.casts.bound
        of = HashedRange(root.table, self._hashed, root.key, bound(after), bound(last), buckets)
        async with self._source.versioned() as snapshot:
            return Digested(of, await snapshot.digests(of), snapshot.insert_lsn, after, last)

    async def rest(self, chunk: Chunk) -> Seen:
        """See `Ranges`. Rows of buckets that differ are looked at as any others."""
        digested = cast("Digested", chunk)
        whole = Seen(lsn=digested.lsn)
        whole.rows[0] = digested.count
        found, wrong = await self._differing(digested)
        if wrong and digested.of.buckets == 1:
            digested = await self._digested(digested.after, digested.last, BUCKETS)
            whole.reread += digested.count
            found, wrong = await self._differing(digested)
        self._restless = bool(wrong)
        for buckets in self._portions(wrong, digested.digests, found):
            seen = await self._reread(digested, buckets)
            whole.looks |= seen.looks
            whole.within += seen.within
            whole.reread += seen.rows[0]
            whole.lsn = max(whole.lsn, seen.lsn)
        return whole

    async def _differing(self, digested: Digested) -> tuple[dict[int, BucketDigest], list[int]]:
        """The target's digests, once it has all that the source showed; and the buckets that are not the same."""
        async with self._looker.after(digested.lsn):
            pass
        async with self._target.versioned() as snapshot:
            found = await snapshot.digests(self._there(digested))
        there = digested.digests
        return found, sorted(one for one in {*there, *found} if there.get(one) != found.get(one))

    def _there(self, digested: Digested) -> HashedRange:
        target, bound = self._looker.mapping.target, self._looker.demands.casts[0].bound
        after, last = bound(digested.after), bound(digested.last)
        return HashedRange(target.table, self._hashed_there, target.key, after, last, digested.of.buckets)

    async def _reread(self, digested: Digested, buckets: Sequence[int]) -> Seen:
        async with self._target.versioned() as snapshot:
            keys = await snapshot.keys_in_buckets(self._there(digested), buckets)
        async with self._source.versioned() as snapshot:
            rows = await snapshot.rows_in_buckets(digested.of, buckets)
            by_key: dict[Key, tuple[Sequence[Values], ...]] = {self._key_of(row): ((row,),) for row in rows}
            known = set(map(self._canonical, by_key))
            every = [*by_key, *(key for key in dict.fromkeys(keys) if self._canonical(key) not in known)]
            read = Read(by_key, every, None, int(snapshot.text.split(":")[0]), snapshot.insert_lsn)
        self._portion.saw(len(rows), sum(map(_size, rows)))
        return await self._looker.rest(read)

    def _canonical(self, key: Key) -> tuple[Hashable, ...]:
        """One key may have several texts (1.0 and 1.00)."""
        return tuple([one.canonical(value) for one, value in zip(self._equality, key, strict=True)])

    def _portions(
        self, wrong: Sequence[int], source: dict[int, BucketDigest], target: dict[int, BucketDigest]
    ) -> list[list[int]]:
        """The buckets, in lots whose rows may be held in memory."""
        most = min(REREAD_ROWS_MAX, self._portion.rows)
        lots: list[list[int]] = []
        size = 0
        for one in wrong:
            rows = max(source.get(one, (0, 0))[0], target.get(one, (0, 0))[0])
            if not lots or size + rows > most:
                lots.append([])
                size = 0
            lots[-1].append(one)
            size += rows
        return lots


def _size(row: Values) -> int:
    """Bytes of its values."""
    return sum(map(len, cast("Sequence[bytes]", tuple(filter(None, row)))))
