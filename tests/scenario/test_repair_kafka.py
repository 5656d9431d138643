"""`replicator repair` and `rederive` where a group of daemons reads Kafka: its leader does them."""

import json
from pathlib import Path

import pytest

from tests.fix_pipeline import MakePipeline
from tests.integration.test_backfill_faults import writing
from tests.scenario.test_repair import repair
from tests.scenario.test_repair_faults import TABLE, TRANSFORM, work
from tests.scenario.test_verify import findings, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_the_leader_repairs_and_rederives(pipeline: MakePipeline, tmp_path: Path) -> None:
    """Two processes apply, the leader repairs what was found, while the application writes; both start with a changed
    transform, and what it makes otherwise is derived again.
    """
    made = pipeline(
        "capture-json",
        TABLE,
        old_schema="INSERT INTO plain SELECT n, 'n' || n FROM generate_series(1, 2500) n",
        partitions=2,
        tables="[]",
        transforms=TRANSFORM.format(how="lower"),
        options="cutover: {reverse: off}",
    )
    shop = made.shop
    daemons = [shop.streaming(), shop.streaming()]
    shop.catch_up()
    shop.upgraded.execute("UPDATE plain SET name = 'x' WHERE id % 7 = 0; DELETE FROM plain WHERE id % 11 = 0")
    shop.upgraded.execute("INSERT INTO plain SELECT n, 'extra' FROM generate_series(-20, -1) n")
    with writing(shop.old, work):
        verify(shop, "--patience", "60s", code=1)
        assert 20 == sum(kind == "extra" for _, _, kind, _, _ in findings(shop))
        assert repair(shop, "--yes", code=0)["ok"]
    verify(shop, "--patience", "60s", code=0)
    assert set() == findings(shop)

    for daemon in daemons:
        daemon.terminate()
        daemon.wait()
    (path,) = [one for one in tmp_path.glob("*.py") if "plain" in one.read_text()]
    path.write_text(path.read_text().replace("lower", "upper"))
    daemons = [shop.streaming(), shop.streaming()]
    process = shop.command("rederive", "FILE", "--json")
    assert 0 == process.wait(120), process.story()
    assert ["public.plain"] == list(json.loads(process.stdout)["mappings"])
    shop.catch_up()
    shop.same("SELECT id, upper(name) FROM plain", "SELECT id, name FROM plain")
    assert [(None,)] == shop.upgraded.execute("SELECT writes FROM replicator.mapping_digest")
    verify(shop, "--patience", "60s", code=0)
