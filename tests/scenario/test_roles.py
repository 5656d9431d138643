"""Rights: a role with exactly what `replicator plan` asks for, and one that may not take the replica role."""

import json
import uuid
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TABLES = """
    CREATE SCHEMA crm;
    CREATE TABLE crm.people (id int PRIMARY KEY, boss_id int, email text UNIQUE);
    CREATE TABLE crm.notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person_id int, body text);
    CREATE TABLE crm.log (a int, b text);
"""
ROWS = """
    ALTER TABLE crm.log REPLICA IDENTITY FULL;
    INSERT INTO crm.people SELECT n, n / 2, 'e' || n FROM generate_series(1, 200) n;
    INSERT INTO crm.notes (person_id, body) SELECT n, 'n' FROM generate_series(1, 200) n;
    INSERT INTO crm.log SELECT n % 3, 'x' FROM generate_series(1, 30) n;
"""
NAMES = ("crm.people", "crm.notes", "crm.log")


def granted(migrate: Migrate, *, replica: bool) -> Migration:
    """A migration whose roles own nothing, set up with the statements of the plan and with nothing else."""
    role = f"edge_{uuid.uuid4().hex[:8]}"
    base = migrate(TABLES, old_schema=ROWS, tables='- {old: "crm.*"}')
    base.old.execute(f'CREATE ROLE "{role}" LOGIN')
    if base.old.server is not base.upgraded.server:
        base.upgraded.execute(f'CREATE ROLE "{role}" LOGIN')
    shop = migrate(
        tables='- {old: "crm.*"}',
        old=base.old,
        upgraded=base.upgraded,
        old_dsn=base.old.server.dsn(base.old.name, role),
        upgraded_dsn=base.upgraded.server.dsn(base.upgraded.name, role),
        options="cutover: {reverse: off}",
    )
    stops: list[dict[str, Any]] = []
    for _ in range(5):
        plan = shop.command("plan", "FILE", "--json")
        plan.wait()
        found = json.loads(plan.stdout)["findings"]
        stops = [one for one in found if one["level"] == "stop" or (replica and one["code"] == "replica_role")]
        if not stops:
            return shop
        for one in stops:
            database = shop.upgraded if "upgraded" in one["subject"] else shop.old
            for statement in one["remedy"].split("\n-- or")[0].splitlines():
                if statement and not statement.startswith("--"):
                    database.execute(statement)
    raise AssertionError(stops)


def write(shop: Migration) -> None:
    shop.old.execute(
        "UPDATE crm.people SET email = email || '!' WHERE id % 3 = 0; DELETE FROM crm.people WHERE id > 190"
    )
    shop.old.execute("INSERT INTO crm.people SELECT n, 1, 'n' || n FROM generate_series(500, 520) n")
    shop.old.execute("UPDATE crm.people SET id = id + 1000 WHERE id < 10; DELETE FROM crm.notes WHERE id % 2 = 0")
    shop.old.execute("DELETE FROM crm.log WHERE a = 1; INSERT INTO crm.log VALUES (9, NULL), (9, NULL)")
    shop.old.execute(
        "BEGIN; INSERT INTO crm.people VALUES (9000, 90, 'self'); DELETE FROM crm.people WHERE id = 9000; COMMIT"
    )


@pytest.mark.parametrize("replica", [False, True])
def test_the_rights_that_the_plan_asks_for(migrate: Migrate, replica: bool) -> None:
    """With exactly its statements a role that owns nothing copies, streams, truncates and resyncs, in either role."""
    shop = granted(migrate, replica=replica)
    shop.streaming()
    shop.same_tables(*NAMES)
    write(shop)
    shop.catch_up()
    shop.same_tables(*NAMES)
    shop.old.execute("TRUNCATE crm.notes; INSERT INTO crm.notes (person_id) VALUES (1)")
    shop.catch_up()
    process = shop.command("resync", "FILE", "crm.people")
    assert process.wait(90) == 0, process.story()
    shop.same_tables(*NAMES)
