"""What is left of a batch's changes of one shape, as rows for the planner. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, cast

from replicator.events import Key, Op, Values
from replicator.runs import Rows

if TYPE_CHECKING:
    from replicator.reduction import Reduced


def together(reduced: Reduced, op: Op, others: Collection[Values]) -> Sequence[Values]:
    """The rows of all runs of one kind, and others."""
    found: list[Iterable[Values]] = [run.rows for run in reduced.runs if run.op is op]
    return joined(reduced, [*found, others] if others else found) if found else list(others)


def joined(reduced: Reduced, parts: Sequence[Iterable[Values]]) -> Sequence[Values]:
    """Rows of several parts as one."""
    return Rows.join(parts, len(reduced.relation.columns))


def deleted(reduced: Reduced) -> Sequence[Key]:
    """The keys that are gone."""
    runs = [run.rows for run in reduced.runs if run.op is Op.DELETE]
    if not runs:
        return list(reduced.deletes)
    at = [reduced.relation.positions[name] for name in reduced.mapping.root.key]
    found = [rows.pick(at) for rows in runs]
    return cast("Sequence[Key]", Rows.join([*found, reduced.deletes] if reduced.deletes else found, len(at)))


def key_at(row: Values, at: tuple[int, ...]) -> Key | None:
    """The key in these places of a row; None where one is NULL."""
    values = [row[place] for place in at]
    key = tuple(value for value in values if isinstance(value, bytes))
    return key if len(key) == len(at) else None
