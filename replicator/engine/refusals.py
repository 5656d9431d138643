"""Errors of a lane, with what their reader needs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.events import ChangeEvent


def named(event: ChangeEvent, error: ReplicatorError, *, key: tuple[str, ...] | None, place: str) -> ReplicatorError:
    """The error of an event that is refused: its table and key at the source, and what the reader can do.

    Args:
        event: refused.
        error: with this.
        key: of the event's aggregate, as text.
        place: of its source transaction.

    """
    advice = (
        f"stopped before the source transaction at {place}; everything before it is applied. Mend the cause, or "
        "set apply.on_error: dlq to park such events, then start again"
    )
    return ReplicatorError(
        error.message,
        kind=error.kind,
        table=error.table or str(event.relation.table),
        key=error.key or key,
        column=error.column,
        constraint=error.constraint,
        hint=f"{error.hint.rstrip('.')}. {advice}" if error.hint else advice,
        sqlstate=error.sqlstate,
    )


def undone(error: ReplicatorError) -> ReplicatorError:
    """A retryable error inside a streamed transaction can't be retried with the batch in hand: its start is gone."""
    return ReplicatorError(
        error.message,
        kind=ErrorKind.CONNECTION,
        table=error.table,
        hint="the large transaction was rolled back whole and comes again from the checkpoint",
        sqlstate=error.sqlstate,
    )
