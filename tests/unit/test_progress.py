"""The backfill on a terminal: bars for what is being copied, and the log above them."""

import asyncio
import contextlib
import logging
import sys
from io import StringIO

import pytest

from replicator.daemon.progress import follow_progress
from replicator.telemetry import ConnectorStatus, State, TableBackfill


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


async def test_bars_while_copying_and_the_log_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bar a connector and one a table in hand; a log line isn't overdrawn; afterwards all is as it was."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    handlers = list(logging.getLogger().handlers)
    status = ConnectorStatus.new("crm", 0.0)
    for number in range(100):
        status.forward.backfill[f"public.t{number}"] = TableBackfill(f"public.t{number}", rows_estimate=1000)
    status.forward.backfill["public.t7"].start(0.0)
    status.forward.backfill["public.t7"].advance(1.0, 250)
    status.forward.enter(State.COPYING, 0.0)
    drawing = asyncio.create_task(follow_progress([status]))

    async with asyncio.timeout(20):
        while "250/1000" not in terminal.getvalue():
            await asyncio.wait([drawing], timeout=0.05)
        logging.getLogger().warning("a line of the log")
        status.forward.enter(State.CATCHING_UP, 2.0)
        while logging.getLogger().handlers != handlers:
            await asyncio.wait([drawing], timeout=0.05)
    drawing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await drawing
    shown = terminal.getvalue()

    assert "crm: tables" in shown
    assert "public.t7" in shown
    assert "public.t8" not in shown
    assert "a line of the log" in shown
