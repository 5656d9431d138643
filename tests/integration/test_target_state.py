"""The schema `replicator`: what is read and asked through it, and the key maps of two databases."""

import asyncio
from dataclasses import replace

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import KeyMapping
from replicator.ports import DeadLetter
from replicator.postgres import wire
from replicator.postgres.session import connect
from replicator.postgres.state import Request, open_state
from replicator.postgres.wire import Command, Wire
from replicator.tables import TableName
from tests.fix_target import CONNECTOR, MakeTargetWorld, TargetWorld

LETTER = DeadLetter("public.users", (b"1",), TableName("public", "users"), "u", "0/1#1", "data", "refused")


async def test_state_before_anything_is_empty(target_world: TargetWorld) -> None:
    """A target that no feed has begun with has no feeds, and that is no error."""
    async with open_state(target_world.database.dsn, CONNECTOR) as state:
        assert [] == await state.feeds()


async def test_feeds_show_where_they_stand(target_world: TargetWorld) -> None:
    """Epoch, lanes, holder, state, positions and what waits; of this connector only."""
    target = target_world.target()
    await target.take_over(2)
    async with target.transaction(1) as tx:
        await tx.park([LETTER, LETTER])
        await tx.checkpoint("0/7", 3.5)
    await target.tell("streaming")

    async with open_state(target_world.database.dsn, CONNECTOR) as state:
        (feed,) = await state.feeds()
    async with open_state(target_world.database.dsn, "another") as state:
        assert [] == await state.feeds()

    assert ("forward", 1, 2, "streaming", 2, 0) == (
        feed.feed, feed.epoch, feed.lanes, feed.state, feed.dead_letters, feed.deferred,
    )  # fmt: skip
    assert [(0, None, None), (1, "0/7", 3.5)] == [(one.lane, one.position, one.commit_time) for one in feed.checkpoints]
    await target_world.target().take_over(2)
    with pytest.raises(ReplicatorError) as caught:
        await target.tell("streaming")
    assert ErrorKind.SUPERSEDED is caught.value.kind


async def test_requests_wake_the_daemon_and_are_answered(target_world: TargetWorld) -> None:
    """A request is kept until it is done, in order; whoever listens for this connector is woken."""
    await target_world.target().take_over(1)
    dsn = target_world.database.dsn
    async with open_state(dsn, CONNECTOR) as daemon, open_state(dsn, CONNECTOR) as command:
        async with open_state(dsn, CONNECTOR) as ear, open_state(dsn, "another") as other:
            woken = ear.woken()
            waiting = asyncio.ensure_future(anext(woken))
            while not target_world.database.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"):
                await asyncio.to_thread(target_world.rows)
            await other.ask("forward", "resync", {"mappings": ["public.x"]})
            asked = await command.ask("forward", "resync", {"mappings": ["public.users"]})
            await asyncio.wait_for(waiting, 10)
            await woken.aclose()

        (request,) = await daemon.requests("forward")
        assert Request(asked.id, "resync", {"mappings": ["public.users"]}, "new") == request
        await daemon.start(request)
        assert ["running"] == [one.status for one in await daemon.requests("forward")]
        await daemon.end(request, "3 chunks", failed=True)

        assert [] == await daemon.requests("forward")
        assert replace(asked, status="failed", message="3 chunks") == await command.request(asked.id)
        assert None is await command.request(0)


async def test_operators_ask_for_dead_letters_by_number(target_world: TargetWorld) -> None:
    """Retry and discard are noted on the letters and left as a request; numbers that don't wait are named."""
    target = target_world.target()
    await target.take_over(1)
    async with target.transaction(0) as tx:
        await tx.park([LETTER, LETTER, LETTER])
    first, second, third = (letter.id for letter in await target.dead_letters())

    async with open_state(target_world.database.dsn, CONNECTOR) as state:
        with pytest.raises(ReplicatorError, match=f"no such dead letter: {third + 1}"):
            await state.ask_letters("forward", [first, third + 1], "discard")
        assert [None] * 3 == [letter.request for letter in await state.dead_letters("forward")]
        asked = await state.ask_letters("forward", [second], "discard")
        assert {"ids": [second]} == asked.payload
    async with target.transaction(0) as tx:
        await tx.unpark([first])
        await tx.discard([second])

    assert [third] == [letter.id for letter in await target.dead_letters()]
    kept = "SELECT id FROM replicator.dead_letter WHERE discarded_at IS NOT NULL"
    assert [(second,)] == target_world.database.execute(kept)


def keys(*, forward: bool, sequence: str | None = None, prefix: bytes = b"u") -> KeyMapping:
    """A mapping whose keys get a prefix on the way to the upgraded side, and a number on the way back."""
    if sequence is not None:
        return KeyMapping("public.users", forward=forward, sequence=sequence)
    return KeyMapping("public.users", forward=forward, function=lambda key: (prefix + key[0],))


async def test_both_databases_come_to_hold_the_whole_map(make_target_world: MakeTargetWorld) -> None:
    """A feed looks into its source's map before it makes a key, and copies what it finds there."""
    upgraded, old = await make_target_world(), await make_target_world()
    forward = upgraded.target(source_dsn=old.database.dsn)
    await forward.take_over(1)
    async with forward.transaction(0) as tx:  # the source has no map yet
        there = await tx.translate(keys(forward=True), [(b"1",), (b"2",)], create=True)
    reverse = old.target(source_dsn=upgraded.database.dsn, feed="reverse")
    await reverse.take_over(1)

    back = keys(forward=False, sequence="crm.numbers")
    async with reverse.transaction(0) as tx:
        assert {(b"u1",): (b"1",)} == await tx.translate(back, [(b"u1",)], create=False)
        again = await tx.translate(back, [(b"u1",), (b"u2",), (b"born there",)], create=True)
    async with forward.transaction(0) as tx:
        born = await tx.translate(keys(forward=True), [(b"1000",)], create=True)
        assert {(b"u2",): (b"2",)} == await tx.source_keys(keys(forward=True), [(b"u2",), (b"nobody",)])

    assert {(b"1",): (b"u1",), (b"2",): (b"u2",)} == there
    assert {(b"u1",): (b"1",), (b"u2",): (b"2",), (b"born there",): (b"1000",)} == again
    assert {(b"1000",): (b"born there",)} == born
    pairs = "SELECT old_key, upgraded_key FROM replicator.key_map ORDER BY 1"
    assert [(["1"], ["u1"]), (["1000"], ["born there"]), (["2"], ["u2"])] == old.database.execute(pairs)
    assert old.database.execute(pairs) == upgraded.database.execute(pairs)


async def test_composite_keys_are_translated_whole(target_world: TargetWorld) -> None:
    """Of any number of columns on either side, with any text in them."""
    target = target_world.target()
    await target.take_over(1)
    odd = KeyMapping("public.lines", forward=True, function=lambda key: (*key, b"", b'"{}\\,'))
    wanted = [(b"a,b", b"NULL"), (b"", b"\\")]

    async with target.transaction(0) as tx:
        made = await tx.translate(odd, wanted, create=True)
    successor = target_world.target()
    await successor.take_over(1)
    async with successor.transaction(0) as tx:
        found = await tx.translate(odd, wanted, create=False)
        back = await tx.source_keys(odd, list(found.values()))

    assert {key: (*key, b"", b'"{}\\,') for key in wanted} == made == found
    assert {target: source for source, target in made.items()} == back


async def test_two_keys_never_become_one(target_world: TargetWorld) -> None:
    """A function that gives two rows one key is told so, by key; nothing is stored."""
    target = target_world.target()
    await target.take_over(1)
    same = KeyMapping("public.users", forward=True, function=lambda _: (b"same",))

    with pytest.raises(ReplicatorError, match="already gives to another row") as caught:
        await translate_once(target_world, same)

    assert ErrorKind.TRANSFORM is caught.value.kind
    assert [] == target_world.database.execute("SELECT 1 FROM replicator.key_map")


async def translate_once(world: TargetWorld, one: KeyMapping) -> None:
    async with world.targets[-1].transaction(0) as tx:
        await tx.translate(one, [(b"1",), (b"2",)], create=True)


async def test_two_lanes_give_a_key_once(target_world: TargetWorld) -> None:
    """The second waits for the first, and takes its pair, also where a sequence would have given it another."""
    target = target_world.target()
    await target.take_over(2)
    numbered = keys(forward=True, sequence="crm.numbers")

    async def second() -> dict[tuple[bytes, ...], tuple[bytes, ...]]:
        async with target.transaction(1) as tx:
            return await tx.translate(numbered, [(b"1",), (b"2",)], create=True)

    async with target.transaction(0) as tx:
        first = await tx.translate(numbered, [(b"1",)], create=True)
        waiting = asyncio.ensure_future(second())
        blocked = "SELECT 1 FROM pg_locks WHERE NOT granted"
        while not target_world.database.execute(blocked):
            await asyncio.to_thread(target_world.rows)
    answer = await asyncio.wait_for(waiting, 10)

    assert first[b"1",] == answer[b"1",]
    assert answer[b"1",] != answer[b"2",]


async def test_a_session_forgets_old_statements(target_world: TargetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tables don't fill the server's memory with prepared statements; one that went comes back."""
    monkeypatch.setattr(wire, "_PREPARED_MAX", 3)
    connection = await connect(target_world.database.dsn, "test")
    session = Wire(connection)
    commands = [Command(b"SELECT %d + $1::int" % number, [b"1"]) for number in range(10)]

    answers = [result.get_value(0, 0) for _ in range(2) for result in await session.run(*commands)]
    (count,) = await session.run(Command(b"SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'replicator%'"))

    assert [b"%d" % (number + 1) for number in range(10)] * 2 == answers
    assert b"3" == count.get_value(0, 0)
    with pytest.raises(ReplicatorError, match="does not exist"):
        await session.run(Command(b"SELECT * FROM nowhere", doing="trying"), commands[0])
    assert [b"1"] == [result.get_value(0, 0) for result in await session.run(commands[0])]
    await session.close()
