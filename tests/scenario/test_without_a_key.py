"""Tables without a key: multisets of rows, where the old rows come whole."""

import threading

import pytest

from tests.fix_migration import Migrate
from tests.fix_postgres import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LOG = "CREATE TABLE log (a int, b text, c json, d point, e numeric, f timestamptz);"
FULL = "ALTER TABLE log REPLICA IDENTITY FULL;"
ROWS = """
    INSERT INTO log SELECT n % 5, 'x' || n % 3, '{"a" : 1}', '(1,2)', n % 2, NULL FROM generate_series(1, 600) n;
    INSERT INTO log SELECT NULL, NULL, NULL, NULL, NULL, NULL FROM generate_series(1, 4);
    INSERT INTO log VALUES (1, '', 'null', '(NaN,1)', 'NaN', 'infinity'), (1, NULL, '{"a": 1}', '(1,2)', 1.0, NULL);
"""


def test_equal_rows(migrate: Migrate) -> None:
    """Equal rows are counted: one of several is updated or deleted, NULLs and types without equality included."""
    shop = migrate(LOG, old_schema=FULL + ROWS)
    shop.streaming()
    shop.same_tables("log")

    shop.old.execute("INSERT INTO log SELECT * FROM log WHERE a = 1")
    shop.old.execute("UPDATE log SET b = 'y' WHERE ctid IN (SELECT ctid FROM log WHERE a = 2 LIMIT 3)")
    shop.old.execute("DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE a IS NULL LIMIT 1)")
    shop.old.execute("DELETE FROM log WHERE ctid IN (SELECT min(ctid) FROM log GROUP BY a, b, c::text, d::text, e)")
    shop.old.execute("UPDATE log SET d = '(3,4)', c = '{\"a\" : 1 }' WHERE a = 4 AND b = 'x1'")
    shop.old.execute("UPDATE log SET e = 1.00 WHERE ctid IN (SELECT ctid FROM log WHERE e = 1 LIMIT 7)")
    shop.old.execute(
        "BEGIN; INSERT INTO log (a) VALUES (9), (9), (9); DELETE FROM log WHERE ctid IN (SELECT ctid FROM log "
        "WHERE a = 9 LIMIT 1); UPDATE log SET a = 8 WHERE ctid IN (SELECT ctid FROM log WHERE a = 9 LIMIT 1); COMMIT"
    )
    shop.catch_up()
    shop.same_tables("log")

    shop.old.execute("TRUNCATE log; INSERT INTO log (a) VALUES (1), (1)")
    shop.catch_up()
    shop.same_tables("log")


def test_long_values_that_an_update_leaves_alone(migrate: Migrate) -> None:
    """A TOASTed column that an update doesn't touch stays with its row, for equal rows too."""
    shop = migrate("CREATE TABLE log (a int, b text)", old_schema=FULL)
    shop.old.execute(
        "ALTER TABLE log ALTER b SET STORAGE EXTERNAL;"
        "INSERT INTO log SELECT n % 3, repeat((n % 2)::text, 9000) FROM generate_series(1, 24) n"
    )
    shop.streaming()
    shop.old.execute("UPDATE log SET a = 7 WHERE ctid IN (SELECT min(ctid) FROM log GROUP BY a, b)")
    shop.old.execute("UPDATE log SET a = a + 10; DELETE FROM log WHERE ctid IN (SELECT ctid FROM log LIMIT 5)")
    shop.catch_up()
    shop.same_tables("log")


def keep_writing(database: Database, stop: threading.Event) -> None:
    with database.connect(autocommit=True) as session:
        while not stop.is_set():
            session.execute("INSERT INTO log (a, b) SELECT n % 3, 'w' FROM generate_series(1, 10) n")
            session.execute("UPDATE log SET b = b || 'u' WHERE ctid IN (SELECT ctid FROM log WHERE a = 1 LIMIT 3)")
            session.execute("DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE a = 2 LIMIT 2)")
            with session.transaction(force_rollback=True):
                session.execute("DELETE FROM log")


def test_written_all_through_the_copy(migrate: Migrate) -> None:
    """What is committed before the copy's snapshot comes once, by the copy; what is committed later, by the stream."""
    shop = migrate(LOG, old_schema=FULL + ROWS + "INSERT INTO log (a) SELECT n FROM generate_series(1, 40000) n;")
    stop = threading.Event()
    writers = [threading.Thread(target=keep_writing, args=(shop.old, stop)) for _ in range(2)]
    try:
        for writer in writers:
            writer.start()
        daemon = shop.start()
        daemon.wait_for_log("backfill started", 60)
        daemon.kill()  # the snapshot is lost: the copy begins again
        shop.streaming()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    shop.catch_up()
    shop.same_tables("log")

    process = shop.command("resync", "FILE", "public.log")
    assert process.wait(90) == 0, process.story()
    shop.same_tables("log")


def test_without_full_identity_nothing_starts(migrate: Migrate) -> None:
    """Plan and run refuse the table, before the application's own UPDATE would be, and print the statement."""
    shop = migrate(LOG, old_schema=ROWS)
    plan = shop.command("plan", "FILE")
    assert plan.wait() == 1
    statement = "ALTER TABLE public.log REPLICA IDENTITY FULL"
    assert statement in plan.stdout
    failed = shop.start().wait_for_log("connector failed")
    assert statement in f"{failed['error']} {failed.get('hint')}"
    shop.old.execute("UPDATE log SET a = 1")  # still allowed

    shop.old.execute(statement)
    shop.streaming()
    shop.same_tables("log")
