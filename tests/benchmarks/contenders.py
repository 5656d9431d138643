"""Who is measured: PostgreSQL's own logical replication, and our daemon. Both read a slot of the old database."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import psutil
import psycopg
import pytest
from psycopg import sql

from tests.fix_postgres import Database

START_SECONDS_MAX: Final = 60.0
DRAIN_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.01
_LET_GO_SECONDS: Final = 0.3
_pause = threading.Event().wait


class Contender(Protocol):
    """One consumer of the old database's changes, stopped until `start`."""

    name: str
    slot: str
    target: Database
    columns: Mapping[str, str]
    """What the target calls columns that it has renamed."""

    def start(self) -> None:
        """Begin to consume; returns at once."""

    def stop(self) -> None:
        """End, with the slot free."""

    def cpu_seconds(self) -> float | None:
        """CPU time of a process of its own beside the two servers so far, None where there is none."""

    def check(self) -> None:
        """Fail at once when it has ended by itself."""

    def fail(self, what: str) -> NoReturn:
        """Fail the benchmark."""

    def close(self) -> None:
        """End it at once."""


class Subscription:
    """PostgreSQL's own logical replication: walsender to apply worker, inside the two servers. With its defaults."""

    name = "native"
    columns: Mapping[str, str] = {}

    def __init__(self, source: Database, target: Database, tables: Sequence[str]) -> None:
        self.slot = f"native_{target.name}"
        self.target = target
        self._source = source
        source.execute(f"CREATE PUBLICATION native FOR TABLE {', '.join(tables)}")
        source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [self.slot])
        target.execute(
            sql.SQL(
                "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION native "
                "WITH (enabled = false, create_slot = false, slot_name = {}, copy_data = false)"
            )
            .format(sql.Identifier(self.slot), sql.Literal(source.dsn), sql.Identifier(self.slot))
            .as_string()
        )

    def start(self) -> None:
        self._alter("ENABLE")

    def stop(self) -> None:
        self._alter("DISABLE")
        wait_until_free(self._source, self.slot)

    def cpu_seconds(self) -> float | None:
        return None

    def check(self) -> None:
        pass

    def fail(self, what: str) -> NoReturn:
        pytest.fail(f"native: {what}\n{self.target.server.log[-4000:]}", pytrace=False)

    def close(self) -> None:
        self._alter("DISABLE")

    def _alter(self, what: str) -> None:
        self.target.execute(sql.SQL(f"ALTER SUBSCRIPTION {{}} {what}").format(sql.Identifier(self.slot)).as_string())


class Replicator:
    """The daemon, `python -m replicator run`, with one connector."""

    def __init__(
        self,
        name: str,
        source: Database,
        target: Database,
        folder: Path,
        *,
        columns: Mapping[str, str] | None = None,
        **connector: Any,
    ) -> None:
        self.name = name
        self.columns = columns or {}
        self.target = target
        self.slot = f"replicator_{name}"
        self._source = source
        self._log = folder / f"{name}.log"
        self._file = folder / f"{name}.yaml"
        transforms = connector.pop("python", None)
        if transforms is not None:
            (folder / f"{name}.py").write_text(transforms)
            connector["transforms"] = f"{name}.py"
        document = {
            "name": name,
            "old": {"dsn": source.dsn},
            "upgraded": {"dsn": target.dsn},
            "http": {"listen": "127.0.0.1:0"},
            **connector,
        }
        self._file.write_text(json.dumps(document, indent=2))  # JSON is YAML
        self.process: psutil.Popen | None = None

    def catch_up(self) -> float:
        """Run until everything committed so far is applied (at first: make slot and copy too); returns seconds."""
        begun = time.monotonic()
        with self._log.open("ab") as log:
            done = subprocess.run(
                [sys.executable, "-m", "replicator", "run", self._file, "--until", "caught-up"],
                stdout=log,
                stderr=log,
                timeout=DRAIN_SECONDS_MAX,
                check=False,
            )
        if done.returncode != 0:
            self.fail(f"exit code {done.returncode}")
        return time.monotonic() - begun

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = psutil.Popen([sys.executable, "-m", "replicator", "run", self._file], stdout=log, stderr=log)

    def stop(self) -> None:
        process = self.process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(30)
        except psutil.TimeoutExpired:
            process.kill()
            self.fail("SIGTERM did not end it")
        self.process = None
        wait_until_free(self._source, self.slot)

    def cpu_seconds(self) -> float | None:
        if self.process is None:
            return None
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """Kill it where it still runs: a benchmark has failed."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def check(self) -> None:
        """Fail at once when the daemon has ended."""
        if self.process is not None and self.process.poll() is not None:
            self.fail(f"ended with {self.process.returncode}")

    def fail(self, what: str) -> NoReturn:
        """Fail the benchmark, with the end of the daemon's log."""
        pytest.fail(f"replicator run {self._file}: {what}\n{self._log.read_text()[-4000:]}", pytrace=False)


@dataclass(frozen=True)
class Drain:
    """How long a contender took for a backlog.

    Attributes:
        seconds: from the start of its replication session to the moment that the target has all.
        cold_seconds: likewise from the command to start.
        cpu_seconds: CPU time within `seconds` by process: the walsender, the backends (or apply worker) on the target,
            the daemon.

    """

    seconds: float
    cold_seconds: float
    cpu_seconds: dict[str, float]

    def rate(self, rows: int) -> float:
        """Rows a second."""
        return rows / self.seconds


def drain(contender: Contender, source: Database, phase: int) -> Drain:
    """Start a contender on its backlog, wait until the row `phase` is visible on the target, and stop it.

    The session's start is what pg_stat_activity says of the walsender on its slot: the same clock and the same moment
    for both, whatever it takes a process to come up. It stops when its slot has let go of the backlog.
    """
    wait_until_free(source, contender.slot)
    cold = time.time()
    contender.start()
    walsender: tuple[int, float] | None = None
    before = None
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    with source.connect(autocommit=True) as there, contender.target.connect(autocommit=True) as here:
        while here.execute("SELECT 1 FROM public.finished WHERE phase = %s", [phase]).fetchone() is None:
            if walsender is None:
                before = contender.cpu_seconds()
                walsender = there.execute(
                    "SELECT pid, extract(epoch FROM backend_start)::float8 FROM pg_stat_activity "
                    "WHERE pid = (SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s)",
                    [contender.slot],
                ).fetchone()
            contender.check()
            if time.monotonic() > deadline:
                contender.fail(f"took more than {DRAIN_SECONDS_MAX:g} s")
            _pause(POLL_SECONDS)
        done = time.time()
        if walsender is None:
            contender.fail("the backlog is too small to be measured")
        writers = here.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
        cpu = {"walsender": _cpu_seconds(walsender[0]), "target": sum(_cpu_seconds(pid) for (pid,) in writers)}
        daemon = contender.cpu_seconds()
        if daemon is not None and before is not None:
            cpu["daemon"] = daemon - before
        _let_go(contender, there)
    contender.stop()
    return Drain(done - walsender[1], done - cold, cpu)


def _let_go(contender: Contender, there: psycopg.Connection[Any]) -> None:
    """Wait until the slot needs no more WAL of the backlog.

    Its next session would begin with decoding all of it again, and whoever had confirmed less would pay for it.
    """
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    (end,) = there.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or (None,)
    # The slot moves to where it can begin again, once it is confirmed past a record that a checkpoint writes.
    asked = 0.0
    while there.execute(
        "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND restart_lsn < %s", [contender.slot, end]
    ).fetchone():
        if time.monotonic() > deadline:
            contender.fail("its slot holds the backlog for ever")
        if time.monotonic() > asked + _LET_GO_SECONDS:
            there.execute("CHECKPOINT")
            asked = time.monotonic()
        contender.check()
        _pause(POLL_SECONDS)


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def wait_until_free(source: Database, slot: str) -> None:
    """Wait until nobody reads the slot."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while source.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active", [slot]):
        if time.monotonic() > deadline:
            pytest.fail(f"slot {slot} stays taken", pytrace=False)
        _pause(POLL_SECONDS)


def fingerprint(database: Database, columns: Mapping[str, str]) -> Any:
    """What the table holds, in one value, whatever its columns are called; to compare both sides after a drain."""
    names = {name: columns.get(name, name) for name in ("id", "quantity", "title", "price", "changed_at")}
    row = " || ' ' || ".join(f"{name}::text" for name in names.values())
    return database.execute(f"SELECT count(*), sum(hashtextextended({row}, 0)::numeric) FROM public.item")[0]
