"""The backfill's progress bar on a terminal; the log prints above it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
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
    bars: dict[tuple[str, str], TaskID] = {}
    try:
        with _progress(console) as progress:
            while _copying(statuses):
                _update(progress, bars, statuses, time.time())
                await asyncio.sleep(REFRESH_SECONDS)
            _update(progress, bars, statuses, time.time())
    finally:
        root.handlers[:] = before


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _update(
    progress: Progress, bars: dict[tuple[str, str], TaskID], statuses: Sequence[ConnectorStatus], now: float
) -> None:
    for one in statuses:
        for name, table in one.forward.backfill.items():
            at = (one.name, name)
            if at not in bars:
                bars[at] = progress.add_task(f"{one.name} {name}", total=None, rate="")
            progress.update(bars[at], completed=table.rows_done, total=table.rows_estimate, rate=_rate(table, now))


def _rate(table: TableBackfill, now: float) -> str:
    if table.state is not BackfillState.COPYING:
        return str(table.state)
    rate = table.rate.per_second(now)
    return "" if rate is None else f"{rate:,.0f} rows/s"
