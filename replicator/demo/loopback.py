"""Ports of this machine for the demo's and the tests' servers."""

import contextlib
import secrets
import socket

HOST = "127.0.0.1"

# Below the range that the kernel takes for outgoing connections: a port stays ours over a restart.
_PORTS = range(15_000, 32_000)


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
