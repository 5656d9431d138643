"""Rows of a target table that no row of the source stands behind: proven behind the gate, then deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.engine.translation import source_keys
from replicator.writes import Owner, Write, WriteAction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.copies import ChunkTarget
    from replicator.events import Key
    from replicator.mapping import Mapping, Side
    from replicator.ports import SourceSnapshot, TargetTransaction


async def extra_keys(
    tx: TargetTransaction,
    snapshot: SourceSnapshot,
    mapping: Mapping,
    side: Side,
    keys: Sequence[Key],
    *,
    chunks: ChunkTarget,
    respelled: bool = False,
) -> list[Key]:
    """Those keys of a target table that no root row of the source stands behind (or that are in no key map).

    Args:
        tx: of the target.
        snapshot: of the source.
        mapping: whose rows they are.
        side: the table.
        keys: as the target has them.
        chunks: of the target.
        respelled: also those that equal a key of the source whose own text is another one (7.50 and 7.5 of numeric):
            all rows of that aggregate are written under its own text.

    """
    if not keys:
        return []
    sources = await source_keys(chunks, tx, mapping, side, keys)
    root = mapping.root
    there = await snapshot.as_stored(root.table, root.key, list(sources.values()), where=mapping.owns_source)
    if respelled:
        return [key for key in keys if (source := sources.get(key)) is None or there.get(source) != source]
    return [key for key in keys if sources.get(key) not in there]


async def delete_extras(tx: TargetTransaction, mapping: Mapping, side: Side, keys: Sequence[Key]) -> int:
    """Delete the mapping's own rows of these keys of a target table; returns how many.

    Args:
        tx: in which the gate is held, alone, since before the keys were proven to be too much.
        mapping: whose they are.
        side: the table.
        keys: as the target has them.

    """
    root = side is mapping.target
    owner = None
    if not root and mapping.owns is not None:
        owner = Owner(mapping.target.table, mapping.target.key, mapping.owns)
    result = await tx.write(
        Write(
            side.table,
            WriteAction.DELETE,
            columns=side.key,
            key=side.key,
            rows=keys,
            scope=side.key,
            predicate=mapping.owns if root else None,
            owner=owner,
            mapping=mapping.name,
        )
    )
    return result.affected
