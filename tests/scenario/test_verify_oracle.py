"""`replicator verify` of every kind of mapping under a workload that never stops, judged by plain SQL once it has."""

import asyncio
import os
import random
import threading
import time

import pytest

from replicator.config import load_connector
from replicator.daemon.verifying import Wanted, verify_connector
from replicator.engine.verify.run import Report
from tests import verified_damage as damage
from tests import verified_world as world
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import MakeDatabase, MakeServer
from tests.polling import wait_until
from tests.scenario.test_absent_standby import wait_for_standby
from tests.scenario.test_verify import findings, verify

SOAK_SECONDS = float(os.environ.get("VERIFY_SOAK_SECONDS", "12"))
"""Of passes over a workload that never stops; `VERIFY_SOAK_SECONDS=1800` for the long one."""
SEED = int(os.environ.get("VERIFY_SEED", "5"))
ROUNDS = int(os.environ.get("VERIFY_ROUNDS", "1"))
"""Of damage by chance."""

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300 + 5 * SOAK_SECONDS)]


def pass_over(shop: Migration, *, patience: float = 0.5) -> Report:
    """One run, in this process."""
    connector = load_connector(shop.connector, shop.environment)
    return asyncio.run(verify_connector(connector, Wanted(patience_seconds=patience)))


def named(shop: Migration) -> set[damage.Finding]:
    """Open findings of keyed tables."""
    return {
        (table, key, kind, tuple(sorted(columns))) for table, key, kind, columns, _ in findings(shop) if table != "bag"
    }


def of_bag(report: Report) -> tuple[int, int]:
    counts = report.tables["public.bag"]
    return counts.missing, counts.extra


def test_the_verifier_and_plain_sql_agree(migrate: Migrate) -> None:
    """Every kind of damage, in every kind of mapping, planted under load: found under load, named with its columns, and
    nothing else; and plain SQL over both sides at rest says the same, also after more damage by chance, to rows that
    are written all the time.
    """
    shop = world.start(migrate)
    assert set() == damage.oracle(shop)
    choose = random.Random(SEED)
    shop.upgraded.execute(damage.SPOILED)
    with world.application(shop.old, SEED):
        shop.old.execute(damage.WRITTEN_AGAIN)
        shop.catch_up()
        damage.plant_all(shop.upgraded, choose)
        report = pass_over(shop, patience=3.0)
        under_load = named(shop)
    shop.catch_up()
    truth = damage.oracle(shop)
    assert truth == under_load
    assert damage.oracle_of_bag(shop) == of_bag(report)
    for _ in range(ROUNDS):
        with world.application(shop.old, SEED + 1):
            damage.plant(shop.upgraded, choose, 30, hot=True)
        shop.catch_up()
        verify(shop, code=1)
        assert damage.oracle(shop) == named(shop)


def test_no_false_alarm(migrate: Migrate, make_database: MakeDatabase, make_server: MakeServer) -> None:
    """Pass after pass over rows that come and go, change, change their keys and move between parents, and never one
    finding: with commits that wait for the disk and that don't, while a standby never answers, and with the daemon and
    the verifier killed in the middle; once all stand still, all is proven equal.
    """
    shop = world.start(migrate, make_database(make_server()))
    began = time.monotonic()
    passes = 0

    def soak(fraction: float) -> None:
        nonlocal passes
        more = True
        while more:
            pass_over(shop)
            passes += 1
            assert [] == shop.upgraded.execute("SELECT * FROM replicator.divergence LIMIT 5"), passes
            more = time.monotonic() - began < SOAK_SECONDS * fraction

    with world.application(shop.old, SEED) as durable, world.application(shop.old, SEED + 1, commit="off") as lazy:
        soak(0.5)
        wait_for_standby(shop.old.server, "absent")
        hanging = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait_until(lambda: shop.old.execute(hanging), 60)  # one at least: the other may wait for a row of this one
        # Where the feed itself waits to see such a commit, so does a pass.
        answers = threading.Timer(min(60, 0.3 * SOAK_SECONDS), wait_for_standby, (shop.old.server, ""))
        answers.start()
        soak(0.8)
        answers.join()
        verifier = shop.command("verify", "FILE", "--json", "--rate", "0")
        verifier.wait_for_log("verification started", 90)
        shop.started[0].kill()
        shop.streaming()
        if verifier.wait(600) != 0 and not verifier.stdout:  # without a report: it found no daemon for too long
            assert "nobody reads the slot" in verifier.story()
        verifier = shop.command("verify", "FILE", "--json", "--rate", "0")
        verifier.wait_for_log("verification started", 90)
        verifier.kill()
        soak(1.0)
        assert durable.transactions > 20
        assert lazy.transactions > 20
    shop.catch_up()
    assert verify(shop, code=0)["ok"]
    assert set() == damage.oracle(shop)
    assert [] == shop.upgraded.execute("SELECT * FROM replicator.divergence LIMIT 5")
    print(f"{passes} passes, {durable.transactions + lazy.transactions} transactions")  # noqa: T201 - of the long run
