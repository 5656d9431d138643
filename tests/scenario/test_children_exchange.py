"""Children exchange unique values: within their aggregate, and between two."""

import uuid

import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_migration import Migrate

OLD = """
    CREATE TABLE invoices (id int PRIMARY KEY, title text);
    CREATE TABLE lines (id int PRIMARY KEY, invoice_id int NOT NULL REFERENCES invoices, place int NOT NULL,
                        code text UNIQUE, UNIQUE (invoice_id, place));
    ALTER TABLE lines REPLICA IDENTITY FULL;
    CREATE TABLE seats (id int PRIMARY KEY, guest text UNIQUE, big text);
"""
UPGRADED = """
    CREATE TABLE invoices (id int PRIMARY KEY, title text);
    CREATE TABLE lines (id int PRIMARY KEY, invoice_id int NOT NULL REFERENCES invoices, place int NOT NULL,
                        code text UNIQUE, note text, UNIQUE (invoice_id, place));
    CREATE TABLE seats (id int PRIMARY KEY, guest text UNIQUE, big text, note text);
"""
TRANSFORM = """
    from replicator import Aggregate, transform

    @transform(
        old={"public.invoices": "id", "public.lines": "invoice_id"},
        upgraded={"public.invoices": "id", "public.lines": "invoice_id"},
    )
    def invoice(invoice: Aggregate):
        yield invoice.root.to("public.invoices")
        for line in invoice["public.lines"]:
            yield line.to("public.lines")
"""


LINES = ("SELECT id, invoice_id, place, code FROM lines", "SELECT id, invoice_id, place, code FROM lines")
SEATS = ("SELECT id, guest, md5(big), id::text FROM seats", "SELECT id, guest, md5(big), note FROM seats")


@pytest.mark.parametrize("options", ["", "apply: {batch_rows_max: 1}", "apply: {lanes: 3}"])
def test_values_are_exchanged_and_nothing_is_lost(migrate: Migrate, options: str) -> None:
    """Swapped, shifted and rotated, within an aggregate and between: rows keep what only the upgraded side has."""
    shop = migrate(
        old_schema=OLD, upgraded_schema=UPGRADED, tables="- {old: public.seats}", transforms=TRANSFORM, options=options
    )
    shop.old.execute("""
        INSERT INTO invoices SELECT n, 'i' || n FROM generate_series(1, 10) n;
        INSERT INTO lines SELECT n, 1 + n % 10, n, 'c' || n FROM generate_series(1, 60) n;
        ALTER TABLE seats ALTER big SET STORAGE EXTERNAL;
        INSERT INTO seats SELECT n, 'g' || n, repeat(md5(n::text), 100) FROM generate_series(1, 20) n
    """)
    shop.streaming()
    shop.upgraded.execute("UPDATE lines SET note = id; UPDATE seats SET note = id")

    shop.change("""
        -- Two lines of one invoice exchange their places.
        UPDATE lines SET place = -1 WHERE id = 1;
        UPDATE lines SET place = 1 WHERE id = 11;
        UPDATE lines SET place = 11 WHERE id = 1

        -- All lines of an invoice move up, and down again but for the first.
        UPDATE lines SET place = -place WHERE invoice_id = 3;
        UPDATE lines SET place = 10 - place WHERE invoice_id = 3

        UPDATE lines SET place = -place WHERE invoice_id = 3;
        UPDATE lines SET place = 5 - place WHERE invoice_id = 3 AND place < -12

        -- Codes go round within an invoice, and between three.
        UPDATE lines SET code = '-' WHERE id = 4;
        UPDATE lines SET code = 'c4' WHERE id = 14;
        UPDATE lines SET code = 'c14' WHERE id = 24;
        UPDATE lines SET code = 'c24' WHERE id = 4

        UPDATE lines SET code = '-' WHERE id = 5;
        UPDATE lines SET code = 'c5' WHERE id = 6;
        UPDATE lines SET code = 'c6' WHERE id = 7;
        UPDATE lines SET code = 'c7' WHERE id = 5

        -- A line moves to another invoice, to the place of one that moves here.
        UPDATE lines SET place = -1 WHERE id = 8;
        UPDATE lines SET invoice_id = 9, place = 8 WHERE id = 9;
        UPDATE lines SET invoice_id = 10, place = 9 WHERE id = 8

        UPDATE seats SET guest = '-' WHERE id = 1;
        UPDATE seats SET guest = 'g1' WHERE id = 2;
        UPDATE seats SET guest = 'g2' WHERE id = 3;
        UPDATE seats SET guest = 'g3' WHERE id = 1
    """)
    shop.catch_up()
    shop.same(*LINES)
    shop.same(*SEATS)
    # Lines that move to another invoice may be away for a moment, where their transaction is applied in parts.
    assert [] == shop.upgraded.execute("SELECT id FROM lines WHERE note IS DISTINCT FROM id::text AND id NOT IN (8, 9)")

    shop.upgraded.execute("UPDATE lines SET place = -place; UPDATE lines SET place = 99 + place, code = 'x' || code")
    resync = shop.command("resync", "FILE", "public.lines")
    assert 0 == resync.wait(), resync.story()
    shop.same(*LINES)


def test_without_the_replica_role(migrate: Migrate) -> None:
    """Where foreign keys may act on deletes, rows that exchange values are written anew if no mapped one does."""
    shop = migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED.replace(" REFERENCES invoices", ""),
        tables="- {old: public.seats}",
        transforms=TRANSFORM,
    )
    shop.old.execute("""
        INSERT INTO invoices SELECT n, 'i' || n FROM generate_series(1, 10) n;
        INSERT INTO lines SELECT n, 1 + n % 10, n, 'c' || n FROM generate_series(1, 60) n
    """)
    role = f"plain_{uuid.uuid4().hex[:8]}"
    shop.upgraded.execute(
        f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {shop.upgraded.name} TO {role};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
    )
    shop.environment = {**shop.environment, "UPGRADED_DSN": make_conninfo(shop.upgraded.dsn, user=role)}
    shop.streaming()
    shop.change("""
        UPDATE lines SET place = -place WHERE invoice_id = 3;
        UPDATE lines SET place = 60 + place WHERE invoice_id = 3

        UPDATE lines SET code = '-' WHERE id = 5;
        UPDATE lines SET code = 'c5' WHERE id = 6;
        UPDATE lines SET code = 'c6' WHERE id = 5
    """)
    shop.catch_up()
    shop.same(*LINES)
