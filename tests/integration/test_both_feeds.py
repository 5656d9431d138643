"""P9: two feeds run at once, in both directions, and never echo each other; rows keep their two keys."""

import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator.demo.servers import PostgresServer
from tests.both_feeds import RunningFeed, both_feeds
from tests.connector_files import write_connector
from tests.fix_postgres import Database, MakeDatabase

OLD = """
    CREATE TABLE customers (id int PRIMARY KEY, company text, fax text);
    CREATE TABLE users (id int PRIMARY KEY, name text, role text NOT NULL);
    CREATE TABLE orders (id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, follows int,
                         cents bigint NOT NULL);
    CREATE TABLE notes (order_id int REFERENCES orders, line int, body text, PRIMARY KEY (order_id, line));
    CREATE TABLE shipments (id int PRIMARY KEY, order_ref int REFERENCES orders, sent bool);
    CREATE TABLE logs (what text);
    ALTER TABLE logs REPLICA IDENTITY FULL;
"""
UPGRADED = """
    CREATE TABLE customers (id bigint PRIMARY KEY, name text);
    CREATE TABLE users (id bigint PRIMARY KEY, name text);
    CREATE TABLE permissions (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL REFERENCES users,
                              permission text NOT NULL, UNIQUE (user_id, permission));
    ALTER TABLE permissions REPLICA IDENTITY FULL;
    CREATE TABLE orders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), follows uuid, total numeric(20, 2) NOT NULL,
                         customer_id bigint NOT NULL REFERENCES customers, notes jsonb NOT NULL DEFAULT '{}');
    CREATE TABLE shipments (id int PRIMARY KEY, order_id uuid REFERENCES orders, sent bool);
    CREATE TABLE logs (what text);
    ALTER TABLE logs REPLICA IDENTITY FULL;
"""
TRANSFORMS = """
    from decimal import Decimal
    from uuid import NAMESPACE_DNS, uuid5
    from replicator import Aggregate, KeyMap, Row, transform

    PERMISSIONS = {"viewer": ("read",), "admin": ("read", "write")}

    @transform(old="public.customers", upgraded="public.customers", lossy="fax")
    def customer(row: Row):
        return row.rename(company="name").drop("fax")

    @customer.inverse
    def customer_back(row: Row):
        return row.rename(name="company")

    @transform(old="public.users", upgraded={"public.users": "id", "public.permissions": "user_id"})
    def user(row: Row):
        yield row.to("public.users").drop("role")
        for permission in PERMISSIONS[row["role"]]:
            yield Row.of("public.permissions", permission=permission)

    @user.inverse
    def user_back(user: Aggregate):
        granted = {row["permission"] for row in user["public.permissions"]}
        return user.root.to("public.users").set(role="admin" if "write" in granted else "viewer")

    @transform(
        old={"public.orders": "id", "public.notes": "order_id"},
        upgraded="public.orders",
        key=KeyMap(lambda number: uuid5(NAMESPACE_DNS, str(number)), sequence="public.orders_id_seq"),
        references={"follows": "public.orders"},
    )
    def order(order: Aggregate):
        notes = {str(note["line"]): note["body"] for note in order["public.notes"]}
        return order.root.drop("cents").set(total=Decimal(order.root["cents"]).scaleb(-2), notes=notes)

    @order.inverse
    def order_back(row: Row):
        yield row.to("public.orders").drop("total", "notes").set(cents=int(row["total"].scaleb(2)))
        for line, body in row["notes"].items():
            yield Row.of("public.notes", line=int(line), body=body)
"""
TABLES = [
    {"old": "public.shipments", "columns": {"order_ref": "order_id"}, "references": {"order_ref": "public.orders"}},
    {"old": "public.logs"},
]
SAME = {
    "SELECT id, company FROM customers": "SELECT id, name FROM customers",
    "SELECT id, name, role FROM users": (
        "SELECT u.id, name, (ARRAY['none', 'viewer', 'admin'])[1 + count(permission)] FROM users u"
        " LEFT JOIN permissions ON user_id = u.id GROUP BY u.id"
    ),
    "SELECT u, customer_id, (SELECT u FROM pairs WHERE o = follows), cents / 100.0 FROM orders JOIN pairs ON id = o": (
        "SELECT id, customer_id, follows, total FROM orders"
    ),
    "SELECT u, line::text, body FROM notes JOIN pairs ON order_id = o": (
        "SELECT id, n.key, n.value FROM orders, jsonb_each_text(notes) n"
    ),
    "SELECT id, u, sent FROM shipments LEFT JOIN pairs ON order_ref = o": "SELECT id, order_id, sent FROM shipments",
    "SELECT what FROM logs": "SELECT what FROM logs",
}


class Shop:
    """Both databases, and the feeds between them."""

    def __init__(self, old: Database, upgraded: Database, feeds: tuple[RunningFeed, RunningFeed]) -> None:
        self.old = old
        self.upgraded = upgraded
        self.feeds = feeds

    async def settle(self) -> None:
        """Return when everything committed on either side is applied on the other."""
        for feed in self.feeds:
            await feed.caught_up()

    def compare(self) -> None:
        """Both sides are the same, as the key maps translate."""
        pairs = {**self.keys()[0], **self.keys()[1]}
        self.old.execute("DROP TABLE IF EXISTS pairs; CREATE TABLE pairs (o int, u uuid)")
        self.old.execute("INSERT INTO pairs SELECT * FROM unnest(%s, %s::uuid[])", [[*pairs], [*pairs.values()]])
        for old, upgraded in SAME.items():
            there = sorted(self.old.execute(old), key=repr)
            assert there == sorted(self.upgraded.execute(upgraded), key=repr), old
        assert self.old.execute("SELECT count(*) FROM orders") == self.upgraded.execute("SELECT count(*) FROM orders")

    def keys(self) -> tuple[dict[int, str], dict[int, str]]:
        """The key map of the old database and that of the upgraded one."""
        query = "SELECT old_key[1]::int, upgraded_key[1] FROM replicator.key_map WHERE mapping = 'public.orders'"
        return dict(self.old.execute(query)), dict(self.upgraded.execute(query))

    def applied(self) -> tuple[int, int]:
        """Rows that each feed has written."""
        forward, reverse = (sum(feed.status.rows_applied.values()) for feed in self.feeds)
        return forward, reverse


@pytest.fixture(params=["pg18", "pg15", "plain"])
def databases(
    request: pytest.FixtureRequest, make_database: MakeDatabase, server18: PostgresServer
) -> Iterator[tuple[Database, Database, dict[str, str]]]:
    """Both databases, and how the feeds log in: as superuser, or with as few rights as may be."""
    server = request.getfixturevalue("server15") if request.param == "pg15" else server18
    old, upgraded = make_database(server), make_database()
    if request.param != "plain":
        old.execute(textwrap.dedent(OLD))
        upgraded.execute(textwrap.dedent(UPGRADED))
        yield old, upgraded, {}
        return
    role = f"plain_{uuid.uuid4().hex[:8]}"
    server.execute(f"CREATE ROLE {role} LOGIN REPLICATION")
    for database, schema in ((old, OLD), (upgraded, UPGRADED)):
        database.execute(f"GRANT CREATE ON DATABASE {database.name} TO {role}; GRANT ALL ON SCHEMA public TO {role}")
        database.execute(f"SET ROLE {role};" + textwrap.dedent(schema))
    yield old, upgraded, {"user": role}


async def test_both_sides_are_written(databases: tuple[Database, Database, dict[str, str]], tmp_path: Path) -> None:
    """Rows born, changed and deleted on either side arrive once on the other, with one pair of keys for good."""
    old, upgraded, login = databases
    (tmp_path / "shop.py").write_text(textwrap.dedent(TRANSFORMS))
    file = write_connector(tmp_path, old, upgraded, name="shop", tables=TABLES, transforms="shop.py")
    async with both_feeds(file, old, upgraded, **login) as feeds:
        shop = Shop(old, upgraded, feeds)
        await shop.settle()
        old.execute("""
            INSERT INTO customers VALUES (1, 'one', 'fax 1'), (2, 'two', 'fax 2');
            INSERT INTO users VALUES (1, 'u1', 'admin'), (2, 'u2', 'viewer');
            INSERT INTO orders (customer_id, follows, cents) SELECT 1, nullif(n - 1, 0), n * 101
                FROM generate_series(1, 20) n;
            INSERT INTO notes SELECT n, l, 'n' || l FROM generate_series(1, 10) n, generate_series(1, 2) l;
            INSERT INTO shipments SELECT n, n, false FROM generate_series(1, 10) n;
            INSERT INTO logs VALUES ('old'), ('old')
        """)
        upgraded.execute("""
            INSERT INTO customers VALUES (101, 'new one');
            INSERT INTO users VALUES (101, 'u101'), (102, 'u102');
            INSERT INTO permissions (user_id, permission) VALUES (101, 'read'), (102, 'read'), (102, 'write');
            INSERT INTO orders (customer_id, total) SELECT 101, n FROM generate_series(1, 20) n;
            INSERT INTO shipments
                SELECT 100 + row_number() OVER (), id, true FROM orders WHERE customer_id = 101 LIMIT 10;
            INSERT INTO logs VALUES ('new'), ('old')
        """)
        await shop.settle()
        shop.compare()
        born = shop.keys()
        assert 40 == len({**born[0], **born[1]})
        permissions = upgraded.execute("SELECT * FROM permissions ORDER BY id")

        # Each side changes what was born on the other.
        old.execute("""
            UPDATE customers SET company = 'renamed' WHERE id = 101;
            UPDATE users SET name = 'renamed' WHERE id IN (101, 102);
            UPDATE orders SET cents = cents + 1, follows = 5 WHERE customer_id = 101;
            INSERT INTO notes SELECT id, 7, 'from old' FROM orders WHERE customer_id = 101;
            UPDATE shipments SET order_ref = (SELECT max(id) FROM orders WHERE customer_id = 101) WHERE id = 101;
            DELETE FROM shipments WHERE id = 102;
            DELETE FROM logs WHERE what = 'new'
        """)
        upgraded.execute("""
            UPDATE customers SET name = 'renamed' WHERE id = 1;
            DELETE FROM permissions WHERE user_id = 1 AND permission = 'write';
            UPDATE orders SET notes = notes - '1' || '{"9": "from upgraded"}' WHERE customer_id = 1;
            UPDATE shipments SET sent = true, order_id = NULL WHERE id < 5;
            INSERT INTO logs VALUES ('new')
        """)
        await shop.settle()
        shop.compare()
        assert [("fax 1",)] == old.execute("SELECT fax FROM customers WHERE id = 1")
        kept = [row for row in permissions if row[1:] != (1, "write")]
        assert kept == upgraded.execute("SELECT * FROM permissions ORDER BY id")

        old.execute("""
            DELETE FROM shipments;
            DELETE FROM notes USING orders o WHERE o.id = order_id AND customer_id = 101;
            DELETE FROM orders WHERE customer_id = 101
        """)
        upgraded.execute(
            "DELETE FROM shipments; DELETE FROM orders WHERE customer_id = 1; INSERT INTO customers VALUES (3, 'c')"
        )
        upgraded.execute("INSERT INTO orders (customer_id, total) VALUES (3, 7)")
        await shop.settle()
        await shop.settle()
        shop.compare()
        now = shop.keys()
        assert born[0].items() <= now[0].items()
        assert born[1].items() <= now[1].items()
        pairs = {**now[0], **now[1]}
        assert [(41, 41, [(41,)])] == [
            (len(pairs), len(set(pairs.values())), old.execute("SELECT last_value FROM orders_id_seq"))
        ]
        assert all(pairs[number] == key for one in now for number, key in one.items())

        applied = shop.applied()
        for _ in range(3):
            await shop.settle()
        assert applied == shop.applied()
