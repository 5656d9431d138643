"""Servers of the benchmarks: of their own, with the settings of a server that has a machine to itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import pytest

from replicator.demo.servers import PostgresServer, find_bindir
from tests.fix_postgres import new_server

SETTINGS: Final = {
    "shared_buffers": "512MB",
    "max_wal_size": "16GB",
    "min_wal_size": "2GB",  # files of WAL that a checkpoint leaves are used again, and made by nobody
    "checkpoint_timeout": "1h",  # a checkpoint in one contender's time and not in the other's would decide
    "autovacuum": "off",  # likewise; the benchmarks vacuum between their phases
    "wal_sender_timeout": "60s",
}


def _server(major: int) -> PostgresServer:
    return new_server(major, fsync=os.environ.get("BENCH_FSYNC", "1") == "1", settings=SETTINGS)


@pytest.fixture(scope="session")
def old_server() -> Iterator[PostgresServer]:
    """PostgreSQL 15 where it is installed, else 18."""
    with _server(15 if find_bindir(15) else 18) as server:
        yield server


@pytest.fixture(scope="session")
def upgraded_server() -> Iterator[PostgresServer]:
    """PostgreSQL 18."""
    with _server(18) as server:
        yield server
