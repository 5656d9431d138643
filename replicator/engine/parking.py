"""Parking: events set aside in the dead letter queue, and the keys whose later events wait behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from replicator.errors import ReplicatorError
from replicator.events import ChangeEvent, Key, Op, Position
from replicator.keys import Keys
from replicator.ports import DeadLetter
from replicator.reduction import event_values

if TYPE_CHECKING:
    from replicator.mapping import Mapping, Mappings
    from replicator.ports import Source

BEHIND: Final = "behind"
"""The kind of a dead letter that is no error itself: an earlier change of its aggregate waits in the queue."""

Parked = tuple[str, Key]
"""Mapping name and aggregate key."""


@dataclass(slots=True)
class Sorted:
    """Events of one batch, sorted by whether they may be applied.

    Attributes:
        free: to apply.
        letters: to park behind earlier ones.
        voided: names of mappings that were truncated: what had waited of them is void.

    """

    free: Sequence[ChangeEvent]
    letters: list[DeadLetter] = field(default_factory=list)
    voided: set[str] = field(default_factory=set)


class Parking:
    """The parked keys of one feed, as committed in the target, and what is made of events that touch them."""

    def __init__(self, mappings: Mappings, source: Source, letters: Iterable[DeadLetter] = ()) -> None:
        self._by_source = mappings.by_source
        self._format = source.format
        self._keys = Keys()
        self.parked: Counter[Parked] = parked_by(letters)

    def keys_of(self, event: ChangeEvent) -> tuple[Mapping, list[Key]]:
        """The mapping and the aggregate keys that a row event touches."""
        mapping, side = self._by_source[event.relation.table]
        if mapping.multiset:
            return mapping, [()]
        return mapping, self._keys.of_event(side, event)

    def sort(
        self, events: Sequence[ChangeEvent], also: Collection[Parked] = (), voided: Collection[str] = ()
    ) -> Sorted:
        """Sort a batch's events; costs nothing while nothing is parked.

        A TRUNCATE isn't held up: it voids what waits of its tables.

        Args:
            events: in order.
            also: what the same target transaction has parked before.
            voided: mappings of which it has voided what was committed before.

        """
        if not self.parked and not also:
            return Sorted(events)
        parked = {one for one in self.parked if one[0] not in voided}.union(also)
        free: list[ChangeEvent] = []
        result = Sorted(free)
        for event in events:
            if event.op is Op.TRUNCATE:
                self._void(event, parked, result)
                free.append(event)
                continue
            mapping, keys = self.keys_of(event)
            names = {(mapping.name, key) for key in keys}
            if names.isdisjoint(parked):
                free.append(event)
                continue
            parked |= names
            result.letters.extend(self.letters(event, mapping, keys, BEHIND, "an earlier change of this key waits"))
        return result

    def _void(self, event: ChangeEvent, parked: set[Parked], result: Sorted) -> None:
        mapping, side = self._by_source[event.relation.table]
        if side is not mapping.root:
            return
        gone = {one for one in parked if one[0] == mapping.name}
        parked -= gone
        result.letters = [letter for letter in result.letters if letter.mapping != mapping.name]
        if gone:
            result.voided.add(mapping.name)

    def letters_of_error(self, event: ChangeEvent, error: ReplicatorError) -> list[DeadLetter]:
        """Dead letters for an event that can't be applied, one for each key that it parks."""
        mapping, keys = self.keys_of(event)
        return self.letters(event, mapping, keys, str(error.kind), error.message)

    def letters(
        self, event: ChangeEvent, mapping: Mapping, keys: Sequence[Key], kind: str, message: str
    ) -> list[DeadLetter]:
        """One dead letter for each aggregate that the event touches."""
        before, after = event_values(event)
        place = self._format_event(event)
        return [
            DeadLetter(
                mapping=mapping.name,
                key=key,
                table=event.relation.table,
                op=event.op.value,
                position=place,
                kind=kind,
                message=message,
                before=before,
                after=after,
            )
            for key in keys
        ]

    def _format_event(self, event: ChangeEvent) -> str:
        return self._format(position_of(event))


def parked_by(letters: Iterable[DeadLetter]) -> Counter[Parked]:
    """How many changes wait of each parked key."""
    return Counter((letter.mapping, letter.key) for letter in letters)


def position_of(event: ChangeEvent) -> Position:
    """The position at which an event has been applied."""
    transaction = event.transaction
    return Position(transaction.commit_lsn if transaction.at is None else transaction.at, event.ordinal)


def text_key(key: Key) -> tuple[str, ...]:
    """A key for messages."""
    return tuple(part.decode("utf-8", "replace") for part in key)
