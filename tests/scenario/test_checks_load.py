"""Checks while the old side never stops changing: not one fails for what is in flight, and what is wrong is named."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from replicator.checks import CheckResult
from replicator.config import load_connector
from replicator.daemon.checking import asked_to_stand, run_checks
from replicator.daemon.verifying import mappings_of, reached_by_target
from replicator.postgres.versions import PostgresVersionedReader
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

PASSES = int(os.environ.get("CHECK_PASSES", "2"))
"""Rounds of all checks over a workload that never stops; `CHECK_PASSES=50` for the long one."""

TABLES = """
    CREATE TABLE parents (id int PRIMARY KEY, day int NOT NULL, n int NOT NULL);
    CREATE TABLE children (id int PRIMARY KEY, parent int NOT NULL REFERENCES parents);
    CREATE INDEX ON children (parent);
"""
FILL = """
    INSERT INTO parents SELECT n, n % 20, n FROM generate_series(1, 400) n;
    INSERT INTO children SELECT n, n FROM generate_series(1, 400) n;
"""
# A parent comes and goes with its child; a sum stays the same by two rows; a day's rows come and go.
HOT = """
    INSERT INTO parents VALUES ({hot}, 99, 1); INSERT INTO children VALUES ({hot}, {hot});
    ---
    UPDATE parents SET n = n + 1 WHERE id = 1; UPDATE parents SET n = n - 1 WHERE id = 21;
    ---
    DELETE FROM children WHERE id = {hot}; DELETE FROM parents WHERE id = {hot};
"""
CHECKS = """
checks:
  - name: days
    old: select day, count(*), sum(n) from parents group by day
    upgraded: select day, count(*), sum(n) from parents group by day
  - {name: each, old: "select id, n from parents", upgraded: "select id, n from parents"}
  - name: childless
    upgraded: select p.id from parents p where not exists (select from children c where c.parent = p.id)
  - {name: total, upgraded: select 'sum' where (select sum(n) from parents where day < 20) <> 80200}
"""
RULES = ["foreign_key public.children children_parent_fkey", "days", "each", "childless", "total"]


@contextmanager
def hot(old: Database) -> Iterator[Counter[int]]:
    """Two sessions that do it again and again, until the block ends; counted. What they failed with is raised."""
    stop = threading.Event()
    done: Counter[int] = Counter()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        statements = HOT.format(hot=1000 + number).split("---")
        try:
            with old.connect(autocommit=True) as session:
                while not stop.wait(0.002):
                    for statement in statements:
                        session.execute(f"BEGIN; {statement}; COMMIT".encode())
                        done[number] += 1
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert [] == failures


def look(shop: Migration, passes: int = 1, *, patience: float = 1.0) -> list[dict[str, CheckResult]]:
    """All checks, so often, in this process; by name."""

    async def looked() -> list[dict[str, CheckResult]]:
        connector = load_connector(shop.connector, shop.environment)
        readers = [
            PostgresVersionedReader(one.dsn, "test", connector="shop", feed="forward")
            for one in (shop.old, shop.upgraded)
        ]
        mappings = await mappings_of(connector, *readers)
        for reader in readers:
            await reader.close()
        rounds = []
        async with reached_by_target(connector, mappings) as reached:
            for _ in range(passes):
                found = await run_checks(
                    connector, mappings.all, reached, stand=asked_to_stand(connector), patience_seconds=patience
                )
                rounds.append({one.name: one for one in found})
        return rounds

    return asyncio.run(looked())


@pytest.mark.parametrize("lanes", [1, 4])
def test_no_check_fails_for_what_is_in_flight(migrate: Migrate, lanes: int) -> None:
    """Parents that come and go with their children, sums that stay, days that don't: nothing is called wrong, with one
    lane and with several, which write halves of transactions; and what never stands still is proven right where the
    feed does. What is spoilt meanwhile is found by its key; and once all stands still, all is decided.
    """
    shop = migrate(TABLES, old_schema=FILL, options=f"{CHECKS}\napply: {{lanes: {lanes}}}\ncutover: {{reverse: off}}")
    shop.streaming()
    shop.catch_up()
    with hot(shop.old) as transactions:
        for found in look(shop, PASSES):
            assert set(RULES) <= found.keys()
            assert {} == {name: one.message for name, one in found.items() if one.ok is False}
            assert found["childless"].ok or lanes > 1
            assert (True, True) == (found["days"].ok, found["each"].ok), (found["days"], found["each"])
        assert all(transactions[number] > 10 for number in range(2))
        shop.upgraded.execute(
            """SET session_replication_role = replica; UPDATE parents SET n = n + 1 WHERE id = 5;
            DELETE FROM parents WHERE id = 7; DELETE FROM children WHERE id = 9;
            INSERT INTO parents VALUES (500, 500, 0)"""
        )
        (found,) = look(shop, patience=30)
        wrong = {name: set(found[name].keys) for name in RULES if found[name].ok is False}
    assert {
        RULES[0]: {"7"},
        "days": {"5", "7", "500"},
        "each": {"5", "7", "500"},
        "childless": {"9", "500"},
        "total": {"sum"},
    } == wrong
    shop.upgraded.execute(
        """UPDATE parents SET n = n - 1 WHERE id = 5; DELETE FROM parents WHERE id = 500;
        INSERT INTO parents VALUES (7, 7, 7); INSERT INTO children VALUES (9, 9)"""
    )
    shop.catch_up()
    (found,) = look(shop, patience=30)
    assert {} == {name: found[name].message for name in RULES if not found[name].ok}
