"""The backfill's progress bar on a terminal; the log prints above it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from replicator.telemetry import BackfillState, ConnectorStatus, State, TableBackfill

REFRESH_SECONDS: Final = 0.25


class _AboveTheBar(logging.Handler):
    """Log lines through the console that draws the bar."""

    def __init__(self, console: Console, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        self._console.print(Text.from_ansi(self.format(record)), soft_wrap=True)


async def follow_progress(statuses: Sequence[ConnectorStatus]) -> None:
    """Show a bar a table while something is being copied, nothing otherwise; until cancelled."""
    while True:
        if _copying(statuses):
            await _show(statuses)
        await asyncio.sleep(REFRESH_SECONDS)


def _copying(statuses: Sequence[ConnectorStatus]) -> bool:
    return any(one.state is State.COPYING and one.forward.backfill for one in statuses)


async def _show(statuses: Sequence[ConnectorStatus]) -> None:
    console = Console(stderr=True)
    root = logging.getLogger()
    before = list(root.handlers)
    root.handlers[:] = [_AboveTheBar(console, before[0].formatter if before else None)]
    try:
        with _progress(console) as progress:
            bars = _Bars(progress)
            while _copying(statuses):
                bars.update(statuses, time.time())
                await asyncio.sleep(REFRESH_SECONDS)
            bars.update(statuses, time.time())
    finally:
        root.handlers[:] = before


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class _Bars:
    """A bar a connector, counting tables, and one for each table in hand: as many as there are workers."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[tuple[str, str], TaskID] = {}

    def update(self, statuses: Sequence[ConnectorStatus], now: float) -> None:
        """Draw what is so now."""
        shown = set()
        for one in statuses:
            tables = one.forward.backfill
            if not tables:
                continue
            shown.add((one.name, ""))
            done = sum(table.state is BackfillState.DONE for table in tables.values())
            rows = sum(table.rows_done for table in tables.values())
            self._draw((one.name, ""), f"{one.name}: tables", done, len(tables), f"{rows:,} rows")
            for name, table in tables.items():
                if table.state is BackfillState.COPYING:
                    shown.add((one.name, name))
                    self._draw((one.name, name), f"  {name}", table.rows_done, table.rows_estimate, _note(table, now))
        for at in self._bars.keys() - shown:
            self._progress.remove_task(self._bars.pop(at))

    def _draw(self, at: tuple[str, str], title: str, done: int, total: int | None, note: str) -> None:
        if at not in self._bars:
            self._bars[at] = self._progress.add_task(title, total=None, note="")
        self._progress.update(self._bars[at], completed=done, total=total, note=note)


def _note(table: TableBackfill, now: float) -> str:
    rate, eta = table.rate.per_second(now), table.eta_seconds(now)
    notes = [] if rate is None else [f"{rate:,.0f} rows/s"]
    if eta is not None:
        notes.append(f"{eta:,.0f} s left")
    return ", ".join(notes)
