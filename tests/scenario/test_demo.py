"""`replicator demo` as a newcomer runs it."""

import re
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.fix_replicator import ReplicatorProcess, StartReplicator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def wait_for_output(demo: ReplicatorProcess, text: str, seconds: float = 90) -> None:
    """Return when the text was printed."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while text not in demo.stdout:
        assert demo.running, demo.story()
        assert time.monotonic() < deadline, demo.story()
        pause.wait(0.05)


def data_directories(processes: list[psutil.Process]) -> set[Path]:
    """Where the servers among these processes keep their data."""
    found = set()
    for process in processes:
        command = process.cmdline()
        if "-D" in command:
            found.add(Path(command[command.index("-D") + 1]))
    return found


def test_demo_ends_without_a_difference(replicator_process: StartReplicator) -> None:
    """The demo copies, streams, compares every row, says that there is no difference, and ends with 0."""
    demo = replicator_process(["demo", "--seconds", "3", "--rows", "5000"])

    assert demo.wait(180) == 0, demo.story()

    assert "✔ 0 differences" in demo.stdout
    found = re.search(r"p99 ([\d.]+) ms", demo.stdout)
    assert found is not None, demo.stdout
    for words in ("where to look next", "connectors/crm.yaml", "rows/s"):
        assert words in demo.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_nothing(replicator_process: StartReplicator, number: signal.Signals) -> None:
    """Interrupted while it streams, the demo stops both servers and the daemon, and removes what they had."""
    demo = replicator_process(["demo", "--seconds", "60", "--rows", "2000"])
    wait_for_output(demo, "replicator run: stream")
    children = psutil.Process(demo.pid).children(recursive=True)
    directories = data_directories(children)
    assert len(directories) == 2

    demo.process.send_signal(number)

    assert demo.wait(60) == 130, demo.story()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert [] == alive
    assert [] == [path for path in directories if path.parent.exists()]


def test_killed_demo_leaves_no_process(replicator_process: StartReplicator) -> None:
    """Killed, so that it can't clean up, the demo still takes its servers and its daemon along."""
    demo = replicator_process(["demo", "--seconds", "60", "--rows", "2000"])
    wait_for_output(demo, "replicator run: stream")
    children = psutil.Process(demo.pid).children(recursive=True)

    demo.kill()

    _, alive = psutil.wait_procs(children, timeout=30)
    assert [] == alive
