"""A replica identity that no longer names what a mapping needs."""

from tests.fix_migration import Migrate
from tests.polling import wait_until

OLD = """
    CREATE TABLE orders (id int PRIMARY KEY);
    CREATE TABLE notes (id int PRIMARY KEY, order_id int, body text);
    ALTER TABLE notes REPLICA IDENTITY FULL;
"""
TRANSFORM = """
    from replicator import Aggregate, Row, transform

    @transform(old={"public.orders": "id", "public.notes": "order_id"}, upgraded={"public.orders": "id"})
    def order(order: Aggregate) -> Row:
        return order.root.set(notes=sorted(note["body"] for note in order["public.notes"]))
"""


def test_the_feed_stops_before_a_change_that_hides_its_parent(migrate: Migrate) -> None:
    """A child that moves without naming the parent it left would leave that parent's aggregate stale for good."""
    shop = migrate(
        old_schema=OLD,
        upgraded_schema="CREATE TABLE orders (id int PRIMARY KEY, notes text[])",
        tables="[]",
        transforms=TRANSFORM,
    )
    shop.old.execute("INSERT INTO orders VALUES (1), (2); INSERT INTO notes VALUES (1, 1, 'moves')")
    shop.streaming()
    with shop.old.connect() as session:  # one transaction: nobody can look in between
        session.execute("ALTER TABLE notes REPLICA IDENTITY DEFAULT")
        session.execute("UPDATE notes SET order_id = 2")
        session.commit()
    wait_until(shop.failures)

    (failure,) = shop.failures()
    assert "REPLICA IDENTITY FULL" in str(failure), failure
    assert [(1, ["moves"]), (2, [])] == shop.upgraded.execute("SELECT id, notes FROM orders ORDER BY id")
