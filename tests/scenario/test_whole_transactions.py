"""P3: with one lane, who reads the target sees whole source transactions, however large they are."""

import threading
from collections.abc import Callable

import psycopg
import pytest

from tests.fix_migration import Migrate, Migration

SCHEMA = """
    CREATE TABLE accounts (id int PRIMARY KEY, amount int NOT NULL);
    CREATE TABLE entries (id serial PRIMARY KEY, account int, amount int NOT NULL);
"""
TRANSFORM = """
    from replicator import Row, transform

    @transform(old="public.accounts", upgraded={"public.accounts": "id", "public.balances": "account_id"})
    def account(row: Row):
        yield row.to("public.accounts").drop("amount")
        yield Row.of("public.balances", amount=row["amount"])
"""
SUM = "SELECT count(*), sum(amount) FROM {}"


class Watcher(threading.Thread):
    """Reads the target under REPEATABLE READ, over and over, and keeps each state that it has seen."""

    def __init__(self, dsn: str, queries: list[str]) -> None:
        super().__init__()
        self.seen: set[tuple[tuple[int, int], ...]] = set()
        self.reads = 0
        self._dsn = dsn
        self._queries = queries
        self._ended = threading.Event()

    def run(self) -> None:
        with psycopg.connect(self._dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            while not self._ended.is_set():
                self.seen.add(tuple(connection.execute(query.encode()).fetchone() or () for query in self._queries))
                connection.rollback()
                self.reads += 1

    def stop(self) -> None:
        self._ended.set()
        self.join(30)
        assert not self.is_alive()


def transfers(shop: Migration, transactions: int, moves: Callable[[int], int]) -> None:
    """Move amounts between accounts; each move books two entries."""
    with shop.old.connect() as writer:
        for number in range(transactions):
            for move in range(moves(number)):
                a, b = (number * 7 + move) % 100, (number * 7 + move * 3 + 1) % 100
                with writer.pipeline():
                    writer.execute("UPDATE accounts SET amount = amount - %s WHERE id = %s", [move + 1, a])
                    writer.execute("INSERT INTO entries (account, amount) VALUES (%s, %s)", [a, -move - 1])
                    writer.execute("INSERT INTO entries (account, amount) VALUES (%s, %s)", [b, move + 1])
                    writer.execute("UPDATE accounts SET amount = amount + %s WHERE id = %s", [move + 1, b])
            writer.commit()


@pytest.mark.parametrize("transformed", [False, True])
def test_a_reader_never_sees_half_a_transaction(migrate: Migrate, *, transformed: bool) -> None:
    """The sum over all accounts is the same in every snapshot, also of transactions of many batches."""
    table = "balances" if transformed else "accounts"
    shop = migrate(
        old_schema=SCHEMA,
        upgraded_schema="""
            CREATE TABLE accounts (id int PRIMARY KEY); CREATE TABLE balances (account_id int PRIMARY KEY, amount int);
            CREATE TABLE entries (id int PRIMARY KEY, account int, amount int NOT NULL)
        """
        if transformed
        else SCHEMA,
        tables="- {old: public.entries}" if transformed else '- {old: "public.*"}',
        transforms=TRANSFORM if transformed else None,
        options="apply: {batch_rows_max: 50}",
    )
    shop.old.execute("INSERT INTO accounts SELECT n, 1000 FROM generate_series(0, 99) n")
    shop.streaming()
    watcher = Watcher(
        shop.upgraded.dsn, [SUM.format(table), "SELECT count(*) % 2, coalesce(sum(amount), 0) FROM entries"]
    )
    watcher.start()

    transfers(shop, 60, lambda number: 100 if number % 20 == 10 else 1 + number % 5)
    shop.catch_up()
    watcher.stop()

    assert {((100, 100_000), (0, 0))} == watcher.seen
    assert watcher.reads > 10
    shop.same("SELECT id, amount FROM accounts", f"SELECT * FROM {table}")
    shop.same("SELECT account, amount FROM entries")
