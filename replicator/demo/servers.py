"""A real PostgreSQL server that lives in a temporary directory, for the demo and for the tests.

The server is a child of this process, listens on one loopback port only, and trusts everybody there. Started by root
it runs as an unprivileged user, because PostgreSQL refuses to be root. A watcher process stops the server and removes
its directory even when this process is killed, so nothing is left behind.
"""

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from replicator.demo.installation import find_bindir, server_major
from replicator.demo.loopback import HOST, free_port

__all__ = ["PostgresServer", "ServerError", "StopMode", "find_bindir", "server_major"]

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02

_STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_UNPRIVILEGED = ("postgres", "nobody")

StopMode = Literal["fast", "immediate"]

_SETTINGS: dict[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "max_wal_senders": "50",
    "max_replication_slots": "50",
    "max_worker_processes": "32",
    "max_logical_replication_workers": "16",
    "max_wal_size": "4GB",
    "wal_level": "logical",
    "track_commit_timestamp": "on",
    "autovacuum": "on",
    "log_line_prefix": "%m [%p] %d ",
}

# Waits for the end of its stdin, which comes when the process that holds the other end is gone, however it went.
_WATCHER = """
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
  kill -QUIT "$pid"
  n=0
  while kill -0 "$pid" && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
fi 2>/dev/null
rm -rf "$1"
"""


class ServerError(Exception):
    """A server could not be made, started or stopped; the message ends with its log."""


class PostgresServer:
    """One PostgreSQL server. As a context manager it is started on entry and gone on exit.

    `stop`, `kill` and `restart` keep data and port, so `start` brings the same server back; `close` removes all.
    With `fsync` off (the default) data survives a killed server, but not a crash of the machine.
    """

    def __init__(
        self,
        bindir: Path | None = None,
        *,
        fsync: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        found = bindir or find_bindir(18)
        if found is None:
            raise ServerError("no PostgreSQL 18 here: pip install 'replicator[demo]'")
        self.major = server_major(found)
        if self.major is None:
            raise ServerError(f"{found} holds no postgres that runs here")
        self.host = HOST
        self.port = free_port()
        self._settings = _SETTINGS | {"fsync": "on" if fsync else "off"} | dict(settings or {})
        self._user = _server_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._home = Path(tempfile.mkdtemp(prefix="replicator-postgres-"))
        self._watcher = _watch(self._home)
        atexit.register(self.close)
        try:
            self._own(self._home)
            self._bindir = self._reachable(found)
            self._initialise()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._home / "data"

    @property
    def bindir(self) -> Path:
        """The folder of the programs that came with this server (pgbench, pg_recvlogical, ...)."""
        return self._bindir

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        if self._process is None:
            raise ServerError("this server isn't running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        file = self._home / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self) -> None:
        """Start the server and wait until it takes connections; nothing to do when it runs."""
        first = not (self._home / "log").exists()
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.running:
            seen = len(self.log)
            self._launch()
            if self._wait_ready(deadline):
                return
            complaint = self.log[seen:]
            if first and "could not bind" in complaint:
                self.port = free_port()
            # After a kill the orphaned backends hold the old shared memory for a moment.
            elif "pre-existing shared memory block" not in complaint:
                raise ServerError(f"PostgreSQL {self.major} did not start:\n{complaint[-4000:]}")
            time.sleep(POLL_SECONDS * 5)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: `fast` disconnects clients and checkpoints, `immediate` crashes cleanly."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(_STOP_SIGNALS[mode])
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(f"PostgreSQL {self.major} did not stop:\n{self.log[-4000:]}") from None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL; its backends find out and end by themselves."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop the server and remove everything it had; may be called twice."""
        atexit.unregister(self.close)
        with contextlib.suppress(ServerError):
            self.stop("immediate")
        if self._watcher.poll() is None:
            self._watcher.kill()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()
        self._watcher.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def dsn(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """Return the URI of one of its databases."""
        return f"postgresql://{quote(user, safe='')}@{HOST}:{self.port}/{quote(dbname, safe='')}"

    def execute(
        self, query: str, params: Sequence[Any] | None = None, *, dbname: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run a query as superuser, in autocommit, and return its rows."""
        # The tests' queries are plain strings; psycopg asks for literals.
        with psycopg.connect(self.dsn(dbname), autocommit=True) as connection:
            cursor = connection.execute(query.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, by default from template1, and return its URI."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template1")
        )
        self.execute(statement.as_string())
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, where it exists, with its slots, subscriptions, prepared transactions and clients."""
        if not self.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]):
            return
        database = sql.Identifier(name)
        self.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(database).as_string())
        self._drop_subscriptions(name)
        self._drop_slots(name)
        for (gid,) in self.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]):
            rollback = sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid))
            self.execute(rollback.as_string(), dbname=name)
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database).as_string())

    def _drop_subscriptions(self, name: str) -> None:
        own = "(SELECT oid FROM pg_database WHERE datname = %s)"
        found = self.execute(f"SELECT subname FROM pg_subscription WHERE subdbid = {own}", [name])
        for (subscription,) in found:
            identifier = sql.Identifier(subscription)
            for step in (
                "ALTER SUBSCRIPTION {} DISABLE",
                "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                "DROP SUBSCRIPTION {}",
            ):
                self.execute(sql.SQL(step).format(identifier).as_string(), dbname=name)

    def _drop_slots(self, name: str) -> None:
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while self.execute("SELECT 1 FROM pg_replication_slots WHERE database = %s", [name]):
            self.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE database = %s AND active_pid IS NOT NULL",
                [name],
            )
            try:
                self.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
                    [name],
                )
            except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def _initialise(self) -> None:
        locale = ["--locale=C.UTF-8"]
        if self.major is not None and self.major >= 17:  # needs nothing from the system's libc
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        made = subprocess.run(
            [
                self._bindir / "initdb",
                f"--pgdata={self.data}",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-sync",
                *locale,
            ],
            **self._run_as(),
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise ServerError(f"initdb failed:\n{made.stdout[-2000:]}{made.stderr[-2000:]}")
        lines = (f"{name} = '{value}'\n" for name, value in self._settings.items())
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(lines)

    def _launch(self) -> None:
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bindir / "postgres", "-D", self.data, "-p", str(self.port)],
                **self._run_as(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop the server in our own order
            )

    def _wait_ready(self, deadline: float) -> bool:
        """Wait until the postmaster says it is ready (True) or is gone (False)."""
        status = self.data / "postmaster.pid"
        while self.running:
            lines = status.read_text().split("\n") if status.exists() else []
            if len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready":
                return True
            if time.monotonic() > deadline:
                tail = self.log[-4000:]
                self.kill()
                raise ServerError(f"PostgreSQL {self.major} did not become ready:\n{tail}")
            time.sleep(POLL_SECONDS)
        return False

    def _run_as(self) -> dict[str, Any]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        options: dict[str, Any] = {"cwd": self._home, "env": environment | {"LC_ALL": "C"}}
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return options

    def _own(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _reachable(self, bindir: Path) -> Path:
        """Return a folder whose programs the server's user may run: this one, or a copy of its tree."""
        command: list[str | Path] = [bindir / "postgres", "--version"]
        with contextlib.suppress(PermissionError):
            subprocess.run(command, **self._run_as(), capture_output=True, check=True)
            return bindir
        tree = bindir.resolve().parent
        copy = self._home / "install" / tree.parent.name / tree.name
        shutil.copytree(tree, copy, symlinks=True)
        libraries = tree.parent.with_name(f"{tree.parent.name}.libs")  # where a wheel keeps them
        if libraries.is_dir():
            shutil.copytree(libraries, self._home / "install" / libraries.name, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", self._home / "install"], check=True)
        return copy / bindir.name


def _server_user() -> pwd.struct_passwd | None:
    """Return whom the server runs as, or None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerError(f"PostgreSQL can't run as root, and none of {_UNPRIVILEGED} exists here")


def _watch(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", _WATCHER, "watcher", home],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
