"""The initial copy beside `COPY ... TO STDOUT | COPY ... FROM STDIN`, which moves one table and nothing else."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest

from replicator.demo.servers import PostgresServer
from tests.benchmarks.contenders import Replicator, fingerprint
from tests.benchmarks.report import show, write_result
from tests.benchmarks.workload import RENAMED, RENAMED_TABLES, ROW, TABLES, settle
from tests.fix_postgres import Database, MakeDatabase

ROWS: Final = int(os.environ.get("BENCH_BACKFILL_ROWS", "1000000"))


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_backfill(
    old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """Every contender ends with the source's rows; rows a second are printed, and the ratio to a COPY pipe."""
    source = make_database(old_server)
    source.execute(TABLES)
    source.execute(f"INSERT INTO public.item SELECT {ROW} FROM generate_series(1, {ROWS}) n")
    seconds: dict[str, float] = {}
    target = make_database(upgraded_server)
    target.execute(TABLES)
    settle(source, target)
    seconds["COPY pipe"] = _pipe(source, target, upgraded_server.bindir / "psql")
    assert fingerprint(source, {}) == fingerprint(target, {})
    same: dict[str, Any] = {"old": "public.*"}
    renamed: list[dict[str, Any]] = [same, {"old": "public.item", "columns": RENAMED}]
    for name, tables, columns in (("same", [same], {}), ("renamed", renamed, RENAMED)):
        target = make_database(upgraded_server)
        target.execute(RENAMED_TABLES if columns else TABLES)
        settle(source, target)
        replicator = Replicator(f"backfill_{name}", source, target, tmp_path, columns=columns, tables=tables)
        seconds[name] = _catch_up(replicator, source)
        assert fingerprint(source, {}) == fingerprint(target, columns)
    pipe = seconds["COPY pipe"]
    show(
        f"backfill of {ROWS:,} rows",
        ["", "seconds", "rows a second", "ratio to a COPY pipe"],
        [[name, f"{one:.1f}", f"{ROWS / one:,.0f}", f"{pipe / one:.2f}"] for name, one in seconds.items()],
    )
    write_result("backfill", {"rows": ROWS, "seconds": seconds})


def _pipe(source: Database, target: Database, psql: Path) -> float:
    begun = time.monotonic()
    out: list[str | Path] = [psql, "-X", "-q", "-d", source.dsn, "-c", "COPY public.item TO STDOUT"]
    into: list[str | Path] = [psql, "-X", "-q", "-d", target.dsn, "-c", "COPY public.item FROM STDIN"]
    with subprocess.Popen(out, stdout=subprocess.PIPE) as reading:
        subprocess.run(into, stdin=reading.stdout, check=True)
    assert reading.returncode == 0
    return time.monotonic() - begun


def _catch_up(replicator: Replicator, source: Database) -> float:
    """Seconds from the slot's making to the end of `run --until caught-up`: the copy, without the start of Python."""
    ended = threading.Event()
    begun: list[float] = []

    def watch() -> None:
        with source.connect(autocommit=True) as connection:
            while not ended.wait(0.002) and not begun:
                query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s"
                if connection.execute(query, [replicator.slot]).fetchone():
                    begun.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        replicator.catch_up()
    finally:
        ended.set()
        watcher.join()
    return time.monotonic() - begun[0]
