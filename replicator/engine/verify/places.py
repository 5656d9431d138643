"""Which aggregates a table's name and a key mean: of either side, by the row's own key or by the aggregate's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from replicator.engine.verify.keys import KeyMaps
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.events import Key
    from replicator.mapping import Mapping, Side
    from replicator.tables import TableName
    from replicator.verification import VersionedReader, VersionedSnapshot


@dataclass(frozen=True)
class Place:
    """One aggregate that is meant.

    Attributes:
        mapping: its mapping.
        key: at the source; None where no map has one.
        target: number of the target table, and the aggregate's key in it, where the key was given of that side.

    """

    mapping: Mapping
    key: Key | None
    target: tuple[int, Key] | None = None


@dataclass(frozen=True)
class GivenKey:
    """A key as it was given: values, with names or in the order of the key's columns."""

    values: Key
    names: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, words: Sequence[str]) -> GivenKey:
        """`id=5`, or the plain values."""
        pairs = [word.partition("=") for word in words]
        if pairs and all(equals and name.strip() for name, equals, _ in pairs):
            return cls(tuple(value.encode() for *_, value in pairs), tuple(name.strip() for name, *_ in pairs))
        return cls(tuple(word.encode() for word in words))

    def of(self, columns: tuple[str, ...]) -> Key | None:
        """The values of these columns in their order; None where others are meant."""
        if self.names is None:
            return self.values if len(columns) == len(self.values) else None
        if set(self.names) != set(columns):
            return None
        given = dict(zip(self.names, self.values, strict=True))
        return tuple(given[name] for name in columns)


async def find_places(
    mappings: Sequence[Mapping], table: TableName, given: GivenKey, source: VersionedReader, target: VersionedReader
) -> list[Place]:
    """The aggregates that a row of a table belongs to.

    Raises:
        ReplicatorError: CONFIG: the table isn't mapped, has no key, or has another one; DATA: a value that is none.

    """
    places: dict[tuple[str, Key | None], Place] = {}
    seen = False
    refused: ReplicatorError | None = None
    wanted: set[str] = set()
    for mapping in mappings:
        sides = [side for side in mapping.sources if side.table.name == table]
        targets = [(at, side) for at, side in enumerate(mapping.targets) if side.table.name == table]
        if not sides and not targets:
            continue
        seen = True
        if mapping.multiset:
            continue
        wanted |= {", ".join(columns) for side in (*sides, *(side for _, side in targets)) for columns in _keys(side)}
        for side in sides:
            try:
                async with source.versioned() as snapshot:
                    key = await _aggregate(snapshot, side, given, root=side is mapping.sources[0])
            except ReplicatorError as error:
                refused = _no_value(error)
                continue
            if key is not None:
                places.setdefault((mapping.name, key), Place(mapping, key))
        for at, side in targets:
            try:
                async with target.versioned() as snapshot:
                    own = await _aggregate(snapshot, side, given, root=at == 0)
                    back = await KeyMaps(source).back(snapshot, mapping, side, [own]) if own is not None else {}
            except ReplicatorError as error:
                refused = _no_value(error)
                continue
            if own is not None:
                key = back.get(own)
                places.setdefault((mapping.name, key), Place(mapping, key, (at, own)))
    if not places:
        raise refused or _unknown(table, given, seen=seen, wanted=wanted)
    return list(places.values())


def _no_value(error: ReplicatorError) -> ReplicatorError:
    """A value that the column's type refuses: a key of the other side, perhaps, where tables are of one name."""
    if error.kind is not ErrorKind.DATA:
        raise error
    return error


def _keys(side: Side) -> list[tuple[str, ...]]:
    """Columns by which a row is named: its own key, and the aggregate's."""
    return list(dict.fromkeys(columns for columns in (side.table.key, side.key) if columns))


async def _aggregate(snapshot: VersionedSnapshot, side: Side, given: GivenKey, *, root: bool) -> Key | None:
    """The aggregate's key in this table, as its rows spell it; of a root also where there is no such row."""
    for columns in _keys(side):
        key = given.of(columns)
        if key is None:
            continue
        if columns == side.key:
            stored = await snapshot.as_stored(side.table, columns, [key])
            if stored or root:
                return stored.get(key, key)
            continue
        names = side.table.column_names
        for row in await snapshot.versions(side.table, columns, [key]):
            values = [row[2 + names.index(name)] for name in side.key]
            found = tuple(value for value in values if isinstance(value, bytes))
            return found if len(found) == len(values) else None
    return None


def _unknown(table: TableName, given: GivenKey, *, seen: bool, wanted: set[str]) -> ReplicatorError:
    if not seen:
        message, hint = (
            f"the connector maps no table {table}",
            "`replicator plan` lists the mapped tables of both sides",
        )
    elif not wanted:
        message, hint = f"{table} has no key", "its rows can't be told apart; `replicator verify` compares them all"
    elif any(given.of(tuple(columns.split(", "))) is not None for columns in wanted):
        message, hint = f"no row of {table} has that key", "so nobody knows which aggregate it belongs to"
    else:
        message, hint = f"that is no key of {table}", f"give values of ({') or ('.join(sorted(wanted))})"
    return ReplicatorError(message, kind=ErrorKind.CONFIG, table=str(table), hint=hint)
