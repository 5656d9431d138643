"""One long-running command of the product, in a process of its own, as an operator would run it."""

import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

STOP_SECONDS_MAX = 20.0
_LOG_LINES = 400

# Kills the program when the other end of its stdin is closed: also when this process is killed.
_WATCHER = 'read -r _; kill -KILL "$1" 2>/dev/null'


class ProductError(Exception):
    """A command did not do what the demo asked for; the message ends with its output."""


class Program:
    """`replicator NAME …`, started in a folder, with an environment. Ended by `stop`, or by `kill` at the latest.

    Args:
        root: the folder of the checkout.
        environment: all of it.
        words: the command and its arguments.

    """

    def __init__(self, root: Path, environment: Mapping[str, str], words: Sequence[str]) -> None:
        self._name = f"`replicator {words[0]}`"
        # It isn't in our process group: Ctrl-C is for us, and we stop it in our own order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "replicator", *words, "--log-format", "json"],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._watcher = subprocess.Popen(
            ["sh", "-c", _WATCHER, "watcher", str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def check(self) -> None:
        """Raise ProductError when it has ended."""
        if self._process.poll() is not None:
            self._end()
            raise ProductError(f"{self._name} ended with exit code {self._process.returncode}\n{self.log()}")

    def stop(self) -> None:
        """End it as an operator would.

        Raises:
            ProductError: it doesn't end, or not with 0.

        """
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise ProductError(f"{self._name} did not end within {STOP_SECONDS_MAX:.0f} s\n{self.log()}") from None
        self._end()
        if code != 0:
            raise ProductError(f"{self._name} ended with exit code {code}\n{self.log()}")

    def kill(self) -> None:
        """End it at once, if it hasn't ended. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._end()

    def log(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(list(self._log)[-lines:])

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._log.append(line.rstrip("\n"))

    def _end(self) -> None:
        """Take leave of a process that has ended, or was killed."""
        self._process.wait()
        self._watcher.kill()
        self._watcher.wait()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()
        self._reader.join()
