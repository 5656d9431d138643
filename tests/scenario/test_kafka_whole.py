"""By Kafka as by the slot: whole transactions for who asks for them; and partitions that never get a record."""

import json
import urllib.request
from typing import Any

import pytest

from tests.fix_migration import Migration
from tests.fix_pipeline import MakePipeline
from tests.polling import wait_until
from tests.scenario.test_whole_transactions import SCHEMA, SUM, Watcher, transfers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def status(shop: Migration) -> dict[str, Any]:
    """What `replicator status` says, which here asks the databases: the daemon's port is any that was free."""
    shown = shop.command("status", "FILE", "--json")
    assert 0 == shown.wait(), shown.story()
    document: dict[str, Any] = json.loads(shown.stdout)
    return document


def test_a_reader_never_sees_half_a_transaction(pipeline: MakePipeline) -> None:
    """`stream.atomic`, two topics: the sums are right in every snapshot, also of transactions of many batches, and
    also when the daemon is killed among them.
    """
    made = pipeline("capture-json", SCHEMA, options="apply: {batch_rows_max: 50}", stream="atomic: true")
    shop = made.shop
    shop.old.execute("INSERT INTO accounts SELECT n, 1000 FROM generate_series(0, 99) n")
    daemon = shop.streaming()
    watcher = Watcher(
        shop.upgraded.dsn, [SUM.format("accounts"), "SELECT count(*) % 2, coalesce(sum(amount), 0) FROM entries"]
    )
    watcher.start()
    try:
        transfers(shop, 25, lambda number: 100 if number % 10 == 5 else 1 + number % 5)
        wait_until(lambda: shop.upgraded.execute("SELECT 1 FROM entries LIMIT 1"), 60)
        daemon.kill()
        transfers(shop, 25, lambda number: 100 if number % 10 == 5 else 1 + number % 5)
        shop.streaming()
        shop.catch_up()
    finally:
        watcher.stop()

    assert {((100, 100_000), (0, 0))} == watcher.seen
    assert watcher.reads > 10
    shop.same_tables("accounts")
    shop.same("SELECT account, amount FROM entries")


def test_sixty_four_partitions_of_which_sixty_are_idle(pipeline: MakePipeline) -> None:
    """What has arrived is known, and proven, though most partitions never hold anything; so after a restart."""
    made = pipeline("capture-json", "CREATE TABLE parts (id int PRIMARY KEY, n int)", partitions=64)
    shop = made.shop
    daemon = shop.streaming()
    for number in range(1, 30):
        shop.old.execute("INSERT INTO parts VALUES (%s %% 4, 0) ON CONFLICT (id) DO UPDATE SET n = %s", [number] * 2)
    shop.catch_up()
    shop.same_tables("parts")
    begun = "SELECT count(*), count(*) FILTER (WHERE next_offset > 0) FROM replicator.partition"
    ((known, used),) = shop.upgraded.execute(begun)
    assert 64 == known
    assert used in range(1, 5), "the topic's name is in the keys, so two of the four may share a partition"

    daemon.kill()
    assert made.captures[-1].running
    wait_until(lambda: not status(shop)["running"], 60)  # a session of a killed process ends a moment later
    shop.old.execute("UPDATE parts SET n = -n")
    daemon = shop.streaming()
    shop.catch_up()
    shop.same_tables("parts")
    assert (True, "streaming") == (status(shop)["running"], status(shop)["state"])
    url = f"{daemon.logged('listening')[0]['url']}/metrics"

    def backlog() -> bytes:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - the daemon's own
            lines: list[bytes] = answer.read().splitlines()
        return next(line for line in lines if line.startswith(b"replicator_backlog_offsets{")).rpartition(b" ")[2]

    wait_until(lambda: backlog() == b"0.0", 60)
