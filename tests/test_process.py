"""The watched process reports what happens to it."""

import contextlib
import sys

import pytest

from tests.fix_replicator import ReplicatorProcess

SCRIPT = """
import json, sys
for n in range(3):
    print(json.dumps({"event": "tick", "n": n}), file=sys.stderr, flush=True)
print("not json", file=sys.stderr, flush=True)
print("done", flush=True)
"""


def test_log_lines_are_seen_in_order_and_once() -> None:
    """A line is returned once; waiting for one that never comes fails with the story."""
    process = ReplicatorProcess(["-c", SCRIPT], command=[sys.executable])
    with contextlib.closing(process):
        assert 0 == process.wait_for_log("tick")["n"]
        assert 2 == process.wait_for_log("tick", n=2)["n"]
        assert 0 == process.wait()
        assert "done\n" == process.stdout
        with pytest.raises(pytest.fail.Exception, match="ended without"):
            process.wait_for_log("tick")


def test_a_frozen_process_can_be_killed() -> None:
    """SIGSTOP doesn't keep the fixture from cleaning up."""
    process = ReplicatorProcess(["-c", "input()"], command=[sys.executable])
    process.freeze()
    process.close()
    assert not process.running
