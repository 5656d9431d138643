"""The status as JSON: what the API, the event stream and `replicator status --json` show. Unknown is null."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from replicator.telemetry.lag import lag_of
from replicator.telemetry.status import BackfillState
from replicator.telemetry.verify_document import rounded, trouble_document, verify_document

if TYPE_CHECKING:
    from replicator.telemetry.status import ConnectorStatus, FeedStatus, TableBackfill


def connector_document(status: ConnectorStatus, now: float) -> dict[str, Any]:
    """One connector; the forward feed's numbers stand at the top level."""
    return {
        "connector": status.name,
        "running": not status.state.ended,
        "ready": status.ready,
        "started_at": status.started_at,
        "restarts": status.restarts,
        **feed_document(status.forward, now),
    }


def feed_document(status: FeedStatus, now: float) -> dict[str, Any]:
    """One feed. Times are seconds since the epoch, rates per second over the last half minute."""
    lag = lag_of(status, now)
    return {
        "feed": status.feed,
        "state": str(status.state),
        "state_since": status.state_since,
        "end_to_end_seconds": rounded(lag.end_to_end_seconds),
        "freshness_seconds": rounded(lag.freshness_seconds),
        "backlog_offsets": lag.backlog_offsets,
        "retained_wal_bytes": lag.retained_wal_bytes,
        "position": status.position,
        "lanes": {str(lane): position for lane, position in sorted(status.lanes.items())},
        "epoch": status.epoch,
        "commit_time": status.commit_time,
        "proven_time": status.proven_time,
        "clock_offset_seconds": rounded(status.clock_offset),
        "transactions_applied": status.transactions_applied,
        "transactions_per_second": rounded(status.transaction_rate.per_second(now)),
        "rows_applied": status.rows_applied.total(),
        "rows_per_second": rounded(status.row_rate.per_second(now)),
        "lag_p50_seconds": rounded(status.commit_lag_seconds.quantile(0.5)),
        "lag_p99_seconds": rounded(status.commit_lag_seconds.quantile(0.99)),
        "dead_letters": status.dead_letters,
        "retries": dict(status.retries),
        "tables": _tables(status),
        "backfill": _backfill(status, now),
        "stale": dict(status.stale),
        "verification": verify_document(status.verify, now),
        "error": trouble_document(status.trouble),
        "transform_changed": dict(status.transform_changed),
        "retry_at": status.retry_at,
    }


def _tables(status: FeedStatus) -> dict[str, dict[str, int]]:
    tables: dict[str, dict[str, int]] = {}
    for (table, operation), rows in sorted(status.rows_applied.items()):
        tables.setdefault(table, {})[operation] = rows
    return tables


def _backfill(status: FeedStatus, now: float) -> dict[str, Any] | None:
    """None where nothing is known of a backfill; the ETA is that of the whole at the rate of the whole."""
    tables = status.backfill
    if not tables:
        return None
    done = sum(table.rows_done for table in tables.values())
    estimates = [table.rows_estimate for table in tables.values()]
    known = [estimate for estimate in estimates if estimate is not None]
    estimate = sum(known) if len(known) == len(estimates) else None
    rate = sum(table.rate.per_second(now) or 0.0 for table in tables.values() if table.state is BackfillState.COPYING)
    finished = all(table.state is BackfillState.DONE for table in tables.values())
    eta = 0.0 if finished else None if not rate or estimate is None else (estimate - done) / rate
    return {
        "rows_done": done,
        "rows_estimate": estimate,
        "rows_per_second": rounded(rate),
        "eta_seconds": rounded(eta),
        "tables_done": sum(table.state is BackfillState.DONE for table in tables.values()),
        "tables": {name: _table_backfill(table, now) for name, table in tables.items()},
    }


def _table_backfill(table: TableBackfill, now: float) -> dict[str, Any]:
    return {
        "state": str(table.state),
        "rows_done": table.rows_done,
        "rows_estimate": table.rows_estimate,
        "chunks_done": table.chunks_done,
        "rows_per_second": rounded(table.rate.per_second(now)) if table.state is BackfillState.COPYING else None,
        "eta_seconds": rounded(table.eta_seconds(now)),
    }
