"""Verification beside a plain `COPY ... TO STDOUT` of the same columns, which reads one side and compares nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
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
    for name, python in (("same_shape", None), ("transformed", TRANSFORM)):
        target = make_database(upgraded_server)
        target.execute(TABLES)
        more: dict[str, Any] = {"tables": [{"old": "public.*"}]}
        if python is not None:
            more = {"tables": [{"old": "public.finished"}], "python": python}
        replicator = Replicator(f"verify_{name}", source, target, tmp_path, **more)
        replicator.catch_up()
        settle(source, target)
        copies = [_copy(source, old_server), _copy(target, upgraded_server)]
        replicator.start()
        try:
            results[name] = {"copy": max(copies), **_verify(tmp_path / f"verify_{name}.yaml")}
        finally:
            replicator.stop()
    show(
        f"verification of {ROWS:,} rows",
        ["", "seconds", "rows a second", "ratio to a COPY", "CPU s", "MB"],
        [
            [
                name,
                f"{one['seconds']:.1f}",
                f"{ROWS / one['seconds']:,.0f}",
                f"{one['seconds'] / one['copy']:.2f}",
                f"{one['cpu']:.1f}",
                f"{one['bytes'] / 1e6:.0f}",
            ]
            for name, one in results.items()
        ],
    )
    write_result("verify", {"rows": ROWS, "results": results})


def _copy(database: Database, server: PostgresServer) -> float:
    psql = server.bindir / "psql"
    begun = time.monotonic()
    command: list[str | Path] = [psql, "-X", "-q", "-d", database.dsn, "-c", "COPY public.item TO STDOUT"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begun


def _verify(connector: Path) -> dict[str, float]:
    """Run the command; the seconds are the table's own, without the start of Python."""
    process = subprocess.Popen(
        [sys.executable, "-m", "replicator", "verify", connector, "--json", "--rate", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    watched, most, cpu = psutil.Process(process.pid), 0, 0.0
    assert process.stdout is not None
    while process.poll() is None:
        try:
            most = max(most, watched.memory_info().rss)
            times = watched.cpu_times()
            cpu = times.user + times.system
        except psutil.NoSuchProcess:
            break
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    document = json.loads(process.stdout.read())
    process.stdout.close()
    assert 0 == process.wait(), document
    (table,) = (one for one in document["tables"] if one["table"] == "public.item")
    assert ROWS == table["rows"]
    return {"seconds": table["seconds"], "cpu": cpu, "bytes": float(most)}
