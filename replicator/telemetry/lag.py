"""The four lag numbers. One that can't be known is None, never 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from replicator.telemetry.status import FeedStatus

MEASURED_FOR_SECONDS: Final = 60.0
"""How long an end-to-end measurement speaks for now: six heartbeats of the default interval."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind a feed is.

    Attributes:
        end_to_end_seconds: source commit to target commit, of the newest transaction; at least the age of the oldest
            one that waits in this process. None when the last measurement is too old to speak for now.
        freshness_seconds: age of the newest source moment that is proven to be applied.
        backlog_offsets: Kafka records of this process's partitions not yet applied; None for a slot.
        retained_wal_bytes: WAL that the slot holds back.

    """

    end_to_end_seconds: float | None = None
    freshness_seconds: float | None = None
    backlog_offsets: int | None = None
    retained_wal_bytes: int | None = None


def lag_of(status: FeedStatus, now: float) -> Lag:
    """The lag of a feed at `now` (our clock; the source's clock offset is taken out where it was measured)."""
    source_now = now + (status.clock_offset or 0.0)
    return Lag(
        end_to_end_seconds=end_to_end_seconds(
            measured=status.end_to_end,
            measured_at=status.applied_at,
            oldest_pending=status.oldest_pending_commit_time,
            now=now,
            source_now=source_now,
        ),
        freshness_seconds=freshness_seconds(status.proven_time, source_now),
        backlog_offsets=status.backlog_offsets,
        retained_wal_bytes=status.retained_wal_bytes,
    )


def end_to_end_seconds(
    *,
    measured: float | None,
    measured_at: float | None,
    oldest_pending: float | None,
    now: float,
    source_now: float,
) -> float | None:
    """The newest measurement while it is fresh, and never less than what is known to be waiting."""
    fresh = measured is not None and measured_at is not None and now - measured_at <= MEASURED_FOR_SECONDS
    known = [measured] if fresh and measured is not None else []
    if oldest_pending is not None:
        known.append(max(0.0, source_now - oldest_pending))
    return max(known, default=None)


def freshness_seconds(proven_time: float | None, source_now: float) -> float | None:
    """Age of the moment up to which everything is proven applied; None before the first proof."""
    return None if proven_time is None else max(0.0, source_now - proven_time)
