"""Both databases at one position while a workload never stops: equal in every mapping, by plain SQL."""

import asyncio
import os
import time

import pytest

from replicator.checks import CheckSnapshot
from replicator.config import load_connector
from replicator.daemon.standing import AskedStanding
from replicator.events import Values
from tests import verified_damage as damage
from tests import verified_world as world
from tests.fix_migration import Migrate, Migration

STANDSTILLS = int(os.environ.get("STANDSTILLS", "6"))
"""How often the feed is asked; `STANDSTILLS=500` for the long run."""
SEED = 7
QUERIES = {
    **damage.SHOULD,
    "bag": ("SELECT v, w FROM bag", "SELECT v, w FROM bag"),
    "parties": (damage.SHOULD["parties"][0], "SELECT * FROM parties WHERE kind IN ('person', 'firm')"),
    "purchase_tags": tuple(f"SELECT purchase_id, tag FROM ({query}) AS t" for query in damage.SHOULD["purchase_tags"]),
}

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300 + 5 * STANDSTILLS)]


async def rows(snapshot: CheckSnapshot, query: str) -> list[Values]:
    """A query's rows as text, in order."""
    columns = (await snapshot.ask(query, 1, 60)).columns
    texts = ", ".join(f"q.{column.name}::text" for column in columns)
    return sorted((await snapshot.ask(f"SELECT {texts} FROM ({query}) AS q", 100_000, 60)).rows, key=repr)


async def differing(shop: Migration) -> set[str]:
    """The upgraded tables that, in one of many standstills, were not what plain SQL makes of the old side."""
    standing = AskedStanding(load_connector(shop.connector, shop.environment))
    wrong: set[str] = set()
    stood = 0
    until = time.monotonic() + 60 + 5 * STANDSTILLS
    while stood < STANDSTILLS:
        async with standing.both() as still:
            if isinstance(still, str):
                assert time.monotonic() < until, still
                continue
            stood += 1
            for table, (wanted, held) in QUERIES.items():
                if await rows(still.source, wanted) != await rows(still.target, held):
                    wrong.add(table)
    return wrong


@pytest.mark.parametrize("lanes", [1, 4])
def test_both_sides_are_equal_at_a_standstill(migrate: Migrate, lanes: int) -> None:
    """Aggregates of several tables, key changes, filters and shared tables included, while rows come and go, move and
    change all the time, with commits that wait for the disk and that don't: whenever the feed stands still, the
    upgraded side is what plain SQL makes of the old side at that moment. The feed goes on, and misses nothing.
    """
    shop = world.start(migrate, options=f"apply: {{lanes: {lanes}}}")
    with (
        world.application(shop.old, SEED, pause=0.001) as durable,
        world.application(shop.old, SEED + 1, commit="off", pause=0.001) as lazy,
    ):
        assert set() == asyncio.run(differing(shop))
        assert durable.transactions > 20
        assert lazy.transactions > 20
    shop.catch_up()
    assert set() == damage.oracle(shop)
