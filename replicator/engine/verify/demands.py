"""What the source demands of the target: aggregates as they were read, and the rows that the mapping makes of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, cast

from replicator.engine.verify.brackets import NOTHING, Print, print_of
from replicator.engine.verify.casts import Casts, to_source, to_target
from replicator.engine.verify.keys import Change, Pairs, Row, changes, key_of, translated
from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import SourceAggregate, SourceRows

if TYPE_CHECKING:
    from replicator.events import Key, Values
    from replicator.mapping import KeyMapping, Mapping
    from replicator.verification import VersionedReader, VersionedSnapshot

_AT_ONCE: Final = 500  # aggregates between two turns of the loop: a feed may run beside


@dataclass(slots=True)
class Read:
    """Aggregates of the source in one snapshot.

    Attributes:
        rows: by key, one list a source table: rows that begin with their xmin. A key without root rows is absent.
        keys: all that were asked for, or found in the range.
        last: the range's end; None where it is the table's.
        xmin: of the snapshot: whatever has a lower id had ended.
        lsn: everything visible lies before.
        span: the keys are those of a range, after one and up to another (None: open), that both sides order alike, so
            that the target's root rows are found by it too.

    """

    rows: dict[Key, tuple[Sequence[Values], ...]]
    keys: Sequence[Key]
    last: Key | None
    xmin: int
    lsn: int
    span: tuple[Key | None, Key | None] | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.rows)

    def print_of(self, key: Key) -> Print:
        """What the aggregate's rows are known by."""
        tables = self.rows.get(key)
        if tables is None:
            return NOTHING
        return print_of((b"%d" % at, *row) for at, rows in enumerate(tables) for row in rows)


class SourceReads:
    """Reads aggregates of one mapping, one statement a table."""

    def __init__(self, mapping: Mapping, source: VersionedReader) -> None:
        self._mapping = mapping
        self._source = source
        names = mapping.root.table.column_names
        self._root_key = getter([names.index(name) + 1 for name in mapping.root.key])
        self._children_casts = [Casts(source, side, mapping.root) for side in mapping.sources[1:]]
        self.casts = to_source(mapping, source)
        """Keys of the target's root to the source's types."""

    async def by_key(self, keys: Sequence[Key]) -> Read:
        """The aggregates of these keys."""
        mapping, root = self._mapping, self._mapping.root
        asked = await self.casts.possible(keys)
        async with self._source.versioned() as snapshot:
            found = await snapshot.versions(root.table, root.key, asked, where=mapping.owns_source)
            rows: dict[Key, tuple[Sequence[Values], ...]] = {}
            for row in found:
                rows[asked[_number(row[0])]] = ((row[1:],),)
            await self._children(snapshot, rows)
            return Read(rows, keys, None, _xmin(snapshot), snapshot.insert_lsn)

    async def by_range(self, after: Key | None, last: Key | None, where: str | None, *, span: bool = False) -> Read:
        """The aggregates of the roots of a range (of those that `where` lets pass); `span` as of `Read`."""
        mapping, root = self._mapping, self._mapping.root
        conditions = [f"({one})" for one in (mapping.owns_source, where) if one is not None]
        bounds = self.casts.bound(after), self.casts.bound(last)
        async with self._source.versioned() as snapshot:
            found = await snapshot.chunk_versions(root.table, root.key, *bounds, where=" AND ".join(conditions) or None)
            rows: dict[Key, tuple[Sequence[Values], ...]] = {self._root_key(row): ((row,),) for row in found}
            await self._children(snapshot, rows)
            keys = (after, last) if span else None
            return Read(rows, list(rows), last, _xmin(snapshot), snapshot.insert_lsn, keys)

    async def _children(self, snapshot: VersionedSnapshot, rows: dict[Key, tuple[Sequence[Values], ...]]) -> None:
        for side, casts in zip(self._mapping.sources[1:], self._children_casts, strict=True):
            children: defaultdict[Key, list[Values]] = defaultdict(list)
            keys = await casts.possible(list(rows))
            for row in await snapshot.versions(side.table, side.key, keys):
                children[keys[_number(row[0])]].append(row[1:])
            for key, tables in rows.items():
                rows[key] = (*tables, children.get(key, ()))


@dataclass(slots=True)
class Demand:
    """What the target should hold of one aggregate.

    Attributes:
        key: at the source.
        rows: one list a target side, keys translated.
        target_keys: one a target side: the aggregate's key there; None where nobody has made it yet.
        error: why it isn't known.
        possible: by the types of its columns the target can have such a key.

    """

    key: Key
    rows: list[list[Row]] = field(default_factory=list)
    target_keys: tuple[Key | None, ...] = ()
    error: ReplicatorError | None = None
    possible: bool = True


class Demands:
    """Makes demands of what was read: the transform, or the mapping's columns."""

    def __init__(self, mapping: Mapping, source: VersionedReader, target: VersionedReader) -> None:
        self._mapping = mapping
        self.casts = [to_target(mapping, target, side) for side in mapping.targets]
        """Keys of the source to the types of each target table."""
        self._relations = [source.relation(side.table) for side in mapping.sources]
        self._changes = [changes(mapping, side) for side in mapping.targets]
        carried = [
            (old, new) for old, new in mapping.columns.items() if not mapping.target.table.by_name[new].generated
        ]
        self._names = tuple(new for _, new in carried)
        positions = mapping.root.table.column_names
        self._pick = getter([positions.index(old) + 1 for old, _ in carried]) if carried else tuple

    async def of(self, read: Read) -> list[Demand]:
        """What is demanded, with the keys of the source still in the rows."""
        made = []
        for at, key in enumerate(read.keys):
            if at % _AT_ONCE == 0:
                await asyncio.sleep(0)
            tables = read.rows.get(key)
            demand = Demand(key, [[] for _ in self._mapping.targets])
            if tables is not None:
                try:
                    demand.rows = self._derive(key, tables)
                except ReplicatorError as error:
                    if error.kind is not ErrorKind.TRANSFORM:
                        raise
                    demand.error = error
            made.append(demand)
        possible = read.keys
        for casts in self.casts:
            possible = await casts.possible(possible)
        if len(possible) < len(made):
            known = set(possible)
            for demand in made:
                demand.possible = demand.key in known
        return made

    def _derive(self, key: Key, tables: tuple[Sequence[Values], ...]) -> list[list[Row]]:
        mapping = self._mapping
        if mapping.function is None:
            return [[dict(zip(self._names, self._pick(tables[0][0]), strict=True))]]
        sources = tuple(
            SourceRows(relation, [row[1:] for row in rows])
            for relation, rows in zip(self._relations, tables, strict=True)
        )
        made = mapping.function(SourceAggregate(key, sources)).rows
        if mapping.key_map is None:
            return made
        return [
            [{**row, **dict(zip(side.key, key, strict=True))} for row in rows]
            for side, rows in zip(mapping.targets, made, strict=True)
        ]

    def wanted(self, demands: Collection[Demand]) -> list[tuple[KeyMapping, Key]]:
        """The keys that have to be translated."""
        found = []
        for demand in demands:
            for side, changed, rows in zip(self._mapping.targets, self._changes, demand.rows, strict=True):
                if not changed:
                    continue
                own: Row = dict(zip(side.key, demand.key, strict=True))
                for change in changed:
                    keys = {key_of(row, change.columns) for row in (own, *rows)}
                    found += [(change.keys, key) for key in keys if key is not None]
        return found

    def translate(self, demands: Collection[Demand], pairs: Pairs) -> None:
        """Put the target's keys into the rows."""
        for demand in demands:
            keys: list[Key | None] = []
            if not demand.possible:
                demand.target_keys = (None,) * len(self._changes)
                continue
            for at, (side, changed) in enumerate(zip(self._mapping.targets, self._changes, strict=True)):
                if not changed:
                    keys.append(demand.key)
                    continue
                keys.append(self._target_key(side.key, demand.key, changed, pairs))
                demand.rows[at] = [translated(row, changed, pairs) for row in demand.rows[at]]
            demand.target_keys = tuple(keys)

    def _target_key(self, columns: tuple[str, ...], key: Key, changed: tuple[Change, ...], pairs: Pairs) -> Key | None:
        own = frozenset(columns)
        within = [change for change in changed if own.issuperset(change.columns)]
        row = translated(dict(zip(columns, key, strict=True)), within, pairs)
        made = key_of(row, columns)
        return None if made is None or b"\0" in made else made


def getter(at: Sequence[int]) -> Callable[[Values], Any]:
    """A function from a row to its values at these places, as a tuple."""
    if len(at) == 1:
        only = at[0]
        return lambda row: (row[only],)
    return itemgetter(*at)


def _number(value: object) -> int:
    return int(cast("bytes", value)) - 1


def _xmin(snapshot: VersionedSnapshot) -> int:
    return int(snapshot.text.split(":")[0])
