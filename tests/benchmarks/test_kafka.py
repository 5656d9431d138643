"""The Kafka path beside Debezium's own parts: our sink beside its JDBC sink, our capture beside its source.

All of them run here, one after the other, on the same rows, the same broker and the same servers.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
import pytest

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.connect import ConnectServer
from replicator.demo.kafka_parts.debezium import Format, converters, source_config
from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.registry import RegistryServer
from replicator.demo.servers import PostgresServer
from tests.benchmarks.report import show, write_result
from tests.benchmarks.workload import TABLES, settle, write
from tests.fix_postgres import Database, MakeDatabase

ROWS: Final = int(os.environ.get("BENCH_KAFKA_ROWS", "100000"))
SECONDS_MAX: Final = 300.0
POLL_SECONDS: Final = 0.02
_pause = threading.Event().wait


@contextlib.contextmanager
def program(folder: Path, words: list[str], name: str) -> Iterator[psutil.Popen]:
    """A command of ours, killed at the end of the block."""
    with (folder / f"{name}.log").open("ab") as log:
        process = psutil.Popen([sys.executable, "-m", "replicator", *words], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            process.kill()
            process.wait()


class Bench:
    """The parts of one run."""

    def __init__(self, folder: Path, kafka: KafkaServer, connect: ConnectServer, registry: RegistryServer) -> None:
        self.folder = folder
        self.kafka = kafka
        self.connect = connect
        self.registry = registry

    def connector(self, name: str, old: Database, upgraded: Database, prefix: str, kind: Format) -> Path:
        """Our connector's file on the topics of this prefix, which are there already."""
        avro = kind == "avro"
        document = {
            "name": name,
            "old": {"dsn": old.dsn},
            "upgraded": {"dsn": upgraded.dsn},
            "stream": {
                "kind": "kafka",
                "bootstrap_servers": self.kafka.bootstrap,
                "format": "debezium-avro" if avro else "debezium-json",
                "topic_prefix": prefix,
                "capture": {"schemas": kind == "json"},
                **({"schema_registry": {"url": self.registry.url}} if avro else {}),
            },
            "tables": [{"old": "public.*"}],
            "backfill": {"enabled": False},
            "http": {"listen": "127.0.0.1:0"},
        }
        file = self.folder / f"{name}.yaml"
        file.write_text(json.dumps(document, indent=2))
        return file

    def sink(self, target: Database, prefix: str, kind: Format) -> dict[str, str]:
        """Debezium's JDBC sink, tuned: large batches, inserts rewritten into multi-row ones."""
        address = urlsplit(target.dsn)
        where = f"{address.hostname}:{address.port}/{target.name}"
        return {
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "tasks.max": "1",
            "topics": f"{prefix}.public.item,{prefix}.public.finished",
            "connection.url": f"jdbc:postgresql://{where}?reWriteBatchedInserts=true&stringtype=unspecified",
            "connection.username": address.username or "postgres",
            "connection.password": address.password or "none",
            "insert.mode": "upsert",
            "delete.enabled": "true",
            "primary.key.mode": "record_key",
            "schema.evolution": "none",
            "collection.name.format": "${source.table}",
            "batch.size": "5000",
            "consumer.override.max.poll.records": "5000",
            "consumer.override.fetch.min.bytes": "1048576",
            "consumer.override.auto.offset.reset": "earliest",
        } | converters(kind, self.registry.url)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Broker, Connect and registry of their own, with a machine to themselves."""
    parts = Parts.here()
    if not parts.has("kafka"):
        pytest.skip("the real Kafka isn't here: `make parts`")
    with contextlib.ExitStack() as stack:
        kafka = stack.enter_context(KafkaServer(parts, heap="512m"))
        registry = stack.enter_context(RegistryServer(parts))
        worker = {"connector.client.config.override.policy": "All"}
        connect = stack.enter_context(ConnectServer(parts, kafka.bootstrap, settings=worker, heap="1g"))
        yield Bench(tmp_path, kafka, connect, registry)


def rate_at(target: Database, check: Callable[[], None]) -> float:
    """Rows a second of a sink, from the moment that the first ones are visible to the last."""
    deadline = time.monotonic() + SECONDS_MAX
    begun: tuple[float, int] | None = None
    with target.connect(autocommit=True) as here:
        while True:
            row = here.execute("SELECT max(id) FROM public.item").fetchone()
            now, done = time.monotonic(), int(row[0] or 0) if row else 0
            if begun is None and done:
                begun = now, done
            if begun is not None and done >= ROWS:
                assert begun[1] < ROWS, "all was there at once: more rows are needed"
                return (ROWS - begun[1]) / (now - begun[0])
            check()
            assert now < deadline, f"{done} of {ROWS} rows after {SECONDS_MAX:g} s"
            _pause(POLL_SECONDS)


def rate_of(source: Database, slot: str, lsn: str, check: Callable[[], None]) -> float:
    """Rows a second of a producer: from its walsender's start until its slot has confirmed what was written last."""
    deadline = time.monotonic() + SECONDS_MAX
    begun: float | None = None
    with source.connect(autocommit=True) as there:
        while True:
            row = there.execute(
                "SELECT extract(epoch FROM a.backend_start)::float8, s.confirmed_flush_lsn >= %s::pg_lsn "
                "FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid "
                "WHERE s.slot_name = %s",
                [lsn, slot],
            ).fetchone()
            if row is not None:
                begun = begun or row[0]
                if row[1] and begun is not None:
                    return ROWS / (time.time() - begun)
            check()
            assert time.monotonic() < deadline, f"{slot} has not confirmed {lsn} after {SECONDS_MAX:g} s"
            _pause(POLL_SECONDS)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_kafka_beside_debezium(
    bench: Bench, old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase
) -> None:
    """Every sink ends with the source's rows; the ratios to Debezium's are printed."""
    source = make_database(old_server)
    source.execute(TABLES)
    producers: dict[str, float] = {}
    sinks: dict[str, float] = {}

    kinds: list[tuple[str, Format]] = [("json", "json"), ("plain", "json_without_schema"), ("avro", "avro")]
    files = {}
    for name, kind in kinds:  # slot and publication of each capture, before the rows
        files[name] = bench.connector(name, source, make_database(upgraded_server), name, kind)
        source.execute(f"CREATE PUBLICATION replicator_{name} FOR TABLE public.item, public.finished")
        source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [f"replicator_{name}"])
    config = source_config(source.dsn, prefix="dbz", tables=r"public\..*", slot="dbz", publication="dbz")
    config |= converters("json")
    bench.connect.rest.create("dbz", config)
    bench.connect.rest.stop("dbz")

    write(source, "insert", ROWS, phase=1)
    settle(source)
    lsn = source.execute("SELECT pg_current_wal_insert_lsn()::text")[0][0]
    source.execute("SELECT pg_logical_emit_message(true, 'replicator', '')")
    for name, _ in kinds:
        with program(bench.folder, ["capture", str(files[name]), "--listen", "127.0.0.1:0"], f"capture-{name}") as one:
            producers[f"capture {name}"] = rate_of(source, f"replicator_{name}", lsn, lambda: _alive(one, bench))
    bench.connect.rest.resume("dbz")
    producers["debezium json"] = rate_of(source, "dbz", lsn, lambda: None)
    bench.connect.rest.stop("dbz")

    target = make_database(upgraded_server)
    target.execute(TABLES)
    bench.connect.rest.create("sink", bench.sink(target, "json", "json"))
    sinks["JDBC sink json"] = rate_at(target, lambda: None)
    bench.connect.rest.delete("sink")
    _same(source, target)
    for name, kind in kinds:
        target = make_database(upgraded_server)
        target.execute(TABLES)
        file = bench.connector(name, source, target, name, kind)
        with program(bench.folder, ["run", str(file)], f"run-{name}") as one:
            sinks[f"replicator {name}"] = rate_at(target, lambda: _alive(one, bench))
        _same(source, target)
    _report(producers, sinks)


def _alive(process: psutil.Popen, bench: Bench) -> None:
    if process.poll() is not None:
        logs = "\n".join(one.read_text()[-3000:] for one in bench.folder.glob("*.log"))
        pytest.fail(f"ended with {process.returncode}\n{logs}", pytrace=False)


def _same(source: Database, target: Database) -> None:
    query = "SELECT count(*), sum(hashtextextended(i::text, 0)::numeric) FROM public.item i"
    assert source.execute(query) == target.execute(query)


def _report(producers: dict[str, float], sinks: dict[str, float]) -> None:
    facts: dict[str, Any] = {"rows": ROWS}
    for title, rates, peer in (
        ("from a slot into Kafka", producers, "debezium json"),
        ("from Kafka into PostgreSQL", sinks, "JDBC sink json"),
    ):
        show(
            f"rows a second {title}, {ROWS:,} rows (ratio to {peer})",
            ["", "rows/s", "ratio"],
            [[name, f"{rate:,.0f}", f"{rate / rates[peer]:.1f}"] for name, rate in rates.items()],
        )
        facts[title] = {
            name: {"rows_per_second": round(rate), "ratio": round(rate / rates[peer], 2)}
            for name, rate in rates.items()
        }
    write_result("kafka", facts)
