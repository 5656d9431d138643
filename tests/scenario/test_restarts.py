"""Database servers that restart under a running daemon, in order or by a crash."""

from functools import partial
from typing import Any

import pytest

from tests.churn import COUNTED, TABLES, assert_equal_and_once, churning
from tests.fix_migration import Migrate
from tests.fix_postgres import Database, MakeDatabase, MakeServer
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240)]

QUICK = "apply: {retry: {initial: 50ms, max: 500ms}}"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.parametrize("side", ["old", "upgraded"])
def test_a_server_restarts(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase, side: str, mode: Any
) -> None:
    """The daemon waits for the server and goes on: what either side had acknowledged is there, exactly once."""
    server = make_server(fsync=True)
    own, other = make_database(server), make_database()
    old, upgraded = (own, other) if side == "old" else (other, own)
    shop = migrate(TABLES, upgraded_schema=COUNTED, options=QUICK, old=old, upgraded=upgraded)
    daemon = shop.streaming()
    with churning(shop.old, 5) as churn:
        for _ in range(2):
            churn.write_more(50)
            server.stop(mode)
            daemon.wait_for_log("retrying", error_kind="connection", timeout=60)
            server.start()
            daemon.wait_for_log("streaming", 60)
    shop.catch_up()

    assert_equal_and_once(shop)


def test_a_slot_is_there_after_a_crash_of_the_old_server(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase
) -> None:
    """The old server crashes, and comes back with its slot further back than confirmed: nothing is applied twice."""
    server = make_server(fsync=True)
    shop = migrate(TABLES, upgraded_schema=COUNTED, options=QUICK, old=make_database(server))
    daemon = shop.streaming()
    for n in range(1, 101):
        shop.old.execute("INSERT INTO ledger (tx) VALUES (%s)", [n])
    shop.catch_up()
    server.restart("immediate")
    shop.old.execute("INSERT INTO ledger (tx) VALUES (101)")
    shop.catch_up()

    assert_equal_and_once(shop)
    daemon.terminate()
    assert 0 == daemon.wait(), daemon.story()


def test_commits_that_were_in_the_memory_of_the_upgraded_server_are_lost(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase
) -> None:
    """A busy feed's newest commits don't wait for the disk: a crash undoes them, and they come again, exactly once."""
    server = make_server(fsync=True, settings={"wal_writer_delay": "10s", "wal_writer_flush_after": "0"})
    upgraded = make_database(server)
    shop = migrate(TABLES, upgraded_schema=COUNTED, options=f"{QUICK[:-1]}, batch_rows_max: 20}}", upgraded=upgraded)
    daemon = shop.streaming()
    insert = "DO $$BEGIN FOR n IN {0} .. {0} + 9999 LOOP INSERT INTO ledger (tx) VALUES (n); COMMIT; END LOOP; END$$"
    lost = rounds = 0
    while not lost and rounds < 10:  # on a busy machine the feed may be done, and all on disk, before it is frozen
        rounds += 1
        wanted = applied(upgraded) + 1_000
        daemon.freeze()  # so that a backlog waits for it
        shop.old.execute(insert.format(rounds * 10_000))
        daemon.thaw()
        wait_until(partial(reaches, upgraded, wanted), 60)
        daemon.freeze()  # so that it applies nothing again before it is counted
        seen = applied(upgraded)
        server.restart("immediate")
        lost += seen - applied(upgraded)
        daemon.thaw()
        daemon.wait_for_log("streaming", 60)
    shop.catch_up()

    assert 0 < lost
    assert_equal_and_once(shop)


def reaches(upgraded: Database, count: int) -> bool:
    return applied(upgraded) >= count


def applied(upgraded: Database) -> int:
    """How many transactions are visible there."""
    ((count,),) = upgraded.execute("SELECT count(*) FROM ledger")
    return int(count)
