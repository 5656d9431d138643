"""Ranges of a mapping's root, read for a look: row by row, or by digests that both servers compute.

    rows      the source's rows of the range; the target's by their keys
    digests   of each range, in buckets of rows by hash; only buckets that differ are read, by their rows

Digests serve where nothing but names lies between the two tables, and where both servers order the keys alike
(integers, dates, uuid; texts have collations): then the same range holds the same rows, and what is too much is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, cast

from replicator.engine.chunks import Portion
from replicator.engine.verify.demands import Read, getter
from replicator.engine.verify.looks import Looker, Seen
from replicator.verification import BucketDigest, HashedColumn, HashedRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import Key, Values
    from replicator.mapping import Mapping
    from replicator.tables import Column
    from replicator.verification import VersionedReader

BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one chunk's root rows that are held in memory, about."""
BUCKETS: Final = 1024
REREAD_ROWS_MAX: Final = 10_000
"""Of buckets that differ, at once."""

_ORDERED_ALIKE: Final = frozenset(
    {"smallint", "integer", "bigint", "oid", "uuid", "date", "boolean", "bytea"}
    | {"timestamp with time zone", "timestamp without time zone"}
)


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

    async def read(self, after: Key | None, rows_max: int) -> Chunk:
        """A of the next range, of `rows_max` rows at most."""

    async def rest(self, chunk: Chunk) -> Seen:
        """What follows."""


class RowRanges:
    """Row by row.

    Args:
        looker: of the mapping.
        where: the operator's SQL on the source's root.

    """

    def __init__(self, looker: Looker, where: str | None) -> None:
        self._looker = looker
        self._where = where
        self.ahead = 2  # they are held in memory
        self._span = where is None and ordered_alike(looker.mapping)
        self.covers = 1 if self._span else 0
        self._portion = Portion(looker.mapping.root.table, BYTES_MAX)

    async def read(self, after: Key | None, rows_max: int) -> Read:
        """See `Ranges`; no more than may be held in memory."""
        rows_max = max(1, min(self._portion.rows, rows_max))
        read = await self._looker.reads.by_range(after, rows_max, self._where, span=self._span)
        rows = (row for tables in read.rows.values() for rows in tables for row in rows)
        self._portion.saw(read.count, sum(map(_size, rows)))
        return read

    async def rest(self, chunk: Chunk) -> Seen:
        """See `Ranges`."""
        return await self._looker.rest(cast("Read", chunk))


@dataclass(slots=True)
class Digested:
    """A range of which the source's digests were read; `lsn` as of `Chunk`."""

    of: HashedRange
    digests: dict[int, BucketDigest]
    lsn: int

    @property
    def last(self) -> Key | None:
        """The range's end."""
        return self.of.upto

    @property
    def count(self) -> int:
        """Its rows."""
        return sum(rows for rows, _, _ in self.digests.values())


@dataclass(slots=True)
class _Hashed:
    """What is hashed on either side."""

    source: list[HashedColumn] = field(default_factory=list)
    target: list[HashedColumn] = field(default_factory=list)


class DigestRanges:
    """By digests.

    Args:
        looker: of a mapping for which `digestible` says so.
        source, target: the two databases.

    """

    ahead = 4
    covers = 1

    def __init__(self, looker: Looker, source: VersionedReader, target: VersionedReader) -> None:
        mapping = looker.mapping
        self._looker = looker
        self._source = source
        self._target = target
        self._hashed = _hashed(mapping)
        self._portion = Portion(mapping.root.table, BYTES_MAX)
        names = mapping.root.table.column_names
        self._key_of = getter([names.index(name) + 1 for name in mapping.root.key])

    async def read(self, after: Key | None, rows_max: int) -> Digested:
        """See `Ranges`. Of the rows nothing is held, so there may be more of them."""
        root = self._looker.mapping.root
        async with self._source.versioned() as snapshot:
            last = await snapshot.count_before(root.table, root.key, after, rows_max)
            of = HashedRange(root.table, tuple(self._hashed.source), root.key, after, last, BUCKETS)
            return Digested(of, await snapshot.digests(of), snapshot.insert_lsn)

    async def rest(self, chunk: Chunk) -> Seen:
        """See `Ranges`. Rows of buckets that differ are looked at as any others."""
        digested = cast("Digested", chunk)
        of, target = digested.of, self._looker.mapping.target
        there = HashedRange(target.table, tuple(self._hashed.target), target.key, of.after, of.upto, BUCKETS)
        async with self._looker.after(digested.lsn):
            pass
        async with self._target.versioned() as snapshot:
            found = await snapshot.digests(there)
        wrong = sorted(one for one in {*digested.digests, *found} if digested.digests.get(one) != found.get(one))
        whole = Seen(lsn=digested.lsn)
        for buckets in self._portions(wrong, digested.digests, found):
            seen = await self._reread(of, there, buckets)
            whole.looks |= seen.looks
            whole.within += seen.within
            whole.reread += seen.rows[0]
            whole.lsn = max(whole.lsn, seen.lsn)
        whole.rows[0] = digested.count
        return whole

    async def _reread(self, of: HashedRange, there: HashedRange, buckets: Sequence[int]) -> Seen:
        async with self._target.versioned() as snapshot:
            keys = await snapshot.keys_in_buckets(there, buckets)
        async with self._source.versioned() as snapshot:
            rows = await snapshot.rows_in_buckets(of, buckets)
            by_key: dict[Key, tuple[Sequence[Values], ...]] = {self._key_of(row): ((row,),) for row in rows}
            every = list(dict.fromkeys((*by_key, *keys)))
            read = Read(by_key, every, None, int(snapshot.text.split(":")[0]), snapshot.insert_lsn)
        self._portion.saw(len(rows), sum(map(_size, rows)))
        return await self._looker.rest(read)

    def _portions(
        self, wrong: Sequence[int], source: dict[int, BucketDigest], target: dict[int, BucketDigest]
    ) -> list[list[int]]:
        """The buckets, in lots whose rows may be held in memory."""
        most = min(REREAD_ROWS_MAX, self._portion.rows)
        lots: list[list[int]] = []
        size = 0
        for one in wrong:
            rows = max(source.get(one, (0, 0, 0))[0], target.get(one, (0, 0, 0))[0])
            if not lots or size + rows > most:
                lots.append([])
                size = 0
            lots[-1].append(one)
            size += rows
        return lots


def _size(row: Values) -> int:
    """Bytes of its values."""
    return sum(map(len, cast("Sequence[bytes]", tuple(filter(None, row)))))


def digestible(mapping: Mapping) -> bool:
    """Whether both servers can compute digests of the same ranges."""
    plain = mapping.function is None and not mapping.references
    whole = mapping.owns is None and mapping.owns_source is None
    return plain and whole and not mapping.reads_back and ordered_alike(mapping)


def ordered_alike(mapping: Mapping) -> bool:
    """Whether the keys of both roots are the same texts, and a range of them is the same on both servers."""
    translated = {name for one in mapping.references for name in one.columns}
    if mapping.multiset or mapping.key_map is not None or translated.intersection(mapping.target.key):
        return False
    source, target = mapping.root.table.by_name, mapping.target.table.by_name
    pairs = zip(mapping.root.key, mapping.target.key, strict=True)
    return all(_alike(source[old], target[new]) for old, new in pairs)


def _alike(old: Column, new: Column) -> bool:
    integers = {"smallint", "integer", "bigint"}
    one, other = (each.cast_type.removeprefix("pg_catalog.") for each in (old, new))
    return one in _ORDERED_ALIKE and (one == other or {one, other} <= integers)


def _hashed(mapping: Mapping) -> _Hashed:
    """A form of each column in which equal values have equal texts on both sides, as far as that is cheap.

    Where they have not (a float that became a double), buckets differ, and their rows are compared by value.
    """
    hashed = _Hashed()
    source, target = mapping.root.table.by_name, mapping.target.table.by_name
    for old, new in mapping.columns.items():
        if target[new].generated:
            continue
        form = "plain"
        if (source[old].cast_type, source[old].base_typmod) != (target[new].cast_type, target[new].base_typmod):
            form = {"numeric": "number", "bpchar": "text"}.get(target[new].cast_type, "plain")
            if source[old].cast_type not in {"numeric", "bpchar"}:
                form = "plain"
        hashed.source.append(HashedColumn(old, form))
        hashed.target.append(HashedColumn(new, form))
    return hashed
