"""Keys that change: the rows, their children, and whatever refers to them."""

from tests.fix_migration import Migrate

OLD = """
    CREATE TABLE customers (id int PRIMARY KEY, name text, best_order int);
    CREATE TABLE orders (id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, follows int REFERENCES
                         orders DEFERRABLE INITIALLY DEFERRED, body text, tags text[] NOT NULL DEFAULT '{}');
    CREATE TABLE notes (id int PRIMARY KEY, order_id int, body text);
    CREATE TABLE shipments (id int PRIMARY KEY, order_ref int, sent bool);
    CREATE TABLE seats (hall text, nr int, price int, PRIMARY KEY (hall, nr));
    CREATE TABLE bookings (id int PRIMARY KEY, hall text, nr int, who text);
    CREATE UNIQUE INDEX notes_identity ON notes (id, order_id);
    ALTER TABLE notes REPLICA IDENTITY FULL;
"""
UPGRADED = """
    CREATE TABLE customers (id int PRIMARY KEY, name text, best_order uuid);
    CREATE TABLE orders (id uuid PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,
                         follows uuid REFERENCES orders, body text, notes text[]);
    CREATE TABLE order_tags (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id uuid NOT NULL REFERENCES orders,
                             tag text NOT NULL, UNIQUE (order_id, tag));
    CREATE TABLE shipments (id int PRIMARY KEY, order_id uuid REFERENCES orders, sent bool);
    CREATE TABLE seats (id bigint PRIMARY KEY, price int);
    CREATE SEQUENCE seat_numbers START 5000;
    CREATE TABLE bookings (id int PRIMARY KEY, seat bigint, who text);
"""
TRANSFORM = """
    from uuid import UUID, uuid5
    from replicator import Aggregate, KeyMap, Row, transform

    SPACE = UUID("9d1f7c52-3d0c-4f0e-8d57-2b8f6a3c9e10")

    @transform(
        old={"public.orders": "id", "public.notes": "order_id"},
        upgraded={"public.orders": "id", "public.order_tags": "order_id"},
        key=KeyMap(lambda number: uuid5(SPACE, str(number)), sequence="public.orders_id_seq"),
        references={"follows": "public.orders"},
    )
    def order(order: Aggregate):
        notes = sorted(order["public.notes"], key=lambda note: note["id"])
        yield order.root.to("public.orders").drop("tags").set(notes=[note["body"] for note in notes])
        for tag in order.root["tags"]:
            yield Row.of("public.order_tags", tag=tag)

    @transform(old="public.customers", upgraded="public.customers", references={"best_order": order})
    def customer(row: Row):
        return row.set(name=row["name"].title())
"""
TABLES = """
    - {old: public.shipments, columns: {order_ref: order_id}, references: {order_ref: public.orders}}
"""
# The upgraded keys are known only to the key map; through it both sides must be the same.
KEYS = """
    (SELECT old_key[1]::int, upgraded_key[1]::uuid FROM replicator.key_map WHERE mapping = 'public.orders') AS k (o, u)
"""
SAME = {
    """
    SELECT id, customer_id, follows, body, ARRAY(SELECT body FROM notes WHERE order_id = o.id ORDER BY id) FROM orders o
    """: (
        f"SELECT k.o, customer_id, f.o, body, notes FROM orders JOIN {KEYS} ON id = u LEFT JOIN "
        f"{KEYS.replace('AS k', 'AS f')} ON follows = f.u"
    ),
    "SELECT id, unnest(tags) FROM orders": f"SELECT k.o, tag FROM order_tags JOIN {KEYS} ON order_id = u",
    "SELECT id, order_ref, sent FROM shipments": (
        f"SELECT id, k.o, sent FROM shipments LEFT JOIN {KEYS} ON order_id = u"
    ),
    "SELECT id, initcap(name), best_order FROM customers": (
        f"SELECT id, name, k.o FROM customers LEFT JOIN {KEYS} ON best_order = u"
    ),
}


def test_rows_children_and_references_follow(migrate: Migrate) -> None:
    """Of transforms and of same-shape tables: NULL, to itself, ahead of the row, and through key updates."""
    shop = migrate(old_schema=OLD, upgraded_schema=UPGRADED, tables=TABLES, transforms=TRANSFORM)
    shop.old.execute("""
        INSERT INTO customers SELECT n, 'c' || n, nullif(n * 10, 30) FROM generate_series(1, 9) n;
        INSERT INTO orders SELECT n, 1 + n % 9, CASE WHEN n % 4 > 0 THEN n END, 'b' || n, ARRAY['t' || n % 3, 'all']
            FROM generate_series(1, 100) n;
        INSERT INTO notes SELECT n, n % 50, 'n' || n FROM generate_series(1, 200) n WHERE n % 7 > 0;
        INSERT INTO shipments SELECT n, CASE WHEN n % 5 > 0 THEN 1 + (n * 7) % 100 END, n % 2 = 0
            FROM generate_series(1, 100) n;
        SELECT setval('orders_id_seq', 100)
    """)
    shop.streaming()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)
    before = dict(shop.upgraded.execute(f"SELECT o, u FROM {KEYS}"))
    tags = dict(shop.upgraded.execute(f"SELECT (k.o, tag)::text, id FROM order_tags JOIN {KEYS} ON order_id = u"))

    shop.change("""
        UPDATE orders SET follows = 1 WHERE id = 2;
        UPDATE orders SET follows = NULL WHERE id = 5

        -- Referred to before it is there, in one transaction and in two.
        INSERT INTO orders VALUES (201, 1, 202, 'first');
        INSERT INTO orders VALUES (202, 1, NULL, 'second')

        UPDATE customers SET best_order = 301 WHERE id = 1;
        INSERT INTO shipments VALUES (900, 301, true)

        INSERT INTO orders VALUES (301, 2, 301, 'late and to itself', '{x}');
        INSERT INTO notes VALUES (901, 301, 'n')

        UPDATE orders SET tags = '{all,new}' WHERE id = 10;
        UPDATE notes SET order_id = 10 WHERE id IN (11, 12)

        DELETE FROM notes WHERE id = 13;
        UPDATE shipments SET order_ref = NULL WHERE id = 4

        UPDATE shipments SET order_ref = 11 WHERE id = 5;
        DELETE FROM shipments WHERE id = 6

        -- A new key, and all that refers to it goes along.
        UPDATE orders SET id = 400 WHERE id = 20;
        UPDATE notes SET order_id = 400 WHERE order_id = 20;
        UPDATE shipments SET order_ref = 400 WHERE order_ref = 20;
        UPDATE orders SET follows = 400 WHERE follows = 20;
        UPDATE customers SET best_order = 400 WHERE best_order = 20

        UPDATE orders SET id = -1 WHERE id = 21;
        UPDATE orders SET id = 21 WHERE id = 22;
        UPDATE orders SET id = 22 WHERE id = -1

        DELETE FROM shipments WHERE order_ref = 30;
        UPDATE orders SET follows = NULL WHERE follows = 30;
        DELETE FROM orders WHERE id = 30;

        INSERT INTO orders VALUES (30, 3, NULL, 'again', '{all}')

        UPDATE customers SET name = 'x y', best_order = best_order WHERE id = 2
    """)
    shop.catch_up()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)
    after = dict(shop.upgraded.execute(f"SELECT o, u FROM {KEYS}"))
    assert before.items() <= after.items()
    assert len(set(after.values())) == len(after)
    now = dict(shop.upgraded.execute(f"SELECT (k.o, tag)::text, id FROM order_tags JOIN {KEYS} ON order_id = u"))
    assert tags["(10,all)"] == now["(10,all)"]

    shop.old.execute("TRUNCATE notes; UPDATE orders SET body = 'y' WHERE id = 1")
    shop.catch_up()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)
