"""The rows that every benchmark moves, and the source transactions that write them: 6 columns, 100 rows each."""

from __future__ import annotations

import os
from typing import Final

from tests.fix_postgres import Database

ROWS: Final = int(os.environ.get("BENCH_ROWS", "400000"))
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "6"))
CONTENDERS: Final = os.environ.get("BENCH_CONTENDERS", "native,same,renamed,python").split(",")
ROWS_PER_TRANSACTION: Final = 100
TABLES: Final = """
    CREATE TABLE public.item (
        id bigint PRIMARY KEY,
        quantity integer NOT NULL,
        title text NOT NULL,
        price numeric(12,2) NOT NULL,
        changed_at timestamptz NOT NULL,
        note text
    );
    CREATE TABLE public.finished (phase bigint PRIMARY KEY);
"""
RENAMED_TABLES: Final = TABLES.replace("title text", "name text").replace("changed_at", "updated_at")
COLUMNS: Final = ("id", "quantity", "title", "price", "changed_at", "note")
RENAMED: Final = {"title": "name", "changed_at": "updated_at"}

# One row: 75 bytes or so of text in all, which is what a row of a business's table looks like without its long texts.
ROW: Final = """
    n, n % 1000, 'item number ' || n, (n % 100000) * 0.01 + 0.05,
    timestamptz '2024-01-01 00:00:00+00' + n * interval '1.000123 s', 'left as it is ' || md5(n::text)
"""
_INSERT: Final = f"INSERT INTO public.item SELECT {ROW} FROM generate_series(i * {{rows}} + 1, (i + 1) * {{rows}}) n"
_UPDATE: Final = """
    UPDATE public.item SET quantity = quantity + 1, price = price + 0.01, changed_at = clock_timestamp()
    WHERE id BETWEEN i * {rows} + 1 AND (i + 1) * {rows}
"""
_DELETE: Final = "DELETE FROM public.item WHERE id BETWEEN i * {rows} + 1 AND (i + 1) * {rows}"
OPERATIONS: Final = {"insert": _INSERT, "update": _UPDATE, "delete": _DELETE}


def write(database: Database, operation: str, rows: int, *, phase: int) -> None:
    """Commit `rows` changes in transactions of 100, then one row in `finished` that says they all came before."""
    statement = OPERATIONS[operation].format(rows=ROWS_PER_TRANSACTION)
    last = rows // ROWS_PER_TRANSACTION - 1
    with database.connect(autocommit=True) as session:
        session.execute("SET synchronous_commit = off")  # 4,000 waits for the disk are not what is measured
        session.execute(f"DO $$ BEGIN FOR i IN 0 .. {last} LOOP {statement}; COMMIT; END LOOP; END $$".encode())
    database.execute("INSERT INTO public.finished VALUES (%s)", [phase])


def write_at_once(database: Database, rows: int, *, phase: int) -> None:
    """Insert `rows` rows in one transaction."""
    database.execute(f"INSERT INTO public.item SELECT {ROW} FROM generate_series(1, {rows}) n")
    database.execute("INSERT INTO public.finished VALUES (%s)", [phase])


def settle(*databases: Database) -> None:
    """Bring every database to the same state of rest, so that a contender doesn't pay for the one before."""
    for database in databases:
        database.execute("VACUUM ANALYZE")
    for database in databases:
        database.execute("CHECKPOINT")


def fill_wal(database: Database, megabytes: int) -> None:
    """Have the server make its WAL's files: it uses them again, and whoever came first would have made them."""
    database.execute(
        "SELECT count(pg_logical_emit_message(false, '', repeat('x', 1 << 20))) FROM generate_series(1, %s)",
        [megabytes],
    )
    database.execute("CHECKPOINT")
