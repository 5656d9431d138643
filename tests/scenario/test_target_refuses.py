"""A target that refuses for a while: read-only, out of connections, too slow, in the way. It is waited for."""

import json
import urllib.request
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import MakeDatabase, MakeServer
from tests.fix_replicator import ReplicatorProcess
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

QUICK = "apply: {retry: {initial: 50ms, max: 300ms}}"
TABLE = "CREATE TABLE parts (id int PRIMARY KEY, label text)"
WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE application_name = 'replicator:shop/forward/0' AND wait_event_type = 'Lock'"
)


def told(daemon: ReplicatorProcess, path: str) -> str:
    """What the daemon answers to a GET."""
    url = next(line["url"] for line in daemon.logs if line.get("event") == "listening")
    with urllib.request.urlopen(f"{url}{path}", timeout=10) as answer:  # noqa: S310 - a loopback http URL
        return str(answer.read().decode())


def status(daemon: ReplicatorProcess) -> dict[str, Any]:
    (shop,) = json.loads(told(daemon, "/api/v1/status?connector=shop"))["connectors"]
    return dict(shop)


def assert_retries_are_told(daemon: ReplicatorProcess, kind: str) -> None:
    """Status and metrics say what is tried again; the daemon is alive and ready."""
    facts = status(daemon)
    assert kind == facts["error"]["kind"]
    assert facts["retries"][kind] >= 1
    assert facts["ready"]
    assert f'replicator_retries_total{{connector="shop",feed="forward",kind="{kind}"}}' in told(daemon, "/metrics")


def assert_recovers(shop: Migration, daemon: ReplicatorProcess) -> None:
    """All is applied, and the trouble is no longer shown."""
    shop.catch_up()
    shop.same_tables("parts")
    assert status(daemon)["error"] is None
    daemon.terminate()
    assert 0 == daemon.wait(), daemon.story()


def test_read_only(migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase) -> None:
    """A server that goes read-only refuses with a kind of its own, and is waited for."""
    server = make_server()
    shop = migrate(TABLE, options=QUICK, upgraded=make_database(server))
    daemon = shop.streaming()
    server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: server.execute("SHOW default_transaction_read_only") == [("on",)])
    shop.old.execute("INSERT INTO parts VALUES (1, 'one')")
    for _ in range(2):
        daemon.wait_for_log("retrying", error_kind="read_only")
    assert_retries_are_told(daemon, "read_only")
    with shop.upgraded.connect(autocommit=True) as session:
        session.execute("SET default_transaction_read_only = off")
        session.execute("ALTER SYSTEM RESET default_transaction_read_only")
        session.execute("SELECT pg_reload_conf()")

    assert_recovers(shop, daemon)


def test_out_of_connections(migrate: Migrate, make_database: MakeDatabase) -> None:
    """A role that may open no more connections is an error that passes."""
    upgraded = make_database()
    role = f"mover_{upgraded.name}"
    upgraded.execute(f"CREATE ROLE {role} LOGIN; GRANT ALL ON DATABASE {upgraded.name} TO {role}")
    upgraded.execute(f"GRANT SET ON PARAMETER session_replication_role TO {role}")
    shop = migrate(
        TABLE,
        upgraded_schema=f"ALTER TABLE parts OWNER TO {role}",
        options=QUICK,
        upgraded=upgraded,
        upgraded_dsn=upgraded.dsn.replace("postgres@", f"{role}@"),
    )
    daemon = shop.streaming()
    upgraded.execute(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    upgraded.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
    shop.old.execute("INSERT INTO parts VALUES (1, 'one')")
    daemon.wait_for_log("retrying", error_kind="connection")
    refused = daemon.wait_for_log("retrying", error_kind="connection")  # libpq tells no SQLSTATE of those
    assert f'too many connections for role "{role}"' in refused["error"]
    assert_retries_are_told(daemon, "connection")
    upgraded.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")

    assert_recovers(shop, daemon)
    upgraded.execute(f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_timeouts(migrate: Migrate, make_database: MakeDatabase, setting: str) -> None:
    """A statement that takes too long, for it waits for another client, is tried again with the batch in hand."""
    upgraded = make_database()
    dsn = f"{upgraded.dsn}?options=-c%20{setting}%3D300ms"
    shop = migrate(TABLE, options=QUICK, upgraded=upgraded, upgraded_dsn=dsn)
    daemon = shop.streaming()
    with upgraded.connect() as session:
        session.execute("INSERT INTO parts VALUES (1, 'in the way')")
        shop.old.execute("INSERT INTO parts VALUES (1, 'one')")
        for _ in range(2):
            daemon.wait_for_log("retrying", error_kind="timeout")
        assert_retries_are_told(daemon, "timeout")
        session.rollback()

    assert 0 == status(daemon)["restarts"]
    assert_recovers(shop, daemon)


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END$$;
CREATE TRIGGER fills BEFORE INSERT ON parts FOR EACH ROW EXECUTE FUNCTION full_disk();
ALTER TABLE parts ENABLE ALWAYS TRIGGER fills;
"""


def test_disk_full(migrate: Migrate) -> None:
    """What PostgreSQL says when its disk is full is waited for, until there is room (here a trigger says it)."""
    shop = migrate(TABLE, options=QUICK)
    daemon = shop.streaming()
    shop.upgraded.execute(FULL)
    shop.old.execute("INSERT INTO parts VALUES (1, 'one')")
    for _ in range(2):
        daemon.wait_for_log("retrying", error_kind="resources", sqlstate="53100")
    assert_retries_are_told(daemon, "resources")
    shop.upgraded.execute("DROP TRIGGER fills ON parts")

    assert_recovers(shop, daemon)


def test_deadlock_with_another_client(migrate: Migrate) -> None:
    """In a deadlock with an application on the target, the batch is rolled back and tried again."""
    shop = migrate(TABLE, options=QUICK)
    shop.old.execute("INSERT INTO parts SELECT n, 'old' FROM generate_series(1, 2) n")
    daemon = shop.streaming()
    with shop.upgraded.connect() as session:
        session.execute("SET deadlock_timeout = '60s'")  # so that the daemon's own session is the one that notices
        session.execute("UPDATE parts SET label = 'mine' WHERE id = 2")
        shop.old.execute("UPDATE parts SET label = 'new'")
        wait_until(lambda: shop.upgraded.execute(WAITING))
        session.execute("UPDATE parts SET label = 'mine' WHERE id = 1")
        session.rollback()
    daemon.wait_for_log("retrying", error_kind="serialization")

    assert_recovers(shop, daemon)


def test_a_signal_while_it_tries_again(migrate: Migrate, make_database: MakeDatabase) -> None:
    """The first signal ends a daemon whose batch is refused again and again: with 0, and the batch comes again."""
    upgraded = make_database()
    shop = migrate(
        TABLE,
        options="apply: {retry: {initial: 30s, max: 60s}}",
        upgraded=upgraded,
        upgraded_dsn=f"{upgraded.dsn}?options=-c%20lock_timeout%3D300ms",
    )
    daemon = shop.streaming()
    with upgraded.connect() as session:
        session.execute("INSERT INTO parts VALUES (1, 'in the way')")
        shop.old.execute("INSERT INTO parts VALUES (1, 'one')")
        daemon.wait_for_log("retrying", error_kind="timeout")
        daemon.terminate()
        assert 0 == daemon.wait(20), daemon.story()
        session.rollback()
    shop.run_until_caught_up()

    shop.same_tables("parts")
