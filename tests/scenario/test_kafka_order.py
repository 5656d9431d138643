"""Topics and partitions keep no order among each other: what lies ahead in another one is waited for."""

import uuid
from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_migration import Migration
from tests.fix_pipeline import MakePipeline, Pipeline
from tests.fix_postgres import MakeDatabase
from tests.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TABLES = """
    CREATE TABLE parents (id int PRIMARY KEY, email text UNIQUE);
    CREATE TABLE children (id int PRIMARY KEY, parent_id int, note text);
"""
REFERENCE = "ALTER TABLE children ADD CONSTRAINT of_parent FOREIGN KEY (parent_id) REFERENCES parents"
PATIENT = 'settings: {session.timeout.ms: "45000"}'


def without_replica_role(shop: Migration) -> None:
    """From now on the feed may not take the replica role: foreign keys are checked, in role `origin`."""
    role = f"plain_{uuid.uuid4().hex[:8]}"
    shop.upgraded.execute(
        f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {shop.upgraded.name} TO {role};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; ALTER TABLE parents OWNER TO {role};"
        f"ALTER TABLE children OWNER TO {role}; GRANT ALL ON SCHEMA public TO {role}"
    )
    shop.environment = {**shop.environment, "UPGRADED_DSN": make_conninfo(shop.upgraded.dsn, user=role)}


class Held:
    """Two processes, of which one stands still while the other goes on."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.shop = pipeline.shop
        self._prefix = pipeline.prefix
        self._processes = [self.shop.streaming(), self.shop.streaming()]
        wait_until(lambda: len(set(self.holders().values())) == 2, 60)

    def holders(self) -> dict[tuple[str, int], str]:
        """The process of each partition."""
        query = "SELECT topic, partition, holder FROM replicator.partition WHERE holder IS NOT NULL"
        return {(str(row[0]).rpartition(".")[2], int(row[1])): str(row[2]) for row in self.shop.upgraded.execute(query)}

    def freeze(self, holder: str) -> None:
        for process in self._processes:
            if f" {process.pid} " in f" {holder} ":
                process.freeze()

    def thaw(self) -> None:
        for process in self._processes:
            process.thaw()


@pytest.fixture
def held(pipeline: MakePipeline, make_database: MakeDatabase) -> Iterator[Held]:
    """Two tables on the two sides of a foreign key, one topic each, one process each."""
    old = make_database()
    old.execute(f"{TABLES} {REFERENCE}")
    old.execute("INSERT INTO parents VALUES (1, 'a'); INSERT INTO children VALUES (1, 1, 'there')")
    made = pipeline("capture-json", old=old, upgraded_schema=TABLES, stream=PATIENT)
    wait_until(lambda: made.captures[-1].logged("streaming"), 60)
    old.execute("UPDATE parents SET email = email; UPDATE children SET note = note")  # the topics are there
    without_replica_role(made.shop)
    held = Held(made)
    held.shop.catch_up()
    made.shop.upgraded.execute(REFERENCE)
    yield held
    held.thaw()


def test_a_child_before_its_parent(held: Held) -> None:
    """Without the replica role: a child whose parent is late waits for it, its later changes too, and stops nobody."""
    shop = held.shop
    held.freeze(held.holders()["parents", 0])
    shop.old.execute("INSERT INTO parents VALUES (2, 'b'); INSERT INTO children VALUES (2, 2, 'early')")
    shop.old.execute("UPDATE children SET note = 'later' WHERE id = 2")
    shop.old.execute("INSERT INTO children VALUES (3, 1, 'no parent of it is late')")
    wait_until(lambda: shop.upgraded.execute("SELECT 1 FROM children WHERE id = 3"), 60)
    assert [] == shop.upgraded.execute("SELECT 1 FROM children WHERE id = 2")
    held.thaw()
    shop.catch_up()

    shop.same_tables("parents", "children")


def test_a_parent_that_goes_before_its_child(held: Held) -> None:
    """Without the replica role: a parent goes once its children are gone, whose end is late."""
    shop = held.shop
    held.freeze(held.holders()["children", 0])
    shop.old.execute("DELETE FROM children; DELETE FROM parents; INSERT INTO parents VALUES (9, 'z')")
    wait_until(lambda: shop.upgraded.execute("SELECT 1 FROM parents WHERE id = 9"), 60)
    assert 1 == len(shop.upgraded.execute("SELECT 1 FROM parents WHERE id = 1"))
    held.thaw()
    shop.catch_up()

    shop.same_tables("parents", "children")


def test_a_unique_value_whose_holder_is_late(pipeline: MakePipeline, make_database: MakeDatabase) -> None:
    """A row takes the unique value of one that is deleted, in another partition: it waits until that one is gone."""
    old = make_database()
    old.execute(TABLES)
    old.execute("INSERT INTO parents SELECT n, 'e' || n FROM generate_series(1, 40) n")
    only = "- {old: public.parents}"  # whose two partitions the two processes share
    made = pipeline("capture-json", old=old, upgraded_schema=TABLES, tables=only, partitions=2, stream=PATIENT)
    wait_until(lambda: made.captures[-1].logged("streaming"), 60)
    old.execute("UPDATE parents SET email = email")
    held = Held(made)
    held.shop.catch_up()
    held.freeze(held.holders()["parents", 0])
    old.execute("DELETE FROM parents; INSERT INTO parents SELECT 100 + n, 'e' || n FROM generate_series(1, 40) n")
    old.execute("INSERT INTO parents SELECT n, 'f' || n FROM generate_series(1000, 1020) n")
    try:
        wait_until(lambda: made.shop.upgraded.execute("SELECT 1 FROM parents WHERE id > 1000"), 60)
    finally:
        held.thaw()
    made.shop.catch_up()

    made.shop.same_tables("parents")
