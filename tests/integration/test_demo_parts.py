"""The demo's workload and its comparison, on real databases."""

import threading
import time

import pytest

from replicator.demo import lag
from replicator.demo.checkout import find_root, migrate
from replicator.demo.compare import EXPECTATIONS, Comparison, compare, links, orphans
from replicator.demo.operations import OPERATIONS
from replicator.demo.seed import count_rows, seed
from replicator.demo.writer import Writer
from tests.fix_postgres import Database

SCHEMAS = find_root() / "schemas"


@pytest.fixture
def old(old_database: Database) -> Database:
    """The old side of the example, with a few rows."""
    migrate(old_database.dsn, SCHEMAS / "crm/old")
    list(seed(old_database.dsn, 1_000))
    return old_database


@pytest.fixture
def upgraded(upgraded_database: Database) -> Database:
    """The upgraded side of the example, empty."""
    migrate(upgraded_database.dsn, SCHEMAS / "crm/upgraded")
    return upgraded_database


def countries(old: Database, upgraded: Database) -> Comparison:
    (found,) = compare(old.dsn, upgraded.dsn, EXPECTATIONS[:1])
    return found


def copy_countries(old: Database, upgraded: Database) -> None:
    for row in old.execute("SELECT iso, name FROM countries"):
        upgraded.execute("INSERT INTO ref.countries VALUES (%s, %s)", row)


@pytest.mark.parametrize("side", ["old", "upgraded"])
def test_billing_schemas_are_sound(old_database: Database, side: str) -> None:
    """The SQL of the second example runs on an empty database."""
    migrate(old_database.dsn, SCHEMAS / "billing" / side)


def test_seed_is_about_what_was_asked_for(old: Database) -> None:
    """The old database begins with about as many rows as were asked for, in every table."""
    assert 1_000 == pytest.approx(count_rows(old.dsn), rel=0.2)


def test_writer_does_all_of_it(old: Database) -> None:
    """The workload commits every kind of transaction, gives some up, and ends when it is told to."""
    deadline = time.monotonic() + 60
    changed = threading.Event()
    with Writer(old.dsn, sessions=3, transactions_per_second=3_000) as writer:
        while len(writer.committed) < len(OPERATIONS) or not writer.rolled_back:
            writer.check()
            assert time.monotonic() < deadline, (
                f"never committed: {[o.__name__ for o in OPERATIONS if o.__name__ not in writer.committed]}"
            )
            changed.wait(0.05)
        writer.stop()
        before = writer.transactions

    assert before == writer.transactions
    assert [(0,)] == old.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'demo writer'")
    contacts = "SELECT count(*) FROM accounts JOIN contacts c ON c.id = primary_contact_id WHERE deleted_at IS NOT NULL"
    assert [(0,)] == old.execute(contacts), "a deleted contact is somebody's first: the example would have an orphan"


def test_writer_says_what_ended_it(old: Database) -> None:
    """A workload that lost its database isn't taken for one that has nothing to do."""
    with Writer(old.dsn + "_gone", sessions=1, transactions_per_second=100) as writer:
        pass
    with pytest.raises(Exception, match="does not exist"):
        writer.check()


def test_equal_tables_have_no_difference(old: Database, upgraded: Database) -> None:
    """Where both sides agree nothing is reported, and every row was looked at."""
    copy_countries(old, upgraded)

    found = countries(old, upgraded)

    assert (30, 0) == (found.rows, found.differences)


def test_each_kind_of_difference_is_found(old: Database, upgraded: Database) -> None:
    """A row too few, a row too many and a changed value are found, each by its key."""
    copy_countries(old, upgraded)
    upgraded.execute("DELETE FROM ref.countries WHERE iso_code = 'AT'")
    upgraded.execute("INSERT INTO ref.countries VALUES ('XX', 'Nowhere')")
    upgraded.execute("UPDATE ref.countries SET name = name || ' ' WHERE iso_code = 'BE'")

    found = countries(old, upgraded)

    assert ([("AT",)], [("XX",)], [("BE",)]) == (found.missing, found.extra, found.different)


def test_empty_upgraded_side_lacks_everything(old: Database, upgraded: Database) -> None:
    """Every upgraded table is compared: with nothing there, everything that should be is missing."""
    tables = {f"{schema}.{name}" for schema, name in upgraded.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('crm', 'ref')"
    )}  # fmt: skip

    found = compare(old.dsn, upgraded.dsn)

    assert tables == {one.table for one in found}
    assert [] == [one.table for one in found if not one.rows or len(one.missing) != one.rows]


def test_orphans_are_found(upgraded: Database) -> None:
    """A row that was written without its parent, as replicated rows can be, is found by its constraint."""
    with upgraded.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("INSERT INTO crm.order_items VALUES (gen_random_uuid(), 1, 'none', 1, 1)")

    found = orphans(upgraded.dsn)

    assert 9 == len(found)
    assert {"crm.order_items order_items_order_id_fkey", "crm.order_items order_items_sku_fkey"} == {
        name for name, count in found.items() if count
    }


def test_links_are_those_of_the_staff(upgraded: Database) -> None:
    """Only permissions of users whose role the workload leaves alone are held to their ids."""
    with upgraded.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("INSERT INTO crm.user_permissions VALUES (1, 10, 'read'), (2, 11, 'read')")

    assert {(10, "read"): 1} == links(upgraded.dsn)


def follow(old: Database, upgraded: Database, stop: threading.Event) -> None:
    """A replication of accounts that takes a tenth of a second at least."""
    with old.connect(autocommit=True) as source, upgraded.connect(autocommit=True) as target:
        target.execute("SET session_replication_role = replica")
        done = 0
        while not stop.wait(0.1):
            for (number,) in source.execute("SELECT id FROM accounts WHERE id > %s ORDER BY id", (done,)).fetchall():
                target.execute("INSERT INTO crm.accounts VALUES (%s, 'x', NULL, '{}', 'DE')", (number,))
                done = number


def test_lag_is_what_a_reader_sees(old: Database, upgraded: Database) -> None:
    """The lag is the time from a commit on the old side until the row is seen on the upgraded one, for every probe."""
    stop, measured = threading.Event(), threading.Event()
    following = threading.Thread(target=follow, args=(old, upgraded, stop))
    following.start()
    try:
        with lag.LagProbe(old.dsn, upgraded.dsn) as probe:
            measured.wait(1)
            found = probe.finish(30)
    finally:
        stop.set()
        following.join()

    assert found is not None
    assert [(found.samples,)] == old.execute("SELECT count(*) FROM accounts WHERE company = 'probe'")
    assert found.samples > 5
    assert 0 <= found.p50 <= found.p99 <= found.most
    assert found.most > 0.03


def test_lag_that_never_ends_is_told(old: Database, upgraded: Database) -> None:
    """Rows that don't arrive are an error, not a lag of nothing."""
    deadline, pause = time.monotonic() + 30, threading.Event()
    with lag.LagProbe(old.dsn, upgraded.dsn) as probe:
        while old.execute("SELECT count(*) FROM accounts WHERE company = 'probe'") == [(0,)]:
            assert time.monotonic() < deadline
            pause.wait(0.05)
        with pytest.raises(TimeoutError, match="has not arrived"):
            probe.finish(0.5)
