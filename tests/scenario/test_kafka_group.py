"""Several processes read one connector's topics: killed, frozen and woken at any moment, nothing is lost or doubled."""

import os
import random
import threading

import pytest

from tests.churn import COUNTED, TABLES, assert_equal_and_once, churning, fill
from tests.fix_pipeline import MakePipeline, Pipeline
from tests.fix_postgres import MakeDatabase
from tests.fix_replicator import ReplicatorProcess
from tests.polling import wait_until

KILLS = int(os.environ.get("REPLICATOR_KILLS", "4"))
SEED = int(os.environ.get("REPLICATOR_SEED", "0")) or random.randrange(1, 1 << 30)

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

QUICK = "apply: {retry: {initial: 50ms, max: 500ms}}"
SESSION = 'settings: {session.timeout.ms: "6000", heartbeat.interval.ms: "500"}'


@pytest.fixture
def shop(pipeline: MakePipeline, make_database: MakeDatabase) -> Pipeline:
    """Topics of four partitions, filled by our capture, and rows from before."""
    old = make_database()
    old.execute(TABLES)
    fill(old, 1000)
    made = pipeline(
        "capture-json",
        old=old,
        upgraded_schema=TABLES + COUNTED,
        partitions=4,
        single=["public.bag"],  # without a key, whose changes have no order but that of one partition
        options=QUICK,
        stream=SESSION,
    )
    wait_until(lambda: made.captures[-1].logged("streaming"), 60)
    return made


def holders(shop: Pipeline) -> dict[str, int]:
    """How many partitions each process holds."""
    query = "SELECT holder, count(*) FROM replicator.partition WHERE holder IS NOT NULL GROUP BY 1"
    return dict(shop.shop.upgraded.execute(query))


def all_share(shop: Pipeline, processes: int) -> None:
    """Wait until so many processes hold partitions."""
    wait_until(lambda: len(holders(shop)) == processes, 60)


def test_a_process_is_killed(shop: Pipeline) -> None:
    """Three processes share the partitions; the leader is killed, then another: the rest goes on with all of them."""
    with churning(shop.shop.old, SEED, pause=0.02) as churn:
        first = shop.shop.streaming()
        others = [shop.shop.streaming(), shop.shop.streaming()]
        churn.write_more(50)
        all_share(shop, 3)
        first.kill()
        churn.write_more(50)
        others[0].kill()
        churn.write_more(100)
        all_share(shop, 1)
    assert 0 < len(others[1].logged("leading"))
    shop.shop.catch_up()

    assert_equal_and_once(shop.shop)


@pytest.mark.parametrize("frozen", ["leader", "follower"])
def test_a_process_is_frozen(shop: Pipeline, frozen: str) -> None:
    """Frozen past its session, and woken: what it had in hand is written by others, and it joins again."""
    with churning(shop.shop.old, SEED, pause=0.02) as churn:
        leader = shop.shop.streaming()
        follower = shop.shop.streaming()
        all_share(shop, 2)
        churn.write_more(20)
        victim, other = (leader, follower) if frozen == "leader" else (follower, leader)
        victim.freeze()
        all_share(shop, 1)
        churn.write_more(20)
        victim.thaw()
        all_share(shop, 2)
        churn.write_more(20)
    assert other.running
    assert victim.running
    shop.shop.catch_up()

    assert_equal_and_once(shop.shop)


def test_killed_at_any_moment(shop: Pipeline) -> None:
    """Two processes, one of them killed and started again and again: both sides agree, each transaction is once."""
    print(f"REPLICATOR_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    choose, moment = random.Random(SEED), threading.Event()
    running: list[ReplicatorProcess] = []
    with churning(shop.shop.old, SEED, pause=0.02):
        for number in range(KILLS):
            while len(running) < 2:
                running.append(shop.shop.start())
            if number >= KILLS // 3:
                running[-1].wait_for_log("streaming", 60)
            moment.wait(choose.uniform(0, 1.5))
            running.pop(choose.randrange(2)).kill()
    shop.shop.start()
    shop.shop.catch_up()

    assert_equal_and_once(shop.shop)
