"""The product as its users run it: a real process, watched through its log."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import pytest

COMMAND = Path(sys.executable).with_name("replicator")


class ReplicatorProcess:
    """One run of the command. Its log (JSON lines on stderr) and its stdout are read by threads."""

    def __init__(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        command: Sequence[str] = (str(COMMAND),),
    ) -> None:
        self.args = tuple(args)
        self.logs: list[dict[str, Any]] = []
        self._seen = 0
        self._stdout: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [*command, *args],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._readers = [
            threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True),
            threading.Thread(target=self._read_stdout, args=(self.process.stdout,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return "".join(self._stdout)

    def wait_for_log(self, event: str, timeout: float = 30, **fields: object) -> dict[str, Any]:
        """Return the next line with this event and these fields, among those after the last one returned.

        Fails at once when the process ended without it.
        """
        deadline = time.monotonic() + timeout
        wanted = {"event": event, **fields}
        with self._changed:
            while True:
                while self._seen < len(self.logs):
                    line = self.logs[self._seen]
                    self._seen += 1
                    if all(key in line and line[key] == value for key, value in wanted.items()):
                        return line
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "ended" if self._ended else f"was silent for {timeout} s"
                    pytest.fail(f"{why} without {wanted}\n{self.story()}", pytrace=False)
                self._changed.wait(left)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """All lines with this event so far."""
        return [line for line in list(self.logs) if line.get("event") == event]

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end and return the exit code; by then all of its output is here."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s\n{self.story()}", pytrace=False)
        for reader in self._readers:
            reader.join(10)
        return code

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def story(self) -> str:
        """The command and the end of its output, for failure messages."""
        lines = [json.dumps(line) for line in self.logs[-40:]]
        code = self.process.poll()
        head = f"replicator {' '.join(self.args)} (exit code {code})"
        return "\n".join([head, *lines, self.stdout[-4000:]])

    def close(self) -> None:
        """Kill it if it runs, and close its pipes."""
        self.kill()
        for reader in self._readers:
            reader.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _read_log(self, stream: IO[str]) -> None:
        for text in stream:
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if not isinstance(line, dict):  # a traceback, a warning: kept for the story
                line = {"raw": text.rstrip("\n")}
            with self._changed:
                self.logs.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_stdout(self, stream: IO[str]) -> None:
        for text in stream:
            self._stdout.append(text)


class StartReplicator(Protocol):
    def __call__(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> ReplicatorProcess: ...


@pytest.fixture
def replicator_process() -> Iterator[StartReplicator]:
    """Start the command: `replicator_process(["run", "crm.yaml"], env={...})`; killed when the test ends."""
    with contextlib.ExitStack() as processes:

        def start(
            args: Sequence[str],
            *,
            env: Mapping[str, str] | None = None,
            cwd: Path | None = None,
        ) -> ReplicatorProcess:
            process = ReplicatorProcess(args, env=env, cwd=cwd)
            return processes.enter_context(contextlib.closing(process))

        yield start
