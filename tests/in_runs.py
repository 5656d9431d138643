"""Events as a stream brings them: what follows each other and is alike, in runs."""

from collections.abc import Sequence
from itertools import chain, groupby

from replicator.events import UNCHANGED, ChangeEvent, Op, Values
from replicator.runs import Events, Rows, Run


def in_runs(events: Sequence[ChangeEvent], rows_max: int = 5) -> Events:
    """The same events, with runs wherever there can be one."""
    parts: list[ChangeEvent | Run] = []
    for alike, group in groupby(events, _kind):
        found = list(group)
        while found:
            taken, found = found[:rows_max], found[rows_max:]
            parts.append(taken[0] if alike is None or len(taken) == 1 else run_of(taken))
            parts += taken[1:] if alike is None else []
    return Events(parts, len(events))


def run_of(events: Sequence[ChangeEvent]) -> Run:
    """A run of these events, which are alike."""
    first = events[0]
    rows: list[Values] = [row for event in events if (row := event.after or event.before) is not None]
    values = Rows(list(chain.from_iterable(rows)), len(first.relation.columns))
    return Run(
        first.op, first.relation, values, first.transaction, first=first.ordinal, size=sum(map(len, map(str, rows)))
    )


def _kind(event: ChangeEvent) -> object:
    """What a run has in common; None for what comes in none."""
    row = event.before if event.op is Op.DELETE else event.after
    old = event.before if event.op is not Op.DELETE else None
    if row is None or old is not None or UNCHANGED in row:
        return None
    return event.op, id(event.relation), id(event.transaction)
