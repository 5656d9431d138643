"""What a past relation is, by the catalog of now."""

from replicator.events import Relation
from replicator.postgres.past_shapes import describe
from replicator.tables import Catalog
from tests.assessing import integer, table

CODE = integer("code")
ITEMS = table("public.items", CODE, key=("id", "code"))


def key_of(key_columns: tuple[str, ...], identity: str) -> tuple[str, ...]:
    relation = Relation(ITEMS.name, ("id", "code"), (23, 23), key_columns, identity, (-1, -1))
    found = describe(relation, Catalog(180000, {ITEMS.name: ITEMS}))
    assert found is not None
    return found.key


def test_a_record_has_the_key_that_its_old_row_carries() -> None:
    """The primary key, or what it was then: an old row of that time names no more."""
    assert ("id", "code") == key_of(("id", "code"), "d") == key_of((), "n") == key_of((), "f")
    assert ("id",) == key_of(("id",), "d")
