"""A transform that takes its time."""

from tests.fix_migration import Migrate
from tests.fix_postgres import MakeDatabase, MakeServer

SLOW = """
    import time
    from replicator import Row, transform

    @transform(old="public.a", upgraded="public.a")
    def slow(row: Row) -> Row:
        time.sleep(0.001)
        return row.set(body="x")
"""


def test_the_source_is_answered_meanwhile(
    migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase
) -> None:
    """A transaction that takes several times the server's patience to transform is applied, on one connection."""
    old = make_database(make_server(settings={"wal_sender_timeout": "2s"}))
    shop = migrate("CREATE TABLE a (id int PRIMARY KEY, body text)", tables="[]", transforms=SLOW, old=old)
    daemon = shop.streaming()

    shop.old.execute("INSERT INTO a SELECT n, 'b' FROM generate_series(1, 6000) n")
    shop.catch_up()

    assert [(6_000,)] == shop.upgraded.execute("SELECT count(*) FROM a WHERE body = 'x'")
    assert [] == daemon.logged("retrying")
