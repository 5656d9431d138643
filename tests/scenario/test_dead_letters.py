"""Dead letters that go: applied again from a state that has seen them all, or discarded with a record."""

import concurrent.futures

from tests.fix_migration import Migrate
from tests.fix_postgres import MakeDatabase, MakeServer
from tests.polling import wait_until

SCHEMA = "CREATE TABLE parts (id int PRIMARY KEY, n int)"
POSITIVE = "ALTER TABLE parts ADD CONSTRAINT positive CHECK (n >= 0)"
OPTIONS = "apply: {on_error: dlq}"
WAITING = "SELECT count(*) FROM replicator.dead_letter WHERE discarded_at IS NULL"


def test_retry_waits_for_what_is_not_visible_yet(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase
) -> None:
    """A change that waits for a standby's answer is in the stream already: its key isn't freed without it."""
    server = make_server()
    shop = migrate(SCHEMA, upgraded_schema=POSITIVE, options=OPTIONS, old=make_database(server))
    daemon = shop.streaming()
    shop.old.execute("INSERT INTO parts VALUES (1, -1)")
    shop.catch_up()
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: server.execute("SHOW synchronous_standby_names") == [("nobody",)])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            hanging = pool.submit(shop.old.execute, "UPDATE parts SET n = 7 WHERE id = 1")
            wait_until(lambda: shop.upgraded.execute(WAITING) == [(2,)])
            assert [(-1,)] == shop.old.execute("SELECT n FROM parts")
            shop.upgraded.execute("ALTER TABLE parts DROP CONSTRAINT positive")
            retry = shop.command("dlq", "retry", "FILE", "--key", "1")
            asked = "SELECT count(*) FROM replicator.request WHERE started_at IS NOT NULL"
            wait_until(lambda: shop.upgraded.execute(asked) == [(1,)])
        finally:
            server.execute("ALTER SYSTEM RESET synchronous_standby_names")
            server.execute("SELECT pg_reload_conf()")
        hanging.result(30)
    assert 0 == retry.wait(30), retry.story()
    shop.catch_up()

    assert daemon.running
    shop.same_tables("parts")


def test_discarding_one_keeps_a_record_of_all_that_waits_behind_it(migrate: Migrate) -> None:
    """What will never reach the upgraded side can be read up afterwards."""
    shop = migrate(SCHEMA, upgraded_schema=POSITIVE, options=OPTIONS)
    shop.streaming()
    for change in ("INSERT INTO parts VALUES (1, -1)", "UPDATE parts SET n = 5", "UPDATE parts SET n = 6"):
        shop.old.execute(change)
    shop.catch_up()
    ((first,),) = shop.upgraded.execute("SELECT min(id) FROM replicator.dead_letter")

    discard = shop.command("dlq", "discard", "FILE", str(first), "--yes")
    assert 0 == discard.wait(30), discard.story()

    assert [(0,)] == shop.upgraded.execute(WAITING)
    kept = "SELECT after->>'n' FROM replicator.dead_letter ORDER BY id"
    assert [("-1",), ("5",), ("6",)] == shop.upgraded.execute(kept)
