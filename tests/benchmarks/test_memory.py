"""Memory of the daemon while one source transaction of half a million rows passes through."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Final

import psutil
import pytest

from replicator.demo.servers import PostgresServer
from tests.benchmarks.contenders import Replicator, fingerprint
from tests.benchmarks.report import show, write_result
from tests.benchmarks.workload import TABLES, write_at_once
from tests.fix_postgres import Database, MakeDatabase

ROWS: Final = 500_000
RSS_BYTES_MAX: Final = 300_000_000
_SECONDS_MAX: Final = 300.0


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_memory_of_a_large_transaction(
    old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """A transaction of 500,000 rows passes with less than 300 MB of resident memory."""
    source, target = make_database(old_server), make_database(upgraded_server)
    source.execute(TABLES)
    target.execute(TABLES)
    replicator = Replicator("memory", source, target, tmp_path, tables=[{"old": "public.*"}])
    replicator.catch_up()
    with contextlib.closing(replicator):
        replicator.start()
        _wait(replicator, source, target, phase=1)
        process = psutil.Process(replicator.process.pid) if replicator.process else psutil.Process()
        idle = process.memory_info().rss
        begun = time.monotonic()
        peak, written = idle, threading.Thread(target=write_at_once, args=(source, ROWS), kwargs={"phase": 2})
        written.start()
        pause = threading.Event().wait
        while not target.execute("SELECT 1 FROM public.finished WHERE phase = 2"):
            replicator.check()
            assert time.monotonic() - begun < _SECONDS_MAX
            peak = max(peak, process.memory_info().rss)
            pause(0.02)
        written.join()
        seconds = time.monotonic() - begun
        replicator.stop()
    assert fingerprint(source, {}) == fingerprint(target, {})
    show(
        f"resident memory in a transaction of {ROWS:,} rows",
        ["", "MB"],
        [["idle", f"{idle / 1e6:.0f}"], ["peak", f"{peak / 1e6:.0f}"]],
    )
    write_result("memory", {"rows": ROWS, "idle_bytes": idle, "peak_bytes": peak, "seconds": round(seconds, 2)})
    assert peak < RSS_BYTES_MAX


def _wait(replicator: Replicator, source: Database, target: Database, *, phase: int) -> None:
    source.execute("INSERT INTO public.finished VALUES (%s)", [phase])
    deadline = time.monotonic() + _SECONDS_MAX
    pause = threading.Event().wait
    while not target.execute("SELECT 1 FROM public.finished WHERE phase = %s", [phase]):
        replicator.check()
        assert time.monotonic() < deadline
        pause(0.02)
