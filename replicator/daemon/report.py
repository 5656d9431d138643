"""The recurring status line of each connector, and one line for the service manager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from replicator.telemetry import ConnectorStatus, connector_document

_FIELDS = (
    "state",
    "position",
    "end_to_end_seconds",
    "freshness_seconds",
    "retained_wal_bytes",
    "backlog_offsets",
    "transactions_per_second",
    "rows_per_second",
    "lag_p99_seconds",
    "dead_letters",
)


def log_status(status: ConnectorStatus, now: float) -> None:
    """One line at INFO with what an operator looks at first; unknown numbers are left out."""
    document = connector_document(status, now)
    fields: dict[str, Any] = {name: document[name] for name in _FIELDS if document[name] is not None}
    backfill = document["backfill"]
    if backfill is not None and backfill["tables_done"] < len(backfill["tables"]):
        fields["backfill_rows_done"] = backfill["rows_done"]
        fields["backfill_rows_estimate"] = backfill["rows_estimate"]
        fields["backfill_rows_per_second"] = backfill["rows_per_second"]
        fields["backfill_eta_seconds"] = backfill["eta_seconds"]
    if document["error"] is not None:
        fields["error"] = document["error"]["message"]
        fields["error_kind"] = document["error"]["kind"]
    structlog.get_logger("replicator.daemon").info("status", connector=status.name, **fields)


def summary_line(statuses: Sequence[ConnectorStatus], now: float) -> str:
    """`crm: streaming, lag 0.2 s; billing: failed` for `systemctl status`."""
    parts = []
    for one in statuses:
        lag = connector_document(one, now)["freshness_seconds"]
        parts.append(f"{one.name}: {one.state}" + ("" if lag is None else f", {lag:.1f} s behind"))
    return "; ".join(parts)
