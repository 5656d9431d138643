"""Rows of several old tables become one, or few: read again, whole, after a change of any of them."""

from tests.fix_migration import Migrate

OLD = """
    CREATE TABLE orders (shop text, nr int, customer text, total int, PRIMARY KEY (shop, nr));
    CREATE TABLE items (id int PRIMARY KEY, order_nr int, sku text NOT NULL, order_shop text, price int NOT NULL,
                        FOREIGN KEY (order_shop, order_nr) REFERENCES orders DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE notes (shop text NOT NULL, nr int NOT NULL, line int, body text, PRIMARY KEY (shop, nr, line));
    ALTER TABLE items REPLICA IDENTITY FULL;
"""
UPGRADED = """
    CREATE TABLE orders (nr int, shop text, customer text, total int, items jsonb, paid bigint, notes text[],
                         PRIMARY KEY (shop, nr));
"""
TRANSFORM = """
    from replicator import Aggregate, Row, transform

    @transform(
        old={
            "public.orders": ("shop", "nr"),
            "public.items": ("order_shop", "order_nr"),
            "public.notes": ("shop", "nr"),
        },
        upgraded={"public.orders": ("shop", "nr")},
    )
    def order(order: Aggregate) -> Row:
        items = sorted(order["public.items"], key=lambda item: item["id"])
        return order.root.set(
            items=[[item["id"], item["sku"]] for item in items],
            paid=sum(item["price"] for item in items),
            notes=[note["body"] for note in sorted(order["public.notes"], key=lambda note: note["line"])],
        )
"""
EXPECTED = """
    SELECT shop, nr, customer, total,
        (SELECT coalesce(jsonb_agg(jsonb_build_array(id, sku) ORDER BY id), '[]') FROM items
            WHERE (order_shop, order_nr) = (o.shop, o.nr))::text,
        (SELECT coalesce(sum(price), 0) FROM items WHERE (order_shop, order_nr) = (o.shop, o.nr)),
        ARRAY(SELECT body FROM notes n WHERE (n.shop, n.nr) = (o.shop, o.nr) ORDER BY line)
    FROM orders o
"""
FOUND = "SELECT shop, nr, customer, total, items::text, paid, notes FROM orders"


def test_children_move_go_and_come(migrate: Migrate) -> None:
    """By composite keys, from two child tables: moved, deleted, orphaned, truncated, before and after their root."""
    shop = migrate(old_schema=OLD, upgraded_schema=UPGRADED, tables="[]", transforms=TRANSFORM)
    shop.old.execute("""
        INSERT INTO orders SELECT s, n, 'c' || n, n
            FROM unnest('{a,b,"b\\"c\\\\,"}'::text[]) s, generate_series(1, 40) n;
        INSERT INTO items SELECT n, n % 41, 's' || n, (ARRAY['a', 'b', 'b"c\\,'])[1 + n % 3], n
        FROM generate_series(1, 400) n WHERE n % 41 > 0;
        INSERT INTO items VALUES (500, NULL, 'free', NULL, 5), (501, NULL, 'half', 'a', 5);
        INSERT INTO notes SELECT s, n, l, s || n || l FROM unnest('{a,b,other}'::text[]) s, generate_series(1, 20) n,
            generate_series(1, 3) l
    """)
    shop.streaming()
    shop.same(EXPECTED, FOUND)

    shop.change("""
        -- another parent, of the same shop
        UPDATE items SET order_nr = 7 WHERE id % 10 = 0 AND id < 400

        UPDATE items SET order_shop = 'b', order_nr = 8, sku = 'moved' WHERE id % 10 = 1

        -- belongs to nobody from now on
        UPDATE items SET order_shop = NULL WHERE id % 10 = 2

        UPDATE items SET price = 77 WHERE order_shop IS NULL

        -- found a parent
        UPDATE items SET order_shop = 'a', order_nr = 9 WHERE id IN (500, 501)

        DELETE FROM items WHERE id % 10 = 3;
        DELETE FROM items WHERE order_shop IS NULL AND id % 4 = 0

        INSERT INTO items VALUES (600, NULL, 'free', NULL, 1);
        DELETE FROM items WHERE id = 600

        UPDATE notes SET body = upper(body) WHERE line = 2;
        UPDATE notes SET line = 9 WHERE line = 1 AND nr < 10

        UPDATE notes SET nr = nr + 100 WHERE shop = 'b' AND nr < 5;
        DELETE FROM notes WHERE shop = 'a' AND nr = 6

        -- The root goes after its children, and before them.
        DELETE FROM items WHERE (order_shop, order_nr) = ('a', 1);
        DELETE FROM orders WHERE (shop, nr) = ('a', 1);

        DELETE FROM orders WHERE (shop, nr) = ('a', 2);
        DELETE FROM items WHERE (order_shop, order_nr) = ('a', 2)

        -- A child before its root.
        INSERT INTO items VALUES (700, 99, 'early', 'z', 3);
        INSERT INTO orders VALUES ('z', 99, 'late', 1)

        INSERT INTO notes VALUES ('y', 1, 1, 'orphan')

        INSERT INTO orders VALUES ('y', 1, 'adopts', 0)

        -- The root's key changes, and its children's with it or not.
        UPDATE orders SET nr = 300 WHERE (shop, nr) = ('a', 3);
        UPDATE items SET order_nr = 300 WHERE (order_shop, order_nr) = ('a', 3)

        UPDATE items SET order_nr = 302 WHERE (order_shop, order_nr) = ('b', 4);
        UPDATE orders SET nr = 302 WHERE (shop, nr) = ('b', 4)

        -- An exchange of keys between two roots: their children stay where they are.
        SET CONSTRAINTS ALL DEFERRED;
        UPDATE orders SET nr = -1 WHERE (shop, nr) = ('b', 11);
        UPDATE orders SET nr = 11 WHERE (shop, nr) = ('b', 12);
        UPDATE orders SET nr = 12 WHERE (shop, nr) = ('b', -1)
    """)
    shop.catch_up()
    shop.same(EXPECTED, FOUND)

    shop.old.execute(
        "INSERT INTO notes VALUES ('a', 30, 1, 'x'); TRUNCATE notes; INSERT INTO notes VALUES ('b', 5, 1, 'n')"
    )
    shop.catch_up()
    shop.same(EXPECTED, FOUND)
    shop.old.execute(
        "UPDATE orders SET total = 0 WHERE nr = 15; TRUNCATE items, orders; INSERT INTO orders VALUES ('k', 1)"
    )
    shop.catch_up()
    shop.same(EXPECTED, FOUND)
    assert [(1,)] == shop.upgraded.execute("SELECT count(*) FROM orders")
