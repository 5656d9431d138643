"""The proxy breaks the network as it says."""

import asyncio

import psycopg
import pytest

from tests.fix_postgres import Database
from tests.fix_proxy import MakeProxy


def test_a_cut_ends_connections_and_new_ones_work(upgraded_database: Database, make_proxy: MakeProxy) -> None:
    """After a cut the old connection is dead; `refuse` keeps new ones out until `resume`."""
    proxy = make_proxy(upgraded_database.server.port)
    dsn = proxy.dsn(upgraded_database.dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT 1")
        proxy.cut(refuse=True)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
    proxy.resume()
    with psycopg.connect(dsn) as connection:
        assert (1,) == connection.execute("SELECT 1").fetchone()


def test_a_cut_in_the_middle_of_an_answer(upgraded_database: Database, make_proxy: MakeProxy) -> None:
    """After so many bytes of an answer the connection is dead; the next one is whole."""
    proxy = make_proxy(upgraded_database.server.port)
    dsn, long = proxy.dsn(upgraded_database.dsn), "SELECT repeat('x', 1000000)"
    with psycopg.connect(dsn) as connection:
        proxy.cut_after(500_000)
        with pytest.raises(psycopg.OperationalError):
            connection.execute(long)
    assert 1 == proxy.cuts
    with psycopg.connect(dsn) as connection:
        assert connection.execute(long).fetchone()


async def test_a_stall_holds_what_was_sent(upgraded_database: Database, make_proxy: MakeProxy) -> None:
    """While the way back is stalled the server does what it was told, and the client hears nothing."""
    proxy = make_proxy(upgraded_database.server.port)
    upgraded_database.execute("CREATE TABLE t (a int)")
    connection = await psycopg.AsyncConnection.connect(proxy.dsn(upgraded_database.dsn), autocommit=True)
    async with connection:
        proxy.stall("to_client")
        insert = asyncio.create_task(connection.execute("INSERT INTO t VALUES (1)"))
        async with await psycopg.AsyncConnection.connect(upgraded_database.dsn) as observer:
            await observer.set_autocommit(True)
            while not await (await observer.execute("SELECT 1 FROM t")).fetchone():
                pass
        assert not insert.done()
        proxy.resume()
        assert (await insert).rowcount == 1
