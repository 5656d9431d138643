"""What a target does when connections break, rights lack, or somebody else is there."""

import asyncio
import contextlib

import psycopg
import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.ports import Checkpoint, Target, TargetTransaction
from replicator.writes import WriteAction
from tests.fix_proxy import MakeProxy
from tests.fix_target import CONNECTOR, MakeTargetWorld, TargetWorld, account, write
from tests.polling import eventually

A = WriteAction


async def insert(target: Target, world: TargetWorld, number: int, position: str | None = None) -> None:
    async with target.transaction(0) as tx:
        await tx.write(write(world.table(), A.INSERT, account(number)))
        if position is not None:
            await tx.checkpoint(position, None)


async def refused(target: Target, world: TargetWorld, number: int, position: str | None = None) -> ReplicatorError:
    """The error of an insert that fails."""
    with pytest.raises(ReplicatorError) as caught:
        await insert(target, world, number, position)
    return caught.value


@pytest.mark.fault
@pytest.mark.parametrize("lost", ["question", "answer"])
async def test_a_commit_without_an_answer_is_unknown_until_the_next_take_over(
    lost: str, target_world: TargetWorld, make_proxy: MakeProxy
) -> None:
    """The checkpoint then tells: both rows and position are there, or neither."""
    world = target_world
    proxy = make_proxy(world.database.server.port)
    target = world.target(dsn=proxy.dsn(world.database.dsn))
    await target.take_over(1)
    await insert(target, world, 1, "0/1")

    async def cut_at_commit() -> None:
        async with target.transaction(0) as tx:
            await tx.write(write(world.table(), A.INSERT, account(2)))
            await tx.checkpoint("0/2", None)
            proxy.stall("to_client" if lost == "answer" else "to_server")
            asyncio.get_running_loop().call_later(0.5, proxy.cut)

    with pytest.raises(ReplicatorError) as caught:
        await cut_at_commit()
    proxy.resume()

    assert ErrorKind.COMMIT_UNKNOWN is caught.value.kind
    (checkpoint,) = await target.take_over(1)
    expected = ("0/2", [1, 2]) if lost == "answer" else ("0/1", [1])
    assert expected == (checkpoint.position, [row[0] for row in world.rows()])
    await insert(target, world, 3, "0/3")


@pytest.mark.fault
async def test_a_lost_connection_is_made_anew(target_world: TargetWorld, make_proxy: MakeProxy) -> None:
    """A cut inside a transaction undoes it; the next one has a new session."""
    world = target_world
    proxy = make_proxy(world.database.server.port)
    target = world.target(dsn=proxy.dsn(world.database.dsn))
    await target.take_over(1)

    async def cut_inside() -> None:
        async with target.transaction(0) as tx:
            await tx.write(write(world.table(), A.INSERT, account(1)))
            await asyncio.to_thread(proxy.cut)
            await tx.write(write(world.table(), A.INSERT, account(2)))

    with pytest.raises(ReplicatorError) as caught:
        await cut_inside()

    assert ErrorKind.CONNECTION is caught.value.kind
    await insert(target, world, 3, "0/3")
    assert [3] == [row[0] for row in world.rows()]


async def test_a_refused_commit_undoes_all(make_target_world: MakeTargetWorld) -> None:
    """A deferred constraint speaks at COMMIT: rows and checkpoint stay as they were, and the lane goes on."""
    world = await make_target_world(
        schema="CREATE SCHEMA crm; CREATE TABLE crm.accounts (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)"
    )
    target = world.target()
    await target.take_over(1)
    await insert(target, world, 1, "0/1")

    error = await refused(target, world, 1, "0/2")

    assert (ErrorKind.UNIQUE, "accounts_pkey") == (error.kind, error.constraint)
    await insert(target, world, 2, "0/2")
    assert [1, 2] == [row[0] for row in world.rows()]


async def test_a_cancelled_write_leaves_nothing(target_world: TargetWorld) -> None:
    """Cancelled while it waits for a lock, the server stops it too; the next transaction works."""
    world = target_world
    target = world.target()
    await target.take_over(1)
    with world.database.connect() as other:
        other.execute("INSERT INTO crm.accounts VALUES (1)")
        waiting = asyncio.ensure_future(insert(target, world, 1, "0/1"))
        await eventually(lambda: bool(world.database.execute(WAITING)))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await eventually(lambda: not world.database.execute(WAITING))
        await insert(target, world, 2, "0/2")
        other.rollback()

    assert [2] == [row[0] for row in world.rows()]


WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"


async def test_a_read_only_target_is_waited_for(target_world: TargetWorld) -> None:
    """Its refusal is of a kind that is retried; nothing is lost."""
    world = target_world
    target = world.target()
    await target.take_over(1)
    world.database.execute(f"ALTER DATABASE {world.database.name} SET default_transaction_read_only = on")
    world.database.execute("SELECT pg_terminate_backend(pid) FROM replicator.backend")
    await target.close()

    error = await refused(target, world, 1)

    assert ErrorKind.READ_ONLY is error.kind


async def test_many_that_begin_at_once_leave_one_holder(target_world: TargetWorld) -> None:
    """The schema is made once; each takes over or is told that it was superseded; one can write in the end."""
    world = target_world
    targets = [world.target() for _ in range(6)]

    answers = await asyncio.gather(*(target.take_over(2) for target in targets), return_exceptions=True)
    assert [] == [answer for answer in answers if isinstance(answer, BaseException)]

    written = []
    for number, target in enumerate(targets):
        with contextlib.suppress(ReplicatorError):
            await insert(target, world, number, f"0/{number}")
            written.append(number)
    assert written == [row[0] for row in world.rows()]
    assert 1 == len(written)


async def test_connectors_and_feeds_do_not_disturb_each_other(target_world: TargetWorld) -> None:
    """Another feed's take-over, checkpoints, dead letters and locks are its own."""
    world = target_world
    forward, reverse = world.target(), world.target(feed="reverse")
    await forward.take_over(1)
    await insert(forward, world, 1, "0/1")

    assert [None] == [one.position for one in await reverse.take_over(1)]

    await insert(reverse, world, 2, "9/9")
    await insert(forward, world, 3, "0/3")
    assert [1, 2, 3] == [row[0] for row in world.rows()]


async def test_lacking_rights_are_named_with_their_remedy(target_world: TargetWorld) -> None:
    """A role that may not make the schema is told the statement to run, with its own name in it."""
    world = target_world
    role = f"pl'ain {world.database.name}"
    world.database.execute(f'CREATE ROLE "{role}" LOGIN')
    target = world.target(dsn=world.database.server.dsn(world.database.name, role))

    with pytest.raises(ReplicatorError, match="permission denied") as caught:
        await target.take_over(1)

    assert ErrorKind.PERMISSION is caught.value.kind
    assert f'CREATE SCHEMA replicator AUTHORIZATION "{role}";' in str(caught.value)
    world.database.execute(f'CREATE SCHEMA replicator AUTHORIZATION "{role}"')
    await target.take_over(1)
    assert "origin" == target.role


async def test_a_newer_schema_is_left_alone(target_world: TargetWorld) -> None:
    """A program that doesn't know the schema's version touches nothing."""
    await target_world.target().take_over(1)
    target_world.database.execute("UPDATE replicator.version SET number = 99")

    with pytest.raises(ReplicatorError, match="of version 99") as caught:
        await target_world.target().take_over(1)

    assert ErrorKind.CONFIG is caught.value.kind


MARKS = """
    SELECT encode(data, 'escape') FROM pg_logical_slot_get_binary_changes(
        'slot', NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'messages', 'true')
"""


def marks(world: TargetWorld) -> list[str]:
    """First letters and contents of what a reader of this database's changes would see, but for rows."""
    return [row[0] for row in world.database.execute(MARKS) if row[0][:1] in "OM"]


async def test_transactions_are_marked_for_the_other_feed(target_world: TargetWorld) -> None:
    """P9: a lane's by origin where the role may set one; else, and a job's, by a message before the first change."""
    world = target_world
    role = f"plain {world.database.name}"
    world.database.execute(
        f'CREATE PUBLICATION p FOR TABLE crm.accounts; CREATE ROLE "{role}" LOGIN; GRANT ALL ON SCHEMA crm TO "{role}";'
        f'GRANT ALL ON ALL TABLES IN SCHEMA crm TO "{role}"; CREATE SCHEMA replicator AUTHORIZATION "{role}"'
    )
    world.database.execute("SELECT pg_create_logical_replication_slot('slot', 'pgoutput')")
    plain = world.target(dsn=world.database.server.dsn(world.database.name, role))
    await plain.take_over(1)

    await insert(plain, world, 1)
    by_message = marks(world)
    await plain.close()
    target = world.target()
    await target.take_over(1)
    await insert(target, world, 2)
    async with target.job("chunk") as tx:
        await tx.write(write(world.table(), A.INSERT, account(3)))
    by_both = marks(world)

    assert ["message", "origin"] == [plain.marks_by, target.marks_by]
    assert ["M"] == [mark[:1] for mark in by_message]
    assert by_message[0].endswith(f"replicator/{CONNECTOR}/forward/0")
    assert ["O", "M"] == [mark[:1] for mark in by_both]
    assert by_both[0].endswith(f"replicator/{CONNECTOR}/forward/0\\000")
    assert by_both[1].endswith(f"replicator/{CONNECTOR}/forward/chunk")


async def test_a_holder_of_another_role_is_waited_for(target_world: TargetWorld) -> None:
    """Its backends can't be ended; the take-over waits for its open transaction, and it is superseded after that."""
    world = target_world
    role = f"plain {world.database.name}"
    holder = world.target()
    await holder.take_over(1)
    world.database.execute(
        f'CREATE ROLE "{role}" LOGIN; GRANT USAGE ON SCHEMA replicator, crm TO "{role}";'
        f'GRANT ALL ON ALL TABLES IN SCHEMA replicator, crm TO "{role}"'
    )
    successor = world.target(dsn=world.database.server.dsn(world.database.name, role))

    async def slow(tx: TargetTransaction) -> asyncio.Future[list[Checkpoint]]:
        await tx.write(write(world.table(), A.INSERT, account(1)))
        taking = asyncio.ensure_future(successor.take_over(1))
        await eventually(lambda: bool(world.database.execute(WAITING_FOR_FEED)))
        await tx.checkpoint("0/1", None)
        return taking

    async with holder.transaction(0) as tx:
        taking = await slow(tx)

    assert ["0/1"] == [one.position for one in await asyncio.wait_for(taking, 20)]
    assert ErrorKind.SUPERSEDED is (await refused(holder, world, 2)).kind


WAITING_FOR_FEED = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%replicator.checkpoint%'"
)


async def test_driver_errors_do_not_cross_the_port(target_world: TargetWorld) -> None:
    """A server that isn't there is an error of ours, without the password of its DSN."""
    target = target_world.target(dsn="postgresql://somebody:hunter2@127.0.0.1:1/none")

    with pytest.raises(ReplicatorError) as caught:
        await target.take_over(1)

    assert ErrorKind.CONNECTION is caught.value.kind
    assert "hunter2" not in str(caught.value)
    assert not isinstance(caught.value, psycopg.Error)
