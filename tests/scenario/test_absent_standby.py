"""A commit that is in the old side's WAL, and so in the stream, long before any reader there can see it."""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from replicator.demo.servers import PostgresServer
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database, MakeDatabase, MakeServer
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

OLD = """
    CREATE TABLE orders (id int PRIMARY KEY, state text);
    CREATE TABLE items (id int PRIMARY KEY, order_id int, price int);
    ALTER TABLE items REPLICA IDENTITY FULL;
    CREATE TABLE docs (id int PRIMARY KEY, title text, big text);
    ALTER TABLE docs ALTER big SET STORAGE EXTERNAL;
    INSERT INTO orders SELECT n, 'new' FROM generate_series(1, 3) n;
    INSERT INTO items SELECT n, n, 10 FROM generate_series(1, 3) n;
    INSERT INTO docs SELECT n, 'old title', repeat(n::text, 9000) FROM generate_series(1, 3) n;
"""
UPGRADED = """
    CREATE TABLE orders (id int PRIMARY KEY, state text, total int);
    CREATE TABLE docs (id int PRIMARY KEY, title text, big text, size int);
"""
TRANSFORMS = """
    from replicator import Aggregate, Row, transform

    @transform(old={"public.orders": "id", "public.items": "order_id"}, upgraded="public.orders")
    def order(order: Aggregate) -> Row:
        return order.root.set(total=sum(item["price"] for item in order["public.items"]))

    @transform(old="public.docs", upgraded="public.docs")
    def doc(row: Row) -> Row:
        return row.set(size=len(row["big"]))
"""
SAME = {
    "SELECT id, state, (SELECT sum(price)::int FROM items WHERE order_id = o.id) FROM orders o": (
        "SELECT id, state, total FROM orders"
    ),
    "SELECT id, title, md5(big), length(big) FROM docs": "SELECT id, title, md5(big), size FROM docs",
}
UPGRADED_STATE = "SELECT 'order', id, state, total FROM orders UNION ALL SELECT 'doc', id, title, size FROM docs"
READING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name = 'replicator:shop/forward/0' AND state = 'idle in transaction'"
)
IN_COMMIT = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'the application'"


def wait_for_standby(server: PostgresServer, name: str) -> None:
    """From now on a commit waits for this standby, after it is in the WAL; '' for none."""
    server.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: server.execute("SHOW synchronous_standby_names") == [(name,)])


@contextlib.contextmanager
def committing(old: Database, statements: str) -> Iterator[None]:
    """A transaction whose commit hangs within the block, for a standby that isn't there, and is through after it."""

    def run() -> None:
        with old.connect(autocommit=True) as session:
            session.execute("SET application_name = 'the application'")
            session.execute(f"BEGIN; {statements}; COMMIT".encode())

    wait_for_standby(old.server, "absent")
    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: old.execute(IN_COMMIT))
        yield
    finally:
        wait_for_standby(old.server, "")
        thread.join(30)


@pytest.fixture
def shop(migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase) -> Migration:
    """A migration whose old side has a server of its own."""
    old = make_database(make_server())
    return migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables="[]",
        transforms=TRANSFORMS,
        old=old,
    )


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param("UPDATE items SET price = 20 WHERE id = 1", id="aggregate"),
        pytest.param("DELETE FROM items WHERE id = 1; UPDATE orders SET state = 'paid' WHERE id = 1", id="several"),
        pytest.param("UPDATE docs SET title = 'new title' WHERE id = 1", id="unchanged-toast"),
        pytest.param("UPDATE docs SET id = 11 WHERE id = 1", id="unchanged-toast-of-a-moved-row"),
    ],
)
def test_nothing_older_than_the_event_is_written(shop: Migration, statements: str) -> None:
    """What is read because of an event is read only once it is visible: the older state is never written instead."""
    shop.streaming()
    before = shop.upgraded.execute(UPGRADED_STATE)
    with committing(shop.old, statements):
        wait_until(lambda: shop.upgraded.execute(READING))
        # A later transaction of the same order, visible at once: it isn't applied before, nor alone.
        shop.old.execute("SET synchronous_commit = local; INSERT INTO items VALUES (9, 1, 5)")
        assert shop.upgraded.execute(READING)
        assert before == shop.upgraded.execute(UPGRADED_STATE)
    shop.catch_up()

    for there, here in SAME.items():
        shop.same(there, here)


def test_the_heartbeat_waits_for_nobody(shop: Migration) -> None:
    """While no standby answers, what is visible is applied, and both the daemon and `wait` know it."""
    daemon = shop.streaming()
    wait_for_standby(shop.old.server, "absent")
    shop.old.execute("SET synchronous_commit = local; UPDATE orders SET state = 'shipped'")
    shop.catch_up(30)

    for there, here in SAME.items():
        shop.same(there, here)
    daemon.terminate()
    assert 0 == daemon.wait(), daemon.story()
