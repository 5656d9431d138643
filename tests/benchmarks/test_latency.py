"""From source commit to visible on the target, at a steady 500 transactions a second."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest

from replicator.demo.servers import PostgresServer
from tests.benchmarks.contenders import Contender, Replicator, Subscription
from tests.benchmarks.generator import TABLES
from tests.benchmarks.report import show, write_result
from tests.benchmarks.workload import CONTENDERS, settle
from tests.fix_postgres import Database, MakeDatabase

RATE: Final = float(os.environ.get("BENCH_RATE", "500"))
SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "30"))
WARM_UP_SECONDS: Final = 3.0
THREADS: Final = 4
PROBE_SECONDS: Final = 0.002


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_latency(
    old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """Every transaction of the load arrives; percentiles of the time that took are printed, native's too."""
    facts: dict[str, Any] = {"rate": RATE, "seconds": SECONDS, "probe_seconds": PROBE_SECONDS, "contenders": {}}
    lines = []
    for name in CONTENDERS[:2]:
        source, target = make_database(old_server), make_database(upgraded_server)
        source.execute(TABLES)
        target.execute(TABLES)
        settle(source, target)
        contender: Contender
        if name == "native":
            contender = Subscription(source, target, ("public.tick", "public.counter"))
        else:
            target.execute("TRUNCATE public.counter")
            contender = Replicator("replicator", source, target, tmp_path, tables=[{"old": "public.*"}])
            contender.catch_up()
        with contextlib.closing(contender):
            contender.start()
            generated, latencies = _measure(source, target)
            cpu = contender.cpu_seconds()
            contender.stop()
        percentiles = {f"p{share:g}": _percentile(latencies, share) for share in (50, 90, 99, 99.9, 100)}
        facts["contenders"][contender.name] = {
            "milliseconds": {key: round(value * 1000, 2) for key, value in percentiles.items()},
            "samples": len(latencies),
            "generator": generated,
            "process_cpu_seconds": cpu,
        }
        lines.append(
            [contender.name, *(f"{value * 1000:.1f}" for value in percentiles.values()), f"{len(latencies):,}"]
        )
        wanted = source.execute("SELECT sum(total), count(*) FROM public.counter")
        assert wanted == target.execute("SELECT sum(total), count(*) FROM public.counter")
    show(
        f"milliseconds from source commit to visible on the target, {RATE:g} transactions a second",
        ["", "p50", "p90", "p99", "p99.9", "max", "transactions"],
        lines,
    )
    write_result("latency", facts)


def _measure(source: Database, target: Database) -> tuple[dict[str, Any], list[float]]:
    """Generate the load, watch the target; returns the generator's facts and the latencies in seconds, sorted."""
    run = (sys.executable, "-m")
    load = [*run, "tests.benchmarks.generator", source.dsn, str(RATE), str(SECONDS + WARM_UP_SECONDS), str(THREADS)]
    watch = [*run, "tests.benchmarks.probe", target.dsn, str(THREADS), str(PROBE_SECONDS)]
    _marked(source, target)
    with subprocess.Popen(watch, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        generated = json.loads(subprocess.run(load, capture_output=True, text=True, check=True).stdout)
        _marked(source, target)
        lines, _ = watcher.communicate()
    sent = source.execute(
        "SELECT thread, number, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM public.tick "
        "WHERE thread >= 0"
    )
    committed = {(thread, number): at for thread, number, at in sent}
    begin = min(committed.values()) + WARM_UP_SECONDS
    latencies = []
    seen = [-1] * THREADS
    for at, *highest in map(json.loads, lines.splitlines()):
        for thread, number in enumerate(highest):
            for one in range(seen[thread] + 1, (-1 if number is None else number) + 1):
                sent_at = committed.pop((thread, one))
                if sent_at >= begin:
                    latencies.append(at - sent_at)
                seen[thread] = one
    assert {} == committed
    return generated, sorted(latencies)


def _marked(source: Database, target: Database) -> None:
    """Wait until what is committed now is visible on the target, so that the contender is at work."""
    number = source.execute("INSERT INTO public.tick SELECT -1, count(*), '', now() FROM public.tick RETURNING number")
    deadline = time.monotonic() + 60
    pause = threading.Event().wait
    while not target.execute("SELECT 1 FROM public.tick WHERE thread = -1 AND number = %s", number[0]):
        assert time.monotonic() < deadline
        pause(0.01)


def _percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share / 100))]
