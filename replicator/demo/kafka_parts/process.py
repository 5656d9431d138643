"""A Java server as a child of this process: started, awaited, stopped, and gone with its directory at the end."""

import atexit
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from replicator.demo.kafka_parts.fetch import Parts, PartsError
from replicator.demo.kafka_parts.java import find_java
from replicator.demo.kafka_parts.pins import JAVA_MIN
from replicator.demo.loopback import HOST

START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05

# Quick to start and small, for minutes of work, not for days.
QUICK_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xss512k", "-Djava.awt.headless=true")
# What a JVM says before it starts what we asked for; nothing of ours depends on what the user's shell sets for Java.
_FOREIGN = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")

# Lines of a log that say what went wrong: by their level, or as an exception's first line.
_COMPLAINT = re.compile(r"\b(ERROR|FATAL)\b|^(Caused by: )?[\w.$]+(Exception|Error)\b")

# Waits for the end of its stdin, which comes when the process that holds the other end is gone, however it went.
_WATCHER = """
read -r _
pid=$(cat "$1/pid" 2>/dev/null)
[ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null
[ -n "$2" ] || rm -rf "$1"
"""


class JavaServer(ABC):
    """A server of the parts. As a context manager it is started on entry and gone on exit.

    `stop` and `kill` keep data and ports, so `start` brings the same server back; `close` removes all, except a
    directory that was given. `launch` and `wait_ready` are the halves of `start`: launch several, then wait for each.
    The methods block: call them in a thread where a loop runs.
    """

    title: ClassVar[str]
    java_min: ClassVar[int] = JAVA_MIN

    def __init__(self, *, home: Path | None = None, heap: str, jvm: Sequence[str] = QUICK_JVM) -> None:
        found = find_java(self.java_min)
        if found is None:
            raise PartsError(
                f"{self.title} needs Java {self.java_min} or later, and none is here; JAVA_HOME may name it"
            )
        self.java = found
        self.host = HOST
        self.heap = heap
        self._jvm = jvm
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = 0
        self._given = home is not None
        self.home = home or Path(tempfile.mkdtemp(prefix=f"replicator-{self.title.lower().replace(' ', '-')}-"))
        self._watcher = _watch(self.home, keep=self._given)
        atexit.register(self.close)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the JVM."""
        if self._process is None:
            raise PartsError(f"this {self.title} isn't running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the JVM is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged so far, over all its starts."""
        file = self.home / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def log_since_start(self) -> str:
        """What it has logged since it was launched last."""
        return self.log[self._seen :]

    def start(self) -> None:
        """Start the server and wait until clients can use it; nothing to do when it runs."""
        if not self.running:
            self.launch()
            self.wait_ready()

    def launch(self) -> None:
        """Start the server without waiting for it."""
        if self.running:
            return
        self._seen = len(self.log)
        arguments = self._arguments()
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.java.program, f"-Xmx{self.heap}", *self._jvm, *arguments],
                cwd=self.home,
                env={name: value for name, value in os.environ.items() if name not in _FOREIGN},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop the server in our own order
            )
        (self.home / "pid").write_text(str(self._process.pid))

    def wait_ready(self, seconds: float = START_SECONDS_MAX) -> None:
        """Wait until clients can use it; PartsError with the end of its log where that doesn't come about."""
        deadline = time.monotonic() + seconds
        while True:
            if not self.running:
                self._forget()
                raise self._failure("ended while it started")
            if self._ready():
                return
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"did not become ready in {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop it in good order (SIGTERM); after 20 seconds SIGKILL."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)  # one that a test has frozen would never hear the first
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS_MAX)
        self.kill()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._forget()

    def close(self) -> None:
        """Kill it and remove everything it had; may be called twice."""
        atexit.unregister(self.close)
        self.kill()
        if self._watcher.poll() is None:
            self._watcher.kill()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()
        self._watcher.wait()
        if not self._given:
            shutil.rmtree(self.home, ignore_errors=True)

    @abstractmethod
    def _arguments(self) -> Sequence[str | Path]:
        """Write what the server reads at its start; return what follows the JVM's own options."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether a client could use it now."""

    def _failure(self, what: str) -> PartsError:
        lines = self.log_since_start.splitlines()
        complaints = [line for line in lines if _COMPLAINT.search(line)]  # a shutdown's chatter may follow them
        told = "what it complains of" if complaints else "the end of its log"
        shown = "\n".join(complaints[-12:] or lines[-20:])
        return PartsError(f"{self.title} {what}; {told} ({self.home / 'log'}):\n{shown[-4000:]}")

    def _forget(self) -> None:
        self._process = None
        (self.home / "pid").unlink(missing_ok=True)


def class_path(parts: Parts) -> tuple[str, ...]:
    """Return the JVM's options for the classes of Kafka and Connect, with a log that we can read."""
    logging = Path(__file__).with_name("log4j2.properties")
    return (f"-Dlog4j2.configurationFile={logging.as_uri()}", "-cp", f"{parts.folder('kafka')}/*")


def answers(port: int) -> bool:
    """Whether somebody listens on this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def properties(settings: dict[str, str]) -> str:
    """Return a Java properties file; a line's end or a backslash in a value is escaped."""
    escaped = ((name, value.replace("\\", "\\\\").replace("\n", "\\n")) for name, value in settings.items())
    return "".join(f"{name}={value}\n" for name, value in escaped)


def _watch(home: Path, *, keep: bool) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", _WATCHER, "watcher", home, "keep" if keep else ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
