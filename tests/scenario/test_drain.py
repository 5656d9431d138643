"""Stopped in order, again and again, under load: each end is 0, and the next start goes on where it was."""

import signal

import pytest

from tests.churn import COUNTED, TABLES, assert_equal_and_once, churning, fill
from tests.fix_migration import Migrate
from tests.polling import wait_until

WAITING = """
SELECT pid FROM pg_stat_activity WHERE application_name ~ '^replicator:shop/forward/.$' AND wait_event_type = 'Lock'
"""

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("lanes", [1, 4])
def test_drained_under_load(migrate: Migrate, lanes: int) -> None:
    """SIGTERM and SIGINT while copying and while streaming end the daemon with 0; all lanes stop at one position."""
    shop = migrate(
        TABLES,
        upgraded_schema=COUNTED,
        options=f"apply: {{lanes: {lanes}}}\nbackfill: {{workers: 2, chunk_rows: 50}}",
    )
    fill(shop.old, 3000)
    with churning(shop.old, 8, pause=0.008 * lanes) as churn:
        for event in ("backfill started", "backfill started", "streaming", "streaming"):
            daemon = shop.start()
            daemon.wait_for_log(event, 60)
            if event == "streaming":
                churn.write_more(50)
            daemon.process.send_signal(signal.SIGTERM if event == "streaming" else signal.SIGINT)
            assert 0 == daemon.wait(30), daemon.story()
            positions = shop.upgraded.execute("SELECT DISTINCT position FROM replicator.checkpoint")
            assert 1 == len(positions), daemon.story()
    shop.run_until_caught_up()

    assert_equal_and_once(shop)


def test_drained_inside_a_large_transaction(migrate: Migrate) -> None:
    """SIGTERM with half of a large transaction written ends it with 0 and nothing of it; the next start applies it."""
    shop = migrate(TABLES, upgraded_schema=COUNTED, options="apply: {batch_rows_max: 100}")
    daemon = shop.streaming()
    with shop.upgraded.connect() as session:
        session.execute("INSERT INTO ledger VALUES (5000, 0)")  # the daemon's insert of that key waits for it
        shop.old.execute("INSERT INTO ledger (tx) SELECT n FROM generate_series(1, 30000) n")
        wait_until(lambda: shop.upgraded.execute(WAITING))
        daemon.terminate()
        daemon.wait_for_log("draining")
        session.rollback()
    assert 0 == daemon.wait(30), daemon.story()
    assert [(0,)] == shop.upgraded.execute("SELECT count(*) FROM ledger")
    shop.run_until_caught_up()

    assert_equal_and_once(shop)


def test_drained_where_a_kill_had_left_lanes_apart(migrate: Migrate) -> None:
    """Stopped before the lane that is behind has passed the other, it goes on up to there: all end at one position."""
    shop = migrate("CREATE TABLE things (id int PRIMARY KEY, n int)", options="apply: {lanes: 2, batch_rows_max: 100}")
    shop.old.execute("INSERT INTO things VALUES (1, 0)")
    daemon = shop.streaming()
    shop.catch_up()
    with shop.upgraded.connect() as session:
        session.execute("SELECT FROM things WHERE id = 1 FOR UPDATE")  # one lane waits for it
        shop.old.execute("UPDATE things SET n = 1; INSERT INTO things SELECT n, 0 FROM generate_series(2, 100) n")
        wait_until(lambda: 1 < shop.upgraded.execute("SELECT count(*) FROM things")[0][0])
        former = shop.upgraded.execute(WAITING)
        daemon.kill()
        shop.connector.write_text(shop.connector.read_text().replace("batch_rows_max: 100", "batch_rows_max: 5"))
        daemon = shop.start()
        wait_until(lambda: shop.upgraded.execute(WAITING) not in ([], former))
        daemon.terminate()
        daemon.wait_for_log("draining")
        session.rollback()
    assert 0 == daemon.wait(30), daemon.story()
    positions = shop.upgraded.execute("SELECT DISTINCT position FROM replicator.checkpoint")
    assert 1 == len(positions), daemon.story()
    shop.same_tables("things")
