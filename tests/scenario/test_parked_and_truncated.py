"""A TRUNCATE makes void what waits of its table in the dead letter queue."""

import json

import pytest

from tests.fix_migration import Migrate
from tests.polling import wait_until

SCHEMA = "CREATE TABLE parts (id int PRIMARY KEY, n int)"


@pytest.mark.parametrize("rows_max", [10, 1000], ids=["streamed", "replayed"])
def test_later_rows_of_the_same_transaction_are_free(migrate: Migrate, rows_max: int) -> None:
    """Whether the transaction streams through in parts, or is replayed because of another refused row."""
    shop = migrate(
        SCHEMA,
        upgraded_schema="ALTER TABLE parts ADD CHECK (n >= 0)",
        options=f"apply: {{on_error: dlq, batch_rows_max: {rows_max}}}",
    )
    shop.streaming()
    shop.old.execute("INSERT INTO parts VALUES (1, -1), (2, 2)")
    shop.catch_up()
    shop.old.execute("""
        INSERT INTO parts VALUES (3, -3);
        TRUNCATE parts;
        INSERT INTO parts SELECT n, n FROM generate_series(1, 50) n;
        INSERT INTO parts VALUES (60, -60)
    """)
    shop.catch_up()

    listed = shop.command("dlq", "list", "FILE", "--json")
    wait_until(lambda: not listed.running)
    assert ["60"] == [letter["key"][0] for letter in json.loads(listed.stdout)], listed.story()
    shop.same("SELECT * FROM parts WHERE n >= 0", "SELECT * FROM parts")
