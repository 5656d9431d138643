"""A network that breaks between the daemon and either database: cut, refused, silent in one direction or in both."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.churn import COUNTED, TABLES, assert_equal_and_once, churning, fill
from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database, MakeDatabase
from tests.fix_proxy import MakeProxy, TcpProxy
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240)]

QUICK = "apply: {retry: {initial: 50ms, max: 500ms}}"
SENDER = "?options=-c%20wal_sender_timeout%3D2s"
"""How long a silent replication connection may live; that of the databases is a minute."""


class OneOf:
    """Equal to each of these."""

    def __init__(self, *those: object) -> None:
        self._those = those

    def __eq__(self, other: object) -> bool:
        return other in self._those

    __hash__ = None  # type: ignore[assignment] # as of everything that is equal to several

    def __repr__(self) -> str:
        return f"one of {self._those}"


LOST = OneOf("connection", "commit_unknown")
"""A connection that ends while a COMMIT is under way is named for what it leaves unknown."""

MakeProxied = Callable[..., tuple[Migration, dict[str, TcpProxy]]]


@pytest.fixture
def proxied(migrate: Migrate, make_database: MakeDatabase, make_proxy: MakeProxy) -> MakeProxied:
    """Make a migration whose daemon reaches either side through a proxy; tests write and read without."""

    def make(options: str = QUICK) -> tuple[Migration, dict[str, TcpProxy]]:
        old, upgraded = make_database(), make_database()
        proxies = {side: make_proxy(database.server.port) for side, database in (("old", old), ("upgraded", upgraded))}
        shop = migrate(
            TABLES,
            upgraded_schema=COUNTED,
            options=options,
            old=old,
            upgraded=upgraded,
            old_dsn=proxies["old"].dsn(old.dsn) + SENDER,
            upgraded_dsn=proxies["upgraded"].dsn(upgraded.dsn),
        )
        return shop, proxies

    return make


def applied(upgraded: Database) -> int:
    return int(upgraded.execute("SELECT count(*) FROM watch.counted")[0][0])


def wait_for_more(shop: Migration) -> None:
    """Until something new has been applied."""
    before = applied(shop.upgraded)
    wait_until(lambda: applied(shop.upgraded) > before, 60)


@pytest.mark.parametrize("side", ["old", "upgraded"])
def test_cut_while_streaming(proxied: MakeProxied, side: str) -> None:
    """Every connection to one side is cut, again and again, or refused for a while: it goes on, exactly once."""
    shop, proxies = proxied()
    daemon = shop.streaming()
    with churning(shop.old, 1):
        for _ in range(3):
            wait_for_more(shop)
            proxies[side].cut()
            daemon.wait_for_log("retrying", error_kind=LOST)
        proxies[side].cut(refuse=True)
        for _ in range(3):
            daemon.wait_for_log("retrying", error_kind=LOST)
        proxies[side].resume()
        wait_for_more(shop)
    shop.catch_up()

    assert_equal_and_once(shop)


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
@pytest.mark.parametrize("side", ["old", "upgraded"])
def test_silent_while_streaming(proxied: MakeProxied, side: str, direction: Any) -> None:
    """One direction carries nothing more, though TCP knows nothing of it: afterwards it goes on, exactly once."""
    shop, proxies = proxied()
    daemon = shop.streaming()
    with churning(shop.old, 2) as churn:
        wait_for_more(shop)
        proxies[side].stall(direction)
        if side == "old":  # the slot's stream has a time limit of its own
            daemon.wait_for_log("retrying", error_kind=LOST, timeout=60)
        else:
            churn.write_more(100)
        proxies[side].resume()
        wait_for_more(shop)
        proxies[side].stall(direction)
        proxies[side].cut()  # it was dead
        proxies[side].resume()
        wait_for_more(shop)
    shop.catch_up()

    assert_equal_and_once(shop)


@pytest.mark.parametrize("side", ["old", "upgraded"])
def test_cut_while_copying(proxied: MakeProxied, side: str) -> None:
    """Cut and silent in the middle of the copy, it goes on with the chunks that are left."""
    shop, proxies = proxied(QUICK + "\nbackfill: {chunk_rows: 50, workers: 2}")
    fill(shop.old, 4000)
    with churning(shop.old, 3):
        daemon = shop.start()
        for _ in range(3):
            daemon.wait_for_log("backfill started")
            wait_until(lambda: shop.upgraded.execute("SELECT 1 FROM accounts LIMIT 1"))
            proxies[side].stall()
            proxies[side].cut()
            proxies[side].resume()
            daemon.wait_for_log("retrying", error_kind=LOST)
        daemon.wait_for_log("streaming", 90)
    shop.catch_up()

    assert_equal_and_once(shop)


LATE = """
CREATE FUNCTION watch.wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION watch.wait_at_commit();
ALTER TABLE ledger ENABLE ALWAYS TRIGGER late;
"""
COMMITTING = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND query = 'COMMIT'"


@pytest.mark.parametrize("committed", [True, False])
def test_the_answer_to_commit_is_lost(proxied: MakeProxied, committed: bool) -> None:
    """The connection breaks between COMMIT and its answer: whether it counted or not, the rows are there once."""
    shop, proxies = proxied()
    daemon = shop.streaming()
    shop.upgraded.execute(LATE)
    with shop.upgraded.connect() as session:
        session.execute("SELECT pg_advisory_lock(4711)")
        shop.old.execute("INSERT INTO ledger (tx) VALUES (1)")
        wait_until(lambda: shop.upgraded.execute(COMMITTING))
        proxies["upgraded"].stall("to_client")
        if committed:
            session.execute("SELECT pg_advisory_unlock(4711)")
            wait_until(lambda: applied(shop.upgraded) == 1)
        proxies["upgraded"].cut()
        proxies["upgraded"].resume()
        daemon.wait_for_log("retrying")
    shop.catch_up()

    assert_equal_and_once(shop)
    assert 1 == applied(shop.upgraded)
