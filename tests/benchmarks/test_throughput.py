"""One lane beside PostgreSQL's own logical replication: the same backlog, the same run.

Each round writes a backlog of inserts, one of updates and one of deletes, in transactions of 100 rows; each contender
drains the same backlog, alone on the machine, into a table of its own on the same server; who is first changes from
round to round. The ratio is of pairs: native's seconds by ours, for the same backlog. Its median over the rounds is
the result, and its extremes say what a single round is worth.

What the clock covers, for both: from the start of the replication session (`backend_start` of the walsender, as
PostgreSQL says) until the last row is visible on the target. So neither pays for the start of its process (a second or
more of Python there, a background worker here; `cold_seconds` has it), and both pay for what a session does first:
decoding from the slot's restart point, asking the catalogs, preparing statements. All the rest is made equal before the
clock starts:

- Both slots have let go of the backlog before (`_let_go`): a session begins by decoding all WAL from its slot's restart
  point, and that of a slot that was confirmed late lies a whole backlog back.
- The source, and the table that is written next, are vacuumed and analyzed; autovacuum is off, so that none follows.
- Both servers are checkpointed: no page waits to be written for somebody else, and every page's first change is logged
  in full. No checkpoint comes by itself within a drain.
- The target's WAL files are there: who fills a new one has it made first.
- No other connection works, but for the one that looks for the last row, 100 times a second.

Both servers and both contenders have their defaults otherwise. Commits: native's apply worker commits each of the
source's transactions, asynchronously (`synchronous_commit = off`, the default of a subscription). Ours commits batches
of whole transactions; one each half second, and the last, waits for the disk; the slot is confirmed no further.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
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
    fill_wal,
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
_NATIVE, _SAME = "native", "same"
_WAL_MEGABYTES = 512  # more than a drain writes

Drains = dict[tuple[str, str], list[Drain]]


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_throughput_beside_native_replication(
    old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """Both end with the source's rows; the ratio of native's time to ours is printed."""
    names = [name for name in CONTENDERS if name in (_NATIVE, _SAME)]
    drains = _measure(_contenders(names, old_server, upgraded_server, make_database, tmp_path), ROUNDS)
    _report("throughput", drains, names, old_server.major)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_throughput_of_other_mappings(
    old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """Likewise with renamed columns, and with a Python function a row; native has no such thing, and just copies."""
    names = [name for name in CONTENDERS if name != _SAME]
    if names == [_NATIVE]:
        pytest.skip("BENCH_CONTENDERS has none")
    contenders = _contenders(names, old_server, upgraded_server, make_database, tmp_path)
    drains = _measure(contenders, max(1, ROUNDS // 3))
    _report("throughput_mappings", drains, names, old_server.major)


def _contenders(
    names: Sequence[str], old: PostgresServer, upgraded: PostgresServer, make_database: MakeDatabase, folder: Path
) -> tuple[Database, list[Contender]]:
    source = make_database(old)
    source.execute(TABLES)
    return source, [_contender(name, source, make_database(upgraded), folder) for name in names]


def _measure(source_and_contenders: tuple[Database, list[Contender]], rounds: int) -> Drains:
    source, contenders = source_and_contenders
    drains: Drains = defaultdict(list)
    with contextlib.ExitStack() as stack:
        for contender in contenders:
            stack.enter_context(contextlib.closing(contender))
        fill_wal(contenders[0].target, _WAL_MEGABYTES)
        for number, operation in product(range(rounds), OPERATIONS):
            phase = sum(map(len, drains.values())) + 1
            write(source, operation, ROWS, phase=phase)
            settle(source)
            for contender in contenders if number % 2 == 0 else contenders[::-1]:
                settle(contender.target)
                source.execute("CHECKPOINT")
                drains[contender.name, operation].append(drain(contender, source, phase))
            for contender in contenders:
                assert fingerprint(source, {}) == fingerprint(contender.target, contender.columns)
    return drains


def _contender(name: str, source: Database, target: Database, folder: Path) -> Contender:
    target.execute(TABLES if name in (_NATIVE, _SAME) else RENAMED_TABLES)
    if name == _NATIVE:
        return Subscription(source, target, ("public.item", "public.finished"))
    connectors: dict[str, dict[str, Any]] = {
        "same": {"tables": [{"old": "public.*"}]},
        "renamed": {"tables": [{"old": "public.item", "columns": RENAMED}, _FINISHED]},
        "python": {"tables": [_FINISHED], "python": _PYTHON},
    }
    columns = {} if name == _SAME else RENAMED
    replicator = Replicator(name, source, target, folder, columns=columns, **connectors[name])
    replicator.catch_up()
    return replicator


def _report(benchmark: str, drains: Drains, names: Sequence[str], major: int | None) -> None:
    first, *others = names
    facts: dict[str, Any] = {
        "rows": ROWS,
        "rounds": len(drains[first, "insert"]),
        "old_server": major,
        "operations": {
            operation: {name: _facts(drains[name, operation], drains[first, operation]) for name in names}
            for operation in OPERATIONS
        },
    }
    rates, ratios, busy = [], [], []
    for operation, found in facts["operations"].items():
        rates.append([operation, *(f"{found[name]['rows_per_second']:,}" for name in names)])
        for name in others:
            ratio = found[name]["ratio"]
            spread = [f"{ratio[key]:.2f}" for key in ("median", "min", "max")]
            ratios.append([f"{operation}, {name}", *spread, "  ".join(f"{one:.2f}" for one in ratio["rounds"])])
        cpu = [found[name]["cpu_microseconds_per_row"].values() for name in names]
        busy.append([operation, *(" + ".join(f"{one:.1f}" for one in each) for each in cpu)])
    show(f"rows a second, {ROWS:,} rows, one lane; median of {facts['rounds']} rounds", ["", *names], rates)
    if others:
        show(f"{first}'s seconds by ours, of pairs", ["", "median", "min", "max", "rounds"], ratios)
    show("CPU µs a row: walsender + target (+ daemon)", ["", *names], busy)
    write_result(benchmark, facts)


def _facts(runs: Sequence[Drain], beside: Sequence[Drain]) -> dict[str, Any]:
    ratios = [one.seconds / own.seconds for one, own in zip(beside, runs, strict=True)]
    return {
        "rows_per_second": round(median(one.rate(ROWS) for one in runs)),
        "ratio": {
            "median": round(median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
            "rounds": [round(one, 3) for one in ratios],
        },
        "seconds": [round(one.seconds, 3) for one in runs],
        "cold_seconds": [round(one.cold_seconds, 3) for one in runs],
        "cpu_microseconds_per_row": {
            process: round(median(one.cpu_seconds[process] for one in runs) / ROWS * 1e6, 2)
            for process in runs[0].cpu_seconds
        },
    }
