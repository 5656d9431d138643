"""Which transactions a snapshot sees, from its text alone."""

import pytest

from replicator.postgres.reader import unseen

EPOCH = 1 << 32


@pytest.mark.parametrize(
    "xids,snapshot,expected",
    [
        ({99, 100, 101}, "90:100:", {100, 101}),  # at or past xmax: not completed when the snapshot was taken
        ({92, 95}, "92:100:92,97", {92}),  # in progress
        ({3}, "3:100:3", {3}),
        ({5}, f"{3 * EPOCH + 10}:{3 * EPOCH + 20}:", set()),  # the epoch comes from xmax
        ({12}, f"{3 * EPOCH + 10}:{3 * EPOCH + 20}:{3 * EPOCH + 12}", {12}),
        ({0xFFFFFFF0}, f"{EPOCH + 3}:{EPOCH + 4}:", set()),  # the former epoch
        ({0xFFFFFFF0}, f"{EPOCH - 16}:{EPOCH + 4}:{EPOCH - 16}", {0xFFFFFFF0}),
        ({4}, f"{EPOCH - 9}:{EPOCH - 5}:", {4}),  # the next epoch
    ],
)
def test_committed_transactions_that_a_snapshot_misses(xids: set[int], snapshot: str, expected: set[int]) -> None:
    """A 32-bit xid is extended by the snapshot's epoch, across its wraparound, before it is compared."""
    assert expected == unseen(xids, snapshot)
