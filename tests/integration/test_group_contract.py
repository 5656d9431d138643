"""PostgreSQL keeps the contract of a target that several processes share."""

import pytest

from replicator.demo.servers import PostgresServer
from tests.conformance.group_contract import PROMISES, Promise
from tests.fix_group import MakeGroupWorld, PostgresGroupWorld


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_a_group_keeps_the_contract(promise: Promise, group_world: PostgresGroupWorld) -> None:
    """Every promise, on a real server."""
    await promise(group_world)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_a_plain_role_keeps_the_contract(promise: Promise, group_world: PostgresGroupWorld) -> None:
    """Without superuser rights: role origin, transactions marked by message, backends of its own role ended."""
    group_world.as_plain_role()
    await promise(group_world)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_version_15_keeps_the_contract(
    promise: Promise, make_group_world: MakeGroupWorld, server15: PostgresServer
) -> None:
    """The target of a reverse feed may be an older server."""
    await promise(await make_group_world(server15))
