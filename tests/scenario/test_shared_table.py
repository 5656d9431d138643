"""Several old tables become one upgraded table, and each transform owns a part of it."""

from tests.fix_migration import Migrate, Migration

OLD = """
    CREATE TABLE customers (id int PRIMARY KEY, name text, country text, phones text[] NOT NULL DEFAULT '{}');
    CREATE TABLE suppliers (id int PRIMARY KEY, firm text, country text, phones text[] NOT NULL DEFAULT '{}');
    CREATE TABLE countries (code text PRIMARY KEY);
"""
# `parties` comes after `countries` in foreign-key order, and its children don't say that they come after it.
UPGRADED = """
    CREATE TABLE parties (id int PRIMARY KEY, kind text, name text, country text);
    CREATE TABLE phones (nr int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, party int, number text);
    CREATE TABLE logos (party int PRIMARY KEY, picture text);
    CREATE TABLE countries (code text PRIMARY KEY);
    ALTER TABLE parties ADD FOREIGN KEY (country) REFERENCES countries;
"""
TRANSFORMS = """
    from replicator import Row, transform

    SIDES = {"public.parties": "id", "public.phones": "party", "public.logos": "party"}

    @transform(old="public.customers", upgraded=SIDES, owns="kind = 'customer'")
    def customer(row: Row):
        yield row.to("public.parties").drop("phones").set(kind="customer")
        yield from of(row)

    @transform(old="public.suppliers", upgraded=SIDES, owns="kind = 'supplier'")
    def supplier(row: Row):
        yield row.to("public.parties").drop("phones").rename(firm="name").set(kind="supplier")
        yield from of(row)

    def of(row: Row):
        for number in row["phones"]:
            yield Row.of("public.phones", number=number)
        if row["phones"]:
            yield Row.of("public.logos", picture=row["phones"][0])
"""
TABLES = "- {old: public.countries}"
PEOPLE = """
    (SELECT id, 'customer', name, country, phones FROM customers
     UNION ALL SELECT id, 'supplier', firm, country, phones FROM suppliers) AS p (id, kind, name, country, phones)
"""


def same(shop: Migration) -> None:
    shop.same(
        f"SELECT id, kind, name, country FROM {PEOPLE}", "SELECT id, kind, name, country FROM parties WHERE id > 0"
    )
    shop.same(f"SELECT id, unnest(phones) FROM {PEOPLE}", "SELECT party, number FROM phones WHERE party > 0")
    shop.same(
        f"SELECT id, phones[1] FROM {PEOPLE} WHERE phones[1] IS NOT NULL",
        "SELECT party, picture FROM logos WHERE party > 0",
    )


def others(shop: Migration) -> list[int]:
    """How many rows there are that belong to no mapping."""
    tables = (("parties", "id"), ("phones", "party"), ("logos", "party"))
    return [shop.upgraded.execute(f"SELECT count(*)::int FROM {name} WHERE {key} < 0")[0][0] for name, key in tables]


def test_each_transform_keeps_to_its_own(migrate: Migrate) -> None:
    """Deletes, filtered rows, keys that change hands, and TRUNCATE of one old table leave the other's rows alone."""
    shop = migrate(old_schema=OLD, upgraded_schema=UPGRADED, tables=TABLES, transforms=TRANSFORMS)
    shop.old.execute("""
        INSERT INTO countries VALUES ('DE'), ('FR');
        INSERT INTO customers SELECT 2 * n, 'c' || n, 'DE', ARRAY['1', '1', n::text] FROM generate_series(1, 20) n;
        INSERT INTO suppliers SELECT 2 * n + 1, 's' || n, 'FR', ARRAY['2', n::text] FROM generate_series(1, 20) n
    """)
    shop.upgraded.execute("""
        INSERT INTO parties VALUES (-1, 'staff', 'own', NULL), (-2, NULL, 'nobody', NULL);
        INSERT INTO phones (party, number) VALUES (-1, '0'), (-2, '0'), (-3, '0');
        INSERT INTO logos VALUES (-1, 'l'), (-2, 'l'), (-3, 'l')
    """)
    shop.streaming()
    same(shop)

    shop.change("""
        DELETE FROM customers WHERE id < 6;
        DELETE FROM suppliers WHERE id < 6;
        UPDATE customers SET phones = '{3,1}' WHERE id = 8;
        UPDATE suppliers SET phones = '{}' WHERE id = 9

        -- A key that changes hands, in one transaction and in two.
        DELETE FROM customers WHERE id = 10;
        INSERT INTO suppliers VALUES (10, 'was a customer', 'FR', '{1,9}')

        DELETE FROM suppliers WHERE id = 11

        INSERT INTO customers VALUES (11, 'was a supplier', 'DE', '{2,8}')

        UPDATE suppliers SET id = 100 WHERE id = 13;
        INSERT INTO customers VALUES (13, 'new', NULL, '{7}')
    """)
    shop.catch_up()
    same(shop)

    shop.change("""
        TRUNCATE suppliers;
        INSERT INTO suppliers VALUES (200, 'first', 'FR', '{5}')
    """)
    shop.catch_up()
    same(shop)
    assert [2, 3, 3] == others(shop)

    shop.change("TRUNCATE customers, suppliers, countries")
    shop.catch_up()
    same(shop)
    assert [2, 3, 3] == others(shop)
