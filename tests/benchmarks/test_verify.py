"""Verification beside a plain `COPY ... TO STDOUT` of the same columns, which reads one side and compares nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from replicator.demo.servers import PostgresServer
from tests.benchmarks.contenders import Replicator
from tests.benchmarks.report import show, write_result
from tests.benchmarks.workload import ROW, TABLES, settle
from tests.fix_postgres import Database, MakeDatabase

ROWS: Final = int(os.environ.get("BENCH_VERIFY_ROWS", "1000000"))
ROUNDS: Final = 5
"""Of tables of the same shape, which take less than a second; the one in the middle counts."""
TRANSFORM: Final = """
from replicator import Row, transform

@transform(old="public.item", upgraded="public.item")
def item(row: Row) -> Row:
    return row.set(title=row["title"].upper())
"""


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_verify(
    old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """Both kinds find nothing in equal databases; rows a second, the ratio to a COPY, and the memory are printed."""
    source = make_database(old_server)
    source.execute(TABLES)
    source.execute(f"INSERT INTO public.item SELECT {ROW} FROM generate_series(1, {ROWS}) n")
    results: dict[str, dict[str, float]] = {}
    for name, python, rounds in (("same_shape", None, ROUNDS), ("transformed", TRANSFORM, 1)):
        target = make_database(upgraded_server)
        target.execute(TABLES)
        more: dict[str, Any] = {"tables": [{"old": "public.*"}]}
        if python is not None:
            more = {"tables": [{"old": "public.finished"}], "python": python}
        replicator = Replicator(f"verify_{name}", source, target, tmp_path, **more)
        replicator.catch_up()
        settle(source, target)
        replicator.start()
        try:
            measured = [_round(tmp_path / f"verify_{name}.yaml", source, target) for _ in range(rounds)]
        finally:
            replicator.stop()
        measured.sort(key=lambda one: one["seconds"] / one["copy"])
        results[name] = measured[rounds // 2]
    show(
        f"verification of {ROWS:,} rows",
        ["", "seconds", "rows a second", "ratio to a COPY", "server CPU to a COPY's", "own CPU s", "MB"],
        [
            [
                name,
                f"{one['seconds']:.1f}",
                f"{ROWS / one['seconds']:,.0f}",
                f"{one['seconds'] / one['copy']:.2f}",
                f"{one['server_cpu'] / one['copy_cpu']:.2f}",
                f"{one['cpu']:.1f}",
                f"{one['bytes'] / 1e6:.0f}",
            ]
            for name, one in results.items()
        ],
    )
    write_result("verify", {"rows": ROWS, "results": results})


def _round(connector: Path, source: Database, target: Database) -> dict[str, float]:
    """One verification, and a COPY of either side."""
    copies = [_copy(source), _copy(target)]
    slower = {"copy": max(wall for wall, _ in copies), "copy_cpu": max(cpu for _, cpu in copies)}
    return {**slower, **_verify(connector, (source, target))}


def _copy(database: Database) -> tuple[float, float]:
    """Seconds, and CPU seconds of the server, that a plain COPY of the same columns takes: the best of three."""
    best = (float("inf"), float("inf"))
    with database.connect(autocommit=True) as session:
        backend = psutil.Process(session.info.backend_pid)
        for _ in range(3):
            begun, before = time.monotonic(), _cpu(backend)
            with session.cursor().copy("COPY public.item TO STDOUT") as copy:
                while copy.read():
                    pass
            best = min(best, (time.monotonic() - begun, _cpu(backend) - before))
    return best


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


_BACKENDS: Final = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%/verify:reader'"


def _verify(connector: Path, databases: tuple[Database, Database]) -> dict[str, float]:
    """Run the command; the seconds are the table's own, without the start of Python; of the servers, the busier one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "replicator", "verify", connector, "--json", "--rate", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    watched, most, cpu = psutil.Process(process.pid), 0, 0.0
    servers: list[dict[int, float]] = [{}, {}]
    assert process.stdout is not None
    with ExitStack() as stack:  # not a new session for each look: that would take a tenth of the machine
        sessions = [stack.enter_context(database.connect(autocommit=True)) for database in databases]
        while process.poll() is None:
            try:
                most = max(most, watched.memory_info().rss)
                cpu = _cpu(watched)
                for session, spent in zip(sessions, servers, strict=True):
                    for (pid,) in session.execute(_BACKENDS):
                        spent[pid] = _cpu(psutil.Process(pid))
            except psutil.NoSuchProcess:
                continue
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
    document = json.loads(process.stdout.read())
    process.stdout.close()
    assert 0 == process.wait(), document
    (table,) = (one for one in document["tables"] if one["table"] == "public.item")
    assert ROWS == table["rows"]
    busier = max(sum(spent.values()) for spent in servers)
    return {"seconds": table["seconds"], "cpu": cpu, "server_cpu": busier, "bytes": float(most)}
