"""The product as the demo uses it: the real daemon in a process of its own, its commands, and its status API."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from replicator.demo.checkout import CONNECTOR

HOST = "127.0.0.1"
ASK_SECONDS_MAX = 2.0
STOP_SECONDS_MAX = 20.0
COMMAND_SECONDS_MAX = 120.0
_LOG_LINES = 400

# Kills the daemon when the other end of its stdin is closed: also when this process is killed.
_WATCHER = 'read -r _; kill -KILL "$1" 2>/dev/null'

_SETTINGS = re.compile(r"(PG[A-Z]+|CRM_[A-Z]+|OLD_DSN|UPGRADED_DSN)\Z")


class ProductError(Exception):
    """The daemon or one of its commands did not do what the demo asked for; the message ends with its output."""


class Product:
    """`replicator`, on the connector of the example. As a context manager it is gone on exit.

    Args:
        root: the folder of the checkout, see `checkout.find_root`.
        old_dsn, upgraded_dsn: handed over in the environment, as an operator would.

    """

    def __init__(self, root: Path, *, old_dsn: str, upgraded_dsn: str) -> None:
        self.address = f"{HOST}:{_free_port()}"
        self._root = root
        self._environment = {name: value for name, value in os.environ.items() if not _SETTINGS.match(name)} | {
            "OLD_DSN": old_dsn,
            "UPGRADED_DSN": upgraded_dsn,
            "CRM_LISTEN": self.address,
        }
        self._daemon: subprocess.Popen[str] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.kill()
        self._end()

    def start(self) -> None:
        """Start `replicator run`. It isn't in our process group: Ctrl-C is for us, and we stop it in our own order."""
        self._daemon = subprocess.Popen(
            self._command("run", "--log-format", "json"),
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._watcher = subprocess.Popen(
            ["sh", "-c", _WATCHER, "watcher", str(self._daemon.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, args=(self._daemon.stderr,), daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """End the daemon as an operator would.

        Raises:
            ProductError: it doesn't end, or not with 0.

        """
        if self._daemon is None:
            return
        self._daemon.send_signal(signal.SIGTERM)
        try:
            code = self._daemon.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise ProductError(f"the daemon did not end within {STOP_SECONDS_MAX:.0f} s\n{self.log()}") from None
        self._end()
        if code != 0:
            raise ProductError(f"the daemon ended with exit code {code}\n{self.log()}")

    def run(self, name: str, *options: str) -> str:
        """Run another command on the connector and return what it printed.

        Raises:
            ProductError: it took too long, or ended with another code than 0.

        """
        words = f"replicator {name} {CONNECTOR} {' '.join(options)}".rstrip()
        try:
            done = subprocess.run(
                self._command(name, *options),
                cwd=self._root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ProductError(f"`{words}` did not end within {COMMAND_SECONDS_MAX:.0f} s\n{self.log()}") from None
        if done.returncode != 0:
            raise ProductError(f"`{words}` ended with exit code {done.returncode}\n{done.stdout}{self.log()}")
        return done.stdout

    def status(self) -> dict[str, Any] | None:
        """The connector's document from the status API; None while the daemon doesn't answer yet.

        Raises:
            ProductError: the daemon has ended, or the connector has failed.

        """
        if self._daemon is not None and self._daemon.poll() is not None:
            self._end()
            raise ProductError(f"the daemon ended with exit code {self._daemon.returncode}\n{self.log()}")
        document = self._ask()
        if document is not None and document["state"] == "failed":
            raise ProductError(f"the connector failed: {json.dumps(document['error'], indent=2)}\n{self.log()}")
        return document

    def log(self, lines: int = 12) -> str:
        """The end of the daemon's log."""
        return "\n".join(list(self._log)[-lines:])

    def _command(self, name: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "replicator", name, str(CONNECTOR), *options]

    def _ask(self) -> dict[str, Any] | None:
        connection = http.client.HTTPConnection(self.address, timeout=ASK_SECONDS_MAX)
        try:
            connection.request("GET", "/api/v1/status")
            found = json.load(connection.getresponse())["connectors"]
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return dict(found[0])

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._log.append(line.rstrip("\n"))

    def _end(self) -> None:
        """Take leave of a daemon that has ended, or was killed."""
        if self._daemon is not None:
            self._daemon.wait()
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
        if self._reader is not None:
            self._reader.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
