"""Several lanes: TRUNCATE beside a running workload, and another number of lanes after any end."""

import threading

import pytest

from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TABLES = """
    CREATE TABLE a (id int PRIMARY KEY, n int);
    CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a, n int);
"""


def work(database: Database, rounds: int, worker: int) -> None:
    with database.connect(autocommit=True) as session:
        for n in range(rounds):
            first = worker * 1000 + n % 50 * 10
            with session.transaction():
                session.execute(
                    "INSERT INTO a SELECT n, 0 FROM generate_series(%s::int, %s) n ON CONFLICT DO NOTHING",
                    [first, first + 9],
                )
                session.execute(
                    "INSERT INTO b SELECT id, id, %s FROM a ORDER BY id LIMIT 20 ON CONFLICT DO NOTHING", [n]
                )
            session.execute("UPDATE a SET n = n + 1 WHERE id BETWEEN %s AND %s", [first, first + 5])
            session.execute("DELETE FROM b WHERE id = %s", [first + 3])
            if n % 40 == worker:
                session.execute("TRUNCATE a, b" if n % 3 else "TRUNCATE b")


def workload(shop: Migration, rounds: int = 150) -> list[threading.Thread]:
    workers = [threading.Thread(target=work, args=(shop.old, rounds, worker)) for worker in (1, 2)]
    for worker in workers:
        worker.start()
    return workers


def test_truncate_beside_a_workload(migrate: Migrate) -> None:
    """Each TRUNCATE takes what was committed before it from all lanes, and nothing else."""
    shop = migrate(TABLES, options="apply: {lanes: 4, batch_rows_max: 50}")
    shop.streaming()
    for worker in workload(shop):
        worker.join()
    shop.catch_up()
    shop.same_tables("a", "b")


def lanes(shop: Migration, count: int) -> None:
    text = shop.connector.read_text()
    before = text[text.index("lanes: ") :].split(",")[0]
    shop.connector.write_text(text.replace(before, f"lanes: {count}"))


def test_another_number_of_lanes(migrate: Migrate) -> None:
    """After a clean end it just goes on with it, up and down."""
    shop = migrate(TABLES, options="apply: {lanes: 4, batch_rows_max: 50}")
    daemon = shop.streaming()
    for count in (2, 1, 3):
        workers = workload(shop, 60)
        daemon.terminate()
        assert daemon.wait() == 0, daemon.story()
        lanes(shop, count)
        daemon = shop.streaming()
        for worker in workers:
            worker.join()
    shop.catch_up()
    shop.same_tables("a", "b")


def test_another_number_of_lanes_after_a_kill(migrate: Migrate) -> None:
    """Killed with lanes at different places it refuses, and says what to do: that works, and nothing is lost."""
    shop = migrate(TABLES, options="apply: {lanes: 4, batch_rows_max: 50}")
    daemon = shop.streaming()
    last = 4
    for count in (2, 1, 3):
        workers = workload(shop, 60)
        for worker in workers:
            worker.join()
        daemon.kill()
        lanes(shop, count)
        daemon = shop.start()
        daemon.wait_for_log("listening")
        again = shop.command("wait", "FILE", "--for", "caught-up", "--timeout", "60s")
        if again.wait(90) != 0:
            failed = next(line for line in daemon.logs if line["event"] == "connector failed")
            assert f"{last} lanes" in f"{failed['error']} {failed.get('hint')}"
            daemon.kill()
            lanes(shop, last)
            shop.run_until_caught_up()
            lanes(shop, count)
            daemon = shop.streaming()
        last = count
    shop.catch_up()
    shop.same_tables("a", "b")


def test_killed_before_a_lane_has_committed(migrate: Migrate) -> None:
    """A lane that had committed nothing when the others had, and the daemon was killed, begins where the feed began."""
    shop = migrate("CREATE TABLE things (id int PRIMARY KEY, name text)", options="apply: {lanes: 2}")
    shop.run_until_caught_up()
    shop.upgraded.execute("UPDATE replicator.checkpoint SET position = NULL WHERE lane = 1")
    shop.old.execute("INSERT INTO things SELECT n, 'n' || n FROM generate_series(1, 100) n")

    shop.run_until_caught_up()

    shop.same_tables("things")
