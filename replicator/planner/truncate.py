"""Plans for TRUNCATE: the tables that a mapping fills are emptied, of what it owns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.errors import ErrorKind, ReplicatorError
from replicator.planner.outcomes import owner_of
from replicator.writes import Write, WriteAction

if TYPE_CHECKING:
    from replicator.mapping import Mapping, Mappings


def plan_truncate(mapping: Mapping, mappings: Mappings) -> list[Write]:
    """Empty the target tables of one mapping: by TRUNCATE, or with `owns` by a delete of its own rows.

    Args:
        mapping: whose source root was truncated.
        mappings: all of the feed, to see who else fills the same tables.

    Raises:
        ReplicatorError: CONFIG, when another mapping fills one of the tables and nothing says whose rows are whose.

    """
    writes = []
    for side in reversed(mapping.targets):
        if mapping.owns is not None:
            root = side is mapping.target
            writes.append(
                Write(
                    side.table,
                    WriteAction.CLEAR,
                    scope=side.key,
                    predicate=mapping.owns if root else None,
                    owner=None if root else owner_of(mapping),
                    mapping=mapping.name,
                )
            )
            continue
        others = [
            other.name
            for other in mappings.all
            if other is not mapping and any(one.table.name == side.table.name for one in other.targets)
        ]
        if others:
            raise ReplicatorError(
                f"TRUNCATE of {mapping.root.table.name} can't be applied: {side.table.name} also holds rows of "
                f"{', '.join(others)}",
                kind=ErrorKind.CONFIG,
                table=str(side.table.name),
                hint="nothing was emptied; declare `owns` on the transforms that share the table",
            )
        writes.append(Write(side.table, WriteAction.TRUNCATE, mapping=mapping.name))
    return writes
