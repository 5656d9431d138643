"""A group in which partitions change hands all the time, at any moment, with sessions that are ended in between."""

import asyncio
import contextlib
import random

import pytest

from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.partitions import Partition
from replicator.writes import WriteAction
from tests.conformance.group_contract import moved
from tests.fix_group import GroupMember, PostgresGroupWorld
from tests.fix_target import write

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

PARTITIONS: list[Partition] = [("shop.public.users", number) for number in range(6)]
RECORDS = 200
_END_SOME = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'replicator:crm/%' "
    "AND random() < 0.2"
)


class Churn:
    """What several processes make of a log of `RECORDS` records a partition: one row each."""

    def __init__(self, world: PostgresGroupWorld, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.kinds: set[ErrorKind] = set()
        self.done = asyncio.Event()

    async def live(self) -> None:
        """One process: a session, until it fails; then another."""
        while not self.done.is_set():
            member = self.world.member()
            try:
                await member.target.take_over(1)
                await self._session(member)
            except ReplicatorError as error:
                if error.action is not Action.RETRY:
                    raise
                self.kinds.add(error.kind)
            finally:
                await member.close()

    async def _session(self, member: GroupMember) -> None:
        """Takes what it likes, as a group that has lost sight of its members would give it, and goes on from there."""
        while not self.done.is_set():
            mine = self.random.sample(PARTITIONS, self.random.randint(1, 3))
            taken = await member.ledger.take_over(mine)
            begun = await member.ledger.begin({one: 0 for one, offset in taken.items() if offset is None})
            offsets = {one: begun.get(one) or offset or 0 for one, offset in taken.items()}
            for _ in range(self.random.randint(1, 6)):
                await self._batch(member, offsets)
            if self.random.random() < 0.5:
                await member.ledger.release(mine)

    async def _batch(self, member: GroupMember, offsets: dict[Partition, int]) -> None:
        ends = {one: min(RECORDS, offset + self.random.randint(0, 3)) for one, offset in offsets.items()}
        rows = [
            {"account_id": b"%d" % one[1], "tag": b"%d" % record}
            for one, end in ends.items()
            for record in range(offsets[one], end)
        ]
        if not rows:
            return
        async with member.target.transaction(0) as tx:
            await tx.write(write(self.world.table("tags"), WriteAction.INSERT, *rows, key=()))
            await tx.checkpoint(moved(*ends.items()), None)
        offsets.update(ends)

    async def disturb(self) -> None:
        """End some sessions now and then."""
        while not self.done.is_set():
            await asyncio.to_thread(self.world.database.execute, _END_SOME)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.done.wait(), 0.1)

    async def watch(self) -> None:
        """Until every partition is at its end."""
        query = "SELECT count(*) FROM replicator.partition WHERE next_offset = %s"
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.done.wait(), 0.1)
            found = await asyncio.to_thread(self.world.database.execute, query, [RECORDS])
            if found == [(len(PARTITIONS),)]:
                self.done.set()
                return


@pytest.mark.parametrize("seed", [1, 2])
async def test_each_record_is_applied_once_in_order(seed: int, group_world: PostgresGroupWorld) -> None:
    """P1, P2: whoever takes over from whom, and whenever: nothing lost, nothing doubled, each partition in order."""
    await group_world.member().target.take_over(1)
    churn = Churn(group_world, seed)
    await asyncio.wait_for(
        asyncio.gather(*(churn.live() for _ in range(4)), churn.disturb(), churn.watch()),
        120,
    )

    for _, number in PARTITIONS:
        rows = group_world.database.execute(
            "SELECT tag::int FROM crm.tags WHERE account_id = %s ORDER BY xmin::text::bigint, id", [number]
        )
        assert list(range(RECORDS)) == [tag for (tag,) in rows]
    assert ErrorKind.REASSIGNED in churn.kinds
