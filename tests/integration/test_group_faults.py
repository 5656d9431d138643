"""A group whose processes are frozen, woken, cut off, or lose the answer to a COMMIT."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres import leadership
from replicator.writes import WriteAction
from tests.conformance.group_contract import P0, P1, ids, insert, job, joined, moved
from tests.fix_group import GroupMember, PostgresGroupWorld
from tests.fix_proxy import MakeProxy
from tests.fix_target import account, write
from tests.polling import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


class Process:
    """A process of the group; see `tests.group_process`."""

    def __init__(self, dsn: str) -> None:
        command = [sys.executable, "-m", "tests.group_process", dsn]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def says(self, expected: str) -> None:
        answer = await asyncio.wait_for(asyncio.to_thread(self._answer), 30)
        assert expected == answer

    def _answer(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{line}\n")
        self._child.stdin.flush()

    def freeze(self) -> None:
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        self._child.wait()


@contextlib.contextmanager
def process(world: PostgresGroupWorld) -> Iterator[Process]:
    made = Process(world.dsn)
    try:
        yield made
    finally:
        made.end()


async def test_frozen_in_a_transaction(group_world: PostgresGroupWorld) -> None:
    """P2: its successor gets the rows that it had locked at once, and the one that wakes writes nothing, ever."""
    with process(group_world) as frozen:
        await frozen.says("ready")
        frozen.tell("lane 1")
        await frozen.says("open")
        frozen.freeze()

        successor = await asyncio.wait_for(joined(group_world, P0), 10)
        await asyncio.wait_for(insert(group_world, successor, 1, (P0, 7)), 10)
        frozen.thaw()
        frozen.tell("go on")
        await frozen.says("reassigned")
        frozen.tell("lane 8")
        await frozen.says("reassigned")

    assert ([1], {P0: 7}) == (ids(group_world), await successor.ledger.offsets())


async def test_frozen_before_a_transaction(group_world: PostgresGroupWorld) -> None:
    """P2: one that wakes between two transactions can't open a session that would lock a row."""
    with process(group_world) as frozen:
        await frozen.says("ready")
        frozen.freeze()
        successor = await asyncio.wait_for(joined(group_world, P0), 10)
        frozen.thaw()
        frozen.tell("lane 1")
        await frozen.says("reassigned")
        await insert(group_world, successor, 2, (P0, 1))

    assert [2] == ids(group_world)


async def test_a_frozen_leader_is_followed(group_world: PostgresGroupWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its silence gives it away; the job that it had open is undone, and it begins no other when it wakes."""
    monkeypatch.setattr(leadership, "_SILENCE_SECONDS", 4.0)
    member = await joined(group_world, P1)
    with process(group_world) as frozen:
        await frozen.says("ready")
        frozen.tell("lead")
        await frozen.says("leads")
        await frozen.says("done")
        frozen.tell("job 1")
        await frozen.says("open")
        frozen.freeze()

        await asyncio.wait_for(member.target.lead(), 30)
        await asyncio.wait_for(job(group_world, member, 1), 10)
        frozen.thaw()
        frozen.tell("go on")
        await frozen.says("reassigned")
        frozen.tell("job 2")
        await frozen.says("reassigned")
        frozen.tell("lane 3")  # nobody has taken its partition over
        await frozen.says("open")
        frozen.tell("go on")
        await frozen.says("done")

    assert [1, 3] == ids(group_world)


async def test_a_leader_that_lives_is_left_alone(
    group_world: PostgresGroupWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it has nothing to do for longer than the silence that is suspicious."""
    for name, seconds in (("_BEAT_SECONDS", 0.1), ("_SILENCE_SECONDS", 0.6), ("_POLL_SECONDS", 0.05)):
        monkeypatch.setattr(leadership, name, seconds)
    leader, waiter = await joined(group_world, P0), await joined(group_world, P1)
    await leader.target.lead()

    waiting = asyncio.ensure_future(waiter.target.lead())
    await asyncio.wait({waiting}, timeout=2)
    assert not waiting.done()
    await job(group_world, leader, 1)
    waiting.cancel()

    assert [1] == ids(group_world)


async def test_a_lost_leadership_is_told(group_world: PostgresGroupWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leads learns that its session is gone, begins no job after that, and may lead again."""
    monkeypatch.setattr(leadership, "_BEAT_SECONDS", 0.05)
    member = await joined(group_world, P0)
    assert isinstance(member, GroupMember)
    with pytest.raises(ReplicatorError):
        await member.target.keep_leading()
    await member.target.lead()
    keeping = asyncio.ensure_future(member.target.keep_leading())

    group_world.database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%/leader'"
    )

    with pytest.raises(ReplicatorError) as caught:
        await asyncio.wait_for(keeping, 10)
    assert ErrorKind.REASSIGNED is caught.value.kind
    assert not member.target.is_leader
    with pytest.raises(ReplicatorError) as caught:
        await job(group_world, member, 1)
    assert ErrorKind.REASSIGNED is caught.value.kind
    await member.target.lead()
    await job(group_world, member, 2)
    assert [2] == ids(group_world)


async def test_a_former_leader_tells_no_state(group_world: PostgresGroupWorld) -> None:
    """P2: what people see of the feed is what its leader says."""
    former, leader = await joined(group_world), await joined(group_world)
    assert isinstance(former, GroupMember)
    assert isinstance(leader, GroupMember)
    await former.target.lead()
    group_world.database.execute("UPDATE replicator.feed SET epoch = epoch + 1")

    with pytest.raises(ReplicatorError) as caught:
        await former.target.tell("streaming")
    assert ErrorKind.REASSIGNED is caught.value.kind
    with pytest.raises(ReplicatorError) as caught:
        await job(group_world, former, 1)
    assert ErrorKind.REASSIGNED is caught.value.kind


@pytest.mark.parametrize("lost", ["question", "answer"])
async def test_a_commit_without_an_answer(lost: str, group_world: PostgresGroupWorld, make_proxy: MakeProxy) -> None:
    """P1: the next session reads the offsets, and goes on behind the rows that are there; nothing is doubled."""
    proxy = make_proxy(group_world.database.server.port)
    member = group_world.member(dsn=proxy.dsn(group_world.dsn))
    await member.target.take_over(1)
    await member.ledger.take_over([P0])
    await member.ledger.begin({P0: 0})
    await insert(group_world, member, 1, (P0, 1))

    async def cut_at_commit() -> None:
        async with member.target.transaction(0) as tx:
            await tx.write(write(group_world.table(), WriteAction.INSERT, account(2)))
            await tx.checkpoint(moved((P0, 2)), None)
            proxy.stall("to_client" if lost == "answer" else "to_server")
            asyncio.get_running_loop().call_later(0.5, proxy.cut)

    with pytest.raises(ReplicatorError) as caught:
        await cut_at_commit()
    proxy.resume()
    assert ErrorKind.COMMIT_UNKNOWN is caught.value.kind

    successor = group_world.member(dsn=proxy.dsn(group_world.dsn))
    await successor.target.take_over(1)
    expected = (2, [1, 2]) if lost == "answer" else (1, [1])
    assert expected == ((await successor.ledger.take_over([P0]))[P0], ids(group_world))
    await insert(group_world, successor, 3, (P0, 3))


async def test_a_locked_partition_is_waited_for(group_world: PostgresGroupWorld) -> None:
    """By whoever takes it over, as long as it takes; and the partitions of others go on."""
    member = await joined(group_world, P0, P1)
    with group_world.database.connect() as session:
        session.execute("SELECT FROM replicator.partition WHERE partition = 0 FOR UPDATE")
        taking = asyncio.ensure_future(group_world.member().ledger.take_over([P0]))
        await asyncio.wait({taking}, timeout=2.5)  # longer than one attempt
        assert not taking.done()
        await insert(group_world, member, 1, (P1, 1))
        session.rollback()

    assert {P0: 0} == await asyncio.wait_for(taking, 20)


async def test_a_member_of_another_role_is_refused_at_its_commit(group_world: PostgresGroupWorld) -> None:
    """P2: its sessions can't be ended; the epoch of a partition alone tells that what it wrote isn't to be kept."""
    member = await joined(group_world, P0)
    group_world.as_plain_role()
    role = f'"plain {group_world.database.name}"'
    group_world.database.execute(
        f"GRANT USAGE ON SCHEMA replicator TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA replicator TO {role}"
    )

    async def overtaken() -> None:
        async with member.target.transaction(0) as tx:
            await tx.write(write(group_world.table(), WriteAction.INSERT, account(1)))
            await asyncio.wait_for(joined(group_world, P0), 10)
            await tx.checkpoint(moved((P0, 1)), None)

    with pytest.raises(ReplicatorError) as caught:
        await overtaken()

    assert ErrorKind.REASSIGNED is caught.value.kind
    assert ([], {P0: 0}) == (ids(group_world), await member.ledger.offsets())


async def test_what_a_lost_session_holds_is_ended(group_world: PostgresGroupWorld, make_proxy: MakeProxy) -> None:
    """A backend whose client is gone may wait for a lock for hours: giving its partitions up doesn't hide it."""
    proxy = make_proxy(group_world.database.server.port)
    member = group_world.member(dsn=proxy.dsn(group_world.dsn))
    await member.target.take_over(1)
    await member.ledger.take_over([P0])
    await member.ledger.begin({P0: 0})
    with group_world.database.connect() as other:
        other.execute("INSERT INTO crm.accounts VALUES (1)")
        writing = asyncio.ensure_future(insert(group_world, member, 1, (P0, 1)))
        await eventually(lambda: bool(group_world.database.execute(WAITING)))
        await asyncio.to_thread(proxy.cut)
        with pytest.raises(ReplicatorError) as caught:
            await writing
        assert ErrorKind.CONNECTION is caught.value.kind
        await member.ledger.release([P0])

        successor = await asyncio.wait_for(joined(group_world, P0), 10)

        assert [] == group_world.database.execute(WAITING)
        other.rollback()
    await insert(group_world, successor, 2, (P0, 1))
    assert [2] == ids(group_world)


WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"


async def test_one_that_waits_to_lead_anew_is_not_disturbed(
    group_world: PostgresGroupWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is left of an attempt that was cancelled a moment before."""
    monkeypatch.setattr(leadership, "_POLL_SECONDS", 0.05)
    leader, member = await joined(group_world, P0), await joined(group_world, P1)
    await leader.target.lead()
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '%/leader'"
    for _ in range(5):
        given_up = asyncio.ensure_future(member.target.lead())
        await eventually(lambda: len(group_world.database.execute(waits)) > 1)
        given_up.cancel()
        anew = asyncio.ensure_future(member.target.lead())
        await asyncio.wait({anew}, timeout=0.2)
        assert not anew.done()
        anew.cancel()
        await asyncio.gather(given_up, anew, return_exceptions=True)
    anew = asyncio.ensure_future(member.target.lead())
    await leader.close()

    await asyncio.wait_for(anew, 10)
    await job(group_world, member, 1)


async def test_a_copy_without_a_key_holds_its_partitions(group_world: PostgresGroupWorld) -> None:
    """Until it is committed they are neither given up nor taken over: whoever has them next reads what it holds."""
    first, second = await joined(group_world, P0), await joined(group_world, P1)
    assert isinstance(first, GroupMember)
    assert isinstance(second, GroupMember)
    await first.target.lead()

    async def copy(*, taken: bool) -> None:
        async with first.target.job("copy") as tx:
            assert {P0, P1} == await first.ledger.hold(tx, [P0[0]])
            with pytest.raises(ReplicatorError) as caught:
                await first.ledger.release([P0])
            assert ErrorKind.TIMEOUT is caught.value.kind
            await tx.write(write(group_world.table(), WriteAction.INSERT, account(1 + taken)))
            if taken:
                await second.ledger.take_over([P0])

    await copy(taken=False)
    assert [1] == ids(group_world)
    await first.ledger.take_over([P0])
    with pytest.raises(ReplicatorError):
        await copy(taken=True)
    assert [1] == ids(group_world)
