"""`replicator verify` where the changes come through Kafka: that all is applied, its producer and the ledger prove.

Debezium needs Kafka Connect, and most of a minute; our own capture's proof is another one.
"""

import pytest

from tests import hot_keys
from tests.fix_pipeline import MakePipeline, Way
from tests.scenario.test_verify import findings, verify
from tests.scenario.test_verify_load import assert_nothing_found, pass_over

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PASSES = {"capture-json": 3, "debezium-json": 1}


@pytest.mark.parametrize("way", PASSES)
def test_verified_through_kafka(pipeline: MakePipeline, way: Way) -> None:
    """Rows that come and go every few milliseconds are no findings; what is damaged meanwhile is one, by name."""
    made = pipeline(
        way,
        hot_keys.TABLES,
        old_schema=hot_keys.OLD,
        upgraded_schema=hot_keys.UPGRADED,
        transforms=hot_keys.TRANSFORMS,
        options="cutover: {reverse: off}",
    )
    shop = made.shop
    shop.streaming()
    shop.old.execute("INSERT INTO hot SELECT n, 'quiet' FROM generate_series(100, 120) n")
    with hot_keys.hot_keys(shop.old, 5, pause=0.01):
        for _ in range(PASSES[way]):
            assert_nothing_found(shop, pass_over(shop))
        shop.upgraded.execute("UPDATE hot SET v = 'damaged' WHERE id = 110; DELETE FROM hot WHERE id = 111")
        pass_over(shop)
        named = {one[:4] for one in findings(shop)}
    assert {("hot", ("110",), "different", ("v",)), ("hot", ("111",), "missing", ())} == named
    shop.old.execute("DELETE FROM hot WHERE id IN (110, 111)")
    verify(shop, "--patience", "60s", code=0)
    assert set() == findings(shop)
