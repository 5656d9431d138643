"""Checks at the end of `replicator verify`, and the certificate: what is wrong is named, and nothing is for a lag."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from replicator.certificate import Assessment, Lack
from replicator.config import load_connector
from replicator.daemon.certifying import read_certificate
from replicator.daemon.checks import assess_connector
from tests.fix_migration import Migrate, Migration

pytestmark = [pytest.mark.timeout(300)]

SHOP = """
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (
        id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, day date NOT NULL, total numeric(10, 2)
    );
"""
FILL = """
    INSERT INTO customers SELECT n, 'name ' || n FROM generate_series(1, 50) n;
    INSERT INTO orders (customer_id, day, total)
        SELECT n % 50 + 1, date '2026-01-01' + n % 30, n / 4.0 FROM generate_series(1, 600) n;
"""
ROLES = """
    CREATE TABLE users (id int PRIMARY KEY, roles text[]);
    INSERT INTO users SELECT n, CASE WHEN n % 5 = 0 THEN '{}' ELSE '{reader,writer}' END::text[]
        FROM generate_series(1, 40) n;
"""
UPGRADED_ROLES = """
    CREATE TABLE users (id int PRIMARY KEY);
    CREATE TABLE roles (user_id int, role text, PRIMARY KEY (user_id, role));
"""
TRANSFORMS = """
    from replicator import Row, transform

    @transform(old="public.users", upgraded={"public.users": "id", "public.roles": "user_id"})
    def user(row: Row):
        yield Row.of("public.users", id=row["id"])
        for role in row["roles"]:
            yield Row.of("public.roles", role=role)
"""
CHECKS = """
cutover: {reverse: off}
checks:
  - name: turnover
    old: select day, count(*), sum(total) from public.orders group by day
    upgraded: select day, count(*)::int, sum(total)::numeric(20, 4) from orders group by 1 order by 2
  - {name: positive, upgraded: select id from public.orders where total < 0}
  - {name: named, old: "select id, name from customers where name = ''", severity: warn}
  - {name: whole, old: select sum(total) from orders, upgraded: select sum(total) from orders, severity: warn}
  - {name: broken, upgraded: select nothing from nowhere, severity: warn}
"""


def verify(migration: Migration, *options: str, code: int) -> dict[str, dict[str, Any]]:
    """Run the command; returns its checks by name."""
    process = migration.command("verify", "FILE", "--json", "--rate", "0", *options)
    ended = process.wait(120)
    assert code == ended, process.story()
    document: dict[str, Any] = json.loads(process.stdout)
    assert document["ok"] is (ended == 0)
    return {check["name"]: check for check in document["checks"]}


def judged(migration: Migration) -> Assessment:
    """The newest certificate, judged in this process."""
    return asyncio.run(read_certificate(load_connector(migration.connector, migration.environment)))


def lacks(migration: Migration) -> list[Lack]:
    return [one.lack for one in judged(migration).missing]


def test_what_is_wrong_is_named_and_voids_the_certificate(migrate: Migrate) -> None:
    """Two equal databases have a certificate, and every check is ok but what warns; damage is named by its key, in each
    check that it breaks, and the certificate is void; mended, there is another one.
    """
    shop = migrate(
        SHOP,
        old_schema=FILL + ROLES,
        upgraded_schema=UPGRADED_ROLES,
        transforms=TRANSFORMS,
        options=CHECKS,
    )
    shop.streaming()
    shop.catch_up()
    assert [Lack.VERIFICATION] == lacks(shop)
    found = verify(shop, code=0)
    sequence = "sequence public.orders_id_seq public.orders.id"
    assert {"broken": None, sequence: False} == {
        name: one["ok"] for name, one in found.items() if one["ok"] is not True
    }
    assert found[sequence]["message"].startswith(
        "next is 1, and the column is at 600; before the switch: SELECT setval("
    )
    counted = "64 rows of 40 of public.users (8 give none, 2.00 a row); 64 found"
    assert counted == found["rows public.roles"]["message"]
    plan = asyncio.run(assess_connector(load_connector(shop.connector, shop.environment)))
    assert ["broken"] == [finding.subject for finding in plan.findings if finding.code == "check"]
    first = judged(shop).certificate
    assert first is not None
    assert judged(shop).valid

    shop.upgraded.execute(
        """SET session_replication_role = replica; DELETE FROM customers WHERE id = 7;
        UPDATE orders SET total = -1 WHERE id = 5; DELETE FROM roles WHERE user_id = 1"""
    )
    found = verify(shop, code=1)
    wrong = {name: one["keys"] for name, one in found.items() if one["ok"] is False and one["severity"] == "block"}
    orphans = [
        key for (key,) in shop.old.execute("SELECT id::text FROM orders WHERE customer_id = 7 ORDER BY orders.id")
    ]
    assert orphans == wrong.pop("foreign_key public.orders orders_customer_id_fkey")
    assert {
        "rows public.customers": [],
        "rows public.roles": [],
        "turnover": ["2026-01-06"],
        "positive": ["5"],
    } == wrong
    assert "1 of 30 rows differ: 2026-01-06 (sum)" == found["turnover"]["message"]
    assert "the two values differ (show: on shows them)" == found["whole"]["message"]
    assert {Lack.DIVERGENCES, Lack.CHECKS} == set(lacks(shop)) - {Lack.VOID}  # the daemon may have seen it first

    shop.upgraded.execute(
        """INSERT INTO customers VALUES (7, 'name 7'); UPDATE orders SET total = 1.25 WHERE id = 5;
        INSERT INTO roles VALUES (1, 'reader'), (1, 'writer')"""
    )
    verify(shop, code=0)
    second = judged(shop)
    assert second.valid
    assert second.certificate is not None
    assert second.certificate.id > first.id
    assert [(first.id, True), (second.certificate.id, False)] == shop.upgraded.execute(
        "SELECT id, void_at IS NOT NULL FROM replicator.certificate ORDER BY id"
    )
    over_time = shop.upgraded.execute("SELECT ok, times FROM replicator.check_result WHERE name = 'named' ORDER BY id")
    assert [(True, 3)] == over_time
    over_time = shop.upgraded.execute("SELECT ok FROM replicator.check_result WHERE name = 'positive' ORDER BY id")
    assert [(True,), (False,), (True,)] == over_time


def test_what_the_certificate_is_about_stays_as_it_was(migrate: Migrate) -> None:
    """Where the daemon listens says nothing about rows; the checks, the transform and a table's columns do, each by
    itself. Once that was seen, the certificate stays void, though all is as it was.
    """
    shop = migrate(SHOP, old_schema=FILL + ROLES, upgraded_schema=UPGRADED_ROLES, transforms=TRANSFORMS, options=CHECKS)
    daemon = shop.streaming()
    shop.catch_up()
    verify(shop, code=0)
    daemon.terminate()  # it would see it, too
    assert daemon.wait(60) == 0, daemon.story()
    connector, transforms = shop.connector, shop.connector.with_suffix(".py")
    changes: list[tuple[list[Lack], Path, str, str]] = [
        ([], connector, "127.0.0.1:0", "127.0.0.1:1"),
        ([], connector, "name: broken", "name:   broken"),
        ([Lack.CONNECTOR], connector, "total < 0", "total < 1"),
        ([Lack.TRANSFORM], transforms, 'row["roles"]', "row['roles']"),
    ]
    for wanted, file, before, after in changes:
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))
        assert wanted == lacks(shop)
        file.write_text(text)
        assert lacks(shop) == ([Lack.VOID] if wanted else [])
        shop.upgraded.execute("UPDATE replicator.certificate SET void_at = NULL, void_reason = NULL")
    for database, seen in ((shop.old, [Lack.MAPPINGS, Lack.SCHEMA]), (shop.upgraded, [Lack.SCHEMA])):
        database.execute("ALTER TABLE customers ADD note text")
        assert seen == lacks(shop)
        database.execute("ALTER TABLE customers DROP note")
        assert [Lack.VOID] == lacks(shop)
        shop.upgraded.execute("UPDATE replicator.certificate SET void_at = NULL, void_reason = NULL")
    process = shop.command("certificate", "FILE")
    assert process.wait(60) == 0, process.story()
    assert "both sides agree" in process.stdout
    shop.upgraded.execute("UPDATE replicator.certificate SET void_at = now(), void_reason = 'it was said'")
    process = shop.command("certificate", "FILE")
    assert process.wait(60) == 1, process.story()
    assert "it was said" in process.stdout
    assert "Next: replicator verify" in process.stdout
