"""Changes of the old tables that no stream tells, in a running product: noticed, shown, mended."""

import json
import os
import subprocess
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration
from tests.fix_replicator import COMMAND

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SCHEMA = """
    CREATE TABLE t (id integer PRIMARY KEY, a integer) PARTITION BY RANGE (id);
    CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE p2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE plain (id integer PRIMARY KEY, a integer);
"""
ROWS = """
    INSERT INTO t SELECT g, g FROM generate_series(1, 150) g;
    INSERT INTO plain SELECT g, g FROM generate_series(1, 50) g;
"""


def status(migration: Migration) -> dict[str, Any]:
    done = subprocess.run(
        [COMMAND, "status", str(migration.connector), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | migration.environment,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def resync(migration: Migration, name: str) -> None:
    process = migration.command("resync", "FILE", name)
    assert process.wait(90) == 0, process.story()


def test_rows_that_change_without_an_event_need_a_resync(migrate: Migrate) -> None:
    """A detached partition and a rewrite are noticed by the running daemon; a resync brings the sides together."""
    migration = migrate(SCHEMA, old_schema=ROWS)
    daemon = migration.streaming()
    migration.old.execute("ALTER TABLE t DETACH PARTITION p2")
    told = daemon.wait_for_log("schema changed", table="public.t")
    assert ("partition_detached", "resync") == (told["change"], told["effect"])
    migration.old.execute("ALTER TABLE plain ALTER a TYPE integer USING a + 1000")
    daemon.wait_for_log("schema changed", table="public.plain", change="rewritten", effect="resync")
    assert {"public.t", "public.plain"} == set(status(migration)["stale"])
    for name in ("public.t", "public.plain"):
        resync(migration, name)
    assert {} == status(migration)["stale"]
    migration.same_tables("t", "plain")


def test_what_changed_while_no_daemon_ran_is_noticed_by_the_next(migrate: Migrate) -> None:
    """A rewrite between two runs is found at the start of the second."""
    migration = migrate(SCHEMA, old_schema=ROWS)
    migration.run_until_caught_up()
    migration.old.execute("ALTER TABLE plain ALTER a TYPE integer USING a + 1000")
    daemon = migration.streaming()
    assert "rewritten" in status(migration)["stale"]["public.plain"]
    assert "public.plain" in [line.get("mapping") for line in daemon.logs if line["event"] == "resync needed"]


def test_a_table_that_was_made_again_stops_the_feed(migrate: Migrate) -> None:
    """The new table is in no publication: the feed stops; started again, it publishes it and asks for a resync."""
    migration = migrate(SCHEMA, old_schema=ROWS)
    daemon = migration.streaming()
    migration.old.execute("DROP TABLE plain; CREATE TABLE plain (id integer PRIMARY KEY, a integer)")
    migration.old.execute("INSERT INTO plain VALUES (7, 8)")
    failed = daemon.wait_for_log("connector failed", error_kind="schema")
    assert "dropped and made again" in failed["error"]
    daemon.terminate()
    daemon.wait()
    migration.streaming()
    assert ["public.plain"] == list(status(migration)["stale"])
    resync(migration, "public.plain")
    migration.same_tables("t", "plain")
