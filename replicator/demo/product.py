"""The product as the demo uses it: the real daemon in a process of its own, its commands, and its status API."""

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from replicator.demo.checkout import CONNECTOR
from replicator.demo.loopback import HOST, free_port
from replicator.demo.program import ProductError, Program

__all__ = ["Product", "ProductError"]

ASK_SECONDS_MAX = 2.0
COMMAND_SECONDS_MAX = 120.0

_SETTINGS = re.compile(r"(PG[A-Z]+|CRM_[A-Z]+|OLD_DSN|UPGRADED_DSN)\Z")


class Product:
    """`replicator`, on the connector of the example. As a context manager it is gone on exit.

    Args:
        root: the folder of the checkout, see `checkout.find_root`.
        old_dsn, upgraded_dsn: handed over in the environment, as an operator would.
        connector: the file.
        settings: more for the environment.

    """

    def __init__(
        self,
        root: Path,
        *,
        old_dsn: str,
        upgraded_dsn: str,
        connector: Path = CONNECTOR,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.address = f"{HOST}:{free_port()}"
        self._root = root
        self._connector = connector
        self._environment = {name: value for name, value in os.environ.items() if not _SETTINGS.match(name)} | {
            "OLD_DSN": old_dsn,
            "UPGRADED_DSN": upgraded_dsn,
            "CRM_LISTEN": self.address,
            **(settings or {}),
        }
        self._daemon: Program | None = None
        self._capture: Program | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in (self._daemon, self._capture):
            if program is not None:
                program.kill()

    def start(self) -> None:
        """Start `replicator run`."""
        self._daemon = Program(self._root, self._environment, ["run", str(self._connector)])

    def start_capture(self) -> None:
        """Start `replicator capture`, which fills the topics."""
        words = ["capture", str(self._connector), "--listen", f"{HOST}:0"]
        self._capture = Program(self._root, self._environment, words)

    def stop(self) -> None:
        """End what runs as an operator would.

        Raises:
            ProductError: it doesn't end, or not with 0.

        """
        for program in (self._daemon, self._capture):
            if program is not None:
                program.stop()
        self._daemon = self._capture = None

    def run(self, name: str, *options: str) -> str:
        """Run another command on the connector and return what it printed.

        Raises:
            ProductError: it took too long, or ended with another code than 0.

        """
        words = f"replicator {name} {self._connector} {' '.join(options)}".rstrip()
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
        for program in (self._capture, self._daemon):
            if program is not None:
                program.check()
        document = self._ask()
        if document is not None and document["state"] == "failed":
            raise ProductError(f"the connector failed: {json.dumps(document['error'], indent=2)}\n{self.log()}")
        return document

    def log(self) -> str:
        """The end of the daemon's log."""
        return "" if self._daemon is None else self._daemon.log()

    def _command(self, name: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "replicator", name, str(self._connector), *options]

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
