"""Continuous verification in the daemon: what it finds shows everywhere, it brakes, it goes on where it was."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import MakeDatabase
from tests.fix_proxy import MakeProxy
from tests.fix_replicator import ReplicatorProcess
from tests.polling import wait_until
from tests.scenario.test_verify import verify

pytestmark = [pytest.mark.timeout(300)]

PLAIN = "CREATE TABLE plain (id int PRIMARY KEY, name text)"
FILL = "INSERT INTO plain SELECT n, 'n' || n FROM generate_series(1, {rows}) n"
PATIENCE = 120


class Daemon:
    """The HTTP face of one running daemon."""

    def __init__(self, process: ReplicatorProcess) -> None:
        self.process = process
        self.url = process.logged("listening")[0]["url"]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path) as answer:  # noqa: S310 - our own daemon, by HTTP
            return json.load(answer)

    def verification(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/api/v1/status")["connectors"][0]["verification"]
        return found

    def metrics(self) -> dict[str, float]:
        """Samples by name and labels, as they are written."""
        with urllib.request.urlopen(self.url + "/metrics") as answer:  # noqa: S310 - likewise
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    @contextmanager
    def events(self) -> Iterator[list[tuple[str, dict[str, Any]]]]:
        """What the stream tells from now on, but for the status."""
        told: list[tuple[str, dict[str, Any]]] = []
        answer = urllib.request.urlopen(self.url + "/api/v1/events")  # noqa: S310 - likewise
        listening = threading.Event()

        def read() -> None:
            name = ""
            for line in answer:
                listening.set()
                if line.startswith(b"event: "):
                    name = line[7:].strip().decode()
                elif line.startswith(b"data: ") and name != "status":
                    told.append((name, json.loads(line[6:])))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        assert listening.wait(PATIENCE)
        yield told
        self.process.kill()  # which ends the stream
        reader.join(PATIENCE)
        answer.close()


def running(shop: Migration) -> Daemon:
    return Daemon(shop.streaming())


def test_what_it_finds_is_a_row_a_metric_an_event_and_a_line(migrate: Migrate) -> None:
    """Damage is found without being asked for, shows everywhere until it is mended, and ends the certificate; the
    trouble of verification itself is shown, and the feed goes on.
    """
    shop = migrate(PLAIN, old_schema=FILL.format(rows=500), options="verify: {continuous: on, interval: 500ms}")
    daemon = running(shop)
    wait_until(lambda: (daemon.verification()["certificate"] or {}).get("valid"), PATIENCE)
    with daemon.events() as told:
        shop.upgraded.execute("UPDATE plain SET name = 'secret' WHERE id = 7; DELETE FROM plain WHERE id = 8")
        wait_until(lambda: daemon.verification()["open_divergences"] == 2, PATIENCE)
        wait_until(lambda: not daemon.verification()["certificate"]["valid"], PATIENCE)

        labels = 'connector="shop",feed="forward"'
        metrics = daemon.metrics()
        for kind, count in (("missing", 1), ("extra", 0), ("different", 1)):
            of = f'{{{labels},kind="{kind}",table="public.plain"}}'
            assert count == metrics[f"replicator_open_divergences{of}"]
            assert count == metrics[f"replicator_findings_total{of}"]
        assert 0 == metrics[f"replicator_certificate_valid{{{labels}}}"]
        assert metrics[f'replicator_verified_rows_total{{{labels},table="public.plain"}}'] >= 500
        logged = {(line["key"][0], line["kind"]) for line in daemon.process.logged("divergence")}
        assert {("7", "different"), ("8", "missing")} == logged
        first = daemon.get("/api/v1/findings?connector=shop&limit=1")
        second = daemon.get(f"/api/v1/findings?limit=1&after={first['next']}")
        keys = {one["key"][0] for page in (first, second) for one in page["findings"]}
        assert {"7", "8"} == keys
        assert {"7", "8"} == {one["key"][0] for one in daemon.verification()["findings"]}

        shop.upgraded.execute("ALTER TABLE replicator.verification RENAME TO hidden")
        wait_until(lambda: daemon.verification()["error"], PATIENCE)
        assert "retrying" == daemon.verification()["state"]
        shop.change("INSERT INTO plain VALUES (900, 'new')")
        shop.catch_up()
        shop.upgraded.execute("ALTER TABLE replicator.hidden RENAME TO verification")

        shop.upgraded.execute("UPDATE plain SET name = 'n7' WHERE id = 7; INSERT INTO plain VALUES (8, 'n8')")
        wait_until(lambda: daemon.verification()["open_divergences"] == 0, PATIENCE)
        wait_until(lambda: daemon.verification()["certificate"]["valid"], PATIENCE)
        assert daemon.verification()["error"] is None
        assert {"7", "8"} == {one["key"][0] for one in daemon.get("/api/v1/findings?state=closed")["findings"]}
        changes = {("7", "open"), ("8", "open"), ("7", "closed"), ("8", "closed")}
        wait_until(lambda: changes <= {(facts["key"][0], facts["state"]) for name, facts in told if name == "finding"})
        assert {"pass", "certificate"} <= {name for name, _ in told}
    assert not [line for line in daemon.process.logs if "secret" in json.dumps(line)]
    assert "secret" not in json.dumps(told)


def test_what_another_process_finds_reaches_the_daemon(migrate: Migrate) -> None:
    """`replicator verify` beside a daemon that doesn't verify: its findings, and its checks, are the daemon's too."""
    check = '- {name: no empty names, upgraded: "select id from plain where name is null", severity: warn}'
    shop = migrate(PLAIN, old_schema=FILL.format(rows=50), options=f"checks:\n  {check}")
    daemon = running(shop)
    wait_until(lambda: daemon.verification()["open_divergences"] == 0, PATIENCE)
    assert "off" == daemon.verification()["state"]
    labels = 'connector="shop",feed="forward"'
    ok = f'replicator_check_ok{{check="no empty names",{labels},severity="warn"}}'
    assert ok in daemon.metrics()
    with daemon.events() as told:
        shop.upgraded.execute("UPDATE plain SET name = NULL WHERE id = 7")
        verify(shop, code=1)
        wait_until(lambda: daemon.verification()["open_divergences"] == 1, PATIENCE)
        wait_until(lambda: {"finding", "pass", "check"} <= {name for name, _ in told}, PATIENCE)
        wait_until(lambda: daemon.metrics()[ok] == 0, PATIENCE)
        assert daemon.process.logged("check")

        assert 1 == daemon.metrics()[f"replicator_verifications_total{{{labels}}}"]


def test_a_slow_database_brakes_it(migrate: Migrate, make_database: MakeDatabase, make_proxy: MakeProxy) -> None:
    """Once the old side answers late, fewer rows a second are read, and status and metric say why; then more again."""
    old = make_database()
    proxy = make_proxy(old.server.port)
    shop = migrate(
        PLAIN,
        old_schema=FILL.format(rows=20_000),
        options="verify: {continuous: on, interval: 100ms, rows_per_second_max: 100000}",
        old=old,
        old_dsn=proxy.dsn(old.dsn),
    )
    daemon = running(shop)
    braked = 'replicator_verify_braked{connector="shop",feed="forward"}'
    limit = 'replicator_verify_limit_rows_per_second{connector="shop",feed="forward"}'
    wait_until(lambda: (daemon.verification()["slowness"]["old"] or 9) < 2, PATIENCE)  # what is usual is known
    proxy.delay_seconds = 0.5

    def suffers() -> bool:
        known = daemon.verification()
        return known["slowness"]["old"] > 3 and "old answers" in " ".join(known["braked_because"])

    wait_until(suffers, PATIENCE)
    metrics = daemon.metrics()
    assert (1, True) == (metrics[braked], metrics[limit] < 100_000)
    wait_until(lambda: daemon.process.logged("verification slows down"), PATIENCE)
    proxy.delay_seconds = 0.0
    lowest = metrics[limit]

    def recovers() -> bool:
        nonlocal lowest
        now = daemon.metrics()[limit]
        before, lowest = lowest, min(lowest, now)
        return now > before

    wait_until(recovers, PATIENCE)
    daemon.process.terminate()
    assert 0 == daemon.process.wait(), "also in the middle of a pass"


def test_killed_it_goes_on_with_its_pass(migrate: Migrate) -> None:
    """A daemon that is killed in the middle of a pass goes on with that pass: what is compared isn't compared again."""
    shop = migrate(
        "CREATE TABLE first (id int PRIMARY KEY, name text); CREATE TABLE second (id int PRIMARY KEY, name text)",
        old_schema="""
            INSERT INTO first SELECT n, 'n' || n FROM generate_series(1, 100) n;
            INSERT INTO second SELECT n, 'n' || n FROM generate_series(1, 40000) n;
        """,
        options="verify: {continuous: on, interval: 1h, rows_per_second_max: 2000}",
    )
    daemon = running(shop)

    def runs() -> list[tuple[Any, ...]]:
        return shop.upgraded.execute(
            "SELECT id, progress -> 'public.first' ->> 'step' = '-1', finished_at IS NOT NULL "
            "FROM replicator.verification"
        )

    wait_until(lambda: any(done for _, done, _ in runs()), PATIENCE)
    daemon.process.kill()
    ((run, _, finished),) = runs()
    assert not finished, "the second table takes twenty seconds"
    shop.connector.write_text(shop.connector.read_text().replace("2000", "1000000"))
    daemon = running(shop)
    wait_until(lambda: (daemon.verification()["last_pass"] or {}).get("run") == run, PATIENCE)

    assert [(run, True, True)] == runs()
    of = 'replicator_verified_rows_total{{connector="shop",feed="forward",table="public.{}"}}'
    assert [0, 40_000] == [daemon.metrics()[of.format(table)] for table in ("first", "second")]
