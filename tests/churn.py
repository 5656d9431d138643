"""A small application that never stops writing: every kind of change, and rows that clash where order is lost.

Tables: keyed with a unique column, big values and key changes; a key of two columns; one without a key; and `ledger`,
of which each transaction writes one row: on the upgraded side a trigger counts them in `counted`, which no feed writes.
"""

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import psycopg

from tests.fix_migration import Migration
from tests.fix_postgres import Database
from tests.polling import wait_until

Session = psycopg.Connection[tuple[Any, ...]]

TABLES = """
CREATE TABLE accounts (id bigint PRIMARY KEY, balance int NOT NULL, email text UNIQUE, note text);
CREATE TABLE ledger (id bigserial PRIMARY KEY, tx bigint NOT NULL);
CREATE TABLE stock (place int, part int, label text, PRIMARY KEY (place, part));
CREATE TABLE bag (v int);
ALTER TABLE bag REPLICA IDENTITY FULL;
"""
COUNTED = """
CREATE SCHEMA watch;
CREATE TABLE watch.counted (tx bigint);
CREATE FUNCTION watch.count_tx() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO watch.counted VALUES (NEW.tx); RETURN NULL; END$$;
CREATE TRIGGER counts AFTER INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION watch.count_tx();
ALTER TABLE ledger ENABLE ALWAYS TRIGGER counts;
"""
NAMES = ("accounts", "ledger", "stock", "bag")


def fill(old: Database, rows: int) -> None:
    """Rows from before the migration."""
    old.execute(
        "INSERT INTO accounts SELECT n, 0, 'e' || n, repeat(md5(n::text), 1 + n % 300) "
        f"FROM generate_series(1, {rows}) n"
    )


class Churn:
    """Writes to the old side in threads, one transaction after the other, until stopped."""

    def __init__(self, old: Database, seed: int, *, writers: int = 2, pause: float = 0.008) -> None:
        self.transactions = 0
        self._old = old
        self._pause = pause
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._write, args=(seed, n), daemon=True) for n in range(writers)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def write_more(self, transactions: int) -> None:
        """Return when so many more are committed."""
        written = self.transactions
        wait_until(lambda: self.transactions >= written + transactions, 60)

    def stop(self) -> None:
        """End every writer; what one of them failed with is raised here."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        for failure in self._failures:
            raise failure

    def _write(self, seed: int, writer: int) -> None:
        choose = random.Random(f"{seed}/{writer}")
        number = 0
        try:
            while not self._stop.wait(self._pause):
                with contextlib.suppress(psycopg.OperationalError), self._old.connect(autocommit=True) as session:
                    while not self._stop.wait(self._pause):
                        number += 1
                        with contextlib.suppress(psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                            self._transaction(session, choose, writer, number)
        except BaseException as error:  # noqa: BLE001 - raised by `stop`, in the test's own thread
            self._failures.append(error)

    def _transaction(self, session: Session, choose: random.Random, writer: int, number: int) -> None:
        with session.transaction():
            session.execute("INSERT INTO ledger (tx) VALUES (%s)", [writer * 1_000_000_000 + number])
            for _ in range(choose.randint(1, 4)):
                _change(session, choose)
            if choose.random() < 0.1:
                raise psycopg.Rollback
        self.transactions += 1


def _change(session: Session, choose: random.Random) -> None:
    key, dice = choose.randint(1, 3000), choose.random()
    if dice < 0.3:
        session.execute("UPDATE accounts SET balance = balance + 1 WHERE id = %s", [key])
    elif dice < 0.4:
        session.execute("INSERT INTO accounts VALUES (%s, 0, %s, 'n') ON CONFLICT DO NOTHING", [key, f"e{key}"])
    elif dice < 0.5:
        session.execute("DELETE FROM accounts WHERE id = %s", [key])
    elif dice < 0.55:
        session.execute("UPDATE accounts SET id = id + 10000 WHERE id = %s", [key])
    elif dice < 0.6:
        _exchange(session, key, choose.randint(1, 3000))
    elif dice < 0.8:
        session.execute(
            "INSERT INTO stock VALUES (%s, %s, 'v') ON CONFLICT (place, part) DO UPDATE SET label = stock.label || 'x'",
            [key % 50, choose.randint(1, 9)],
        )
    elif dice < 0.9:
        session.execute("INSERT INTO bag VALUES (%s)", [key % 20])
    else:
        session.execute("DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag LIMIT 1)")


def _exchange(session: Session, one: int, other: int) -> None:
    """Two accounts exchange their unique values."""
    rows = session.execute(
        "SELECT id, email FROM accounts WHERE id IN (%s, %s) ORDER BY id FOR UPDATE", [one, other]
    ).fetchall()
    if len(rows) == 2:
        (a, first), (b, second) = rows
        update = "UPDATE accounts SET email = %s WHERE id = %s"
        for email, key in ((f"moving {a}", a), (first, b), (second, a)):
            session.execute(update, [email, key])


@contextlib.contextmanager
def churning(old: Database, seed: int, *, writers: int = 2, pause: float = 0.008) -> Iterator[Churn]:
    """Write within the block."""
    churn = Churn(old, seed, writers=writers, pause=pause)
    churn.start()
    try:
        yield churn
    finally:
        churn.stop()


def assert_equal_and_once(migration: Migration) -> None:
    """Both sides hold the same rows, and every transaction was applied exactly once."""
    migration.same_tables(*NAMES)
    migration.same("SELECT tx FROM ledger", "SELECT tx FROM watch.counted")
