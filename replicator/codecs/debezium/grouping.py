"""Changes that were read one by one, those of one kind that follow each other as one."""

from __future__ import annotations

from itertools import chain, groupby
from typing import TYPE_CHECKING, Final

from replicator.events import UNCHANGED, Op
from replicator.records import RowChange, RowChanges
from replicator.runs import Origins, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.events import Relation
    from replicator.records import Decoded

_FEW: Final = 4
"""So many are not worth it."""


def grouped(decoded: Sequence[Decoded]) -> list[Decoded | RowChanges]:
    """What was read, in order."""
    found: list[Decoded | RowChanges] = []
    for kind, group in groupby(decoded, key=_kind):
        some = list(group)
        if kind is None or len(some) < _FEW:
            found += some
        else:
            found.append(_joined(*kind, some))  # type: ignore[arg-type]  # None of them is anything else
    return found


def _kind(one: Decoded) -> tuple[Op, Relation] | None:
    if not isinstance(one, RowChange) or not one.relation.columns:
        return None
    old, new = one.before is not None, one.after is not None
    return (one.op, one.relation) if (old, new) == (one.op is Op.DELETE, one.op is not Op.DELETE) else None


def _joined(op: Op, relation: Relation, changes: Sequence[RowChange]) -> RowChanges:
    _, _, befores, afters, xids, lsns, times, _, _, sequences, _ = zip(*changes, strict=True)
    values = list(chain.from_iterable(befores if op is Op.DELETE else afters))
    whole = UNCHANGED not in values
    return RowChanges(op, relation, Rows(values, len(relation.columns)), whole, Origins(xids, lsns, times), sequences)
