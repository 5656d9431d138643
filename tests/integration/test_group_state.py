"""What the target keeps of a group: schema versions, what people see of it, and origins."""

import asyncio
from importlib import resources

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.state import VERSION, PartitionState, open_state
from tests.conformance.group_contract import P0, P1, P2, insert, joined, moved
from tests.fix_group import GroupMember, PostgresGroupWorld
from tests.fix_target import CONNECTOR, TargetWorld


def as_version_1(world: TargetWorld) -> None:
    """The schema as the first version made it, with a feed in it."""
    script = resources.files("replicator.postgres").joinpath("sql", "state_1.sql").read_text()
    world.database.execute("CREATE SCHEMA replicator")
    world.database.execute(script)
    world.database.execute("CREATE TABLE replicator.version (number integer NOT NULL)")
    world.database.execute("INSERT INTO replicator.version VALUES (1)")
    world.database.execute(f"INSERT INTO replicator.feed VALUES ('{CONNECTOR}', 'forward', 7, 1, 'somebody')")
    world.database.execute(
        f"INSERT INTO replicator.checkpoint (connector, feed, lane, epoch, position) "
        f"VALUES ('{CONNECTOR}', 'forward', 0, 7, '0/7')"
    )


async def test_a_schema_of_version_1_is_upgraded_in_place(target_world: TargetWorld) -> None:
    """By whoever takes over next; what is in it stays, and it can be read before that."""
    as_version_1(target_world)
    async with open_state(target_world.database.dsn, CONNECTOR) as state:
        (before,) = await state.feeds()

    (checkpoint,) = await target_world.target().take_over(1)

    async with open_state(target_world.database.dsn, CONNECTOR) as state:
        (after,) = await state.feeds()
    assert ("0/7", 7, 8) == (checkpoint.position, before.epoch, after.epoch)
    assert () == before.partitions == after.partitions
    assert [(VERSION,)] == target_world.database.execute("SELECT number FROM replicator.version")
    assert [] == target_world.database.execute("SELECT FROM replicator.partition")


async def test_a_feed_shows_its_partitions(group_world: PostgresGroupWorld) -> None:
    """Where each stands, and who applies it; there is no lane's checkpoint, and no holder before somebody leads."""
    first, second = await joined(group_world, P0), await joined(group_world, P1)
    await insert(group_world, first, 1, (P0, 5))
    await second.ledger.begin({P2: 9})
    assert isinstance(first, GroupMember)
    assert isinstance(second, GroupMember)

    async with open_state(group_world.dsn, CONNECTOR) as state:
        (before,) = await state.feeds()
        await first.target.lead()
        await first.target.tell("streaming")
        (feed,) = await state.feeds()

    assert ("nobody yet", None, 0) == (before.holder, before.state, before.epoch)
    assert ("streaming", 1, 0, ()) == (feed.state, feed.epoch, feed.lanes, feed.checkpoints)
    assert (
        PartitionState(*P2, 9, None, None),
        PartitionState(*P0, 5, first.ledger.member, 1.5),
        PartitionState(*P1, 0, second.ledger.member, None),
    ) == feed.partitions
    assert ["shop.public.orders/0:9", "shop.public.users/0:5", "shop.public.users/1:0"] == [
        one.position for one in feed.partitions
    ]


async def test_a_slot_and_a_log_are_not_mixed_up(group_world: PostgresGroupWorld) -> None:
    """A feed that has begun one way is refused the other way, and nothing of its progress is lost."""
    world = group_world.world
    slot, log = world.target(), await joined(group_world, P0)
    with pytest.raises(ReplicatorError, match="has begun from Kafka") as caught:
        await slot.take_over(1)
    assert ErrorKind.CONFIG is caught.value.kind
    await insert(group_world, log, 1, (P0, 5))

    reverse = world.target(feed="reverse")
    await reverse.take_over(1)
    async with reverse.transaction(0) as tx:
        await tx.checkpoint("0/5", None)
    with pytest.raises(ReplicatorError, match="has begun from a slot, and its position 0/5") as caught:
        await group_world.member(feed="reverse").target.take_over(1)

    assert ErrorKind.CONFIG is caught.value.kind
    assert ["0/5"] == [one.position for one in await world.target(feed="reverse").take_over(1)]


async def test_members_share_few_origins(group_world: PostgresGroupWorld) -> None:
    """P9: each transaction carries an origin that the other feed drops; a member takes the first that is free."""
    members = [await joined(group_world, (P0[0], number)) for number in range(3)]
    held = "SELECT external_id FROM pg_replication_origin_status ORDER BY 1"
    made = "SELECT roname FROM pg_replication_origin ORDER BY 1"
    names = [(f"replicator/{CONNECTOR}/forward/0_{number}",) for number in range(3)]

    await asyncio.gather(*(insert(group_world, one, n, ((P0[0], n), 1)) for n, one in enumerate(members)))
    assert names == group_world.database.execute(made)
    assert names == group_world.database.execute(held)
    await members[1].close()
    again = await joined(group_world, (P0[0], 1))
    await insert(group_world, again, 7, ((P0[0], 1), 2))

    assert names == group_world.database.execute(made)
    assert isinstance(again, GroupMember)
    assert "origin" == again.target.marks_by


async def test_sessions_of_the_past_are_forgotten(group_world: PostgresGroupWorld) -> None:
    """A backend's number that comes again belongs to somebody else: only sessions that live are kept."""
    for number in range(3):
        member = await joined(group_world, P0)
        await insert(group_world, member, number, (P0, number))
        await member.ledger.release([P0])
        await member.close()
    await joined(group_world, P1)

    ((count,),) = group_world.database.execute("SELECT count(*) FROM replicator.member_backend")
    assert count <= 1  # a session that was closed a moment ago


async def test_a_thousand_partitions_move_in_one_transaction(group_world: PostgresGroupWorld) -> None:
    """All of them or, when one is another process's by now, none."""
    topic = "shop.public.events"
    partitions = [(topic, number) for number in range(1000)]
    member = await joined(group_world, *partitions)
    await insert(group_world, member, 1, *((one, 3) for one in partitions))
    await joined(group_world, (topic, 500))

    with pytest.raises(ReplicatorError) as caught:
        await insert(group_world, member, 2, *((one, 4) for one in partitions))

    assert ErrorKind.REASSIGNED is caught.value.kind
    offsets = "SELECT next_offset, count(*) FROM replicator.partition GROUP BY 1"
    assert [(3, 1000)] == group_world.database.execute(offsets)


async def test_the_offsets_are_moved_by_the_index(group_world: PostgresGroupWorld) -> None:
    """One look into the index for each, in the order of topic and partition: two processes can't block each other."""
    partitions = [P2, P0, P1]
    member = await joined(group_world, *partitions)
    assert isinstance(member, GroupMember)
    move = member.ledger.parse(moved(*((one, 1) for one in partitions)))
    command = member.ledger.moving(move, None)
    assert isinstance(command.parameters, list)

    async with member.target.transaction(0) as tx:
        rows = await tx.execute(b"EXPLAIN " + command.text, *command.parameters, doing="explaining")
        await tx.checkpoint(moved((P0, 1)), None)

    plan = "\n".join(rows.get_value(number, 0).decode() for number in range(rows.ntuples))
    assert sorted(partitions) == list(move.partitions)
    assert 0 < plan.index("Nested Loop") < plan.index("Function Scan") < plan.index("Index Scan using partition_pkey")
