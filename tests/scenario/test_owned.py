"""A transform that owns a part of its old table."""

from tests.fix_migration import Migrate

PEOPLE = """
    from replicator import Row, transform

    @transform(old="public.people", upgraded="public.persons", owns_old="NOT deleted AND n IS NULL")
    def person(row: Row) -> Row:
        return row.drop("deleted", "n")

    @person.inverse
    def person_back(row: Row) -> Row:
        return row.set(deleted=False, n=None)
"""


def test_rows_outside_owns_old_never_arrive(migrate: Migrate) -> None:
    """The predicate decides for streamed rows as for copied ones, though the function doesn't look at it."""
    shop = migrate(
        old_schema="CREATE TABLE people (id int PRIMARY KEY, name text, n int, deleted bool NOT NULL DEFAULT false)",
        upgraded_schema="CREATE TABLE persons (id int PRIMARY KEY, name text)",
        tables="[]",
        transforms=PEOPLE,
    )
    shop.old.execute(
        "INSERT INTO people (id, name, deleted) VALUES (1, 'a', false), (2, 'b', true), (3, 'c', false), (4, 'd', true)"
    )
    shop.streaming()
    expected = ("SELECT id, name FROM people WHERE NOT deleted", "SELECT id, name FROM persons")
    shop.same(*expected)

    shop.old.execute("INSERT INTO people (id, name, deleted) VALUES (5, 'e', true), (6, 'f', false)")
    shop.old.execute("UPDATE people SET deleted = NOT deleted WHERE id < 3; UPDATE people SET name = 'z' WHERE id = 4")
    shop.catch_up()

    shop.same(*expected)
