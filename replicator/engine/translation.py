"""Keys that change, on their way into the target and back: what the planner has marked is translated by the key map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Key, Values
from replicator.planner import translations
from replicator.writes import Translation, Write, WriteAction

if TYPE_CHECKING:
    from replicator.copies import ChunkTarget
    from replicator.mapping import Mapping, Side
    from replicator.ports import TargetTransaction


async def translated(tx: TargetTransaction, write: Write) -> Write:
    """The write with its keys translated by the key map; the same object where nothing is to be translated.

    Raises:
        ReplicatorError: TRANSFORM, when two keys share a column and disagree about it.

    """
    if not write.translations and not write.scope_translations:
        return write
    create = write.action not in (WriteAction.DELETE, WriteAction.PRUNE)
    rows = await _translate(tx, write, write.translations, write.rows, create=create)
    keys = await _translate(tx, write, write.scope_translations, write.keys, create=False)
    return replace(write, rows=rows, keys=cast("list[Key]", keys), translations=(), scope_translations=())


async def _translate(
    tx: TargetTransaction, write: Write, marked: Sequence[Translation], rows: Sequence[Values], *, create: bool
) -> list[Values]:
    """Rows with all their keys translated, each from what the source gave: two keys may share a column.

    A key with a NULL refers to nothing, and stays. A row with a key that the map doesn't have is left out: a delete of
    what the target never had.
    """
    found = []
    for each in marked:
        keys = [_key_at(row, each.at) for row in rows]
        pairs = await tx.translate(each.keys, {key for key in keys if key is not None}, create=create)
        found.append((each, keys, pairs))
    result: list[Values] = []
    for number, row in enumerate(rows):
        given: dict[int, bytes] = {}
        for each, keys, pairs in found:
            key = keys[number]
            if key is None:
                continue
            new = pairs.get(key)
            if new is None:
                break
            for place, value in zip(each.at, new, strict=True):
                stays = row[place] if place in each.kept else value
                if given.setdefault(place, value) != value or stays != value:
                    raise _disagreement(write, each, key, place)
        else:
            result.append(tuple(given.get(place, value) for place, value in enumerate(row)) if given else row)
    return result


def _disagreement(write: Write, each: Translation, key: Key, place: int) -> ReplicatorError:
    column = write.columns[place]
    return ReplicatorError(
        f"a row of {write.table.name} has two keys that share column {column} and change it differently: one of them "
        f"refers to {each.keys.name}",
        kind=ErrorKind.TRANSFORM,
        table=str(write.table.name),
        key=tuple(part.decode("utf-8", "replace") for part in key),
        column=column,
        hint="nothing of this change was written; let both KeyMaps make the same of that column, or leave it as it is",
    )


def _key_at(row: Values, at: tuple[int, ...]) -> Key | None:
    values = [row[place] for place in at]
    key = tuple(value for value in values if isinstance(value, bytes))
    return key if len(key) == len(at) else None


async def source_keys(
    rows: ChunkTarget, tx: TargetTransaction, mapping: Mapping, side: Side, keys: Sequence[Key]
) -> dict[Key, Key]:
    """Keys of aggregates in one target table to those of the source; what no key map has is left out."""
    back = {key: key for key in keys}
    for each in translations(mapping, side, side.key):
        parts = {key: tuple(key[place] for place in each.at) for key in back}
        found = await rows.source_keys(tx, each.keys, list(dict.fromkeys(parts.values())))
        back = {key: _replaced(there, each.at, found[parts[key]]) for key, there in back.items() if parts[key] in found}
    return back


def _replaced(key: Key, at: tuple[int, ...], values: Key) -> Key:
    new = list(key)
    for place, value in zip(at, values, strict=True):
        new[place] = value
    return tuple(new)
