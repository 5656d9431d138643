"""The servers of demo and tests keep what they promise."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from replicator.demo.servers import PostgresServer, find_bindir
from tests.fix_postgres import Database, MakeDatabase, MakeServer


def test_databases_of_two_versions(upgraded_database: Database, old15_database: Database) -> None:
    """Each fixture gives an empty database on the version that it names, ready for logical decoding."""
    for database, major in ((upgraded_database, 18), (old15_database, 15)):
        ((version, level, encoding),) = database.execute(
            "SELECT current_setting('server_version_num')::int / 10000,"
            " current_setting('wal_level'), current_setting('server_encoding')"
        )
        assert (major, "logical", "UTF8") == (version, level, encoding)


def test_a_database_goes_with_its_slots(server18: PostgresServer, make_database: MakeDatabase) -> None:
    """A slot, a prepared transaction and an open session don't keep a database from being dropped."""
    database = make_database()
    database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [database.name])
    database.execute("BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'left over'")
    with contextlib.closing(database.connect()) as session:
        session.execute("SELECT 1")
        server18.drop_database(database.name)
    server18.create_database(database.name)
    assert [] == server18.execute("SELECT 1 FROM pg_replication_slots")


def test_data_outlives_a_kill(make_server: MakeServer) -> None:
    """A killed server comes back on its port with everything that was committed."""
    server = make_server()
    server.execute("CREATE TABLE t AS SELECT 1 AS a")
    port = server.port
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        server.execute("SELECT 1")
    server.start()
    assert (port, [(1,)]) == (server.port, server.execute("SELECT a FROM t"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files can be out of the server's reach")
def test_programs_out_of_reach_are_copied(tmp_path: Path) -> None:
    """A root whose installation lies in a private folder gets a server all the same."""
    tmp_path.chmod(0o700)
    bindir = find_bindir(18)
    assert bindir is not None
    (tmp_path / "bin").symlink_to(bindir)
    with PostgresServer(tmp_path / "bin") as server:
        assert [(1,)] == server.execute("SELECT 1")


SCRIPT = """
from replicator.demo.servers import PostgresServer
server = PostgresServer()
server.start()
print(server.data.parent, flush=True)
input()
"""


@pytest.mark.fault
def test_nothing_is_left_behind_by_a_killed_process() -> None:
    """Even SIGKILL of the process that owns a server ends the server and removes its files."""
    owner = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    home = Path(owner.stdout.readline().strip())
    assert home.is_dir()
    children = psutil.Process(owner.pid).children()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert (2, []) == (len(gone), alive)
    assert not home.exists()
