"""The Kafka path beside Debezium's own parts: our sink beside its JDBC sink, our capture beside its source.

All of them run here, in turns, on the same rows, the same broker and the same servers. Debezium's parts are at their
best: Connect and the broker have the JVM that Kafka's own start scripts give them (G1, all compilers), a first round
over other rows warms them and isn't counted, and both are tuned (the source for throughput, at least once; the sink
with batches of 5,000 and rewritten inserts). Ours run as they come, each round in a new process. The clock runs from
when the first rows are seen to when the last one is, for all of them, so nobody's start counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.connect import ConnectServer
from replicator.demo.kafka_parts.debezium import Format, converters, source_config
from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.registry import RegistryServer
from replicator.demo.servers import PostgresServer
from tests.benchmarks.report import show, write_result
from tests.benchmarks.workload import ROW, ROWS_PER_TRANSACTION, TABLES, settle
from tests.fix_postgres import Database, MakeDatabase

ROWS: Final = int(os.environ.get("BENCH_KAFKA_ROWS", "200000"))
ROUNDS: Final = int(os.environ.get("BENCH_KAFKA_ROUNDS", "3"))
SERVICE_JVM: Final = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
"""KAFKA_JVM_PERFORMANCE_OPTS of bin/kafka-run-class.sh."""
KINDS: Final[Mapping[str, Format]] = {"json": "json", "plain": "json_without_schema", "avro": "avro"}
"""Our three ways, by name."""
SOURCE, SINK = "debezium json", "JDBC sink json"
SOURCES: Final = {"debezium json, as it comes": ("untuned", False), SOURCE: ("tuned", True)}
SECONDS_MAX: Final = 300.0
POLL_SECONDS: Final = 0.02
_pause = threading.Event().wait
Rates = dict[str, list[float]]


@contextlib.contextmanager
def program(folder: Path, words: Sequence[str], name: str) -> Iterator[psutil.Popen]:
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
        self.watcher = Consumer(
            {"bootstrap.servers": kafka.bootstrap, "group.id": "watcher", "isolation.level": "read_committed"}
        )

    def connector(self, name: str, kind: Format, old: Database, upgraded: Database) -> Path:
        """Our connector's file on the topics of this name, which its capture fills."""
        avro = kind == "avro"
        document = {
            "name": name,
            "old": {"dsn": old.dsn},
            "upgraded": {"dsn": upgraded.dsn},
            "stream": {
                "kind": "kafka",
                "bootstrap_servers": self.kafka.bootstrap,
                "format": "debezium-avro" if avro else "debezium-json",
                "topic_prefix": name,
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

    def capture(self, file: Path) -> contextlib.AbstractContextManager[psutil.Popen]:
        """`replicator capture` of this file."""
        return program(self.folder, ["capture", str(file), "--listen", "127.0.0.1:0"], f"capture-{file.stem}")

    def end(self, topic: str) -> int:
        """How far a reader of what is committed could read; 0 of a topic that isn't there yet."""
        if topic not in self.watcher.list_topics(timeout=10).topics:
            return 0
        _, end = self.watcher.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        return end

    def check(self, process: psutil.Popen) -> None:
        """Whether our command still runs."""
        if process.poll() is not None:
            logs = "\n".join(one.read_text()[-3000:] for one in self.folder.glob("*.log"))
            pytest.fail(f"ended with {process.returncode}\n{logs}", pytrace=False)


def source_of(source: Database, name: str, *, tuned: bool) -> dict[str, str]:
    """Debezium's source; tuned for throughput it has larger queues and batches than its own, also of its producer."""
    config = source_config(source.dsn, prefix=name, tables=r"public\..*", slot=name, publication=name)
    if not tuned:
        return config | converters("json")
    return (
        config
        | converters("json")
        | {
            "max.batch.size": "8192",
            "max.queue.size": "32768",
            "poll.interval.ms": "50",
            "producer.override.batch.size": "524288",
            "producer.override.linger.ms": "10",
            "producer.override.buffer.memory": "134217728",
        }
    )


def sink_of(target: Database, prefix: str, kind: Format) -> dict[str, str]:
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
    } | converters(kind)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Broker, Connect and registry, with a machine to themselves."""
    parts = Parts.here()
    if not parts.has("kafka"):
        pytest.skip("the real Kafka isn't here: `make parts`")
    with contextlib.ExitStack() as stack:
        kafka = stack.enter_context(KafkaServer(parts, heap="1g", jvm=SERVICE_JVM))
        registry = stack.enter_context(RegistryServer(parts))
        worker = {"connector.client.config.override.policy": "All"}
        connect = ConnectServer(parts, kafka.bootstrap, settings=worker, exactly_once=False, heap="2g", jvm=SERVICE_JVM)
        stack.enter_context(connect)
        made = Bench(tmp_path_factory.mktemp("bench"), kafka, connect, registry)
        stack.callback(made.watcher.close)
        yield made


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


def rate_of(bench: Bench, prefix: str, check: Callable[[], None]) -> float:
    """Rows a second of a producer, from the moment that the first ones can be read to the record that was written
    after all of them.

    Args:
        bench: the parts.
        prefix: of the topics.
        check: fails where the producer is gone.

    """
    deadline = time.monotonic() + SECONDS_MAX
    begun: tuple[float, int] | None = None
    before, finished = bench.end(f"{prefix}.public.item"), bench.end(f"{prefix}.public.finished")
    while True:
        done = bench.end(f"{prefix}.public.item") - before
        now = time.monotonic()
        if begun is None and done > 0:
            begun = now, done
        if begun is not None and bench.end(f"{prefix}.public.finished") > finished:
            assert begun[1] < ROWS, "all was there at once: more rows are needed"
            return (ROWS - begun[1]) / (time.monotonic() - begun[0])
        check()
        assert now < deadline, f"{done} of {ROWS} rows after {SECONDS_MAX:g} s"
        _pause(POLL_SECONDS)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_capture_beside_debeziums_source(
    bench: Bench, old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase
) -> None:
    """Both put all rows into Kafka; the ratio of their rates is printed."""
    source = make_database(old_server)
    source.execute(TABLES)
    files = _captures(bench, source, make_database(upgraded_server), "source")
    for name, tuned in SOURCES.values():
        bench.connect.rest.create(name, source_of(source, name, tuned=tuned))
        bench.connect.rest.stop(name)
    rates: Rates = defaultdict(list)
    for number in range(ROUNDS + 1):  # the first one warms
        _write(source, number)
        for title, (name, _) in SOURCES.items():
            with _running(bench.connect, name):
                rates[title].append(rate_of(bench, name, lambda: None))
        for name, file in files.items():
            with bench.capture(file) as one:
                rates[f"capture {name}"].append(rate_of(bench, file.stem, partial(bench.check, one)))
    _report("kafka-source", "from a slot into Kafka", rates, SOURCE)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_feed_beside_the_jdbc_sink(
    bench: Bench, old_server: PostgresServer, upgraded_server: PostgresServer, make_database: MakeDatabase
) -> None:
    """Every sink ends with the source's rows; the ratio of their rates is printed."""
    source = make_database(old_server)
    source.execute(TABLES)
    files = _captures(bench, source, make_database(upgraded_server), "sink")
    _write(source, 0)
    for file in files.values():
        with bench.capture(file) as one:
            while not bench.end(f"{file.stem}.public.finished"):
                bench.check(one)
                _pause(POLL_SECONDS)
    rates: Rates = defaultdict(list)
    for number in range(ROUNDS + 1):  # the first one warms
        target = _empty(make_database(upgraded_server))
        bench.connect.rest.create(f"sink{number}", sink_of(target, files["json"].stem, "json"))
        rates[SINK].append(rate_at(target, lambda: None))
        bench.connect.rest.delete(f"sink{number}")
        _same(source, target)
        for name, file in files.items():
            target = _empty(make_database(upgraded_server))
            bench.connector(file.stem, KINDS[name], source, target)
            with program(bench.folder, ["run", str(file)], f"run-{name}") as one:
                rates[f"replicator {name}"].append(rate_at(target, partial(bench.check, one)))
            _same(source, target)
    _report("kafka-sink", "from Kafka into PostgreSQL", rates, SINK)


def _captures(bench: Bench, source: Database, target: Database, purpose: str) -> dict[str, Path]:
    """The file of each capture, by kind; slot and publication are there before any rows."""
    files = {}
    for name, kind in KINDS.items():
        file = files[name] = bench.connector(f"{purpose}_{name}", kind, source, target)
        source.execute(f"CREATE PUBLICATION replicator_{file.stem} FOR TABLE public.item, public.finished")
        source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [f"replicator_{file.stem}"])
    return files


def _write(source: Database, number: int) -> None:
    """The rows of one round in transactions of 100, then one row in `finished`."""
    first, last = (number * ROWS // ROWS_PER_TRANSACTION, (number + 1) * ROWS // ROWS_PER_TRANSACTION - 1)
    insert = f"""
        INSERT INTO public.item SELECT {ROW}
        FROM generate_series(i * {ROWS_PER_TRANSACTION} + 1, (i + 1) * {ROWS_PER_TRANSACTION}) n
    """
    source.execute(f"DO $$ BEGIN FOR i IN {first} .. {last} LOOP {insert}; COMMIT; END LOOP; END $$")
    source.execute("INSERT INTO public.finished VALUES (%s)", [number])
    settle(source)


@contextlib.contextmanager
def _running(connect: ConnectServer, name: str) -> Iterator[None]:
    connect.rest.resume(name)
    yield
    connect.rest.stop(name)


def _empty(target: Database) -> Database:
    target.execute(TABLES)
    return target


def _same(source: Database, target: Database) -> None:
    query = "SELECT count(*), sum(hashtextextended(i::text, 0)::numeric) FROM public.item i"
    assert source.execute(query) == target.execute(query)


def _report(name: str, title: str, rates: Rates, peer: str) -> None:
    """What each round but the first has measured: the middle, the range, and its ratio to the peer's middle."""
    counted = {one: found[1:] for one, found in rates.items()}
    middles = {one: median(found) for one, found in counted.items()}
    ratios = {one: middle / middles[peer] for one, middle in middles.items()}
    show(
        f"rows a second {title}: {ROUNDS} rounds of {ROWS:,} rows after one that warms",
        ["", "middle", "lowest", "highest", f"of {peer}"],
        [
            [one, *(f"{rate:,.0f}" for rate in (middles[one], min(found), max(found))), f"{ratios[one]:.2f}"]
            for one, found in counted.items()
        ],
    )
    facts: dict[str, Any] = {"rows": ROWS, "rounds": ROUNDS, "peer": peer}
    for one, found in rates.items():
        facts[one] = {"rows_per_second": [round(rate) for rate in found], "ratio": round(ratios[one], 2)}
    write_result(name, facts)
