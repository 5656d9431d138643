"""Rows without a key that refer to rows whose key changes; and key functions that contradict themselves."""

import json

from tests.fix_migration import Migrate

OLD = """
    CREATE TABLE orders (id int PRIMARY KEY, body text);
    CREATE TABLE clicks (order_id int, page text);
    ALTER TABLE clicks REPLICA IDENTITY FULL;
"""
UPGRADED = """
    CREATE TABLE orders (id uuid PRIMARY KEY, body text);
    CREATE TABLE clicks (order_id uuid, page text);
"""
TRANSFORM = """
    from uuid import NAMESPACE_DNS, uuid5
    from replicator import KeyMap, Row, transform

    @transform(old="public.orders", upgraded="public.orders", key=KeyMap(lambda n: uuid5(NAMESPACE_DNS, str(MADE))))
    def order(row: Row) -> Row:
        return row
"""
CLICKS = (
    "SELECT order_id, page FROM clicks",
    "SELECT k.old_key[1]::int, page FROM clicks LEFT JOIN replicator.key_map k ON upgraded_key = ARRAY[order_id::text]",
)


def test_rows_without_a_key_follow(migrate: Migrate) -> None:
    """Each of several equal rows is translated, copied once and deleted as often as events say; NULL stays NULL."""
    shop = migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables="- {old: public.clicks, references: {order_id: public.orders}}",
        transforms=TRANSFORM.replace("MADE", "n"),
    )
    shop.old.execute("""
        INSERT INTO orders SELECT n, 'b' FROM generate_series(1, 10) n;
        INSERT INTO clicks SELECT nullif(n % 8, 7), 'p' || n % 2 FROM generate_series(1, 100) n
    """)
    shop.streaming()
    shop.same(*CLICKS)

    shop.change("""
        DELETE FROM clicks WHERE ctid IN (SELECT min(ctid) FROM clicks GROUP BY order_id, page);
        UPDATE clicks SET page = 'new' WHERE order_id = 3

        INSERT INTO clicks VALUES (99, 'before its order'), (99, 'before its order'), (NULL, 'none')

        DELETE FROM clicks WHERE ctid = (SELECT min(ctid) FROM clicks WHERE order_id = 99);
        UPDATE clicks SET order_id = order_id + 1 WHERE order_id = 1
    """)
    shop.catch_up()
    shop.same(*CLICKS)


def test_one_key_for_two_rows_is_refused(migrate: Migrate) -> None:
    """A function that gives a key twice, and what refers to the second, wait in the queue; nothing is overwritten."""
    shop = migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables="- {old: public.clicks, references: {order_id: public.orders}}",
        transforms=TRANSFORM.replace("MADE", "n % 10"),
        options="apply: {on_error: dlq}",
    )
    shop.old.execute("INSERT INTO orders SELECT n, 'b' || n FROM generate_series(1, 5) n")
    shop.streaming()
    shop.change("""
        INSERT INTO orders VALUES (12, 'twice'), (6, 'good')

        UPDATE orders SET body = 'changed' WHERE id = 2
    """)
    shop.catch_up()

    listed = shop.command("dlq", "list", "FILE", "--json")
    assert 0 == listed.wait(), listed.story()
    (letter,) = json.loads(listed.stdout)
    assert (["12"], "transform") == (letter["key"], letter["kind"])
    assert "a target key that the map already gives to another row" in letter["message"]
    assert [("b1",), ("b3",), ("b4",), ("b5",), ("changed",), ("good",)] == shop.upgraded.execute(
        "SELECT body FROM orders ORDER BY 1"
    )
    test = shop.command("test", "FILE")
    assert 1 == test.wait(), test.story()
    assert "broken:" in test.stdout
