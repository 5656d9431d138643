"""A connector's status for people."""

from __future__ import annotations

import time
from typing import Any, Final

import click

_COLOURS: Final = {
    "streaming": "green",
    "failed": "red",
    "superseded": "yellow",
    "stopped": "yellow",
    "copying": "cyan",
    "catching_up": "cyan",
    "preparing": "cyan",
}
BAR_CELLS: Final = 24


def status_lines(document: dict[str, Any]) -> list[str]:
    """The lines of one connector, coloured (click strips colours where they can't be shown)."""
    return [
        _headline(document),
        *_numbers(document),
        *_backfill(document.get("backfill")),
        *_tables(document.get("tables") or {}),
        *_stale(document.get("stale") or {}),
        *_verification(document.get("verification") or {}),
        *_changed(document.get("transform_changed") or {}),
        *_error(document),
    ]


def span(seconds: float | None) -> str:
    """`12 ms`, `3.2 s`, `4 min`, or `unknown`."""
    if seconds is None:
        return "unknown"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if seconds / size < 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def size(count: float | None) -> str:
    """`3.1 MiB`, or `unknown`."""
    if count is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _headline(document: dict[str, Any]) -> str:
    state = document["state"]
    since = document.get("state_since")
    words = state.replace("_", " ") + (f" for {span(max(0.0, time.time() - since))}" if since else "")
    told = ""
    if document.get("told_by") != "daemon":
        told = "   (no daemon answers: read from the databases)"
        if document.get("epoch") is None:
            words = "has not begun"
        elif document["running"] is False:
            words += " when it was stopped"
    return f"{click.style(document['connector'], bold=True)}  {click.style(words, fg=_COLOURS.get(state))}{told}"


def _numbers(document: dict[str, Any]) -> list[str]:
    get = document.get
    p99 = get("lag_p99_seconds")
    rate = get("rows_per_second")
    rows = [
        ("end to end", span(get("end_to_end_seconds")), "" if p99 is None else f"p99 {span(p99)}"),
        ("freshness", span(get("freshness_seconds")), ""),
        ("WAL held", size(get("retained_wal_bytes")), ""),
        ("backlog", f"{get('backlog_offsets'):,} records" if get("backlog_offsets") is not None else "", ""),
        ("position", get("position") or "none yet", "" if get("epoch") is None else f"epoch {get('epoch')}"),
        ("applied", _applied(document), "" if rate is None else f"{rate:,.0f} rows/s"),
        ("dead letters", "unknown" if get("dead_letters") is None else f"{get('dead_letters'):,}", ""),
    ]
    return [f"  {name:<14}{value:<22} {note}".rstrip() for name, value, note in rows if value]


def _applied(document: dict[str, Any]) -> str:
    rows, transactions = document.get("rows_applied"), document.get("transactions_applied")
    return (
        ""
        if rows is None or transactions is None
        else f"{counted(rows, 'row')}, {counted(transactions, 'transaction')}"
    )


def counted(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _backfill(backfill: dict[str, Any] | None) -> list[str]:
    if not backfill:
        return []
    tables = backfill["tables"]
    done = sum(table["state"] == "done" for table in tables.values())
    lines = [f"  {'backfill':<14}{backfill['rows_done']:,} rows, {done} of {len(tables)} tables done"]
    if done == len(tables):
        return lines
    width = max(len(name) for name in tables)
    return lines + [f"    {name:<{width}}  {_bar(table)}" for name, table in tables.items()]


def _bar(table: dict[str, Any]) -> str:
    estimate, rows = table.get("rows_estimate"), table["rows_done"]
    share = 1.0 if table["state"] == "done" else min(0.99, rows / estimate) if estimate else 0.0
    full = round(share * BAR_CELLS)
    rate = table.get("rows_per_second")
    notes = [f"{rows:,} rows", table["state"]]
    if rate:
        notes.append(f"{rate:,.0f} rows/s")
    if table["state"] == "copying" and table.get("eta_seconds") is not None:
        notes.append(f"{span(table['eta_seconds'])} left")
    return f"{'█' * full}{'░' * (BAR_CELLS - full)} {share:>4.0%}  {', '.join(notes)}"


def _tables(tables: dict[str, dict[str, int]]) -> list[str]:
    busy = {name: counts for name, counts in tables.items() if any(counts.values())}
    width = max((len(name) for name in busy), default=0)
    return [
        f"    {name:<{width}}  " + ", ".join(f"{rows:,} {operation}" for operation, rows in counts.items() if rows)
        for name, counts in busy.items()
    ]


def _stale(mappings: dict[str, str]) -> list[str]:
    return [click.style(f"  {name} needs a resync: {reason}", fg="yellow") for name, reason in mappings.items()]


def _verification(known: dict[str, Any]) -> list[str]:
    """What is open, the newest pass, why it is slow, why it fails; nothing where nobody has verified."""
    last, wrong, now = known.get("last_pass"), known.get("open_divergences"), time.time()
    if last is None and not wrong and known.get("state", "off") == "off":
        return []
    found = "findings unknown" if wrong is None else counted(wrong, "open finding")
    passed = "" if last is None else f"last pass {span(max(0.0, now - last['at']))} ago, in {span(last['seconds'])}"
    lines = [f"  {'verification':<14}{click.style(found, fg='red' if wrong else None):<22} {passed}".rstrip()]
    for table, counts in known.get("tables", {}).items():
        kinds = [f"{counts[kind]:,} {kind}" for kind in ("missing", "extra", "different", "unsettled") if counts[kind]]
        if kinds:
            lines.append(click.style(f"    {table}  {', '.join(kinds)}", fg="red"))
    running = known.get("running_pass")
    if running:
        rate, eta = running.get("rows_per_second"), running.get("eta_seconds")
        notes = [counted(running["rows_done"], "row")]
        notes += [f"{rate:,.0f} rows/s"] if rate else []
        notes += [f"{span(eta)} left"] if eta else []
        lines.append(f"    verifying: {', '.join(notes)}")
    if known.get("braked_because"):
        limit = f"{known['rows_per_second_limit']:,.0f} rows/s" if known.get("rows_per_second_limit") else "slower"
        lines.append(click.style(f"    slowed down to {limit}: {'; '.join(known['braked_because'])}", fg="yellow"))
    failed = [name for name, check in (known.get("checks") or {}).items() if check["ok"] is False]
    if failed:
        lines.append(click.style(f"    checks failed: {', '.join(failed)}", fg="red"))
    if known.get("error"):
        lines.append(click.style(f"    it failed, and is tried again: {known['error']['message']}", fg="yellow"))
    return lines


def _changed(mappings: dict[str, float]) -> list[str]:
    now = time.time()
    return [
        click.style(
            f"  {name} needs a rederive: its transform, or a table of it, changed {span(max(0.0, now - since))} ago",
            fg="yellow",
        )
        for name, since in mappings.items()
    ]


def _error(document: dict[str, Any]) -> list[str]:
    error = document.get("error")
    if not error:
        return []
    again = document.get("retry_at")
    what = "is tried again" if document.get("running") else "stopped"
    if again is not None and again > time.time():
        what += f" in {span(again - time.time())}"
    return [click.style(f"  {error['kind']} error, {what}: {error['message']}", fg="red")]
