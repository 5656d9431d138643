"""Killed at any moment, the daemon repeats nothing and skips nothing."""

import os
import random
import threading

import pytest

from tests.churn import COUNTED, TABLES, assert_equal_and_once, churning, fill
from tests.fix_migration import Migrate

KILLS = int(os.environ.get("REPLICATOR_KILLS", "6"))
SEED = int(os.environ.get("REPLICATOR_SEED", "0")) or random.randrange(1, 1 << 30)
PHASES = ("backfill started", "backfill complete", "streaming")
"""What the daemon logs when it begins to copy, to catch up, and to stream; it is killed a moment after."""

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(120 + 20 * KILLS)]


@pytest.mark.parametrize("lanes", [1, 4])
def test_killed_at_any_moment(migrate: Migrate, lanes: int) -> None:
    """SIGKILL while copying, catching up and streaming: both sides agree, and each transaction was applied once."""
    print(f"REPLICATOR_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    choose = random.Random(SEED)
    shop = migrate(
        TABLES,
        upgraded_schema=COUNTED,
        options=f"apply: {{lanes: {lanes}}}\nbackfill: {{workers: 2, chunk_rows: 50}}",
    )
    fill(shop.old, 3000)
    moment = threading.Event()
    with churning(shop.old, SEED):
        for number in range(KILLS):
            daemon = shop.start()
            # At the beginning in the middle of the copy, again and again; then wherever it stands by then.
            phase = PHASES[0] if number < KILLS // 3 else choose.choice(PHASES[1:])
            daemon.wait_for_log(phase, 60)
            moment.wait(choose.uniform(0, 0.1 if phase == PHASES[0] else 0.6))
            daemon.kill()
    shop.run_until_caught_up()

    assert_equal_and_once(shop)
