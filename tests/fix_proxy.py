"""A TCP proxy that breaks the network on purpose: cut, refused, silent in one direction or in both."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal, Protocol

import pytest

Direction = Literal["to_server", "to_client"]
CHUNK_BYTES = 65_536


class TcpProxy:
    """Forwards from a loopback port to a server. It runs in threads, so sync and async tests can use it."""

    def __init__(self, server_port: int, server_host: str = "127.0.0.1") -> None:
        self.server = (server_host, server_port)
        self.accepted = 0
        self.cuts = 0
        self._left: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._refusing = False
        self._never = threading.Event()
        self._gates: dict[Direction, threading.Event] = {
            "to_server": threading.Event(),
            "to_client": threading.Event(),
        }
        self.delay_seconds = 0.0  # of what goes to the server: every question is answered so much later
        self.resume()
        self._spawn(self._accept)

    def dsn(self, dsn: str) -> str:
        """Return this URI with the proxy in the server's place."""
        return dsn.replace(f"{self.server[0]}:{self.server[1]}", f"{self.host}:{self.port}")

    def cut(self, *, refuse: bool = False) -> None:
        """Close every connection on both ends; `refuse` turns new ones away until `resume`."""
        self._refusing = refuse
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut_after(self, size: int) -> None:
        """Cut once so many more bytes have gone to clients: in the middle of an answer. `cuts` counts."""
        with self._lock:
            self._left = size

    def stall(self, *directions: Direction) -> None:
        """Forward nothing more in these directions (default both); connections stay open."""
        for direction in directions or ("to_server", "to_client"):
            self._gates[direction].clear()

    def resume(self) -> None:
        """End every stall, pass on what was held, and accept new connections again."""
        self._refusing = False
        for gate in self._gates.values():
            gate.set()

    def close(self) -> None:
        """Cut all and end every thread."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut(refuse=True)
        for gate in self._gates.values():
            gate.set()
        for thread in list(self._threads):
            thread.join(10)

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self.server, timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            pair = (client, server)
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append(pair)
            self._spawn(self._forward, pair)

    def _forward(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        back = threading.Thread(target=self._pump, args=(server, client, "to_client"), daemon=True)
        back.start()
        self._pump(client, server, "to_server")
        back.join()
        with self._lock, contextlib.suppress(ValueError):
            self._pairs.remove(pair)
        client.close()
        server.close()

    def _pump(self, reader: socket.socket, writer: socket.socket, direction: Direction) -> None:
        gate = self._gates[direction]
        with contextlib.suppress(OSError):
            while self._open(gate, reader) and (chunk := reader.recv(CHUNK_BYTES)):
                if not self._open(gate, reader):
                    break
                if direction == "to_server" and self.delay_seconds:
                    self._never.wait(self.delay_seconds)
                passed = self._passed(len(chunk)) if direction == "to_client" else None
                writer.sendall(chunk[:passed])
                if passed is not None:
                    self.cut()
            writer.shutdown(socket.SHUT_WR)

    def _passed(self, size: int) -> int | None:
        """How much of so much may go on before the cut that was asked for; None for all of it."""
        with self._lock:
            if self._left is None:
                return None
            left, self._left = self._left, self._left - size
            if self._left > 0:
                return None
            self._left = None
            self.cuts += 1
            return left

    def _open(self, gate: threading.Event, end: socket.socket) -> bool:
        """Wait for the gate; False when the connection was cut meanwhile."""
        while not gate.wait(0.05):
            with self._lock:
                if not any(end in pair for pair in self._pairs):
                    return False
        return True


class MakeProxy(Protocol):
    def __call__(self, server_port: int, server_host: str = "127.0.0.1") -> TcpProxy: ...


@pytest.fixture
def make_proxy() -> Iterator[MakeProxy]:
    """Put a proxy in front of a port; `proxy.dsn(database.dsn)` then leads through it."""
    with contextlib.ExitStack() as proxies:

        def make(server_port: int, server_host: str = "127.0.0.1") -> TcpProxy:
            return proxies.enter_context(contextlib.closing(TcpProxy(server_port, server_host)))

        yield make
