"""Plans for transformed aggregates: every target table of a mapping ends up with the rows that the transform gave.

A table in which the aggregate's key is unique holds one row of it at most: upsert, update or delete by that key. In any
other, the aggregate's rows are pruned of what was not given again, then merged (matched by primary key where all rows
give it, else by a unique key that they give, else by all columns, as often as given).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Values
from replicator.planner.translations import translations, whole_keys
from replicator.writes import Owner, Write, WriteAction

if TYPE_CHECKING:
    from replicator.events import Key
    from replicator.mapping import Mapping, Outcome, Side, TargetRow
    from replicator.tables import Table


def plan_outcomes(mapping: Mapping, outcomes: Sequence[Outcome], *, fresh: Collection[Key] = ()) -> list[Write]:
    """Writes that make the target's aggregates equal to these outcomes.

    Args:
        mapping: with a function.
        outcomes: each key once. A root row may hold UNCHANGED values: it becomes an UPDATE without them.
        fresh: keys of aggregates of which the target certainly has nothing yet.

    Raises:
        ReplicatorError: TRANSFORM, naming table and key, when rows can't be told apart or lack their key.

    """
    writes: list[Write] = []
    for at, side in enumerate(mapping.targets):
        if one_row_a_key(side):
            writes.extend(_plan_single(mapping, at, outcomes, fresh))
        else:
            writes.extend(_plan_several(mapping, at, outcomes, fresh))
    return writes


def one_row_a_key(side: Side) -> bool:
    """Whether a unique key lies within the columns that hold the aggregate's key."""
    within = set(side.key)
    return any(key.not_null and within.issuperset(key.columns) for key in side.table.unique_keys)


def owner_of(mapping: Mapping) -> Owner | None:
    """Whose child rows a delete may touch, where the mapping owns a part of its root table only."""
    if mapping.owns is None:
        return None
    return Owner(mapping.target.table, mapping.target.key, mapping.owns)


def row_groups(table: Table, rows: Iterable[TargetRow]) -> list[tuple[tuple[str, ...], list[Values]]]:
    """Rows grouped by the set of columns that they give, UNCHANGED values left out; columns in the table's order."""
    places = {name: at for at, name in enumerate(table.column_names)}
    shapes: dict[tuple[str, ...], tuple[str, ...]] = {}
    groups: defaultdict[tuple[str, ...], list[Values]] = defaultdict(list)
    for row in rows:
        given = {name: value for name, value in row.items() if value is not UNCHANGED}
        names = tuple(given)
        columns = shapes.get(names)
        if columns is None:
            columns = shapes[names] = tuple(sorted(names, key=lambda name: places.get(name, -1)))
        groups[columns].append(tuple(given[name] for name in columns))
    return list(groups.items())


# -- at most one row ---------------------------------------------------------------------------------------------------


def _plan_single(mapping: Mapping, at: int, outcomes: Sequence[Outcome], fresh: Collection[Key]) -> list[Write]:
    side = mapping.targets[at]
    actions: defaultdict[WriteAction, list[TargetRow]] = defaultdict(list)
    kept: list[Key] = []  # the aggregate stays, without a row here
    gone: list[Key] = []
    for outcome in outcomes:
        rows = outcome.rows[at]
        new = outcome.key in fresh
        if not rows:
            if not new:
                (kept if at and outcome.rows[0] else gone).append(outcome.key)
            continue
        if len(rows) > 1:
            raise _error(mapping, side, outcome, f"{len(rows)} rows, but a key has one row there")
        row = _keyed(mapping, side, outcome, rows[0])
        if any(value is UNCHANGED for value in row.values()):
            actions[WriteAction.UPDATE].append(row)
        elif new and side.table.arbiter(side.key) is not None:
            actions[WriteAction.INSERT].append(row)
        else:
            actions[WriteAction.UPSERT].append(row)
    writes = []
    if gone:
        writes.append(_delete(mapping, at, gone, guarded=True))
    if kept:
        writes.append(_delete(mapping, at, kept, guarded=False))
    for action, rows in actions.items():
        for columns, values in row_groups(side.table, rows):
            writes.append(_rows_write(mapping, side, action, key=side.key, columns=columns, rows=values))
    return writes


def _delete(mapping: Mapping, at: int, keys: Sequence[Key], *, guarded: bool) -> Write:
    side = mapping.targets[at]
    return Write(
        side.table,
        WriteAction.DELETE,
        columns=side.key,
        key=side.key,
        rows=keys,
        scope=side.key,
        predicate=mapping.owns if at == 0 else None,
        owner=owner_of(mapping) if at and guarded else None,
        translations=translations(mapping, side, side.key),
        mapping=mapping.name,
    )


def _rows_write(
    mapping: Mapping,
    side: Side,
    action: WriteAction,
    *,
    key: tuple[str, ...],
    columns: tuple[str, ...],
    rows: Sequence[Values],
    multiset: bool = False,
) -> Write:
    return Write(
        side.table,
        action,
        columns=columns,
        key=key,
        rows=rows,
        scope=side.key if action is WriteAction.MERGE else (),
        multiset=multiset,
        translations=translations(mapping, side, columns),
        mapping=mapping.name,
    )


# -- any number of rows ------------------------------------------------------------------------------------------------


def _plan_several(mapping: Mapping, at: int, outcomes: Sequence[Outcome], fresh: Collection[Key]) -> list[Write]:
    side = mapping.targets[at]
    given: list[tuple[Outcome, TargetRow]] = []
    kept: list[Key] = []
    gone: list[Key] = []
    for outcome in outcomes:
        if outcome.key not in fresh:
            (gone if at == 0 or not outcome.rows[0] else kept).append(outcome.key)
        given.extend((outcome, _keyed(mapping, side, outcome, row)) for row in outcome.rows[at])
    match, multiset = _match(mapping, side, given)
    if not multiset:
        given = _distinct(mapping, side, given, match)
    merges = _merges(mapping, side, given, match, fresh, multiset=multiset)
    columns = whole_keys(mapping, side, match)
    pick = _values_of(columns)
    stays = [pick(row) for _, row in given]
    writes = [
        Write(
            side.table,
            WriteAction.PRUNE,
            columns=columns,
            key=match,
            rows=stays,
            scope=side.key,
            keys=keys,
            predicate=mapping.owns if at == 0 else None,
            owner=owner,
            multiset=multiset,
            translations=translations(mapping, side, columns) if given else (),
            scope_translations=translations(mapping, side, side.key),
            mapping=mapping.name,
        )
        for keys, owner in _pruned(mapping, at, kept, gone)
    ]
    return [*writes, *merges]


def _pruned(
    mapping: Mapping, at: int, kept: list[Key], gone: list[Key]
) -> Iterable[tuple[Sequence[Key], Owner | None]]:
    owner = owner_of(mapping) if at else None
    if owner is None:
        return [([*kept, *gone], None)] if kept or gone else []
    return [(keys, whose) for keys, whose in ((kept, None), (gone, owner)) if keys]


def _merges(
    mapping: Mapping,
    side: Side,
    given: Sequence[tuple[Outcome, TargetRow]],
    match: tuple[str, ...],
    fresh: Collection[Key],
    *,
    multiset: bool,
) -> list[Write]:
    actions: defaultdict[WriteAction, list[TargetRow]] = defaultdict(list)
    for outcome, row in given:
        if any(value is UNCHANGED for value in row.values()):
            actions[WriteAction.UPDATE].append(row)
        elif outcome.key not in fresh:
            actions[WriteAction.MERGE].append(row)
        elif multiset:
            actions[WriteAction.APPEND].append(row)
        else:
            inserts = side.table.arbiter(match) is not None
            actions[WriteAction.INSERT if inserts else WriteAction.MERGE].append(row)
    return [
        _rows_write(
            mapping,
            side,
            action,
            key=match,
            columns=columns,
            rows=values,
            multiset=multiset and action is WriteAction.MERGE,
        )
        for action, rows in actions.items()
        for columns, values in row_groups(side.table, rows)
    ]


def _match(mapping: Mapping, side: Side, given: Sequence[tuple[Outcome, TargetRow]]) -> tuple[tuple[str, ...], bool]:
    """The columns by which rows are matched, and whether equal rows may occur (then as many stay as are given)."""
    if not given:
        return (), False
    sets = {frozenset(name for name, value in row.items() if value is not UNCHANGED) for _, row in given}
    by_all = frozenset.intersection(*sets)
    for key in side.table.unique_keys:
        if key.not_null and by_all.issuperset(key.columns):
            return key.columns, False
    if len(sets) > 1 or any(value is UNCHANGED for _, row in given for value in row.values()):
        odd = sorted(frozenset.union(*(frozenset(row) for _, row in given)) - by_all)
        what = f"rows that have no key and differ in their columns ({', '.join(odd)}): they match nothing"
        raise _error(mapping, side, given[0][0], what)
    return tuple(name for name in side.table.column_names if name in by_all), True


def _distinct(
    mapping: Mapping, side: Side, given: Sequence[tuple[Outcome, TargetRow]], match: tuple[str, ...]
) -> list[tuple[Outcome, TargetRow]]:
    """The last row of each match key: as if the aggregates were written one after another."""
    if not given:
        return []
    pick = _values_of(match)
    last: dict[Values, tuple[Outcome, TargetRow]] = {}
    for outcome, row in given:
        key = pick(row)
        earlier = last.pop(key, None)
        if earlier is not None and earlier[0] is outcome:
            raise _error(mapping, side, outcome, f"two rows with the same ({', '.join(match)})")
        last[key] = (outcome, row)
    return list(last.values())


def _values_of(columns: tuple[str, ...]) -> Any:
    """A function from a row to its values of these columns, as a tuple."""
    if len(columns) == 1:
        only = columns[0]
        return lambda row: (row[only],)
    return itemgetter(*columns) if columns else lambda _: ()


def _keyed(mapping: Mapping, side: Side, outcome: Outcome, row: TargetRow) -> TargetRow:
    """The row with its aggregate's key: with a key map the source's, to be translated."""
    if mapping.key_map is not None:
        return {**row, **dict(zip(side.key, outcome.key, strict=True))}
    missing = [name for name in side.key if row.get(name) is None]
    if missing:
        raise _error(mapping, side, outcome, f"a row without a value for {missing[0]}, which holds the key")
    return row


def _error(mapping: Mapping, side: Side, outcome: Outcome, what: str) -> ReplicatorError:
    return ReplicatorError(
        f"{mapping.label} gave {side.table.name} {what}",
        kind=ErrorKind.TRANSFORM,
        table=str(side.table.name),
        key=tuple(part.decode("utf-8", "replace") for part in outcome.key),
        hint="nothing of this aggregate was written",
    )
