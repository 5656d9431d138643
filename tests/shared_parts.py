"""One server for all of pytest's workers: a JVM for each would be three times the memory.

A process of its own (`python -m tests.shared_parts FOLDER NAME`) has the server. Who uses it holds a shared lock on
a file, which the system releases however the user ends; when that process gets the lock alone, nobody is left.
"""

import contextlib
import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.connect import ConnectServer
from replicator.demo.kafka_parts.fetch import Parts, PartsError
from replicator.demo.kafka_parts.process import JavaServer
from replicator.demo.kafka_parts.registry import RegistryServer
from tests.polling import wait_until

ROOT = Path(__file__).parents[1]
START_SECONDS_MAX = 110


@contextlib.contextmanager
def borrow(folder: Path, name: str) -> Iterator[Mapping[str, str]]:
    """Yield the address of the server of this name; the first to ask starts it, the last to leave ends it."""
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


def _kafka(folder: Path) -> tuple[JavaServer, dict[str, str]]:
    server = KafkaServer(Parts.here(), home=folder / "kafka")
    return server, {"bootstrap": server.bootstrap}


def _connect(folder: Path) -> tuple[JavaServer, dict[str, str]]:
    bootstrap = _read(folder / "kafka.json")["bootstrap"]
    server = ConnectServer(Parts.here(), bootstrap, home=folder / "connect")
    return server, {"url": server.url}


def _registry(folder: Path) -> tuple[JavaServer, dict[str, str]]:
    server = RegistryServer(Parts.here(), home=folder / "registry")
    return server, {"url": server.url}


SERVERS: Mapping[str, Callable[[Path], tuple[JavaServer, dict[str, str]]]] = {
    "kafka": _kafka,
    "connect": _connect,
    "registry": _registry,
}


def _serve(folder: Path, name: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    server, found = SERVERS[name](folder)
    address = folder / f"{name}.json"
    with (folder / f"{name}.users").open("a") as users:
        with server:
            draft = address.with_suffix(".draft")
            draft.write_text(json.dumps(found))
            draft.rename(address)
            fcntl.flock(users, fcntl.LOCK_EX)  # granted when the last user is gone; who comes now waits for our end
            address.unlink()
        shutil.rmtree(folder / name / "data", ignore_errors=True)  # its log stays, beside those of pytest's last runs


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
