"""The daemon as its operators see it: started, asked, stopped, killed."""

import json
import resource
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.connector_files import free_address, write_connector
from tests.fix_postgres import Database
from tests.fix_replicator import COMMAND, ReplicatorProcess, StartReplicator

pytestmark = pytest.mark.timeout(180)

TABLES = """
CREATE TABLE accounts (id int PRIMARY KEY, name varchar(40), balance numeric(12, 2));
CREATE TABLE notes (id int PRIMARY KEY, account_id int REFERENCES accounts, body text);
"""
ROWS = """
INSERT INTO accounts SELECT n, 'account ' || n, n * 1.5 FROM generate_series(1, 1000) n;
INSERT INTO notes SELECT n, n, 'note ' || n FROM generate_series(1, 1000) n;
"""
CONTENT = """
SELECT md5(string_agg(a::text, ';' ORDER BY id)), (SELECT md5(string_agg(n::text, ';' ORDER BY id)) FROM notes n)
FROM accounts a
"""


@pytest.fixture
def sides(old_database: Database, upgraded_database: Database) -> tuple[Database, Database]:
    """Two databases of one shape, the old one filled."""
    for database in (old_database, upgraded_database):
        database.execute(TABLES)
    old_database.execute(ROWS)
    return old_database, upgraded_database


def content(database: Database) -> list[tuple[Any, ...]]:
    return database.execute(CONTENT)


def call(*args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and check its exit code."""
    done = subprocess.run([COMMAND, *map(str, args)], capture_output=True, text=True, check=False, timeout=120)
    assert code == done.returncode, f"{args}\n{done.stdout}\n{done.stderr}"
    return done


def facts(*args: object, code: int = 0) -> Any:
    """The same with --json, parsed."""
    return json.loads(call(*args, "--json", code=code).stdout)


def streaming(start: StartReplicator, file: Path) -> ReplicatorProcess:
    daemon = start(["run", str(file)])
    daemon.wait_for_log("streaming")
    return daemon


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_until_caught_up_copies_and_ends(sides: tuple[Database, Database], tmp_path: Path) -> None:
    """One call fills the upgraded side and ends with 0; another brings what was written since."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded)
    call("run", file, "--until", "caught-up")
    assert content(old) == content(upgraded)

    old.execute("UPDATE accounts SET balance = balance + 1; DELETE FROM notes WHERE id % 2 = 0")
    call("run", file, "--until", "caught-up")

    assert content(old) == content(upgraded)


def test_first_signal_drains(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """SIGTERM ends the daemon with 0, its checkpoint where its rows are: the next start repeats and skips nothing."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded)
    upgraded.execute(
        "CREATE TABLE counted (n int); CREATE FUNCTION count_row() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO public.counted VALUES (1); RETURN NULL; END'"
    )
    daemon = streaming(replicator_process, file)
    upgraded.execute("CREATE TRIGGER counts AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION count_row()")
    upgraded.execute("ALTER TABLE accounts ENABLE ALWAYS TRIGGER counts")
    for n in range(50):
        old.execute("INSERT INTO accounts VALUES (%s, 'new', 1)", [2000 + n])
    daemon.terminate()
    assert 0 == daemon.wait()

    call("run", file, "--until", "caught-up")

    assert content(old) == content(upgraded)
    assert [(50,)] == upgraded.execute("SELECT count(*) FROM counted")


def test_second_signal_ends_at_once(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """A daemon that can't drain (its target is locked) ends at the second signal, and nothing is lost."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded)
    daemon = streaming(replicator_process, file)
    with upgraded.connect() as session:
        session.execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
        old.execute("UPDATE accounts SET name = 'changed'")
        daemon.terminate()
        daemon.wait_for_log("draining")
        daemon.terminate()
        assert 128 + signal.SIGTERM == daemon.wait()

    call("run", file, "--until", "caught-up")

    assert content(old) == content(upgraded)


def test_a_failing_connector_leaves_its_neighbour_alone(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """Two connectors in one daemon: one can't work, the other replicates; readiness, metrics and status say which."""
    old, upgraded = sides
    address = free_address()
    good = write_connector(tmp_path, old, upgraded, name="good", http={"listen": address})
    bad = write_connector(
        tmp_path, old, upgraded, name="bad", tables=[{"old": "public.nothing"}], http={"listen": address}
    )
    daemon = replicator_process(["run", str(tmp_path)])
    daemon.wait_for_log("connector failed", connector="bad")
    call("wait", good, "--for", "caught-up")

    code, body = get(address, "/readyz")
    assert (503, {"bad": "failed"}) == (code, json.loads(body)["failed"])
    assert 200 == get(address, "/livez")[0]
    assert 'replicator_state{connector="bad",state="failed"} 1.0' in get(address, "/metrics")[1]
    assert content(old) == content(upgraded)
    failed = facts("status", bad, code=1)
    assert ("failed", "config") == (failed["state"], failed["error"]["kind"])
    assert "public.nothing" in failed["error"]["message"]
    given_up = call("wait", bad, "--timeout", "60s", code=1)
    assert "public.nothing" in given_up.stderr  # told at once, not after the minute
    daemon.terminate()
    assert 1 == daemon.wait()


def test_status_is_told_by_the_daemon_or_by_the_databases(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """Beside a running daemon and without one, the same keys; what can't be known is null."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded)
    before = facts("status", file)
    daemon = streaming(replicator_process, file)
    call("wait", file)
    running = facts("status", file)
    daemon.terminate()
    daemon.wait()
    after = facts("status", file)

    assert before.keys() == running.keys() == after.keys()
    assert ["databases", "daemon", "databases"] == [one["told_by"] for one in (before, running, after)]
    assert [False, True, False] == [one["running"] for one in (before, running, after)]
    assert ("preparing", None, None) == (before["state"], before["position"], before["epoch"])
    assert running["end_to_end_seconds"] < 5
    assert running["freshness_seconds"] < 5
    assert running["epoch"] == after["epoch"]
    assert after["end_to_end_seconds"] is None
    assert ("streaming", 2000) == (after["state"], after["backfill"]["rows_done"])


def test_wait_returns_when_what_was_committed_is_applied(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """After each `wait`, what was committed before it is on the upgraded side."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded)
    replicator_process(["run", str(file)])
    for n in range(5):
        old.execute("UPDATE accounts SET balance = %s", [n])
        waited = facts("wait", file, "--for", "caught-up")
        assert waited["reached"]
        assert [(n,)] == upgraded.execute("SELECT DISTINCT balance::int FROM accounts")


def test_wait_says_what_it_waits_for(sides: tuple[Database, Database], tmp_path: Path) -> None:
    """Without a daemon the time is up: exit code 1, and why."""
    file = write_connector(tmp_path, *sides)
    done = call("wait", file, "--timeout", "300ms", code=1)

    assert "the feed has not begun; no daemon reads the slot" in done.stderr


def test_dead_letters_are_listed_shown_retried_and_discarded(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """A row that doesn't fit waits in the queue with its successors, until it is retried or discarded by name."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded, apply={"on_error": "dlq"})
    streaming(replicator_process, file)
    upgraded.execute("ALTER TABLE accounts ADD CONSTRAINT positive CHECK (balance >= 0) NOT VALID")
    old.execute("UPDATE accounts SET balance = -1 WHERE id IN (1, 2)")
    old.execute("UPDATE accounts SET name = 'behind' WHERE id = 1")
    old.execute("UPDATE accounts SET name = 'free' WHERE id = 3")
    call("wait", file)

    letters = facts("dlq", "list", file)
    assert {("1",), ("2",)} == {tuple(letter["key"]) for letter in letters}
    assert ["behind", "data", "data"] == sorted(letter["kind"] for letter in letters)
    assert [("free",)] == upgraded.execute("SELECT name FROM accounts WHERE id = 3")
    assert "-1.00" not in call("dlq", "list", file).stdout
    assert "balance = '-1.00'" in call("dlq", "show", file, letters[0]["id"]).stdout
    assert facts("status", file)["dead_letters"] >= 2

    refused = call("dlq", "retry", file, "--all", code=1)
    assert "positive" in refused.stderr
    upgraded.execute("ALTER TABLE accounts DROP CONSTRAINT positive")
    call("dlq", "retry", file, "--key", "1")
    assert [("behind", -1)] == upgraded.execute("SELECT name, balance::int FROM accounts WHERE id = 1")
    call("dlq", "discard", file, "--all", "--yes")
    assert [] == facts("dlq", "list", file)
    assert [("account 2",)] == upgraded.execute("SELECT name FROM accounts WHERE id = 2 AND balance > 0")


def test_resync_mends_a_table(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """Rows that somebody changed, deleted or added on the upgraded side are as the old side has them, afterwards."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded)
    streaming(replicator_process, file)
    upgraded.execute(
        "UPDATE notes SET body = 'broken' WHERE id < 5; DELETE FROM notes WHERE id BETWEEN 5 AND 9; "
        "INSERT INTO notes VALUES (5000, 1, 'too much')"
    )
    call("resync", file, "public.notes")

    assert content(old) == content(upgraded)
    wrong = call("resync", file, "public.notes", "public.nonsense", code=1)
    assert "the connector maps no table 'public.nonsense'" in wrong.stderr


def test_requests_without_a_daemon_wait_for_the_next_start(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """The command says that no daemon runs; the next start carries the request out."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded)
    call("run", file, "--until", "caught-up")
    upgraded.execute("DELETE FROM notes")
    done = call("resync", file, "notes", code=1)
    assert "no daemon runs this connector" in done.stderr

    daemon = replicator_process(["run", str(file)])
    outcome = daemon.wait_for_log("request carried out")

    assert outcome["failed"]  # a table is named with its schema
    call("resync", file, "public.notes")
    assert content(old) == content(upgraded)


def test_a_target_that_restarts_is_waited_for(
    sides: tuple[Database, Database], tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """Lost sessions are an error that may pass: status says so meanwhile, and then it goes on."""
    old, upgraded = sides
    file = write_connector(tmp_path, old, upgraded)
    daemon = streaming(replicator_process, file)
    upgraded.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'replicator:%' "
        "AND datname = current_database()"
    )
    old.execute("UPDATE accounts SET name = 'after'")
    daemon.wait_for_log("retrying", error_kind="connection")
    call("wait", file)

    assert content(old) == content(upgraded)
    assert 1 <= facts("status", file)["restarts"]


def test_help_is_quick() -> None:
    """`replicator --help` needs less than half a second of a processor: the best of five, for the machine is busy."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.5
