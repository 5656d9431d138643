"""systemd's notifications over a real socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator.daemon.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(5)
        yield channel


def test_each_notification_is_one_datagram(manager: socket.socket) -> None:
    """READY, STATUS, WATCHDOG and STOPPING as sd_notify(3) spells them; a status is one line."""
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready()
    notifier.status("crm: streaming\nbilling: failed")
    notifier.watchdog()
    notifier.stopping()

    assert [b"READY=1", b"STATUS=crm: streaming billing: failed", b"WATCHDOG=1", b"STOPPING=1"] == [
        manager.recv(200) for _ in range(4)
    ]


def test_an_abstract_socket_is_reached() -> None:
    """A name that begins with @ is an abstract socket."""
    name = f"replicator-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0{name}")
        channel.settimeout(5)
        Notifier(f"@{name}").ready()

        assert b"READY=1" == channel.recv(200)


@pytest.mark.parametrize("address", [None, "/nowhere/notify"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    """No socket, or one that is gone, is no reason to fail."""
    Notifier(address).ready()


@pytest.mark.parametrize(
    "environ, seconds",
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_meant_for_this_process(environ: dict[str, str], seconds: float | None) -> None:
    """The period counts only where WATCHDOG_PID names us or nobody."""
    assert seconds == Notifier.from_environment(environ).watchdog_seconds
