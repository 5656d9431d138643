"""By which transforms the rows of the upgraded side are: kept over restarts, changes, and changes back."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from replicator.copies import Chunk, CopiedTable
from replicator.daemon.digests import DigestGuard
from replicator.mapping import Mappings
from replicator.postgres.digest_state import PostgresDigestStore
from replicator.telemetry import FeedStatus
from tests.copying import World, open_world
from tests.fix_postgres import Database

TABLE = "CREATE TABLE t (id int PRIMARY KEY, name text)"
COPIED = {"public.t": CopiedTable("public.t", 10, 1, complete=True)}
PART = {"public.t": CopiedTable("public.t", 10, 1, False, (Chunk("public.t", 1, None, (b"5",), 5, 1),))}
NOTHING: dict[str, CopiedTable] = {}


class Restarts:
    """A daemon that is started again and again, each time with a transform of some digest."""

    def __init__(self, world: World, dsn: str) -> None:
        self.store = PostgresDigestStore(dsn, "crm", "forward")
        self._world = world
        connector = SimpleNamespace(backfill=SimpleNamespace(enabled=True))
        self._parts: Any = SimpleNamespace(
            connector=connector, digests=self.store, target=world.target, store=world.store
        )

    async def start(self, digest: str, copies: dict[str, CopiedTable], *, leads: bool = True) -> DigestGuard:
        """Start it."""
        mappings = Mappings(tuple(replace(one, digest=digest) for one in self._world.mappings.all))
        self.status = FeedStatus("crm")
        guard = DigestGuard(self._parts, mappings, self.status)
        await guard.begin(copies, begun=bool(copies), leads=leads)
        return guard

    async def kept(self) -> tuple[str, str | None, bool]:
        """Digest, the one that writes since, and whether it is told."""
        one = (await self.store.mapping_digests())["public.t"]
        return one.digest, one.writes, "public.t" in self.status.transform_changed


async def test_a_transform_that_changes_and_changes_back(old_database: Database, upgraded_database: Database) -> None:
    """Rows from before and since are told apart until all are written anew; a change back doesn't mend those between;
    before anything is copied there is nothing to tell apart; what a resync has copied by the former one is forgotten.
    """
    for database in (old_database, upgraded_database):
        database.execute(TABLE)
    async with open_world(old_database, upgraded_database) as world:
        daemon = Restarts(world, upgraded_database.dsn)
        await daemon.start("A", NOTHING)
        assert ("A", None, False) == await daemon.kept()
        await daemon.start("B", NOTHING)
        assert ("B", None, False) == await daemon.kept()
        await daemon.start("B", PART)
        assert ("B", None, False) == await daemon.kept()
        await daemon.start("C", PART)
        assert ("B", "C", True) == await daemon.kept()
        async with world.target.job("test") as tx:
            await world.store.begin(tx, "resync", ["public.t"])
            await daemon.store.save(tx, "public.t", {"step": 1})
        await daemon.start("C", COPIED)
        assert ("B", "C", True) == await daemon.kept()
        assert {"step": 1} == await daemon.store.progress("public.t")
        assert ["public.t"] == list(await world.store.load("resync"))
        await daemon.start("B", COPIED)
        assert ("B", "B", True) == await daemon.kept()
        assert await daemon.store.progress("public.t") is None
        assert {} == await world.store.load("resync")

        guard = await daemon.start("B", COPIED)
        await daemon.start("D", COPIED, leads=False)
        assert ("B", "D", True) == await daemon.kept()
        await guard.complete("public.t")  # as of before the other one came
        assert ("B", "D", True) == await daemon.kept()
        guard = await daemon.start("D", COPIED)
        await guard.complete("public.t")
        assert ("D", None, False) == await daemon.kept()
        await guard.complete("public.t")
        assert ("D", None, False) == await daemon.kept()
