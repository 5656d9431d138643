"""Keys of rows and aggregates: which aggregates an event touches. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, ChangeEvent, Key, Op, Relation, Values

if TYPE_CHECKING:
    from replicator.mapping import Side

KeyOf = Callable[[Values], tuple[Any, ...]]
"""A row's key; an element is None or UNCHANGED where the row doesn't carry it."""


def key_getter(relation: Relation, columns: Sequence[str]) -> KeyOf:
    """A function from a row's values to the values of `columns`.

    Raises:
        ReplicatorError: SCHEMA, when the relation lacks one of them.

    """
    try:
        at = [relation.positions[name] for name in columns]
    except KeyError as missing:
        raise ReplicatorError(
            f"the stream's rows of {relation.table} have no column {missing.args[0]!r}, which is part of the key",
            kind=ErrorKind.SCHEMA,
            table=str(relation.table),
            hint="the table was changed while running: adapt the connector, run `replicator plan`, and start again",
        ) from None
    if len(at) == 1:
        only = at[0]
        return lambda values: (values[only],)
    return itemgetter(*at)


class Keys:
    """Key getters by relation and columns, cached: a relation object lives as long as its shape."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[str, ...]], tuple[Relation, KeyOf]] = {}

    def getter(self, relation: Relation, columns: tuple[str, ...]) -> KeyOf:
        """The getter for `columns` of `relation`."""
        known = self._known.get((id(relation), columns))
        if known is None:
            # The relation is kept beside its getter: its id stays taken.
            known = (relation, key_getter(relation, columns))
            self._known[id(relation), columns] = known
        return known[1]

    def of_event(self, side: Side, event: ChangeEvent) -> list[Key]:
        """The aggregate's keys that an event touches: one, or the old and the new one.

        A child row with a NULL in them belongs to no parent, and is part of no aggregate: maybe none is touched.

        Raises:
            ReplicatorError: SCHEMA, when the old tuple doesn't carry the key.

        """
        key_of = self.getter(event.relation, side.key)
        keys = []
        before: tuple[Any, ...] | None = None
        if event.before is not None:
            before = key_of(event.before)
            if None not in before:
                keys.append(before)
            elif not set(side.key).issubset(event.relation.key_columns):  # not NULL there, but not sent
                raise identity_error(side, event)
        elif event.op is Op.DELETE:
            raise identity_error(side, event)
        if event.after is not None:
            after = key_of(event.after)
            if UNCHANGED in after:  # a TOASTed key column that didn't change: the old tuple carries it
                if before is None:
                    raise identity_error(side, event)
                after = tuple(old if new is UNCHANGED else new for old, new in zip(before, after, strict=True))
            if None not in after and after not in keys:
                keys.append(after)
        return keys


def identity_error(side: Side, event: ChangeEvent) -> ReplicatorError:
    """The error for an old row that doesn't carry the key that a mapping needs."""
    columns = ", ".join(side.key)
    return ReplicatorError(
        f"an old row of {event.relation.table} came without its key ({columns})",
        kind=ErrorKind.SCHEMA,
        table=str(event.relation.table),
        hint=(
            f"nothing was applied of it; ALTER TABLE {event.relation.table} REPLICA IDENTITY FULL (or USING an index "
            "that has these columns) makes later events carry it, not this one: then begin again with a new backfill"
        ),
    )
