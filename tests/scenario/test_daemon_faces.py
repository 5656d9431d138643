"""What a running daemon shows: metrics, notifications, logs; and what it never shows."""

import contextlib
import json
import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.connector_files import free_address, write_connector
from tests.fix_postgres import Database
from tests.fix_replicator import StartReplicator

pytestmark = pytest.mark.timeout(180)

TABLE = "CREATE TABLE accounts (id int PRIMARY KEY, name text)"


@pytest.fixture
def sides(old_database: Database, upgraded_database: Database) -> tuple[Database, Database]:
    """Two databases of one shape, the old one filled."""
    for database in (old_database, upgraded_database):
        database.execute(TABLE)
    old_database.execute("INSERT INTO accounts SELECT n, 'account' FROM generate_series(1, 100) n")
    return old_database, upgraded_database


def test_metrics_count_what_was_applied(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """Rows by table and operation, transactions, the lag numbers, and the backfill, after real work."""
    old, upgraded = sides
    address = free_address()
    file = write_connector(tmp_path, old, upgraded, http={"listen": address})
    replicator_process(["run", str(file)]).wait_for_log("streaming")
    old.execute("INSERT INTO accounts VALUES (101, 'new')")
    old.execute("UPDATE accounts SET name = 'changed' WHERE id <= 10")
    old.execute("DELETE FROM accounts WHERE id > 95 AND id <= 100")
    assert 0 == replicator_process(["wait", str(file)]).wait()
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    values = {
        (sample.name, sample.labels.get("operation") or sample.labels.get("table")): sample.value
        for family in families
        for sample in family.samples
    }

    assert 10 == values["replicator_applied_rows_total", "update"]
    assert 5 == values["replicator_applied_rows_total", "delete"]
    assert 1 == values["replicator_applied_rows_total", "insert"] + values["replicator_applied_rows_total", "upsert"]
    assert 3 == values["replicator_applied_transactions_total", None]
    assert 3 == values["replicator_commit_lag_seconds_count", None]
    assert 100 == values["replicator_backfill_copied_rows", "public.accounts"]
    assert 0 == values["replicator_dead_letters", None]
    assert 0 <= values["replicator_end_to_end_seconds", None] < 30
    assert 0 <= values["replicator_freshness_seconds", None] < 30
    assert values["replicator_retained_wal_bytes", None] >= 0
    assert abs(values["replicator_clock_offset_seconds", None]) < 1


def test_systemd_is_told(sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator) -> None:
    """READY=1 once it listens, WATCHDOG=1 within half of the period, STOPPING=1 when it drains."""
    file = write_connector(tmp_path, *sides)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        daemon = replicator_process(["run", str(file)], env=environment)
        assert b"READY=1" == manager.recv(200)
        assert [b"WATCHDOG=1"] * 3 == [manager.recv(200) for _ in range(3)]
        daemon.wait_for_log("streaming")
        daemon.terminate()
        assert 0 == daemon.wait()
        manager.setblocking(False)
        told = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(manager.recv(200))

    assert b"STOPPING=1" in told


def test_no_secret_and_no_row_value_is_ever_shown(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """Neither a password nor a row's content is in logs, metrics or status, through failures too."""
    old, upgraded = sides
    address = free_address()
    password, token, value = "pa55-word", "t0ken-of-http", "row-content-4711"
    file = write_connector(
        tmp_path,
        re.sub("://postgres@", f"://postgres:{password}@", old.dsn),
        re.sub("://postgres@", f"://postgres:{password}@", upgraded.dsn),
        http={"listen": address, "token": token},
    )
    assert password in file.read_text()
    old.execute("UPDATE accounts SET name = %s WHERE id = 1", [value])
    daemon = replicator_process(["run", str(file), "--verbose"])
    daemon.wait_for_log("streaming")
    upgraded.execute("ALTER TABLE accounts ADD CONSTRAINT short CHECK (length(name) < 10) NOT VALID")
    old.execute("UPDATE accounts SET name = %s WHERE id = 2", [value])
    failed = daemon.wait_for_log("connector failed")
    request = urllib.request.Request(f"http://{address}/api/v1/status", headers={"Authorization": f"Bearer {token}"})
    with (
        urllib.request.build_opener().open(request, timeout=10) as status,
        urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as metrics,
    ):
        shown = status.read().decode() + metrics.read().decode()
    daemon.terminate()
    assert 1 == daemon.wait()
    shown += json.dumps(daemon.logs) + daemon.stdout

    assert ("data", "short", "(2)") == (failed["error_kind"], failed["constraint"], failed["key"])
    for secret in (password, token, value):
        assert secret not in shown


def test_logs_are_one_json_object_a_line(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """Every line parses, and has event, level and time; nothing goes to stdout."""
    file = write_connector(tmp_path, *sides)
    daemon = replicator_process(["run", str(file), "--until", "caught-up"])
    assert 0 == daemon.wait()

    assert "" == daemon.stdout
    assert daemon.logs
    assert all({"event", "level", "timestamp"} <= line.keys() for line in daemon.logs)
