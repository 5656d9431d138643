"""systemd's notifications: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final, Self

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"


class Notifier:
    """Sends datagrams to the service manager; does nothing where there is none.

    A notification that can't be delivered is dropped: the manager is gone, or doesn't read, and the work goes on.

    Args:
        address: path of the socket, or `@name` for an abstract one; None: no service manager.
        watchdog_seconds: how often the manager wants to hear from us; None: never.

    """

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self._address = address if address is None or not address.startswith("@") else "\0" + address[1:]
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """As systemd says it: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID."""
        period = environ.get("WATCHDOG_USEC", "")
        meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        seconds = int(period) / 1e6 if meant and period.isdigit() and int(period) > 0 else None
        return cls(environ.get("NOTIFY_SOCKET") or None, seconds)

    def ready(self) -> None:
        """Startup is done."""
        self._send(READY)

    def stopping(self) -> None:
        """The end has begun."""
        self._send(STOPPING)

    def watchdog(self) -> None:
        """Still alive."""
        self._send(WATCHDOG)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto(message.encode(), self._address)
        except OSError:
            return
