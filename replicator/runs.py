"""Runs: many changes of one kind as one object, on their way from the stream's bytes to the target's.

A busy stream's rows come in runs: inserts, or updates, or deletes of one table, within one transaction. Their values
stay in one list, row after row. What is done with all of them is done by slices of that list, in C; no tuple is made of
a row, and no event of a change, unless somebody asks: a run is the sequence of its events, and rows are the sequence of
their values, to whoever has no use for the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain, count, repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, overload

from replicator.events import ChangeEvent, Op, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from replicator.events import Relation, Value, Values

_new_event: Final[Callable[[Iterable[Any]], ChangeEvent]] = partial(tuple.__new__, ChangeEvent)


class Rows(Sequence["Values"]):
    """Rows of equal width. Not to be changed.

    Attributes:
        values: of all rows, row after row.
        width: values of a row, at least 1.

    """

    __slots__ = ("values", "width")

    def __init__(self, values: list[Value], width: int) -> None:
        self.values = values
        self.width = width

    @classmethod
    def join(cls, parts: Sequence[Iterable[Values]], width: int) -> Rows:
        """The rows of several."""
        if len(parts) == 1 and isinstance(parts[0], Rows):
            return parts[0]
        values: list[Value] = []
        for part in parts:
            values.extend(part.values if isinstance(part, Rows) else chain.from_iterable(part))
        return cls(values, width)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.values) // self.width

    def __iter__(self) -> Iterator[Values]:
        """The rows as tuples."""
        return zip(*[iter(self.values)] * self.width, strict=True)

    @overload
    def __getitem__(self, at: int) -> Values: ...
    @overload
    def __getitem__(self, at: slice) -> Rows: ...

    def __getitem__(self, at: int | slice) -> Values | Rows:
        """A row as a tuple; or consecutive rows."""
        width = self.width
        if not isinstance(at, slice):
            first = range(len(self))[at] * width
            return tuple(self.values[first : first + width])
        first, last, step = at.indices(len(self))
        if step != 1:
            raise ValueError("rows are consecutive")
        return Rows(self.values[first * width : max(first, last) * width], width)

    def column(self, at: int) -> list[Value]:
        """One column's values."""
        return self.values[at :: self.width]

    def pick(self, at: Sequence[int]) -> Rows:
        """The rows with these columns, in this order."""
        width = len(at)
        values: list[Value] = [None] * (len(self) * width)
        for place, column in enumerate(at):
            values[place::width] = self.values[column :: self.width]
        return Rows(values, width)

    def keys(self, at: Sequence[int]) -> Iterable[Any]:
        """What tells rows apart by these columns: a value, or a tuple of several."""
        return self.column(at[0]) if len(at) == 1 else zip(*map(self.column, at), strict=True)


class Run(Sequence[ChangeEvent]):
    """Consecutive changes of one kind, of rows of one relation, within one transaction; without UNCHANGED.

    Attributes:
        op: INSERT, UPDATE (without an old tuple) or DELETE.
        relation: the rows' shape.
        rows: the new ones; of a DELETE the old ones.
        transaction: where they belong.
        first: ordinal of the first; the others' follow.
        size: bytes in the stream.

    """

    __slots__ = ("_length", "first", "op", "relation", "rows", "size", "transaction")

    def __init__(
        self, op: Op, relation: Relation, rows: Rows, transaction: Transaction, *, first: int, size: int
    ) -> None:
        self.op = op
        self.relation = relation
        self.rows = rows
        self.transaction = transaction
        self.first = first
        self.size = size
        self._length = len(rows)

    def as_update(self) -> Run:
        """The same rows, to be written whether they are there or not."""
        return Run(Op.UPDATE, self.relation, self.rows, self.transaction, first=self.first, size=self.size)

    def __len__(self) -> int:
        """The number of changes."""
        return self._length

    def __iter__(self) -> Iterator[ChangeEvent]:
        """The events."""
        transactions, ordinals = self._places()
        fields = zip(repeat(self.op), repeat(self.relation), *sides_of(self.op, self.rows), transactions, ordinals)
        return map(_new_event, fields)

    def _places(self) -> tuple[Iterable[Transaction], Iterable[int]]:
        """The transaction and the ordinal of each."""
        return repeat(self.transaction), count(self.first)

    @overload
    def __getitem__(self, at: int) -> ChangeEvent: ...
    @overload
    def __getitem__(self, at: slice) -> Self: ...

    def __getitem__(self, at: int | slice) -> ChangeEvent | Self:
        """An event; or consecutive ones, a run again, with its share of the size."""
        if not isinstance(at, slice):
            place = range(len(self))[at]
            return next(iter(self[place : place + 1]))
        rows = self.rows[at]
        return self._part(at, rows, self.size * len(rows) // max(len(self), 1))

    def _part(self, at: slice, rows: Rows, size: int) -> Self:
        first = self.first + at.indices(len(self))[0]
        return type(self)(self.op, self.relation, rows, self.transaction, first=first, size=size)


def sides_of(op: Op, rows: Rows) -> tuple[Iterable[Values | None], Iterable[Values | None]]:
    """The old tuples and the new ones of a run's changes: rows are the new ones, of a DELETE the old ones."""
    return (rows, repeat(None)) if op is Op.DELETE else (repeat(None), rows)


class Origins(NamedTuple):
    """Where changes of a log come from: as `Transaction` has it, of each.

    Attributes:
        xids, lsns, times: in parallel.

    """

    xids: Sequence[int]
    lsns: Sequence[int]
    times: Sequence[float]

    def part(self, at: slice) -> Origins:
        """Of consecutive ones."""
        return Origins(self.xids[at], self.lsns[at], self.times[at])


class LogRun(Run):
    """Consecutive changes of one kind in one partition of a log: each is a transaction of its own, and they are
    numbered one after the other.

    Attributes:
        transaction: the last one's, with the highest LSN of all.
        origins: of each.
        number: `Transaction.at` of the first.

    """

    __slots__ = ("number", "origins")

    def __init__(self, op: Op, relation: Relation, rows: Rows, origins: Origins, *, number: int, size: int) -> None:
        last = Transaction(origins.xids[-1], max(origins.lsns), origins.times[-1], number + len(rows) - 1)
        super().__init__(op, relation, rows, last, first=1, size=size)
        self.origins = origins
        self.number = number

    def _places(self) -> tuple[Iterable[Transaction], Iterable[int]]:
        return map(Transaction, *self.origins, count(self.number)), repeat(1)

    def _part(self, at: slice, rows: Rows, size: int) -> Self:
        number = self.number + at.indices(len(self))[0]
        return type(self)(self.op, self.relation, rows, self.origins.part(at), number=number, size=size)


class Events(Sequence[ChangeEvent]):
    """Events of which some are in runs.

    Attributes:
        parts: single ones, and runs.

    """

    __slots__ = ("_length", "parts")

    def __init__(self, parts: Sequence[ChangeEvent | Run], length: int) -> None:
        self.parts = parts
        self._length = length

    def __len__(self) -> int:
        """The number of events."""
        return self._length

    def __iter__(self) -> Iterator[ChangeEvent]:
        """The events, in order."""
        return chain.from_iterable(part if isinstance(part, Run) else (part,) for part in self.parts)

    @overload
    def __getitem__(self, at: int) -> ChangeEvent: ...
    @overload
    def __getitem__(self, at: slice) -> list[ChangeEvent]: ...

    def __getitem__(self, at: int | slice) -> ChangeEvent | list[ChangeEvent]:
        """An event (equal ones at each call, not the same), or several."""
        if at in (0, -1) and self.parts:
            part = self.parts[at]
            return part[at] if isinstance(part, Run) else part
        return list(self)[at]


def parts_of(events: Sequence[ChangeEvent]) -> Sequence[ChangeEvent | Run]:
    """The runs of a batch's events, and its single ones. Both have `op`, `relation` and `transaction`."""
    return events.parts if isinstance(events, Events) else events


def xids_of(events: Sequence[ChangeEvent]) -> set[int]:
    """The transactions of a batch's events."""
    found: set[int] = set()
    for part in parts_of(events):
        if isinstance(part, LogRun):
            found.update(part.origins.xids)
        else:
            found.add(part.transaction.xid)
    return found


def oldest_of(events: Sequence[ChangeEvent]) -> int:
    """The lowest LSN of a batch, of which there is one event at least: where the stream has no order by LSN, any event
    may have it.
    """
    if events[0].transaction.at is None:
        return events[0].transaction.commit_lsn
    parts = parts_of(events)
    return min([min(one.origins.lsns) if isinstance(one, LogRun) else one.transaction.commit_lsn for one in parts])
