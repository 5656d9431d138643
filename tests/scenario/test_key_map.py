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

    # Rows that nobody knows go, rows that are wrong are mended, and all keep their keys.
    shop.upgraded.execute("""
        INSERT INTO orders (id, customer_id, body) SELECT gen_random_uuid(), 1, 'unknown' FROM generate_series(1, 3);
        INSERT INTO order_tags (order_id, tag) SELECT id, 'wrong' FROM orders;
        UPDATE orders SET body = 'wrong', follows = NULL WHERE body LIKE 'b1%'
    """)
    resync = shop.command("resync", "FILE", "public.orders")
    assert 0 == resync.wait(), resync.story()
    for old, upgraded in SAME.items():
        shop.same(old, upgraded)
    assert [] == shop.upgraded.execute("SELECT FROM orders WHERE body IN ('unknown', 'wrong')")
    assert after == dict(shop.upgraded.execute(f"SELECT o, u FROM {KEYS}"))


SEATS = """
    CREATE TABLE halls (name text PRIMARY KEY, size int);
    CREATE TABLE seats (hall text, nr int, price int, beside int, PRIMARY KEY (nr, hall));
    CREATE TABLE bookings (id int PRIMARY KEY, hall text, nr int, who text);
"""
UPGRADED_SEATS = """
    CREATE SEQUENCE hall_numbers START 5000;
    CREATE TABLE halls (number bigint PRIMARY KEY, name text, size int);
    CREATE TABLE seats (hall uuid, seat text, price int, beside text, PRIMARY KEY (hall, seat),
                        FOREIGN KEY (hall, beside) REFERENCES seats);
    CREATE TABLE bookings (id int PRIMARY KEY, seat_hall uuid, seat text, who text,
                           FOREIGN KEY (seat_hall, seat) REFERENCES seats);
"""
SEAT_TRANSFORMS = """
    from uuid import NAMESPACE_DNS, uuid5
    from replicator import KeyMap, Row, transform

    @transform(
        old={"public.halls": "name"}, upgraded={"public.halls": "number"},
        key=KeyMap(upgraded_sequence="public.hall_numbers", inverse=lambda number: f"hall {number}"),
    )
    def hall(row: Row):
        return row.set(name=row["name"]).set(number=row["name"])

    @transform(
        old={"public.seats": ("hall", "nr")}, upgraded={"public.seats": ("hall", "seat")},
        key=KeyMap(lambda hall, nr: (uuid5(NAMESPACE_DNS, hall), f"seat {nr}")),
        references={("hall", "beside"): "public.seats"},
    )
    def seat(row: Row):
        return row.rename(nr="seat")

    @transform(old="public.bookings", upgraded="public.bookings",
               references={("seat_hall", "seat"): (seat, ("hall", "nr"))})
    def booking(row: Row):
        return row.rename(hall="seat_hall", nr="seat")
"""
SEATS_SAME = {
    "SELECT hall, 'seat ' || nr, price, 'seat ' || beside FROM seats": (
        "SELECT old_key[1], seat, price, beside FROM seats JOIN replicator.key_map"
        " ON upgraded_key = ARRAY[hall::text, seat] AND mapping = 'public.seats'"
    ),
    "SELECT id, hall, nr::text, who FROM bookings": (
        "SELECT id, coalesce(old_key[1], seat_hall::text), coalesce(old_key[2], seat), who FROM bookings"
        " LEFT JOIN replicator.key_map ON upgraded_key = ARRAY[seat_hall::text, seat] AND mapping = 'public.seats'"
    ),
    "SELECT name, name, size FROM halls": (
        "SELECT old_key[1], name, size FROM halls JOIN replicator.key_map"
        " ON upgraded_key = ARRAY[number::text] AND mapping = 'public.halls'"
    ),
}


def test_composite_keys_and_numbers_of_a_sequence(migrate: Migrate) -> None:
    """Composite keys are translated whole, a NULL in them is no reference; a sequence gives each row one number."""
    shop = migrate(old_schema=SEATS, upgraded_schema=UPGRADED_SEATS, tables="[]", transforms=SEAT_TRANSFORMS)
    shop.old.execute("""
        INSERT INTO halls SELECT 'h' || n, n FROM generate_series(1, 10) n;
        INSERT INTO seats SELECT 'h' || n % 3, n, n, nullif(n - n % 4, 0) FROM generate_series(1, 60) n;
        UPDATE seats s SET beside = NULL
            WHERE NOT EXISTS (SELECT FROM seats t WHERE (t.hall, t.nr) = (s.hall, s.beside));
        INSERT INTO bookings SELECT nr, hall, nr, 'w' FROM seats WHERE nr % 2 = 0
    """)
    shop.streaming()
    for old, upgraded in SEATS_SAME.items():
        shop.same(old, upgraded)
    halls = dict(shop.upgraded.execute("SELECT name, number FROM halls"))
    assert set(range(5000, 5010)) == set(halls.values())

    shop.change("""
        INSERT INTO bookings VALUES (100, 'new', 1, 'early'), (101, NULL, NULL, 'none')

        INSERT INTO seats VALUES ('new', 1, 5, NULL)

        UPDATE bookings SET hall = NULL, nr = NULL WHERE id = 2;
        UPDATE seats SET beside = nr, price = 0 WHERE nr = 6

        UPDATE seats SET hall = 'h9' WHERE (hall, nr) = ('h1', 4);
        UPDATE bookings SET hall = 'h9' WHERE id = 4;
        UPDATE seats SET beside = NULL WHERE (hall, beside) = ('h1', 4)

        DELETE FROM bookings WHERE id = 10;
        UPDATE seats SET beside = NULL WHERE (hall, beside) = ('h1', 10);
        DELETE FROM seats WHERE nr = 10

        INSERT INTO halls VALUES ('h20', 20);
        UPDATE halls SET size = 0 WHERE name = 'h1'

        UPDATE halls SET name = 'renamed' WHERE name = 'h2';
        UPDATE halls SET name = 'h2' WHERE name = 'h3'

        DELETE FROM halls WHERE name = 'h4'

        INSERT INTO halls VALUES ('h4', 44)
    """)
    shop.catch_up()

    for old, upgraded in SEATS_SAME.items():
        shop.same(old, upgraded)
    now = dict(shop.upgraded.execute("SELECT name, number FROM halls"))
    assert {name: number for name, number in halls.items() if name != "h3"}.items() <= now.items()


DETAILS = """
    CREATE TABLE orders (id int PRIMARY KEY, body text);
    CREATE TABLE details (order_id int PRIMARY KEY, code text UNIQUE);
    CREATE TABLE labels (order_id int PRIMARY KEY, words text[] NOT NULL);
"""
UPGRADED_DETAILS = """
    CREATE TABLE orders (id uuid PRIMARY KEY, body text);
    CREATE TABLE details (order_id uuid PRIMARY KEY REFERENCES orders, code text UNIQUE);
    CREATE TABLE labels (order_id uuid PRIMARY KEY REFERENCES orders);
    CREATE TABLE label_words (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id uuid REFERENCES labels,
                              word text, UNIQUE (order_id, word));
"""
DETAIL_TRANSFORMS = """
    from uuid import NAMESPACE_DNS, uuid5
    from replicator import KeyMap, Row, transform

    @transform(old="public.orders", upgraded="public.orders", key=KeyMap(lambda n: uuid5(NAMESPACE_DNS, str(n))))
    def order(row: Row) -> Row:
        return row

    @transform(
        old="public.labels",
        upgraded={"public.labels": "order_id", "public.label_words": "order_id"},
        references={"order_id": order},
    )
    def label(row: Row):
        yield row.to("public.labels").drop("words")
        for word in row["words"]:
            yield Row.of("public.label_words", word=word)
"""
DETAILS_SAME = {
    f"SELECT order_id, {what} FROM {old}": f"SELECT k.o, {found} FROM {new} JOIN {KEYS} ON order_id = u"
    for what, old, found, new in (
        ("code", "details", "code", "details"),
        ("1", "labels", "1", "labels"),
        ("unnest(words)", "labels", "word", "label_words"),
    )
}


def test_a_key_that_is_a_reference(migrate: Migrate) -> None:
    """A table whose own key refers to a row with a new key: deleted, moved, its unique values exchanged, resynced."""
    shop = migrate(
        old_schema=DETAILS,
        upgraded_schema=UPGRADED_DETAILS,
        tables="- {old: public.details, references: {order_id: public.orders}}",
        transforms=DETAIL_TRANSFORMS,
    )
    shop.old.execute("""
        INSERT INTO orders SELECT n, 'b' FROM generate_series(1, 50) n;
        INSERT INTO details SELECT n, 'c' || n FROM generate_series(1, 40) n;
        INSERT INTO labels SELECT n, ARRAY['w' || n, 'all'] FROM generate_series(1, 40) n
    """)
    shop.streaming()
    for old, upgraded in DETAILS_SAME.items():
        shop.same(old, upgraded)

    shop.change("""
        UPDATE details SET code = '-' WHERE order_id = 1;
        UPDATE details SET code = 'c1' WHERE order_id = 2;
        UPDATE details SET code = 'c2' WHERE order_id = 1

        DELETE FROM details WHERE order_id = 3;
        UPDATE details SET order_id = 45 WHERE order_id = 4;
        UPDATE labels SET words = '{all,new}' WHERE order_id = 1;
        UPDATE labels SET order_id = 45 WHERE order_id = 4;
        DELETE FROM labels WHERE order_id = 3

        INSERT INTO labels VALUES (46, '{a}');
        INSERT INTO details VALUES (46, 'c3')
    """)
    shop.catch_up()
    for old, upgraded in DETAILS_SAME.items():
        shop.same(old, upgraded)

    shop.upgraded.execute(
        "UPDATE details SET code = code || '!' WHERE code < 'c2'; DELETE FROM label_words WHERE id < 9"
    )
    for table in ("details", "labels"):
        resync = shop.command("resync", "FILE", f"public.{table}")
        assert 0 == resync.wait(), resync.story()
    for old, upgraded in DETAILS_SAME.items():
        shop.same(old, upgraded)
