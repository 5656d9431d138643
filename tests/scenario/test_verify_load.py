"""`replicator verify` while the old side never stops changing: not one false alarm, and what is damaged is found."""

import asyncio
import os

import pytest

from replicator.config import load_connector
from replicator.daemon.verifying import Wanted, verify_connector
from replicator.engine.verify.run import Report
from tests import churn, hot_keys
from tests.fix_migration import Migrate, Migration
from tests.scenario.test_verify import findings, verify

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

PASSES = int(os.environ.get("VERIFY_PASSES", "6"))
"""Passes over a workload that never stops; `VERIFY_PASSES=50` for the long one."""


def pass_over(shop: Migration, *, patience: float = 2.0) -> Report:
    """One run, in this process."""
    connector = load_connector(shop.connector, shop.environment)
    return asyncio.run(verify_connector(connector, Wanted(patience_seconds=patience)))


def assert_nothing_found(shop: Migration, report: Report) -> None:
    found = {
        table: (counts.missing, counts.extra, counts.different)
        for table, counts in report.tables.items()
        if counts.missing or counts.extra or counts.different
    }
    assert {} == found, shop.upgraded.execute("SELECT * FROM replicator.divergence ORDER BY id DESC LIMIT 5")


@pytest.fixture
def busy(migrate: Migrate) -> Migration:
    """Tables of every kind of change, and rows that come and go."""
    shop = migrate(
        churn.TABLES + hot_keys.TABLES,
        old_schema=hot_keys.OLD,
        upgraded_schema=hot_keys.UPGRADED + churn.COUNTED,
        transforms=hot_keys.TRANSFORMS,
        options="cutover: {reverse: off}",
    )
    churn.fill(shop.old, 3000)
    shop.streaming()
    return shop


@pytest.mark.parametrize("asynchronous", [False, True], ids=["durable", "synchronous-commit-off"])
def test_no_false_alarm_under_load(busy: Migration, *, asynchronous: bool) -> None:
    """Pass after pass over tables that never stand still, and not one finding; once they do, all is proven equal."""
    with churn.churning(busy.old, 7), hot_keys.hot_keys(busy.old, 7, asynchronous=asynchronous) as hot:
        for _ in range(PASSES):
            assert_nothing_found(busy, pass_over(busy))
        assert hot.transactions > 100
    assert verify(busy, code=0)["ok"]
    assert set() == findings(busy)


QUIET = """
    INSERT INTO accounts SELECT n, 0, 'quiet ' || n, '' FROM generate_series(50001, 50100) n;
    INSERT INTO stock SELECT 1000, n, 'quiet' FROM generate_series(1, 20) n;
    INSERT INTO users SELECT n, '{reader}' FROM generate_series(101, 120) n;
"""
TRIGGER = """
    CREATE FUNCTION watch.spoil() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN IF NEW.id = 50020 THEN NEW.balance := NEW.balance + 1; END IF; RETURN NEW; END$$;
    CREATE TRIGGER spoils BEFORE INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION watch.spoil();
    ALTER TABLE accounts ENABLE ALWAYS TRIGGER spoils;
"""
DAMAGE = """
    DELETE FROM accounts WHERE id = 50001;
    INSERT INTO accounts VALUES (60001, 0, 'extra', '');
    UPDATE accounts SET note = NULL WHERE id = 50002;
    UPDATE accounts SET balance = balance - 1 WHERE id = 50003;
    UPDATE accounts SET email = 'moving' WHERE id = 50004;
    UPDATE accounts SET email = 'quiet 50004' WHERE id = 50005;
    UPDATE accounts SET email = 'quiet 50005' WHERE id = 50004;
    DELETE FROM stock WHERE (place, part) = (1000, 1);
    UPDATE stock SET label = 'other' WHERE (place, part) = (1000, 2);
    DELETE FROM roles WHERE user_id = 101;
    INSERT INTO roles VALUES (102, 'admin'), (999, 'orphan');
    INSERT INTO grants VALUES (77, 'extra');
    INSERT INTO bag VALUES (777), (777)
"""
FOUND = {
    ("accounts", ("50001",), "missing", ()),
    ("accounts", ("60001",), "extra", ()),
    ("accounts", ("50002",), "different", ("note",)),
    ("accounts", ("50003",), "different", ("balance",)),
    ("accounts", ("50004",), "different", ("email",)),
    ("accounts", ("50005",), "different", ("email",)),
    ("accounts", ("50020",), "different", ("balance",)),
    ("stock", ("1000", "1"), "missing", ()),
    ("stock", ("1000", "2"), "different", ("label",)),
    ("roles", ("101", "reader"), "missing", ()),
    ("roles", ("102", "admin"), "extra", ()),
    ("roles", ("999", "orphan"), "extra", ()),
    ("grants", ("77", "extra"), "extra", ()),
}
KEYS = {
    "accounts": "ARRAY[id::text]",
    "stock": "ARRAY[place::text, part::text]",
    "grants": "ARRAY[account::text, what]",
}


def oracle(shop: Migration) -> set[tuple[str, tuple[str, ...], str]]:
    """What plain SQL finds in tables of the same shape, both sides standing still: table, key, kind."""
    found = set()
    for table, key in KEYS.items():
        query = f"SELECT {key}, t::text FROM {table} t"
        there, here = ({tuple(row[0]): row[1] for row in one.execute(query)} for one in (shop.old, shop.upgraded))
        for one in there.keys() | here.keys():
            if there.get(one) != here.get(one):
                found.add((table, one, "extra" if one not in there else "missing" if one not in here else "different"))
    return found


def test_damage_is_found_under_load(busy: Migration) -> None:
    """Whatever is planted while both sides are written to is found, by name; nothing else is; and once they stand still
    plain SQL says the same.
    """
    busy.change(QUIET)
    busy.upgraded.execute(TRIGGER)
    with churn.churning(busy.old, 11), hot_keys.hot_keys(busy.old, 11):
        busy.catch_up()
        for statement in DAMAGE.strip().split(";\n"):
            busy.upgraded.execute(statement)
        busy.old.execute("UPDATE accounts SET note = note WHERE id = 50020")
        report = pass_over(busy)
        named = {one[:4] for one in findings(busy)}
        bags = {one for one in named if one[0] == "bag"}
        assert FOUND == named - bags
        assert (2, 0) == (report.tables["public.bag"].extra, report.tables["public.bag"].missing)
        assert {"extra"} == {one[2] for one in bags}
    busy.catch_up()
    verify(busy, code=1)
    named = {one[:3] for one in findings(busy)}

    assert oracle(busy) == {one for one in named if one[0] in KEYS}
