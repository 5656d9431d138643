"""What is known of verification, as JSON: a part of a feed's document. Unknown is null."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from replicator.telemetry.verify_status import KINDS, VerifyState

if TYPE_CHECKING:
    from replicator.telemetry.status import TableBackfill, Trouble
    from replicator.telemetry.verify_status import OpenFinding, VerifyStatus

_DIGITS: Final = 3


def verify_document(status: VerifyStatus, now: float) -> dict[str, Any]:
    """Times are seconds since the epoch."""
    open_total = None if status.open is None else sum(status.open.values())
    return {
        "state": str(status.state),
        "open_divergences": open_total,
        "tables": {table: _table(status, table) for table in status.tables},
        "findings": [finding_document(one) for one in status.findings],
        "passes": status.passes,
        "last_pass": _last(status),
        "running_pass": _running(status, now) if status.state is VerifyState.VERIFYING else None,
        "next_pass_at": rounded(status.next_at),
        "rows_per_second_limit": rounded(status.limit),
        "braked_because": list(status.reasons),
        "slowness": {side: rounded(ratio) for side, ratio in status.latency.items()},
        "checks": {
            one.name: {"ok": one.ok, "severity": one.severity, "at": rounded(one.at), "message": one.message}
            for one in status.checks.values()
        },
        "certificate": None
        if status.certificate is None
        else {
            "valid": status.certificate.valid,
            "issued_at": rounded(status.certificate.issued_at),
            "reason": status.certificate.reason,
        },
        "error": trouble_document(status.trouble),
        "retry_at": rounded(status.retry_at),
    }


def finding_document(one: OpenFinding) -> dict[str, Any]:
    """A finding as the API shows it."""
    return {
        "id": one.id,
        "table": one.table,
        "key": list(one.key),
        "kind": one.kind,
        "columns": list(one.columns),
        "cause": one.cause,
        "first_seen": rounded(one.first_seen),
        "last_seen": rounded(one.last_seen),
    }


def _table(status: VerifyStatus, table: str) -> dict[str, Any]:
    known = status.open
    return {
        **{kind: None if known is None else known.get((table, kind), 0) for kind in KINDS},
        "unsettled": None if status.unsettled is None else status.unsettled.get(table, 0),
        "rows": status.rows[table],
    }


def _last(status: VerifyStatus) -> dict[str, Any] | None:
    if status.pass_at is None:
        return None
    return {
        "run": status.pass_run,
        "at": rounded(status.pass_at),
        "seconds": rounded(status.pass_seconds),
        "ok": status.pass_ok,
    }


def _running(status: VerifyStatus, now: float) -> dict[str, Any]:
    tables = status.progress.values()
    estimates = [table.rows_estimate for table in tables]
    known = [estimate for estimate in estimates if estimate is not None]
    rates = [table.rate.per_second(now) or 0.0 for table in tables if _at_work(table)]
    estimate, done, rate = sum(known), sum(table.rows_done for table in tables), sum(rates)
    whole = len(known) == len(estimates)
    return {
        "since": rounded(status.pass_began),
        "rows_done": done,
        "rows_estimate": estimate if whole else None,
        "rows_per_second": rounded(rate),
        "eta_seconds": rounded((estimate - done) / rate) if whole and rate > 0 else None,
        "tables": {
            name: {"rows_done": table.rows_done, "rows_estimate": table.rows_estimate, "state": str(table.state)}
            for name, table in status.progress.items()
        },
    }


def _at_work(table: TableBackfill) -> bool:
    return table.started_at is not None and table.finished_at is None


def trouble_document(trouble: Trouble | None) -> dict[str, Any] | None:
    """An error; None for none."""
    if trouble is None:
        return None
    return {"kind": trouble.kind, "message": trouble.message, "at": trouble.at, **trouble.facts}


def rounded(value: float | None) -> float | None:
    """To milliseconds."""
    return None if value is None else round(value, _DIGITS)
