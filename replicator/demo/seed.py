"""The rows that the old database of the demo begins with; the SQL is in `seed.sql`."""

from collections.abc import Iterator
from importlib import resources

import psycopg
from psycopg import sql

FIRST_NAMES = (
    "Ada",
    "Anna Maria",
    "Chidi",
    "Elif",
    "Grace",
    "Hiro",
    "Ines",
    "José",
    "Kateryna",
    "Łukasz",
    "Noor",
    "Zoë",
)
LAST_NAMES = (
    "Abiodun",
    "Brandt",
    "Castillo",
    "de la Cruz",
    "Eriksson",
    "Fischer",
    "Kowalski",
    "O'Neill",
    "Tanaka",
    "村上",
)

_PARTS = {"accounts": 6, "users": 14, "contacts": 6, "products": 2, "orders": 18, "notes": 12, "payments": 9}
_ITEMS_PER_ORDER = 2
_ROWS_MIN = 60  # of one table: the workload chooses among them


def shares(rows: int) -> dict[str, int]:
    """How many rows each table gets, of about so many in total."""
    whole = sum(_PARTS.values()) + _ITEMS_PER_ORDER * _PARTS["orders"]
    return {name: max(_ROWS_MIN, rows * part // whole) for name, part in _PARTS.items()}


def seed(dsn: str, rows: int) -> Iterator[str]:
    """Fill the old database with about `rows` rows; yields each table's name when it is full.

    Raises:
        psycopg.Error: a statement failed.

    """
    settings = {name: str(count) for name, count in shares(rows).items()}
    settings |= {"first_names": ",".join(FIRST_NAMES), "last_names": ",".join(LAST_NAMES)}
    script = resources.files("replicator.demo").joinpath("seed.sql").read_text("utf-8")
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", (f"demo.{name}", value))
        for statement in script.split(";\n"):
            connection.execute(statement.encode())
            words = statement.split("INSERT INTO ")
            if len(words) > 1:
                yield words[1].split()[0]


def count_rows(dsn: str) -> int:
    """How many rows the tables of schema public have, all together.

    Raises:
        psycopg.Error: the database can't be read.

    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        counts = [sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", name)) for (name,) in names]
        return sum(count for query in counts for (count,) in connection.execute(query))
