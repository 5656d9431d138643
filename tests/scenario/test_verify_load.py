"""`replicator verify` while the old side never stops changing: not one false alarm."""

import asyncio
import os

import pytest

from replicator.config import load_connector
from replicator.daemon.verifying import Wanted, verify_connector
from replicator.engine.verify.run import Report
from tests import churn, hot_keys
from tests.fix_migration import Migrate, Migration
from tests.scenario.test_verify import findings, verify

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

PASSES = int(os.environ.get("VERIFY_PASSES", "2"))
"""Passes over a workload that never stops; `VERIFY_PASSES=50` for the long one."""


def pass_over(shop: Migration, *, patience: float = 2.0) -> Report:
    """One run, in this process."""
    connector = load_connector(shop.connector, shop.environment)
    return asyncio.run(verify_connector(connector, Wanted(patience_seconds=patience)))


def assert_nothing_found(shop: Migration, report: Report) -> None:
    found = {
        table: (counts.missing, counts.extra, counts.different)
        for table, counts in report.tables.items()
        if counts.missing or counts.extra or counts.different
    }
    assert {} == found, shop.upgraded.execute("SELECT * FROM replicator.divergence ORDER BY id DESC LIMIT 5")


@pytest.fixture
def busy(migrate: Migrate) -> Migration:
    """Tables of every kind of change, and rows that come and go."""
    shop = migrate(
        churn.TABLES + hot_keys.TABLES,
        old_schema=hot_keys.OLD,
        upgraded_schema=hot_keys.UPGRADED + churn.COUNTED,
        transforms=hot_keys.TRANSFORMS,
        options="cutover: {reverse: off}",
    )
    churn.fill(shop.old, 3000)
    shop.streaming()
    return shop


def test_no_false_alarm_under_load(busy: Migration) -> None:
    """Pass after pass over tables that never stand still, and not one finding; once they do, all is proven equal."""
    with churn.churning(busy.old, 7), hot_keys.hot_keys(busy.old, 7) as hot:
        for _ in range(PASSES):
            assert_nothing_found(busy, pass_over(busy))
        assert hot.transactions > 20
    assert verify(busy, code=0)["ok"]
    assert set() == findings(busy)
