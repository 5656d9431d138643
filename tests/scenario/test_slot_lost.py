"""A slot that can't give what the daemon needs: it says what is lost and what to do, and stops there."""

import contextlib
from pathlib import Path

import psycopg
import pytest

from tests.documents import ROOT, files
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database, MakeDatabase, MakeServer
from tests.fix_replicator import ReplicatorProcess
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

QUICK = "apply: {retry: {initial: 50ms, max: 300ms}}"
TABLE = "CREATE TABLE parts (id int PRIMARY KEY, label text)"
SLOT = "replicator_shop"
EVICT = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s"


def stopped(shop: Migration) -> str:
    """Stream something, stop the daemon in order, and return the position where it stands."""
    daemon = shop.streaming()
    shop.old.execute("INSERT INTO parts VALUES (1, 'one')")
    shop.catch_up()
    daemon.terminate()
    assert 0 == daemon.wait(), daemon.story()
    return str(shop.upgraded.execute("SELECT position FROM replicator.checkpoint")[0][0])


def assert_lost(daemon: ReplicatorProcess, *words: str) -> None:
    """The connector fails with these words, and says what to do next; so does the exit code."""
    failed = daemon.wait_for_log("connector failed", error_kind="slot_lost")
    for word in (*words, SLOT, "are lost to this feed"):
        assert word in failed["error"]
    for word in ("The target keeps what it has", f"pg_drop_replication_slot('{SLOT}')", "new backfill"):
        assert word in failed["hint"]
    daemon.terminate()
    assert 1 == daemon.wait(), daemon.story()


def drop_slot(database: Database) -> None:
    database.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])


def test_missing(migrate: Migrate) -> None:
    """A slot that was dropped is never made again behind the user's back; beginning again as documented mends all."""
    shop = migrate(TABLE)
    position = stopped(shop)
    drop_slot(shop.old)
    shop.old.execute("INSERT INTO parts VALUES (2, 'unseen'); DELETE FROM parts WHERE id = 1")
    assert_lost(shop.start(), "it does not exist", f"after {position}")
    assert [] == shop.old.execute("SELECT slot_name FROM pg_replication_slots WHERE database = %s", [shop.old.name])

    begin_again = dict(files(ROOT / "docs" / "operations.md"))["begin_again.sql"]
    shop.upgraded.execute(begin_again.replace("'clinic'", "'shop'"))
    shop.upgraded.execute("TRUNCATE parts")
    shop.streaming()
    shop.old.execute("INSERT INTO parts VALUES (3, 'new')")
    shop.catch_up()
    shop.same_tables("parts")


def test_dropped_while_running(migrate: Migrate) -> None:
    """The running daemon's slot is taken from it and dropped: it stops, and says where it stood."""
    shop = migrate(TABLE, options=QUICK)
    daemon = shop.streaming()
    with shop.old.connect(autocommit=True) as session:
        wait_until(lambda: dropped(session))

    assert_lost(daemon, "it does not exist")


def dropped(session: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Whether the slot could be dropped, in the moment when nobody reads it."""
    try:
        session.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
    except psycopg.errors.ObjectInUse:
        session.execute(EVICT, [SLOT])
        return False
    return True


def test_ahead_of_the_checkpoint(migrate: Migrate) -> None:
    """Another program has read the slot past the checkpoint: what lies between is lost, and told."""
    shop = migrate(TABLE)
    position = stopped(shop)
    shop.old.execute("INSERT INTO parts VALUES (2, 'eaten')")
    ((end,),) = shop.old.execute("SELECT pg_current_wal_insert_lsn()::text")
    shop.old.execute("SELECT pg_replication_slot_advance(%s, %s)", [SLOT, end])

    assert_lost(shop.start(), f"between {position} and ", "past the target's checkpoint")


def test_taken_by_another_program(migrate: Migrate) -> None:
    """A slot that somebody else reads is waited for, and the log says who holds it."""
    shop = migrate(TABLE, options=QUICK)
    stopped(shop)
    stranger = psycopg.connect(shop.old.dsn, application_name="somebody else", replication="database", autocommit=True)
    with contextlib.closing(stranger) as session:
        session.pgconn.exec_(
            f"START_REPLICATION SLOT {SLOT} LOGICAL 0/0 (proto_version '1', publication_names '{SLOT}')".encode()
        )
        daemon = shop.start()
        for _ in range(2):
            waiting = daemon.wait_for_log("retrying", error_kind="slot_busy")
            assert "somebody else" in waiting["error"]
    daemon.wait_for_log("streaming")
    shop.old.execute("INSERT INTO parts VALUES (2, 'two')")
    shop.catch_up()

    shop.same_tables("parts")


def test_invalidated_beside_a_neighbour(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """The server gave up the slot of one of two connectors: that one fails, the other goes on."""
    server = make_server(settings={"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"})
    shop = migrate(TABLE, old=make_database(server))
    stopped(shop)
    for _ in range(6):
        shop.old.execute("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)); SELECT pg_switch_wal()")
        shop.old.execute("CHECKPOINT")
    state = "SELECT wal_status FROM pg_replication_slots"
    wait_until(lambda: shop.old.execute(state) == [("lost",)])
    good = migrate(TABLE, old_dsn="", upgraded_dsn="", name="good")
    text = good.connector.read_text()
    good.connector.write_text(text.replace("${OLD_DSN}", good.old.dsn).replace("${UPGRADED_DSN}", good.upgraded.dsn))

    daemon = shop.command("run", str(tmp_path))
    daemon.wait_for_log("streaming", connector="good")
    good.old.execute("INSERT INTO parts VALUES (1, 'one')")
    good.catch_up()
    good.same_tables("parts")
    daemon._seen = 0  # each connector logs at its own pace
    assert_lost(daemon, "the server has invalidated it", "wal_removed")
