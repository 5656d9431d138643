"""Tables of the same shape, from the first copy to the last event."""

from tests.fix_migration import Migrate

SHOP = """
    CREATE TABLE customers (id bigint PRIMARY KEY, email text UNIQUE, notes text);
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        customer_id bigint NOT NULL REFERENCES customers ON UPDATE CASCADE ON DELETE CASCADE,
        amount numeric(12,2) NOT NULL,
        twice numeric GENERATED ALWAYS AS (amount * 2) STORED
    );
    CREATE TABLE parts (a int, b text, qty int, PRIMARY KEY (a, b));
"""


def test_backfill_then_stream(migrate: Migrate) -> None:
    """What was there is copied, what happens later follows: inserts, updates, key changes, deletes, rollbacks."""
    shop = migrate(SHOP)
    shop.old.execute(
        "INSERT INTO customers SELECT n, 'c' || n, repeat(md5(n::text), 400) FROM generate_series(1, 1000) n;"
        "INSERT INTO orders (customer_id, amount) SELECT 1 + n % 1000, n FROM generate_series(1, 3000) n;"
        "INSERT INTO parts SELECT n, 'x', n FROM generate_series(1, 10) n"
    )
    daemon = shop.streaming()
    shop.same_tables("customers", "orders", "parts")

    shop.old.execute("UPDATE customers SET email = email || '!' WHERE id % 3 = 0")
    shop.old.execute("UPDATE customers SET id = id + 100000 WHERE id % 7 = 0")
    shop.old.execute("DELETE FROM customers WHERE id % 11 = 0")
    shop.old.execute("UPDATE parts SET b = 'y', qty = 0 WHERE a < 5; INSERT INTO parts VALUES (1, 'x', 99)")
    shop.old.execute("BEGIN; INSERT INTO parts VALUES (77, 'z', 1); ROLLBACK")
    shop.old.execute(
        "BEGIN; SAVEPOINT s; DELETE FROM orders; ROLLBACK TO s; UPDATE orders SET amount = 1 WHERE id < 50; COMMIT"
    )
    shop.catch_up()

    shop.same_tables("customers", "orders", "parts")
    daemon.terminate()
    assert daemon.wait() == 0, daemon.story()


def test_rows_that_exchange_keys_keep_their_big_columns(migrate: Migrate) -> None:
    """Three rows exchange their keys in one transaction; each keeps its TOASTed column."""
    shop = migrate("CREATE TABLE docs (id int PRIMARY KEY, label text, body text)")
    shop.old.execute(
        "ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;"
        "INSERT INTO docs SELECT n, 'd' || n, repeat(n::text, 9000) FROM generate_series(1, 3) n"
    )
    shop.streaming()

    shop.old.execute(
        "BEGIN; UPDATE docs SET id = 9 WHERE id = 1; UPDATE docs SET id = 1 WHERE id = 2;"
        "UPDATE docs SET id = 2 WHERE id = 3; UPDATE docs SET id = 3 WHERE id = 9; COMMIT"
    )
    shop.catch_up()

    shop.same_tables("docs")


def test_swapped_unique_values(migrate: Migrate) -> None:
    """Rows that swap unique values in one transaction arrive, though no single statement order allows the result."""
    shop = migrate("CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE)")
    shop.old.execute("INSERT INTO seats SELECT n, n FROM generate_series(1, 100) n")
    shop.streaming()

    shop.old.execute(
        "BEGIN; UPDATE seats SET place = -1 WHERE id = 1; UPDATE seats SET place = 1 WHERE id = 2;"
        "UPDATE seats SET place = 2 WHERE id = 1; COMMIT"
    )
    for _ in range(3):
        shop.old.execute("BEGIN; UPDATE seats SET place = -place; UPDATE seats SET place = 1 - place; COMMIT")
    shop.catch_up()

    shop.same_tables("seats")


def test_truncate_in_order(migrate: Migrate) -> None:
    """TRUNCATE takes what came before it, and leaves what comes after."""
    shop = migrate(SHOP)
    shop.old.execute("INSERT INTO customers VALUES (1, 'a', ''), (2, 'b', '')")
    shop.streaming()

    shop.old.execute(
        "BEGIN; INSERT INTO customers VALUES (3, 'c', ''); TRUNCATE customers CASCADE;"
        "INSERT INTO customers VALUES (4, 'd', ''); COMMIT"
    )
    shop.catch_up()

    shop.same_tables("customers", "orders")
