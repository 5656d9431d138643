"""One server for all of pytest's workers: a JVM for each would be three times the memory.

A process of its own (`python -m tests.shared_parts FOLDER NAME`) has the server. Who uses it holds a shared lock on
a file, which the system releases however the user ends; when that process gets the lock alone, nobody is left.
"""

import contextlib
import fcntl
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.fetch import Parts, PartsError
from replicator.demo.kafka_parts.process import JavaServer
from tests.polling import wait_until

ROOT = Path(__file__).parents[1]
START_SECONDS_MAX = 110


def borrow(folder: Path, name: str) -> contextlib.AbstractContextManager[Mapping[str, str]]:
    """Return a context with the address of the server of this name; the first to ask starts it, the last ends it."""
    return _borrowed(folder, name)


@contextlib.contextmanager
def _borrowed(folder: Path, name: str) -> Iterator[Mapping[str, str]]:
    with (folder / f"{name}.users").open("a") as users:
        with (folder / f"{name}.start").open("a") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)  # waits for a server that is on its way out
            address = folder / f"{name}.json"
            if not address.exists():
                _host(folder, name, address)
        yield _read(address)


def _host(folder: Path, name: str, address: Path) -> None:
    with (folder / f"{name}.log").open("ab") as log:
        host = subprocess.Popen(
            [sys.executable, "-m", "tests.shared_parts", folder, name],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_until(lambda: address.exists() or host.poll() is not None, START_SECONDS_MAX)
    if not address.exists():
        raise PartsError(f"no {name} for the tests:\n{(folder / f'{name}.log').read_text()[-4000:]}")
    host.returncode = 0  # it outlives us, and is nobody's zombie: init reaps it


def _read(address: Path) -> Mapping[str, str]:
    found: dict[str, str] = json.loads(address.read_text())
    return found


def _kafka() -> tuple[JavaServer, dict[str, str]]:
    server = KafkaServer(Parts.here())
    return server, {"bootstrap": server.bootstrap}


SERVERS: Mapping[str, Callable[[], tuple[JavaServer, dict[str, str]]]] = {"kafka": _kafka}


def _serve(folder: Path, name: str) -> None:
    server, found = SERVERS[name]()
    address = folder / f"{name}.json"
    with server, (folder / f"{name}.users").open("a") as users:
        draft = address.with_suffix(".draft")
        draft.write_text(json.dumps(found))
        draft.rename(address)
        fcntl.flock(users, fcntl.LOCK_EX)  # granted when the last user is gone
        address.unlink()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
