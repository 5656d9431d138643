"""What `ports.Target` and `partitions.Ledger` promise where several processes apply one feed.

Bound to an implementation as `target_contract` is.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import KeyMapping
from replicator.partitions import Ledger, Partition
from replicator.ports import Checkpoint, Target, TargetTransaction
from replicator.tables import Table
from replicator.writes import WriteAction
from tests.conformance.target_contract import LETTER
from tests.fix_target import account, write

A = WriteAction
KEYS = KeyMapping("public.users", forward=True, function=lambda key: (b"u" + key[0],))
P0, P1, P2 = ("shop.public.users", 0), ("shop.public.users", 1), ("shop.public.orders", 0)


class GroupTarget(Target, Protocol):
    """A target that several processes share."""

    @property
    def is_leader(self) -> bool:
        """Whether this process leads."""

    async def lead(self) -> None:
        """Wait until this process leads."""


class Member(Protocol):
    """One process of the group."""

    @property
    def target(self) -> GroupTarget:
        """Its target."""

    @property
    def ledger(self) -> Ledger:
        """Its partitions."""

    async def close(self) -> None:
        """End it in good order, but for `release`."""


class GroupWorld(Protocol):
    """One target database with the tables of `fix_target`."""

    def member(self, *, dsn: str | None = None, feed: str = "forward") -> Member:
        """One more process; closed by the world."""

    def table(self, name: str = "accounts") -> Table:
        """A table of the schema crm."""

    def rows(self, name: str = "accounts") -> list[tuple[Any, ...]]:
        """Its rows, as committed."""

    def execute(self, statement: str) -> object:
        """Run a statement in it, as a person would."""


Promise = Callable[[GroupWorld], Awaitable[None]]


async def joined(world: GroupWorld, *partitions: Partition) -> Member:
    """A process that applies these partitions, from offset 0 where nobody has begun."""
    member = world.member()
    await member.target.take_over(1)
    taken = await member.ledger.take_over(partitions)
    await member.ledger.begin({one: 0 for one, offset in taken.items() if offset is None})
    return member


def moved(*places: tuple[Partition, int]) -> str:
    """As `Source.progress` says it."""
    return ",".join(f"{topic}/{number}:{offset}" for (topic, number), offset in places)


async def insert(world: GroupWorld, member: Member, number: int, *places: tuple[Partition, int]) -> None:
    """Insert an account and move partitions in one transaction."""
    async with member.target.transaction(0) as tx:
        await tx.write(write(world.table(), A.INSERT, account(number)))
        await tx.checkpoint(moved(*places), 1.5)


async def refused(world: GroupWorld, member: Member, number: int, *places: tuple[Partition, int]) -> ErrorKind:
    """The kind of error of an insert that fails."""
    with pytest.raises(ReplicatorError) as caught:
        await insert(world, member, number, *places)
    return caught.value.kind


def ids(world: GroupWorld) -> list[int]:
    """Of all accounts."""
    return [row[0] for row in world.rows()]


async def begins_where_nobody_has_begun(world: GroupWorld) -> None:
    """A partition has no offset until one process stores it; the first to do so decides, and everybody sees it."""
    first, second = world.member(), world.member()
    assert [Checkpoint(0, None)] == await first.target.take_over(1)
    assert [Checkpoint(0, None)] == await second.target.take_over(1)

    assert {P0: None, P1: None} == await first.ledger.take_over([P1, P0])
    assert {} == await first.ledger.offsets()
    assert {P0: 7, P2: 3} == await second.ledger.begin({P0: 7, P2: 3})
    assert {P0: 7, P1: 0} == await first.ledger.begin({P0: 0, P1: 0})

    await insert(world, first, 1, (P0, 9), (P1, 1))
    assert {P0: 9, P1: 1, P2: 3} == await second.ledger.offsets()
    assert {P2: 3} == await second.ledger.take_over([P2])


async def commits_rows_and_offsets_together(world: GroupWorld) -> None:
    """P1: both, or neither when an exception leaves the block."""
    member = await joined(world, P0, P1)
    await insert(world, member, 1, (P0, 5))

    with contextlib.suppress(ZeroDivisionError):
        async with member.target.transaction(0) as tx:
            await tx.write(write(world.table(), A.INSERT, account(2)))
            await tx.checkpoint(moved((P0, 6), (P1, 1)), None)
            raise ZeroDivisionError
    assert ([1], {P0: 5, P1: 0}) == (ids(world), await member.ledger.offsets())

    await insert(world, member, 3, (P0, 6), (P1, 1))
    await insert(world, member, 4, (P0, 6), (P1, 2))  # as a batch that is replayed in halves says it
    assert ([1, 3, 4], {P0: 6, P1: 2}) == (ids(world), await member.ledger.offsets())
    assert ErrorKind.INTERNAL is await refused(world, member, 5, (P0, 5))


async def applies_side_by_side(world: GroupWorld) -> None:
    """Processes with other partitions don't wait for each other, and one that joins disturbs nobody."""
    first, second = await joined(world, P0), await joined(world, P1)

    async with first.target.transaction(0) as tx:
        await tx.write(write(world.table(), A.INSERT, account(1)))
        await asyncio.wait_for(insert(world, second, 2, (P1, 4)), 10)
        third = await asyncio.wait_for(joined(world, P2), 10)
        await tx.checkpoint(moved((P0, 3)), None)
    await insert(world, third, 3, (P2, 5))
    await insert(world, first, 4, (P0, 6))

    assert [1, 2, 3, 4] == ids(world)
    assert {P0: 6, P1: 4, P2: 5} == await first.ledger.offsets()


async def reassigns_a_sleeping_member(world: GroupWorld) -> None:
    """P2: a process that wakes up after another took one of its partitions over writes nothing with it."""
    sleeper = await joined(world, P0, P1)
    await insert(world, sleeper, 1, (P0, 1), (P1, 1))
    successor = await joined(world, P0)

    for _ in range(2):
        assert (await refused(world, sleeper, 2, (P0, 2), (P1, 2))) in (ErrorKind.CONNECTION, ErrorKind.REASSIGNED)
    assert ErrorKind.REASSIGNED is await refused(world, sleeper, 2, (P0, 2), (P1, 2))
    assert ErrorKind.REASSIGNED is await refused(world, sleeper, 2, (P1, 2))  # as a whole: it begins anew
    await insert(world, successor, 3, (P0, 2))

    assert ([1, 3], {P0: 2, P1: 1}) == (ids(world), await successor.ledger.offsets())
    assert {P1: 1} == await (await joined(world)).ledger.take_over([P1])


async def reassigns_in_mid_transaction(world: GroupWorld) -> None:
    """P2: a transaction that was open is undone, also where the successor wants the rows that it has locked."""
    sleeper = await joined(world, P0, P1)

    async def slow() -> None:
        async with sleeper.target.transaction(0) as tx:
            await tx.write(write(world.table(), A.INSERT, account(1)))
            successor = await asyncio.wait_for(joined(world, P0), 10)
            await asyncio.wait_for(insert(world, successor, 1, (P0, 5)), 10)
            await tx.checkpoint(moved((P0, 9), (P1, 9)), None)

    with pytest.raises(ReplicatorError) as caught:
        await slow()

    assert caught.value.kind in (ErrorKind.CONNECTION, ErrorKind.REASSIGNED)
    assert [1] == ids(world)
    assert {P0: 5, P1: 0} == await sleeper.ledger.offsets()


async def gives_up_in_good_order(world: GroupWorld) -> None:
    """A partition that was released is taken over without ending anybody; the former holder goes on with its others."""
    first = await joined(world, P0, P1)
    await insert(world, first, 1, (P0, 1), (P1, 1))
    await first.ledger.release([P0, P2])

    async with first.target.transaction(0) as tx:
        await tx.write(write(world.table(), A.INSERT, account(2)))
        second = await asyncio.wait_for(joined(world, P0), 10)
        await tx.checkpoint(moved((P1, 2)), None)
    assert ErrorKind.REASSIGNED is await refused(world, first, 3, (P0, 2), (P1, 3))
    await insert(world, second, 4, (P0, 2))
    await insert(world, first, 5, (P1, 3))

    assert ([1, 2, 4, 5], {P0: 2, P1: 3}) == (ids(world), await second.ledger.offsets())


async def takes_its_own_back(world: GroupWorld) -> None:
    """A partition that comes back to the process that had it goes on, and ends none of its sessions."""
    member = await joined(world, P0, P1)
    await insert(world, member, 1, (P0, 1))

    assert {P0: 1} == await member.ledger.take_over([P0])

    await insert(world, member, 2, (P0, 2), (P1, 2))
    assert [1, 2] == ids(world)


async def leaves_one_of_many(world: GroupWorld) -> None:
    """Many that take the same partitions at once leave each with one holder, and write each offset once."""
    members = [world.member() for _ in range(5)]
    await asyncio.gather(*(member.target.take_over(1) for member in members))
    await members[0].ledger.begin({P0: 0, P1: 0, P2: 0})
    orders = ([P0, P1, P2], [P2, P1, P0])
    await asyncio.gather(*(one.ledger.take_over(orders[number % 2]) for number, one in enumerate(members)))

    kinds = await asyncio.gather(
        *(insert(world, one, number, (P0, 1), (P1, 1), (P2, 1)) for number, one in enumerate(members)),
        return_exceptions=True,
    )

    assert 1 == kinds.count(None)
    assert {P0: 1, P1: 1, P2: 1} == await members[0].ledger.offsets()
    assert [kinds.index(None)] == ids(world)


async def leads_one_at_a_time(world: GroupWorld) -> None:
    """Jobs are the leader's: nobody else's run, and the next one leads when the leader has gone."""
    first, second = await joined(world, P0), await joined(world, P1)
    with pytest.raises(ReplicatorError) as caught:
        await job(world, first, 1)
    assert ErrorKind.REASSIGNED is caught.value.kind
    await asyncio.wait_for(first.target.lead(), 10)
    await first.target.lead()  # it does already
    waiting = asyncio.ensure_future(second.target.lead())
    await job(world, first, 2)
    assert not waiting.done()

    await first.target.close()
    await asyncio.wait_for(waiting, 10)

    assert (False, True) == (first.target.is_leader, second.target.is_leader)
    await job(world, second, 3)
    await insert(world, first, 4, (P0, 1))  # who leads no longer applies its partitions still
    assert [2, 3, 4] == ids(world)


async def job(world: GroupWorld, member: Member, number: int) -> None:
    """A job's insert."""
    async with member.target.job("copy") as tx:
        await tx.write(write(world.table(), A.INSERT, account(number)))


async def gives_leadership_up_when_cancelled(world: GroupWorld) -> None:
    """A process that no longer waits to lead doesn't come to lead."""
    first, second, third = await joined(world), await joined(world), await joined(world)
    await first.target.lead()
    waiting = asyncio.ensure_future(second.target.lead())
    await asyncio.wait({waiting}, timeout=0.3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    await first.target.close()
    await asyncio.wait_for(third.target.lead(), 10)

    assert (False, True) == (second.target.is_leader, third.target.is_leader)


async def keeps_dead_letters_and_keys(world: GroupWorld) -> None:
    """Those that one process parks and gives are everybody's; an operator's are applied by the leader alone."""
    first, second = await joined(world, P0), await joined(world, P1)
    async with first.target.transaction(0) as tx:
        await tx.park([LETTER])
        assert {(b"1",): (b"u1",)} == await tx.translate(KEYS, [(b"1",)], create=True)
        await tx.checkpoint(moved((P0, 1)), None)
    (letter,) = await second.target.dead_letters()
    other = KeyMapping(KEYS.name, forward=True, function=lambda _: (b"never asked",))
    async with second.target.transaction(0) as tx:
        async with tx.savepoint():
            assert {(b"1",): (b"u1",)} == await tx.translate(other, [(b"1",)], create=True)
        await tx.checkpoint(moved((P1, 1)), None)

    with pytest.raises(ReplicatorError) as caught:
        await unpark(second, letter.id)
    assert ErrorKind.INTERNAL is caught.value.kind
    await first.target.lead()
    await unpark(first, letter.id)

    assert [] == await second.target.dead_letters()


async def unpark(member: Member, number: int) -> None:
    """Without moving an offset."""
    async with member.target.transaction(0) as tx:
        await tx.unpark([number])


async def knows_its_log(world: GroupWorld) -> None:
    """A topic that was made again, that has other partitions, and another cluster are told; a new topic isn't."""
    first, second = await joined(world), await joined(world)
    await first.ledger.identity("c1", {"a": "id-a/3", "b": "id/b/1"})
    await second.ledger.identity("c1", {"a": "id-a/3"})
    await second.ledger.identity("c1", {"a": "id-a/3", "c": "id-c/1"})

    for cluster, topics, said in (
        ("c2", {"d": "id-d/1"}, "cluster c1, not of c2"),
        ("c1", {"a": "id-x/3"}, "topic a was made again"),
        ("c1", {"a": "id-a/4"}, "topic a has 4 partitions, and had 3"),
    ):
        with pytest.raises(ReplicatorError, match=said) as caught:
            await first.ledger.identity(cluster, topics)
        assert ErrorKind.LOG_LOST is caught.value.kind
    await first.ledger.identity("c1", {"b": "id/b/1", "c": "id-c/1"})


async def keeps_marks_with_the_offsets(world: GroupWorld) -> None:
    """What the source knows of a log's order commits with the offset, or not at all; without one it stays as it was,
    and whoever comes next reads it, until a person has it forgotten.
    """
    first = await joined(world, P0, P1)
    async with first.target.transaction(0) as tx:
        await tx.checkpoint(f"{P0[0]}/0:5@7/9/1,{P1[0]}/1:2", 1.5)

    async def fails() -> None:
        async with first.target.transaction(0) as tx:
            await tx.checkpoint(f"{P0[0]}/0:6@8/9/1", 1.5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    async with first.target.transaction(0) as tx:
        await tx.checkpoint(f"{P0[0]}/0:8", 1.5)

    second = await joined(world, P0, P1)

    assert {P0: 8, P1: 2} == await second.ledger.offsets()
    assert {P0: "7/9/1"} == await second.ledger.marks([P1, P0])
    world.execute(second.ledger.forgetting(P0))
    assert {} == await second.ledger.marks([P1, P0])


async def commits_nothing_for_nothing(world: GroupWorld) -> None:
    """A batch in which no partition moved, and that wrote nothing, is no transaction."""
    member = await joined(world, P0)

    async with member.target.transaction(0) as tx:
        await tx.checkpoint("", None)

    assert {P0: 0} == await member.ledger.offsets()
    assert {} == await member.ledger.take_over([])
    assert {} == await member.ledger.begin({})


async def closes_at_any_time(world: GroupWorld) -> None:
    """Twice, before anything, with a transaction open."""
    member = await joined(world, P0)
    await member.target.lead()

    async def closed(tx: TargetTransaction) -> None:
        await tx.write(write(world.table(), A.INSERT, account(1)))
        await member.close()
        await member.close()
        await tx.checkpoint(moved((P0, 1)), None)

    with pytest.raises(ReplicatorError):
        async with member.target.transaction(0) as tx:
            await closed(tx)

    await world.member().close()
    assert [] == world.rows()


PROMISES: tuple[Promise, ...] = (
    begins_where_nobody_has_begun,
    commits_rows_and_offsets_together,
    applies_side_by_side,
    reassigns_a_sleeping_member,
    reassigns_in_mid_transaction,
    gives_up_in_good_order,
    takes_its_own_back,
    leaves_one_of_many,
    leads_one_at_a_time,
    gives_leadership_up_when_cancelled,
    keeps_dead_letters_and_keys,
    knows_its_log,
    keeps_marks_with_the_offsets,
    commits_nothing_for_nothing,
    closes_at_any_time,
)
