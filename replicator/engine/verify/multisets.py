"""Tables without a key: compared as multisets, by buckets of rows.

A row's bucket is a part of its hash, so equal rows share one on both sides. Of each bucket both sides keep a sum of
hashes of rows, and one of rows with the transactions that wrote them; those that differ take the bracketed read as an
aggregate would, and only their rows are held in memory. A look reads the whole table, as its copy does.

Rows of such a table are never written anew: an insert appends one, a delete takes one away. So a bucket with the same
rows, by the same transactions, had no change in between (see `brackets` for why that is a proof).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from replicator.engine.copy_text import row_groups
from replicator.engine.verify.brackets import Difference, Look
from replicator.engine.verify.compare import printed_texts
from replicator.engine.verify.keys import KeyMaps, changes, key_of, translated
from replicator.engine.verify.looks import Seen
from replicator.equality import Equality
from replicator.verification import Kind

if TYPE_CHECKING:
    from collections.abc import Hashable

    from replicator.engine.verify.keys import Row
    from replicator.events import Key, Values
    from replicator.mapping import Mapping
    from replicator.verification import Reached, VersionedReader, VersionedSnapshot

BUCKETS: Final = 4096
ROWS_MAX: Final = 100_000
"""Rows of the buckets that are looked at together."""
_GROUP_BYTES: Final = 1024 * 1024
_HASH_BYTES: Final = 16


@dataclass(slots=True)
class Side:
    """One side's buckets.

    Attributes:
        rows: how many, by bucket.
        content: sums of hashes of the rows' values.
        versions: sums of hashes of the rows' values and xmin.
        hashes: of each row of the buckets that were asked for.

    """

    rows: Counter[int] = field(default_factory=Counter)
    content: Counter[int] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    hashes: dict[int, Counter[bytes]] = field(default_factory=dict)

    def add(self, values: tuple[Hashable, ...], xmin: object, wanted: Collection[int]) -> None:
        """One row."""
        digest = hashlib.blake2b(repr(values).encode(), digest_size=_HASH_BYTES).digest()
        bucket = int.from_bytes(digest[:4], "big") % BUCKETS
        version = hashlib.blake2b(digest + repr(xmin).encode(), digest_size=_HASH_BYTES).digest()
        self.rows[bucket] += 1
        self.content[bucket] += int.from_bytes(digest, "big")
        self.versions[bucket] += int.from_bytes(version, "big")
        if bucket in wanted:
            self.hashes.setdefault(bucket, Counter())[digest] += 1

    def print_of(self, bucket: int) -> bytes:
        """What a bucket's rows, with their transactions, are known by."""
        return b"%d %d" % (self.rows[bucket], self.versions[bucket])


class MultisetLooker:
    """Looks at the buckets of one mapping without a key; a bucket's "key" is its number.

    Args:
        mapping: same shape, without a key.
        source, target: the two databases.
        reached: see `verification.Reached`.

    """

    def __init__(self, mapping: Mapping, source: VersionedReader, target: VersionedReader, reached: Reached) -> None:
        self.mapping = mapping
        self._source = source
        self._target = target
        self._reached = reached
        self._maps = KeyMaps(source)
        table = mapping.target.table
        carried = [(old, new) for old, new in mapping.columns.items() if not table.by_name[new].generated]
        self._old = tuple(old for old, _ in carried)
        self._new = tuple(new for _, new in carried)
        self._equality = [Equality(table.by_name[name]) for name in self._new]
        self._changes = changes(mapping, mapping.target)
        self._retyped = [
            new for old, new in carried if mapping.root.table.by_name[old].cast_type != table.by_name[new].cast_type
        ]

    async def whole(self) -> tuple[Seen, Counter[int]]:
        """Look at all buckets; returns also how many rows each has, on both sides."""
        return await self._look(None)

    async def by_key(self, keys: Sequence[Key]) -> Seen:
        """Look at these buckets again, and at their rows."""
        seen, _ = await self._look(frozenset(int(key[0]) for key in keys))
        return seen

    async def lost(self, at: int, keys: Sequence[Key]) -> tuple[dict[Key, Look], list[Key]]:
        """Without a key there is no row that has lost its own."""
        del at, keys
        return {}, []

    async def _look(self, wanted: frozenset[int] | None) -> tuple[Seen, Counter[int]]:
        collected = wanted or frozenset()
        async with self._source.versioned() as snapshot:
            xmin, lsn = int(snapshot.text.split(":")[0]), snapshot.insert_lsn
            before = await self._of_source(snapshot, collected)
        await self._reached(lsn)
        async with self._target.versioned() as snapshot:
            target = await self._of_target(snapshot, collected)
        buckets = range(BUCKETS) if wanted is None else sorted(wanted)
        wrong = [one for one in buckets if before.content[one] != target.content[one]]
        seen = Seen(lsn=lsn)
        seen.rows[0] = before.rows.total()
        if wrong:
            async with self._source.versioned() as snapshot:
                after = await self._of_source(snapshot, ())
            barrier = await self._source.barrier()
            for bucket in wrong:
                seen.looks[(b"%d" % bucket,)] = Look(
                    before=before.print_of(bucket),
                    target=target.print_of(bucket),
                    after=after.print_of(bucket),
                    xmin=xmin,
                    barrier=barrier,
                    lsn=lsn,
                    differences=_differences(before.hashes.get(bucket), target.hashes.get(bucket)),
                )
        return seen, before.rows + target.rows

    async def _of_source(self, snapshot: VersionedSnapshot, wanted: Collection[int]) -> Side:
        mapping, made = self.mapping, Side()
        async with aclosing(
            snapshot.copy_out(mapping.root.table, ("xmin", *self._old), (), None, None, where=mapping.owns_source)
        ) as blocks:
            async for rows in row_groups(blocks, _GROUP_BYTES):
                for values, row in zip(await self._as_target(rows), rows, strict=True):
                    made.add(self._canonical(values), row[0], wanted)
                await asyncio.sleep(0)
        return made

    async def _as_target(self, rows: Sequence[Values]) -> list[Values]:
        """Rows of the source as the target should have them."""
        if not self._changes and not self._retyped:
            return [row[1:] for row in rows]
        made: list[Row] = [dict(zip(self._new, row[1:], strict=True)) for row in rows]
        if self._changes:
            asked = [(one.keys, key) for one in self._changes for row in made if (key := key_of(row, one.columns))]
            async with self._target.versioned() as snapshot:
                pairs = await self._maps.find(snapshot, asked)
            made = [translated(row, self._changes, pairs) for row in made]
        for name in self._retyped:
            texts = list(dict.fromkeys(value for row in made if isinstance(value := row[name], bytes)))
            known = await printed_texts(self._target, self.mapping.target.table.by_name[name], texts)
            for row in made:
                value = row[name]
                row[name] = known.get(value, value) if isinstance(value, bytes) else value
        return [tuple(row[name] for name in self._new) for row in made]

    async def _of_target(self, snapshot: VersionedSnapshot, wanted: Collection[int]) -> Side:
        mapping, made = self.mapping, Side()
        async with aclosing(
            snapshot.copy_out(mapping.target.table, ("xmin", *self._new), (), None, None, where=mapping.owns)
        ) as blocks:
            async for rows in row_groups(blocks, _GROUP_BYTES):
                for row in rows:
                    made.add(self._canonical(row[1:]), row[0], wanted)
                await asyncio.sleep(0)
        return made

    def _canonical(self, values: Values) -> tuple[Hashable, ...]:
        return tuple([one.canonical(value) for one, value in zip(self._equality, values, strict=True)])


def _differences(source: Counter[bytes] | None, target: Counter[bytes] | None) -> tuple[Difference, ...]:
    """Rows that are missing, and rows that are too many; each is known by its hash."""
    there, here = source or Counter(), target or Counter()
    missing = [Difference(0, Kind.MISSING, (one.hex().encode(),)) for one in (there - here).elements()]
    extra = [Difference(0, Kind.EXTRA, (one.hex().encode(),)) for one in (here - there).elements()]
    return (*missing, *extra)


def groups(looks: Collection[Key], rows: Counter[int]) -> list[list[Key]]:
    """The buckets, in groups that hold no more than `ROWS_MAX` rows (or one bucket)."""
    found: list[list[Key]] = []
    size = ROWS_MAX
    for key in looks:
        count = rows[int(key[0])]
        if size + count > ROWS_MAX or not found:
            found.append([])
            size = 0
        found[-1].append(key)
        size += count
    return found
