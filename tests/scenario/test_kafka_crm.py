"""The CRM example through Kafka: aggregates whose tables are in topics of several partitions, read by two processes."""

from pathlib import Path

import pytest

from replicator.demo.checkout import migrate as run_versions
from replicator.demo.compare import compare, links, orphans
from replicator.demo.seed import seed
from replicator.demo.writer import Writer
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import MakeDatabase
from tests.polling import wait_until
from tests.scenario.test_crm_churn import TABLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


def test_aggregates_across_topics(pipeline: MakePipeline, make_database: MakeDatabase) -> None:
    """Many to one, one to many, new keys and references, under load and a kill: no row differs, whatever came first."""
    old, upgraded = make_database(), make_database()
    run_versions(old.dsn, ROOT / "schemas" / "crm" / "old")
    run_versions(upgraded.dsn, ROOT / "schemas" / "crm" / "upgraded")
    list(seed(old.dsn, 1_000))
    made = pipeline(
        "capture-json",
        old=old,
        upgraded=upgraded,
        tables=TABLES,
        transforms=(ROOT / "connectors" / "crm.py").read_text(),
        partitions=3,
    )
    shop = made.shop
    with Writer(old.dsn, sessions=2, transactions_per_second=60) as writer:
        first, second = shop.start(), shop.start()
        for process in (first, second):
            process.wait_for_log("streaming", 90)
        kept = links(upgraded.dsn)
        mark = writer.transactions
        wait_until(lambda: writer.transactions > mark + 200, 60)
        first.kill()
        wait_until(lambda: writer.transactions > mark + 400, 60)
        writer.stop()
    shop.catch_up(90)

    found = compare(old.dsn, upgraded.dsn)
    assert [] == [sample for table in found for sample in table.samples()]
    assert not any(orphans(upgraded.dsn).values())
    assert kept.items() <= links(upgraded.dsn).items()
