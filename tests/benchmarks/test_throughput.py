"""One lane beside PostgreSQL's own logical replication: the same backlog, the same run."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from replicator.demo.servers import PostgresServer
from tests.benchmarks.contenders import Contender, Drain, Replicator, Subscription, drain, fingerprint
from tests.benchmarks.report import show, write_result
from tests.benchmarks.workload import (
    CONTENDERS,
    OPERATIONS,
    RENAMED,
    RENAMED_TABLES,
    ROUNDS,
    ROWS,
    TABLES,
    settle,
    write,
)
from tests.fix_postgres import Database, MakeDatabase

_PYTHON = """
from replicator import Row, transform


@transform(old="public.item", upgraded="public.item")
def item(row: Row) -> Row:
    return row.rename(title="name", changed_at="updated_at").set(quantity=row["quantity"] + 0)


@item.inverse
def item_back(row: Row) -> Row:
    return row.rename(name="title", updated_at="changed_at").set(quantity=row["quantity"] - 0)
"""
_FINISHED: dict[str, Any] = {"old": "public.finished"}


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_throughput_beside_native_replication(
    old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """Every contender ends with the source's rows; the ratio of its time to native's is printed."""
    source = make_database(old_server)
    source.execute(TABLES)
    drains: dict[tuple[str, str], list[Drain]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        contenders: list[Contender] = []
        for name in CONTENDERS:
            contenders.append(_contender(name, source, make_database(upgraded_server), tmp_path))
            stack.enter_context(contextlib.closing(contenders[-1]))
        for number, operation in product(range(ROUNDS), OPERATIONS):
            phase = sum(map(len, drains.values())) + 1
            write(source, operation, ROWS, phase=phase)
            for contender in contenders if number % 2 == 0 else contenders[::-1]:
                settle(source, *(one.target for one in contenders))
                drains[contender.name, operation].append(drain(contender, source, phase))
            for contender in contenders:
                assert fingerprint(source, {}) == fingerprint(contender.target, contender.columns)
    _report(drains, CONTENDERS, old_server.major)


def _contender(name: str, source: Database, target: Database, folder: Path) -> Contender:
    if name in ("native", "same"):
        target.execute(TABLES)
    else:
        target.execute(RENAMED_TABLES)
    if name == "native":
        return Subscription(source, target, ("public.item", "public.finished"))
    connectors: dict[str, dict[str, Any]] = {
        "same": {"tables": [{"old": "public.*"}]},
        "renamed": {"tables": [{"old": "public.item", "columns": RENAMED}, _FINISHED]},
        "python": {"tables": [_FINISHED], "python": _PYTHON},
    }
    replicator = Replicator(name, source, target, folder, columns={} if name == "same" else RENAMED, **connectors[name])
    replicator.catch_up()
    return replicator


def _report(drains: dict[tuple[str, str], list[Drain]], names: list[str], major: int | None) -> None:
    facts: dict[str, Any] = {"rows": ROWS, "rounds": ROUNDS, "old_server": major, "operations": {}}
    lines = []
    busy: dict[str, list[str]] = defaultdict(list)
    for operation in OPERATIONS:
        native = median(one.rate(ROWS) for one in drains[names[0], operation])
        result: dict[str, Any] = {}
        line = [operation]
        for name in names:
            runs = drains[name, operation]
            rate = median(one.rate(ROWS) for one in runs)
            cpu = {
                process: round(median(one.cpu_seconds[process] for one in runs) / ROWS * 1e6, 2)
                for process in runs[0].cpu_seconds
            }
            result[name] = {
                "rows_per_second": round(rate),
                f"ratio_to_{names[0]}": round(rate / native, 3),
                "seconds": [round(one.seconds, 3) for one in runs],
                "cold_seconds": [round(one.cold_seconds, 3) for one in runs],
                "cpu_microseconds_per_row": cpu,
            }
            busy[operation].append(" + ".join(f"{one:.1f}" for one in cpu.values()))
            line.append(f"{rate:,.0f}" if name == names[0] else f"{rate:,.0f}  ({rate / native:.2f})")
        facts["operations"][operation] = result
        lines.append(line)
    show(f"rows a second, {ROWS:,} rows, one lane (ratio to {names[0]})", ["", *names], lines)
    show(
        "CPU µs a row: walsender + target (+ daemon, its start included)",
        ["", *names],
        [[key, *cells] for key, cells in busy.items()],
    )
    write_result("throughput", facts)
