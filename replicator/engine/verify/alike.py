"""What is alike between the two tables of a mapping: the order of their keys, and the bytes of equal values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replicator.engine.verify.keys import translates_keys
from replicator.verification import HashedColumn

if TYPE_CHECKING:
    from replicator.mapping import Mapping
    from replicator.tables import Column
    from replicator.verification import VersionedReader

_INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})
_TEXTS: Final = frozenset({"text", "character varying"})
_MOMENTS: Final = frozenset({"timestamp with time zone", "timestamp without time zone", "time without time zone"})
_ORDERED_ALIKE: Final = _INTEGERS | {"oid", "uuid", "date", "boolean", "bytea", "numeric"} | _MOMENTS
_SENT: Final = _MOMENTS | {"date", "real", "double precision", "numeric", "bytea"}
"""Types whose binary form tells all that counts. What it tells beyond is settled row by row (1.0 and 1.00)."""


def digestible(mapping: Mapping) -> bool:
    """Whether nothing but names, and types that are near, lies between the two tables."""
    plain = mapping.function is None and not mapping.references
    whole = mapping.owns is None and mapping.owns_source is None
    return plain and whole and not mapping.reads_back and not mapping.multiset


async def ordered_alike(mapping: Mapping, source: VersionedReader, target: VersionedReader) -> bool:
    """Whether the keys of both roots are the same texts, and a range of them is the same on both servers.

    Where they are not after all, nothing is missed (each row lies between two neighbouring boundaries, in whatever
    order they come), but ranges are larger than they look, and what differs is looked at again.
    """
    if mapping.multiset or translates_keys(mapping):
        return False
    root, table = mapping.root.table, mapping.target.table
    pairs = [
        (root.by_name[old], table.by_name[new]) for old, new in zip(mapping.root.key, mapping.target.key, strict=True)
    ]
    texts = [(old, new) for old, new in pairs if _type(old) in _TEXTS and _type(new) in _TEXTS]
    if not all(_alike(old, new) for old, new in pairs if (old, new) not in texts):
        return False
    if not texts:
        return True
    async with source.versioned() as there, target.versioned() as here:
        one = await there.collations(root, [old.name for old, _ in texts])
        other = await here.collations(table, [new.name for _, new in texts])
    return one == other and all(one)


def _alike(old: Column, new: Column) -> bool:
    one, other = _type(old), _type(new)
    if one == other == "numeric":
        return old.base_typmod == new.base_typmod  # or one key has two texts
    return one in _ORDERED_ALIKE and (one == other or {one, other} <= _INTEGERS)


def hashed(mapping: Mapping) -> tuple[tuple[HashedColumn, ...], tuple[HashedColumn, ...]]:
    """A form of each column in which equal values have equal bytes on both sides, as far as that is cheap.

    Where they have not (a float that became a double), digests differ, and their rows are compared by value. Values
    that are not equal have other bytes in every form.
    """
    source, target = mapping.root.table.by_name, mapping.target.table.by_name
    pairs = [(source[old], target[new]) for old, new in mapping.columns.items() if not target[new].generated]
    key = set(mapping.root.key)
    pairs.sort(key=lambda pair: pair[0].name not in key)
    there, here = [], []
    for old, new in pairs:
        form, nullable = _form(old, new), old.nullable or new.nullable
        there.append(HashedColumn(old.name, form, nullable))
        here.append(HashedColumn(new.name, form, nullable))
    return tuple(there), tuple(here)


def _form(old: Column, new: Column) -> str:
    one, other = _type(old), _type(new)
    if {one, other} <= _INTEGERS:
        return "bigint" if "bigint" in (one, other) else "integer"
    if (one in _TEXTS and other in _TEXTS) or one == other == "bpchar":
        return "text"
    if other == "numeric" and one in _INTEGERS:
        return "number"
    if one != other:
        return "printed"
    if one == "uuid":
        return "uuid"
    if one == "numeric" and old.base_typmod != new.base_typmod:
        return "number"
    return "sent" if one in _SENT else "printed"


def _type(column: Column) -> str:
    return column.cast_type.removeprefix("pg_catalog.")
