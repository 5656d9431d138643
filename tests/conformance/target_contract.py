"""What `ports.Target` promises, as tests that every implementation runs.

A module binds them to its target by parametrising over `PROMISES` and handing each one a world of its own:

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    async def test_contract(promise: Promise, world: World) -> None:
        await promise(world)
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import KeyMapping
from replicator.ports import Checkpoint, DeadLetter, Target
from replicator.tables import Table, TableName
from replicator.writes import WriteAction
from tests.fix_target import account, write

KEYS = KeyMapping("public.users", forward=True, function=lambda key: (b"u" + key[0],))
NUMBERS = KeyMapping("public.orders", forward=True, sequence="crm.numbers")


class World(Protocol):
    """One target database with the tables of `fix_target`."""

    def target(self, *, dsn: str | None = None, source_dsn: str | None = None, feed: str = "forward") -> Target:
        """Make a target, as another process would; closed by the world."""

    def table(self, name: str = "accounts") -> Table:
        """A table of the schema crm."""

    def rows(self, name: str = "accounts") -> list[tuple[Any, ...]]:
        """Its rows, as committed."""


Promise = Callable[[World], Awaitable[None]]


async def held(world: World, lanes: int = 1) -> Target:
    """A target that has taken over."""
    target = world.target()
    await target.take_over(lanes)
    return target


async def positions(world: World, lanes: int = 1) -> list[str | None]:
    """What a successor finds."""
    return [checkpoint.position for checkpoint in await world.target().take_over(lanes)]


async def insert(target: Target, table: Table, *numbers: int, lane: int = 0, position: str | None = None) -> None:
    """Insert accounts in one transaction."""
    async with target.transaction(lane) as tx:
        await tx.write(write(table, WriteAction.INSERT, *(account(number) for number in numbers)))
        if position is not None:
            await tx.checkpoint(position, None)


async def begins_without_a_position(world: World) -> None:
    """A new feed has lanes without a position; what a lane committed is found by the next holder."""
    assert [Checkpoint(0, None), Checkpoint(1, None)] == await world.target().take_over(2)

    target = await held(world, 2)
    async with target.transaction(1) as tx:
        await tx.checkpoint("0/1", 12.5)

    assert [Checkpoint(0, None), Checkpoint(1, "0/1", 12.5)] == await world.target().take_over(2)


async def commits_rows_and_checkpoint_together(world: World) -> None:
    """P1: both, or neither when an exception leaves the block, wherever it was raised."""
    target = await held(world)
    await insert(target, world.table(), 1, position="0/1")

    with contextlib.suppress(ZeroDivisionError):
        async with target.transaction(0) as tx:
            await tx.write(write(world.table(), WriteAction.INSERT, account(2)))
            await tx.checkpoint("0/2", None)
            raise ZeroDivisionError
    assert [1] == [row[0] for row in world.rows()]
    await insert(target, world.table(), 3, position="0/3")

    assert [1, 3] == [row[0] for row in world.rows()]
    assert ["0/3"] == await positions(world)


async def supersedes_a_sleeping_holder(world: World) -> None:
    """P2: a holder that wakes up after another has taken over writes no row and moves no checkpoint."""
    sleeper = await held(world)
    await insert(sleeper, world.table(), 1, position="0/1")
    successor = await held(world)

    for _ in range(2):
        with pytest.raises(ReplicatorError) as caught:
            await insert(sleeper, world.table(), 2, position="0/2")
        assert ErrorKind.SUPERSEDED is caught.value.kind
    with pytest.raises(ReplicatorError) as caught:
        async with sleeper.transaction(0) as tx:
            await tx.checkpoint("0/2", None)
    assert ErrorKind.SUPERSEDED is caught.value.kind
    with pytest.raises(ReplicatorError) as caught:
        async with sleeper.job("worker"):
            pass
    assert ErrorKind.SUPERSEDED is caught.value.kind

    await insert(successor, world.table(), 3, position="0/3")
    assert [1, 3] == [row[0] for row in world.rows()]
    assert ["0/3"] == await positions(world)


async def supersedes_an_open_transaction(world: World) -> None:
    """P2: a transaction that was open when another took over is undone, and the successor doesn't wait for it."""
    sleeper = await held(world)

    async def slow() -> None:
        async with sleeper.transaction(0) as tx:
            await tx.write(write(world.table(), WriteAction.INSERT, account(1)))
            assert [None] == await asyncio.wait_for(positions(world), 10)
            await tx.write(write(world.table(), WriteAction.INSERT, account(2)))
            await tx.checkpoint("0/1", None)

    with pytest.raises(ReplicatorError) as caught:
        await slow()

    assert ErrorKind.SUPERSEDED is caught.value.kind
    assert [] == world.rows()


async def does_not_take_a_feed_back(world: World) -> None:
    """Taking over again, after lost connections, yields to whoever has taken over meanwhile."""
    sleeper = await held(world)
    assert [None] == [checkpoint.position for checkpoint in await sleeper.take_over(1)]
    successor = await held(world)

    with pytest.raises(ReplicatorError) as caught:
        await sleeper.take_over(1)

    assert ErrorKind.SUPERSEDED is caught.value.kind
    await insert(successor, world.table(), 1, position="0/1")


async def lays_lanes_anew_at_one_position(world: World) -> None:
    """The number of lanes changes where they stand at one position; else it is refused, and nothing is lost."""
    target = await held(world, 2)
    for lane, position in ((0, "0/5"), (1, "0/5")):
        async with target.transaction(lane) as tx:
            await tx.checkpoint(position, 1.0)

    assert ["0/5", "0/5", "0/5"] == await positions(world, 3)
    target = await held(world, 3)
    async with target.transaction(2) as tx:
        await tx.checkpoint("0/9", 2.0)
    with pytest.raises(ReplicatorError, match="lanes at different positions") as caught:
        await world.target().take_over(1)

    assert ErrorKind.CONFIG is caught.value.kind
    assert ["0/5", "0/5", "0/9"] == await positions(world, 3)


async def undoes_a_savepoint_alone(world: World) -> None:
    """What an exception leaves is undone; what was before and comes after it commits."""
    target = await held(world)
    table = world.table()

    async with target.transaction(0) as tx:
        async with tx.savepoint():
            await tx.write(write(table, WriteAction.INSERT, account(1)))
        with contextlib.suppress(ReplicatorError):
            async with tx.savepoint():
                await tx.write(write(table, WriteAction.INSERT, account(2)))
                async with tx.savepoint():
                    await tx.write(write(table, WriteAction.INSERT, account(1)))
        with contextlib.suppress(ZeroDivisionError):
            async with tx.savepoint():
                raise ZeroDivisionError
        async with tx.savepoint():
            pass
        await tx.write(write(table, WriteAction.INSERT, account(3)))
        await tx.checkpoint("0/1", None)

    assert [1, 3] == [row[0] for row in world.rows()]
    assert ["0/1"] == await positions(world)


async def tells_errors_by_kind(world: World) -> None:
    """With table and constraint; without the row's values."""
    target = await held(world)
    accounts = world.table()
    await insert(target, accounts, 1)
    cases = [
        (write(accounts, WriteAction.INSERT, account(1)), ErrorKind.UNIQUE, "accounts_pkey"),
        (write(accounts, WriteAction.INSERT, account(2, total=b"secret")), ErrorKind.DATA, None),
        (write(accounts, WriteAction.INSERT, account(2, total=b"123456789.00")), ErrorKind.DATA, None),
        (write(world.table("grants"), WriteAction.INSERT, {"account_id": None, "what": b"x"}), ErrorKind.DATA, None),
    ]

    for bad, kind, constraint in cases:
        with pytest.raises(ReplicatorError) as caught:
            async with target.transaction(0) as tx:
                await tx.write(bad)
        assert (kind, constraint) == (caught.value.kind, caught.value.constraint)
        assert str(bad.table.name) == caught.value.table
        assert "secret" not in str(caught.value)
    await insert(target, accounts, 2)  # the session goes on
    assert [1, 2] == [row[0] for row in world.rows()]


async def reports_updates_of_missing_rows(world: World) -> None:
    """Positions of rows whose key isn't there; the others are updated."""
    target = await held(world)
    await insert(target, world.table(), 1, 3)

    async with target.transaction(0) as tx:
        result = await tx.write(
            write(world.table(), WriteAction.UPDATE, *(account(number, name=b"n") for number in (0, 1, 2, 3)))
        )

    assert (2, [0, 2]) == (result.affected, result.missing)
    assert [(1, "n"), (3, "n")] == [row[:2] for row in world.rows()]


async def locks_stripes_and_gate(world: World) -> None:
    """Lanes with other stripes go on; one with a common stripe waits, and whoever takes the gate alone for all."""
    target = await held(world, 3)
    order: list[str] = []

    async def contend(lane: int, stripes: set[int] | None, name: str) -> None:
        async with target.transaction(lane) as tx:
            await (tx.lock_all() if stripes is None else tx.lock(stripes))
            order.append(name)

    async with target.transaction(0) as tx:
        await tx.lock({5, 1023})
        await asyncio.wait_for(contend(1, {4, 6}, "other stripes"), 10)
        same = asyncio.ensure_future(contend(1, {5}, "the same stripe"))
        gate = asyncio.ensure_future(contend(2, None, "the gate"))
        done, _ = await asyncio.wait({same, gate}, timeout=0.3)
        assert set() == done
        order.append("end of the first")
    await asyncio.wait_for(asyncio.gather(same, gate), 10)

    assert ["other stripes", "end of the first"] == order[:2]
    assert {"the same stripe", "the gate"} == set(order[2:])


LETTER = DeadLetter(
    mapping="public.users",
    key=(b'7"\\', b"x,{}", b""),
    table=TableName("public", "Users"),
    op="u",
    position="0/16B3748#3",
    kind="data",
    message='value "too" long',
    before=None,
    after={"id": "7", "name": 'é"\n', "note": None},
)


async def parks_dead_letters(world: World) -> None:
    """They are stored with the transaction, come back as they were, in order, and go when they are unparked."""
    target = await held(world)
    async with target.transaction(0) as tx:
        await tx.park([LETTER, LETTER])
    with contextlib.suppress(ZeroDivisionError):
        async with target.transaction(0) as tx:
            await tx.park([LETTER])
            raise ZeroDivisionError

    first, second = await world.target().dead_letters()
    assert first.id < second.id
    for letter in (first, second):
        fields = ("mapping", "key", "table", "op", "position", "kind", "message", "before", "after", "request")
        assert [getattr(LETTER, name) for name in fields] == [getattr(letter, name) for name in fields]
    async with target.transaction(0) as tx:
        await tx.unpark([first.id])

    assert [second.id] == [letter.id for letter in await target.dead_letters()]


async def translates_keys_once(world: World) -> None:
    """A key gets its pair once, from function or sequence, and keeps it over transactions, lanes and holders."""
    target = await held(world)
    wanted = [(b"1",), (b"2",)]
    async with target.transaction(0) as tx:
        assert {(b"1",): (b"u1",)} == await tx.translate(KEYS, [(b"1",)], create=False)
        assert {} == await tx.translate(NUMBERS, wanted, create=False)
        named = await tx.translate(KEYS, wanted, create=True)
        numbered = await tx.translate(NUMBERS, wanted, create=True)
    other = KeyMapping(KEYS.name, forward=True, function=lambda _: (b"never asked",))
    successor = await held(world)
    async with successor.transaction(0) as tx:
        again = [await tx.translate(keys, wanted, create=False) for keys in (other, NUMBERS)]
        back = await tx.translate(KeyMapping(NUMBERS.name, forward=False), list(numbered.values()), create=True)

    assert {(b"1",): (b"u1",), (b"2",): (b"u2",)} == named
    assert {(b"1000",), (b"1001",)} == set(numbered.values())
    assert [named, numbered] == again
    assert {target: source for source, target in numbered.items()} == back


async def forgets_keys_of_what_was_rolled_back(world: World) -> None:
    """A pair that was made in a savepoint or transaction that is undone is made again, and differently."""
    target = await held(world)
    async with target.transaction(0) as tx:
        with contextlib.suppress(ZeroDivisionError):
            async with tx.savepoint():
                first = await tx.translate(NUMBERS, [(b"1",)], create=True)
                raise ZeroDivisionError
        async with tx.savepoint():
            second = await tx.translate(NUMBERS, [(b"1",)], create=True)
        assert second == await tx.translate(NUMBERS, [(b"1",)], create=False)
    with contextlib.suppress(ZeroDivisionError):
        async with target.transaction(0) as tx:
            third = await tx.translate(NUMBERS, [(b"2",)], create=True)
            raise ZeroDivisionError
    async with target.transaction(0) as tx:
        assert {} == await tx.translate(NUMBERS, [(b"2",)], create=False)
        kept = await tx.translate(NUMBERS, [(b"1",)], create=False)

    assert [{(b"1",): (b"1000",)}, {(b"1",): (b"1001",)}, {(b"2",): (b"1002",)}] == [first, second, third]
    assert second == kept


async def runs_jobs_beside_the_lanes(world: World) -> None:
    """A job's transaction commits its writes without a checkpoint, beside lanes and other jobs."""
    target = await held(world)
    async with target.transaction(0) as lane, target.job("a") as first, target.job("b") as second:
        await lane.write(write(world.table(), WriteAction.INSERT, account(1)))
        await first.write(write(world.table(), WriteAction.INSERT, account(2)))
        async with second.savepoint():
            await second.write(write(world.table(), WriteAction.INSERT, account(3)))
        await lane.checkpoint("0/1", None)
        with pytest.raises(ReplicatorError):
            await first.checkpoint("0/2", None)

    assert [1, 2, 3] == [row[0] for row in world.rows()]
    assert ["0/1"] == await positions(world)


async def pings_and_closes_at_any_time(world: World) -> None:
    """A ping keeps the session, whatever it does; closing twice is no error."""
    target = await held(world)
    async with target.transaction(0) as tx:
        await tx.ping()
        await asyncio.gather(tx.write(write(world.table(), WriteAction.INSERT, account(1))), tx.ping(), tx.ping())
        await tx.ping()

    assert [1] == [row[0] for row in world.rows()]
    await target.close()
    await target.close()


PROMISES: tuple[Promise, ...] = (
    begins_without_a_position,
    commits_rows_and_checkpoint_together,
    supersedes_a_sleeping_holder,
    supersedes_an_open_transaction,
    does_not_take_a_feed_back,
    lays_lanes_anew_at_one_position,
    undoes_a_savepoint_alone,
    tells_errors_by_kind,
    reports_updates_of_missing_rows,
    locks_stripes_and_gate,
    parks_dead_letters,
    translates_keys_once,
    forgets_keys_of_what_was_rolled_back,
    runs_jobs_beside_the_lanes,
    pings_and_closes_at_any_time,
)
