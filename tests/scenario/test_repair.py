"""`replicator repair`: what verify has found is derived again by the running daemon, and nothing else is touched."""

import json
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration
from tests.scenario.test_verify import findings, verify
from tests.scenario.test_verify_kinds import DAMAGE, OLD, TABLES, TRANSFORMS, UPGRADED

pytestmark = [pytest.mark.timeout(400)]

ROWS = """
    SELECT 'orders', o::text, o.xmin::text FROM orders o UNION ALL SELECT 'order_tags', t::text, xmin::text
    FROM order_tags t UNION ALL SELECT 'shipments', s::text, xmin::text FROM shipments s UNION ALL
    SELECT 'parties', p::text, xmin::text FROM parties p UNION ALL SELECT 'drafts', d::text, xmin::text FROM drafts d
    UNION ALL SELECT 'words', w::text, xmin::text FROM words w UNION ALL
    SELECT 'lines', l::text, xmin::text FROM lines l UNION ALL SELECT 'readings', r::text, xmin::text FROM readings r
"""
TOUCHED = 100
"""Far more rows than the damaged aggregates have, far fewer than there are."""


def damage(shop: Migration, script: str) -> None:
    """Change the upgraded side behind the daemon's back."""
    for statement in script.strip().split(";\n"):
        shop.upgraded.execute(statement)


def rows(shop: Migration) -> set[tuple[Any, ...]]:
    """Every row of the upgraded side, with the transaction that wrote it."""
    return set(shop.upgraded.execute(ROWS))


def repair(shop: Migration, *options: str, code: int) -> dict[str, Any]:
    """Run the command; returns its JSON."""
    process = shop.command("repair", "FILE", "--json", *options)
    assert code == process.wait(120), process.story()
    document: dict[str, Any] = json.loads(process.stdout)
    return document


def test_each_kind_of_damage_is_repaired(migrate: Migrate) -> None:
    """A dry run counts and changes nothing; without anybody to ask nothing is done; then what differs is derived again,
    with the surrogate keys that it had, and nothing else; a table without a key is left to a resync.
    """
    shop = migrate(
        old_schema=OLD, upgraded_schema=UPGRADED, tables=TABLES, transforms=TRANSFORMS,
        options="cutover: {reverse: off}",
    )  # fmt: skip
    shop.streaming()
    shop.catch_up()
    assert [] == repair(shop, "--yes", code=0)["tables"]
    shop.upgraded.execute("UPDATE order_tags SET votes = 5")
    before = rows(shop)
    damage(shop, DAMAGE)
    damaged = rows(shop)
    verify(shop, code=1)
    planned = repair(shop, "--dry-run", code=0)

    by_table = {one["table"].removeprefix("public."): one for one in planned["tables"]}
    assert {"INSERT": 1, "DELETE": 2} == by_table["order_tags"]["statements"]
    assert {"UPDATE": 2, "DELETE": 1} == by_table["orders"]["statements"]
    assert {"UPDATE": [["2"]]} == by_table["shipments"]["keys"]
    assert {"INSERT": [["102"]], "DELETE": [["5"], ["8"]], "UPDATE": [["5"]]} == {
        statement: sorted(keys) for statement, keys in by_table["parties"]["keys"].items()
    }
    assert ({}, 1) == (by_table["clicks"]["statements"], by_table["clicks"]["without_key"])
    process = shop.command("repair", "FILE")
    assert 2 == process.wait()
    assert "say --yes" in process.story()
    assert "public.orders  1 DELETE, 2 UPDATE" in process.stdout
    assert damaged == rows(shop)

    document = repair(shop, "--yes", code=1)
    assert {"without_key": 1} == document["left"], document["rows"]
    assert [("public.clicks", "without_key")] == [(row["table"], row["why"]) for row in document["rows"]]
    assert ["clicks"] == [one[0] for one in findings(shop)]
    after = rows(shop)
    assert 0 < len(after - before) < TOUCHED
    ((lost,),) = shop.upgraded.execute("SELECT id FROM orders WHERE body = 'body 8'")  # its tag is a new row

    def texts(of: set[tuple[Any, ...]]) -> set[tuple[str, str]]:
        return {(table, text) for table, text, _ in of if f",{lost},a," not in text}

    assert texts(before) | {("parties", "(9001,other,nobodys)")} == texts(after)
    process = shop.command("resync", "FILE", "public.clicks")
    assert 0 == process.wait(), process.story()
    verify(shop, code=0)
    assert set() == findings(shop)
