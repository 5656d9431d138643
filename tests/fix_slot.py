"""A database with a slot, and sources that read it: one world a server version."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.postgres.catalog import read_catalog
from replicator.postgres.publication import ensure_publication
from replicator.postgres.session import connect
from replicator.postgres.slot import SlotSource
from replicator.postgres.slots import ensure_slot
from replicator.tables import Table, TableName
from tests.fix_postgres import Database, MakeDatabase

ITEMS = TableName("public", "items")
ORIGIN = "replicator/crm/reverse/0"


class SlotWorld:
    """One database, its slot `crm_<database>`, publication `crm`, table `items` mapped and `others` not."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.slot = f"crm_{database.name}"
        self.tables = [ITEMS]
        self._sources: list[SlotSource] = []

    async def prepare(self) -> None:
        self.database.execute("CREATE TABLE items (id bigint PRIMARY KEY, body text)")
        self.database.execute("CREATE TABLE others (id bigint PRIMARY KEY)")
        tables = [await table_of(self.database, name) for name in (ITEMS, TableName("public", "others"))]
        await ensure_publication(self.database.dsn, "crm", tables, create=True, heartbeat=True)
        await ensure_slot(self.database.dsn, self.slot, create=True)

    def source(self, **options: Any) -> SlotSource:
        """Make a source on the slot, not started; closed by the world."""
        given: dict[str, Any] = {
            "connector": "crm",
            "feed": "forward",
            "slot": self.slot,
            "publication": "crm",
            "decoder": PgoutputDecoder(),
            "tables": self.tables,
            "drop_origins": "replicator/crm/reverse/",
        }
        made = SlotSource(options.pop("dsn", self.database.dsn), **{**given, **options})
        self._sources.append(made)
        return made

    def commit(self, *keys: int, body_bytes: int = 1) -> None:
        with self.database.connect() as connection:
            self._insert(connection, keys, body_bytes)

    def commit_unmapped(self) -> None:
        self.database.execute("INSERT INTO others SELECT count(*) FROM others")

    def commit_echo(self, *keys: int) -> None:
        # As the product does: the origin is there before the first transaction that carries it.
        known = "SELECT FROM pg_replication_origin WHERE roname = %s"
        self.database.execute(f"SELECT pg_replication_origin_create(%s) WHERE NOT EXISTS ({known})", [ORIGIN, ORIGIN])
        with self.database.connect() as connection:
            connection.execute("SELECT pg_replication_origin_session_setup(%s)", [ORIGIN])
            self._insert(connection, keys, 1)

    @staticmethod
    def _insert(connection: psycopg.Connection[Any], keys: tuple[int, ...], body_bytes: int) -> None:
        connection.execute(
            "INSERT INTO items SELECT id, repeat('x', %s) FROM unnest(%s::bigint[]) WITH ORDINALITY AS k(id, n)"
            " ORDER BY n",
            [body_bytes, list(keys)],
        )

    def state(self) -> dict[str, Any]:
        """The slot's row in pg_replication_slots."""
        ((row,),) = self.database.execute(
            "SELECT to_jsonb(s) FROM pg_replication_slots s WHERE slot_name = %s", [self.slot]
        )
        assert isinstance(row, dict)
        return row

    async def close(self) -> None:
        for source in self._sources:
            await source.close()


async def table_of(database: Database, name: TableName) -> Table:
    """Return a table as its catalog describes it."""
    async with await connect(database.dsn, "test") as connection:
        return (await read_catalog(connection)).tables[name]


@pytest.fixture(params=[18, 15], ids=["pg18", "pg15"])
async def slot_world(request: pytest.FixtureRequest, make_database: MakeDatabase) -> AsyncIterator[SlotWorld]:
    """A world on each server version."""
    world = SlotWorld(make_database(request.getfixturevalue(f"server{request.param}")))
    await world.prepare()
    yield world
    await world.close()


@pytest.fixture
async def slot18(make_database: MakeDatabase) -> AsyncIterator[SlotWorld]:
    """A world on PostgreSQL 18, for what doesn't depend on the version."""
    world = SlotWorld(make_database())
    await world.prepare()
    yield world
    await world.close()
