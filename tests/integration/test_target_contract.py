"""PostgreSQL keeps the contract of `ports.Target`."""

import pytest

from replicator.demo.servers import PostgresServer
from replicator.postgres.target import PostgresTarget
from tests.conformance.target_contract import PROMISES, Promise
from tests.fix_target import MakeTargetWorld, TargetWorld


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_target_keeps_the_contract(promise: Promise, target_world: TargetWorld) -> None:
    """Every promise of the port, on a real server."""
    await promise(target_world)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_a_plain_role_keeps_the_contract(promise: Promise, target_world: TargetWorld) -> None:
    """Without superuser rights: role origin, transactions marked by message, backends of its own role ended."""
    world = target_world
    world.database.execute(
        f'CREATE ROLE "plain {world.database.name}" LOGIN; GRANT CREATE ON DATABASE {world.database.name} TO '
        f'"plain {world.database.name}"; GRANT ALL ON SCHEMA crm TO "plain {world.database.name}"; '
        f'GRANT ALL ON ALL TABLES IN SCHEMA crm TO "plain {world.database.name}"; '
        f'GRANT ALL ON ALL SEQUENCES IN SCHEMA crm TO "plain {world.database.name}"'
    )
    dsn = world.database.server.dsn(world.database.name, f"plain {world.database.name}")
    plain = PlainWorld(world, dsn)

    await promise(plain)


class PlainWorld:
    """The same database, as a role without any special right."""

    def __init__(self, world: TargetWorld, dsn: str) -> None:
        self._dsn = dsn
        self._world = world
        self.table = world.table
        self.rows = world.rows

    def target(self, *, dsn: str | None = None, source_dsn: str | None = None, feed: str = "forward") -> PostgresTarget:
        return self._world.target(dsn=dsn or self._dsn, source_dsn=source_dsn, feed=feed)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_version_15_keeps_the_contract(
    promise: Promise, make_target_world: MakeTargetWorld, server15: PostgresServer
) -> None:
    """The target of a reverse feed may be an older server."""
    await promise(await make_target_world(server15))
