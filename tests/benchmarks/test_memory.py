"""Memory of our processes while one source transaction of half a million rows passes through."""

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
from tests.benchmarks.test_kafka import program
from tests.benchmarks.workload import TABLES, write_at_once
from tests.connector_files import write_connector
from tests.fix_kafka import Kafka
from tests.fix_postgres import Database, MakeDatabase
from tests.polling import wait_until

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


@pytest.mark.benchmark
@pytest.mark.timeout(900)
@pytest.mark.parametrize("atomic", [False, True], ids=["as it comes", "whole transactions"])
def test_memory_of_a_large_transaction_by_kafka(  # noqa: PLR0917 - fixtures
    old_server: PostgresServer,
    upgraded_server: PostgresServer,
    make_database: MakeDatabase,
    real_kafka: Kafka,
    topic_prefix: str,
    tmp_path: Path,
    *,
    atomic: bool,
) -> None:
    """A transaction of 500,000 rows passes capture, Kafka and daemon, each process of ours with less than 300 MB."""
    source, target = make_database(old_server), make_database(upgraded_server)
    source.execute(TABLES)
    target.execute(TABLES)
    stream = {
        "kind": "kafka",
        "bootstrap_servers": real_kafka.bootstrap,
        "format": "debezium-json",
        "topic_prefix": topic_prefix,
        "atomic": atomic,
        "capture": {},
    }
    file = write_connector(tmp_path, source, target, name=topic_prefix, stream=stream)
    commands = {"capture": ["capture", str(file), "--listen", "127.0.0.1:0"], "daemon": ["run", str(file)]}
    with contextlib.ExitStack() as running:
        processes = {"capture": running.enter_context(program(tmp_path, commands["capture"], "capture"))}
        wait_until(lambda: source.execute("SELECT 1 FROM pg_replication_slots WHERE active"), 60)
        processes["daemon"] = running.enter_context(program(tmp_path, commands["daemon"], "daemon"))
        source.execute("INSERT INTO public.finished VALUES (1)")
        wait_until(lambda: target.execute("SELECT 1 FROM public.finished"), 120)
        peaks = dict.fromkeys(processes, 0)
        begun = time.monotonic()
        written = threading.Thread(target=write_at_once, args=(source, ROWS), kwargs={"phase": 2})
        written.start()
        # `finished` has a topic of its own, and may be there before the last of the others.
        while target.execute("SELECT count(*) FROM public.item") != [(ROWS,)]:
            assert time.monotonic() - begun < 2 * _SECONDS_MAX
            for name, process in processes.items():
                assert process.poll() is None, (tmp_path / f"{name}.log").read_text()[-4000:]
                peaks[name] = max(peaks[name], process.memory_info().rss)
            threading.Event().wait(0.1)
        written.join()
        seconds = time.monotonic() - begun
    assert fingerprint(source, {}) == fingerprint(target, {})
    show(
        f"resident memory in a transaction of {ROWS:,} rows by Kafka{', atomic' if atomic else ''}, {seconds:.0f} s",
        ["", "peak MB"],
        [[name, f"{peak / 1e6:.0f}"] for name, peak in peaks.items()],
    )
    told = {f"{name}_peak_bytes": peak for name, peak in peaks.items()}
    write_result(f"memory_kafka{'_atomic' if atomic else ''}", {"rows": ROWS, **told, "seconds": round(seconds, 2)})
    assert max(peaks.values()) < RSS_BYTES_MAX


def _wait(replicator: Replicator, source: Database, target: Database, *, phase: int) -> None:
    source.execute("INSERT INTO public.finished VALUES (%s)", [phase])
    deadline = time.monotonic() + _SECONDS_MAX
    pause = threading.Event().wait
    while not target.execute("SELECT 1 FROM public.finished WHERE phase = %s", [phase]):
        replicator.check()
        assert time.monotonic() < deadline
        pause(0.02)
