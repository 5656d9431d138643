"""Plans for rows that keep their shape: the hot path. What depends on the shape alone is computed once a relation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Values
from replicator.mapping import SourceAggregate, SourceRows
from replicator.planner.outcomes import row_groups
from replicator.planner.translations import translations
from replicator.runs import Rows
from replicator.writes import Translation, Write, WriteAction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from replicator.events import Key, Relation
    from replicator.mapping import Mapping

_SHAPES_MAX: Final = 4096  # relations that are remembered: a table has one, and a new one after each ALTER


@dataclass(frozen=True)
class _Projection:
    """How the rows of one relation become rows of the target table.

    Attributes:
        columns: target columns, in the order of the projected values.
        at: positions in the relation's rows.
        pick: None where rows pass through as they are.
        key: target columns that hold the aggregate's key.
        insertable: a plain INSERT of a row that is there fails at once.

    """

    columns: tuple[str, ...]
    at: tuple[int, ...]
    pick: Callable[[Values], Values] | None
    key: tuple[str, ...]
    insertable: bool
    translations: tuple[Translation, ...]
    key_translations: tuple[Translation, ...]

    def rows(self, rows: Sequence[Values]) -> Sequence[Values]:
        """The rows with the target's columns."""
        if self.pick is None:
            return rows
        return rows.pick(self.at) if isinstance(rows, Rows) else list(map(self.pick, rows))


def _picker(at: Sequence[int]) -> Callable[[Values], Values]:
    if len(at) == 1:
        only = at[0]
        return lambda row: (row[only],)
    return itemgetter(*at)


@lru_cache(maxsize=_SHAPES_MAX)
def _projection(mapping: Mapping, relation: Relation) -> _Projection:
    # A column that these rows lack was added since, or dropped: the target keeps what it has, or its default.
    sent = {source: target for source, target in mapping.columns.items() if source in relation.positions}
    at = tuple(relation.positions[source] for source in sent)
    columns = tuple(sent.values())
    target = mapping.target
    if not set(target.key) <= set(columns):
        raise ReplicatorError(
            f"the stream's rows of {relation.table} lack a column of the key ({', '.join(mapping.root.key)})",
            kind=ErrorKind.SCHEMA,
            table=str(relation.table),
            hint=(
                "nothing of this batch was applied: the table was changed while running; adapt the connector or the "
                "table, look at `replicator plan`, and start again"
            ),
        )
    passes = at == tuple(range(len(relation.columns)))
    return _Projection(
        columns=columns,
        at=at,
        pick=None if passes else _picker(at),
        key=target.key,
        insertable=target.table.arbiter(target.key) is not None,
        translations=translations(mapping, target, columns),
        key_translations=translations(mapping, target, target.key),
    )


def plan_rows(
    mapping: Mapping,
    relation: Relation,
    *,
    inserts: Sequence[Values],
    upserts: Sequence[Values],
    updates: Sequence[Values],
    deletes: Sequence[Key],
) -> list[Write]:
    """Writes of a same-shape mapping. No key is in two of the sequences, or twice in one.

    Args:
        mapping: without a function.
        relation: the shape of `inserts`, `upserts` and `updates`.
        inserts: rows that are certainly not on the target yet.
        upserts: complete rows.
        updates: rows that are on the target and keep their UNCHANGED values there.
        deletes: keys, in the order of the source root's key columns.

    Raises:
        ReplicatorError: SCHEMA, when the relation lacks a column that is mapped.

    """
    shape = _projection(mapping, relation)
    writes = [_plan_deletes(mapping, shape, deletes)] if deletes else []
    if updates:
        writes.extend(_plan_updates(mapping, shape, updates))
    for action, rows in ((WriteAction.UPSERT, upserts), (WriteAction.INSERT, inserts)):
        if rows:
            writes.append(
                Write(
                    mapping.target.table,
                    action if shape.insertable else WriteAction.UPSERT,
                    columns=shape.columns,
                    key=shape.key,
                    rows=shape.rows(rows),
                    translations=shape.translations,
                    mapping=mapping.name,
                )
            )
    return writes


def _plan_deletes(mapping: Mapping, shape: _Projection, deletes: Sequence[Key]) -> Write:
    return Write(
        mapping.target.table,
        WriteAction.DELETE,
        columns=shape.key,
        key=shape.key,
        rows=deletes,
        predicate=mapping.owns,
        translations=shape.key_translations,
        mapping=mapping.name,
    )


def _plan_updates(mapping: Mapping, shape: _Projection, updates: Iterable[Values]) -> list[Write]:
    """One UPDATE for each set of columns that came: an UNCHANGED value stays as the target has it."""
    groups: defaultdict[tuple[int, ...], list[Values]] = defaultdict(list)
    for row in updates:
        groups[tuple(at for at, source in enumerate(shape.at) if row[source] is not UNCHANGED)].append(row)
    writes = []
    for sent, rows in groups.items():
        columns = tuple(shape.columns[at] for at in sent)
        pick = _picker([shape.at[at] for at in sent])
        writes.append(
            Write(
                mapping.target.table,
                WriteAction.UPDATE,
                columns=columns,
                key=shape.key,
                rows=list(map(pick, rows)),
                translations=translations(mapping, mapping.target, columns),
                mapping=mapping.name,
            )
        )
    return writes


def plan_multiset(
    mapping: Mapping, relation: Relation, adds: Sequence[Values], removes: Sequence[Values]
) -> list[Write]:
    """Writes of a mapping whose rows have no key: append rows, and remove exactly one equal row for each given.

    Raises:
        ReplicatorError: SCHEMA as `plan_rows`; TRANSFORM from the mapping's function.

    """
    pairs = ((WriteAction.REMOVE, removes), (WriteAction.APPEND, adds))
    if mapping.function is None:
        shape = _projection(mapping, relation)
        return [
            Write(
                mapping.target.table,
                action,
                columns=shape.columns,
                rows=shape.rows(rows),
                translations=shape.translations,
                mapping=mapping.name,
            )
            for action, rows in pairs
            if rows
        ]
    writes = []
    for action, rows in pairs:
        outcomes = [mapping.function(SourceAggregate((), (SourceRows(relation, (row,)),))) for row in rows]
        for at, side in enumerate(mapping.targets):
            made = [row for outcome in outcomes for row in outcome.rows[at]]
            for columns, values in row_groups(side.table, made):
                writes.append(
                    Write(
                        side.table,
                        action,
                        columns=columns,
                        rows=values,
                        translations=translations(mapping, side, columns),
                        mapping=mapping.name,
                    )
                )
    return writes
