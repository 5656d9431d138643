"""One row to one row, of another shape, or to none."""

from tests.fix_migration import Migrate

OLD = """
    CREATE TABLE people (id int PRIMARY KEY, full_name text NOT NULL, street text, city text, cents bigint,
                         born date, state text NOT NULL DEFAULT 'active', note text);
"""
UPGRADED = """
    CREATE TABLE persons (id bigint PRIMARY KEY, first text, last text, address text, amount numeric(12, 2),
                          born date, note text, seen int NOT NULL DEFAULT 0);
"""
TRANSFORM = """
    from decimal import Decimal
    from replicator import Row, transform

    @transform(old="public.people", upgraded="public.persons")
    def person(row: Row):
        if row["state"] != "active":
            return None
        first, _, last = row["full_name"].partition(" ")
        cents = row["cents"]
        return row.drop("full_name", "street", "city", "cents", "state").set(
            first=first,
            last=last or None,
            address=", ".join(part for part in (row["street"], row["city"]) if part is not None),
            amount=None if cents is None else Decimal(cents).scaleb(-2),
        )
"""
EXPECTED = """
    SELECT id, split_part(full_name, ' ', 1), nullif(substr(full_name, length(split_part(full_name, ' ', 1)) + 2), ''),
           concat_ws(', ', street, city), (cents / 100.0)::numeric(12, 2), born::text, note
    FROM people WHERE state = 'active'
"""
FOUND = "SELECT id, first, last, address, amount, born::text, note FROM persons"


def test_columns_are_split_and_joined_and_rows_left_out(migrate: Migrate) -> None:
    """Whatever happens to a row: what the function returns is there, what it left out is gone, and may come back."""
    crm = migrate(old_schema=OLD, upgraded_schema=UPGRADED, tables="[]", transforms=TRANSFORM)
    crm.old.execute("""
        INSERT INTO people SELECT n, 'P' || n || repeat(' Last', n % 3), nullif('street ' || n % 4, 'street 0'),
               nullif('city ' || n % 5, 'city 0'), n * 101, date 'infinity',
               CASE WHEN n % 7 = 0 THEN 'gone' ELSE 'active' END
        FROM generate_series(1, 200) n
    """)
    crm.streaming()
    crm.same(EXPECTED, FOUND)
    crm.upgraded.execute("UPDATE persons SET seen = 1")

    crm.change("""
        UPDATE people SET cents = NULL, note = 'x' WHERE id % 5 = 0

        UPDATE people SET state = 'gone' WHERE id = 1

        UPDATE people SET state = 'active' WHERE id = 1

        UPDATE people SET state = 'gone' WHERE id = 2;
        UPDATE people SET state = 'active', city = 'Rome'  WHERE id = 2

        UPDATE people SET state = 'active' WHERE id = 14;
        UPDATE people SET state = 'gone' WHERE id IN (3, 4)

        UPDATE people SET id = id + 1000 WHERE id BETWEEN 5 AND 25

        UPDATE people SET id = 1007, state = 'active' WHERE id = 2007;
        UPDATE people SET id = 3, state = 'gone' WHERE id = 8

        UPDATE people SET id = -1 WHERE id = 100;
        UPDATE people SET id = 100 WHERE id = 101;
        UPDATE people SET id = 101, born = '0044-03-15 BC' WHERE id = -1

        DELETE FROM people WHERE id BETWEEN 110 AND 120

        DELETE FROM people WHERE id = 130;
        INSERT INTO people (id, full_name) VALUES (130, 'Re Born')

        BEGIN;
        INSERT INTO people (id, full_name, state) VALUES (500, 'No Body', 'gone');
        SAVEPOINT s;
        UPDATE people SET state = 'active' WHERE id = 500;
        ROLLBACK TO s;
        INSERT INTO people (id, full_name) VALUES (501, 'Some Body');
        COMMIT
    """)
    crm.catch_up()

    crm.same(EXPECTED, FOUND)
    assert [(1,)] == crm.upgraded.execute("SELECT seen FROM persons WHERE id = 50")  # what we don't write stays
