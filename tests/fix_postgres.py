"""Real PostgreSQL servers, one of each version per test process, and fresh databases on them."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
import pytest

from replicator.demo.servers import PostgresServer, find_bindir
from tests.fix_require import missing


@dataclass(frozen=True, slots=True)
class Database:
    """A fresh database of one test."""

    server: PostgresServer
    name: str

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    def execute(self, sql: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run it on a connection of its own, in autocommit, and return the rows (of the first result)."""
        return self.server.execute(sql, params, dbname=self.name)

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a session; the test closes it (`with`)."""
        return psycopg.connect(self.dsn, autocommit=autocommit)


class MakeDatabase(Protocol):
    def __call__(self, server: PostgresServer | None = None, *, template: str | None = None) -> Database: ...


class MakeServer(Protocol):
    def __call__(
        self,
        major: int = 18,
        *,
        fsync: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> PostgresServer: ...


def new_server(major: int, *, fsync: bool = False, settings: Mapping[str, str] | None = None) -> PostgresServer:
    """Make a server of this version, not started; skip or fail where the version is missing."""
    bindir = find_bindir(major)
    if bindir is None:
        missing(f"postgresql{major}", f"PostgreSQL {major} isn't installed")
    return PostgresServer(bindir, fsync=fsync, settings=settings)


@pytest.fixture(scope="session")
def server18() -> Iterator[PostgresServer]:
    """The upgraded side's server, and the old one's in most tests."""
    with new_server(18) as server:
        yield server


@pytest.fixture(scope="session")
def server15() -> Iterator[PostgresServer]:
    """An old side of an older version; REPLICATOR_OLD_MAJOR=13 has another one take its place."""
    with new_server(int(os.environ.get("REPLICATOR_OLD_MAJOR", "15"))) as server:
        yield server


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Make a server for this test alone, started: to be killed, restarted or set up in another way."""
    with contextlib.ExitStack() as servers:

        def make(
            major: int = 18,
            *,
            fsync: bool = False,
            settings: Mapping[str, str] | None = None,
        ) -> PostgresServer:
            return servers.enter_context(new_server(major, fsync=fsync, settings=settings))

        yield make


@pytest.fixture
def make_database(request: pytest.FixtureRequest) -> Iterator[MakeDatabase]:
    """Make databases, on server18 where no other is given; dropped afterwards with slots and origins."""
    made: list[Database] = []

    def make(server: PostgresServer | None = None, *, template: str | None = None) -> Database:
        chosen: PostgresServer = server or request.getfixturevalue("server18")
        database = Database(chosen, f"test_{uuid.uuid4().hex[:12]}")
        chosen.create_database(database.name, template)
        made.append(database)
        return database

    yield make
    for database in reversed(made):
        if not database.server.running:
            continue
        database.server.drop_database(database.name)
        drop_origins(database.server)


def drop_origins(server: PostgresServer) -> None:
    """Drop the replication origins that nobody holds: they belong to the server, and would greet the next test."""
    for (name,) in server.execute("SELECT roname FROM pg_replication_origin"):
        with contextlib.suppress(psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
            server.execute("SELECT pg_replication_origin_drop(%s)", [name])


@pytest.fixture
def old_database(make_database: MakeDatabase, server18: PostgresServer) -> Database:
    """An empty old database on PostgreSQL 18."""
    return make_database(server18)


@pytest.fixture
def old15_database(make_database: MakeDatabase, server15: PostgresServer) -> Database:
    """An empty old database on PostgreSQL 15."""
    return make_database(server15)


@pytest.fixture
def upgraded_database(make_database: MakeDatabase, server18: PostgresServer) -> Database:
    """An empty upgraded database on PostgreSQL 18."""
    return make_database(server18)
