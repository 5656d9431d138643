"""Checks at the end of `replicator verify`, and the certificate: what is wrong is named, and nothing is for a lag."""

import json
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration

pytestmark = [pytest.mark.timeout(240)]

SHOP = """
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (
        id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, day date NOT NULL, total numeric(10, 2)
    );
    CREATE TABLE lines (order_id int, number int, part text, PRIMARY KEY (order_id, number));
"""
FILL = """
    INSERT INTO customers SELECT n, 'name ' || n FROM generate_series(1, 50) n;
    INSERT INTO orders (customer_id, day, total)
        SELECT n % 50 + 1, date '2026-01-01' + n % 30, n / 4.0 FROM generate_series(1, 600) n;
    INSERT INTO lines SELECT n % 600 + 1, n / 600, 'part' FROM generate_series(1, 1200) n;
"""
CHECKS = """
checks:
  - name: turnover by day
    old: select day, count(*), sum(total) from public.orders group by day
    upgraded: select day, count(*)::int, sum(total)::numeric(20, 4) from orders group by 1 order by 2
  - {name: totals, upgraded: select id from public.orders where total < 0}
  - {name: names, old: "select id, name from customers where name = ''", severity: warn}
  - {name: broken, upgraded: select nothing from nowhere, severity: warn}
"""


def verify(migration: Migration, *options: str, code: int | None = None) -> dict[str, Any]:
    """Run the command; returns its JSON."""
    process = migration.command("verify", "FILE", "--json", "--rate", "0", *options)
    ended = process.wait(120)
    assert code is None or ended == code, process.story()
    document: dict[str, Any] = json.loads(process.stdout)
    assert document["ok"] is (ended == 0)
    return document


def certificate(migration: Migration, code: int) -> dict[str, Any]:
    """Run the command; returns its JSON."""
    process = migration.command("certificate", "FILE", "--json")
    assert process.wait(60) == code, process.story()
    document: dict[str, Any] = json.loads(process.stdout)
    return document


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in document["checks"]}


def test_checks_and_certificate(migrate: Migrate) -> None:
    """Two equal databases: every check is ok, and there is a certificate; damage is named, and voids it."""
    shop = migrate(SHOP, old_schema=FILL, options=CHECKS)
    shop.streaming()
    shop.catch_up()
    first = certificate(shop, 1)
    assert ["verification"] == [one["lack"] for one in first["missing"]]
    document = verify(shop, code=0)
    found = by_name(document)
    assert {name for name, check in found.items() if check["ok"] is not True} == {
        "broken",
        "sequence public.orders_id_seq public.orders.id",
    }
    certificate(shop, 0)
