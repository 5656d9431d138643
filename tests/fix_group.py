"""Several processes (as it were) that apply one feed into one target database."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from replicator.demo.servers import PostgresServer
from replicator.postgres.partition_ledger import PartitionLedger
from replicator.postgres.target import PostgresTarget
from tests.fix_target import CONNECTOR, MakeTargetWorld, TargetWorld


class GroupMember:
    """One process of the group."""

    def __init__(self, dsn: str, feed: str) -> None:
        self.ledger = PartitionLedger(dsn, connector=CONNECTOR, feed=feed)
        self.target = PostgresTarget(dsn, connector=CONNECTOR, feed=feed, ledger=self.ledger)

    async def close(self) -> None:
        await self.target.close()
        await self.ledger.close()


class PostgresGroupWorld:
    """The world of `fix_target`, for a group."""

    def __init__(self, world: TargetWorld) -> None:
        self.database = world.database
        self.world = world
        self.table = world.table
        self.rows = world.rows
        self.execute = world.database.execute
        self.dsn = world.database.dsn
        self.members: list[GroupMember] = []

    def member(self, *, dsn: str | None = None, feed: str = "forward") -> GroupMember:
        made = GroupMember(dsn or self.dsn, feed)
        self.members.append(made)
        return made

    def as_plain_role(self) -> None:
        """From now on as a role without any special right."""
        name = self.database.name
        role = f'"plain {name}"'
        self.database.execute(
            f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {name} TO {role}; GRANT ALL ON SCHEMA crm TO {role}; "
            f"GRANT ALL ON ALL TABLES IN SCHEMA crm TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA crm TO {role}"
        )
        self.dsn = self.database.server.dsn(name, f"plain {name}")


MakeGroupWorld = Callable[[PostgresServer | None], Awaitable[PostgresGroupWorld]]


@pytest.fixture
async def make_group_world(make_target_world: MakeTargetWorld) -> AsyncIterator[MakeGroupWorld]:
    """Make target databases for groups, on server18 where no other is given."""
    made: list[PostgresGroupWorld] = []

    async def make(server: PostgresServer | None = None) -> PostgresGroupWorld:
        made.append(PostgresGroupWorld(await make_target_world(server)))
        return made[-1]

    yield make
    for world in made:
        for member in world.members:
            await member.close()


@pytest.fixture
async def group_world(make_group_world: MakeGroupWorld) -> PostgresGroupWorld:
    """A target of a group on PostgreSQL 18."""
    return await make_group_world(None)
