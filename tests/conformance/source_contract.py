"""What `ports.Source` promises, as tests that every implementation runs.

A module binds them to its source by parametrising over `PROMISES` and handing each one a world of its own:

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    async def test_contract(promise: Promise, world: World) -> None:
        await promise(world)
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Protocol

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Batch, ChangeEvent, Op, Position
from replicator.ports import Source

ROWS_MAX = 10_000
BYTES_MAX = 16 << 20
DEADLINE_SECONDS = 30


class World(Protocol):
    """One stream and who writes to it. Rows have an integer key in their first column."""

    def source(self, *, buffer_bytes_max: int = 64 << 20) -> Source:
        """Make a source on the stream, not started; closed by the world."""

    def commit(self, *keys: int, body_bytes: int = 1) -> None:
        """Commit one transaction that inserts these rows into the mapped table."""

    def commit_unmapped(self) -> None:
        """Commit a change of a table that is in the stream, but not mapped."""

    def commit_echo(self, *keys: int) -> None:
        """Commit one transaction as the other feed of this connector would."""


Promise = Callable[[World], Awaitable[None]]


async def taken(source: Source, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX) -> Batch:
    """Take one batch, in time."""
    return await asyncio.wait_for(source.take(rows_max, bytes_max), DEADLINE_SECONDS)


async def collected(source: Source, events: int, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX) -> list[Batch]:
    """Take batches until they hold this many events; the last one is complete. Empty ones are left out."""
    batches: list[Batch] = []
    while sum(len(batch.events) for batch in batches) < events or not batches[-1].complete:
        batch = await taken(source, rows_max, bytes_max)
        if batch.events or not batch.complete or (batches and not batches[-1].complete):
            batches.append(batch)
    return batches


def keys_of(*batches: Batch) -> list[int]:
    """The keys of all events, in order."""
    return [int(bytes_of(event)) for batch in batches for event in batch.events]


def bytes_of(event: ChangeEvent) -> bytes:
    """The key's text."""
    assert event.after is not None
    key = event.after[0]
    assert isinstance(key, bytes)
    return key


async def reached(source: Source, position: Position) -> list[Batch]:
    """Take batches until the position is reached; the source is nudged meanwhile."""
    batches: list[Batch] = []
    while not batches or batches[-1].position < position:
        source.nudge()
        batches.append(await taken(source))
    return batches


async def events_in_commit_order(world: World) -> None:
    """Events come in commit order, in order within their transaction, with ordinals from 1."""
    source = world.source()
    await source.start(None)
    world.commit(3, 1, 2)
    world.commit(5)
    world.commit(4, 6)

    events = [event for batch in await collected(source, 6) for event in batch.events]

    assert [b"3", b"1", b"2", b"5", b"4", b"6"] == [bytes_of(event) for event in events]
    assert {Op.INSERT} == {event.op for event in events}
    places = [(event.transaction.commit_lsn, event.ordinal) for event in events]
    assert sorted(set(places)) == places
    assert [1, 2, 3, 1, 1, 2] == [event.ordinal for event in events]


async def batches_end_with_transactions(world: World) -> None:
    """Within the limits a batch is a whole number of transactions, and counts them."""
    source = world.source()
    await source.start(None)
    for number in range(20):
        world.commit(number * 2, number * 2 + 1)

    batches = await collected(source, 40, rows_max=5)

    assert list(range(40)) == keys_of(*batches)
    assert all(batch.complete and len(batch.events) in {2, 4} for batch in batches)
    assert 20 == sum(batch.transactions for batch in batches)
    assert all(batch.commit_time is not None and batch.first_commit_time is not None for batch in batches)


async def large_transactions_in_parts(world: World) -> None:
    """A transaction above the limit comes in parts within it; only the last part is complete."""
    source = world.source()
    await source.start(None)
    world.commit(*range(95))

    batches = await collected(source, 95, rows_max=10)

    assert list(range(95)) == keys_of(*batches)
    assert all(len(batch.events) <= 10 for batch in batches)
    assert [False] * (len(batches) - 1) + [True] == [batch.complete for batch in batches]
    assert all(earlier.position < later.position for earlier, later in pairwise(batches))


async def restart_brings_what_follows_a_position(world: World) -> None:
    """After any batch's position, parts of transactions included, exactly the rest comes, and nothing twice."""
    source = world.source()
    begin = await source.start(None)
    world.commit(0)
    world.commit(*range(1, 8))
    world.commit(8, 9)
    batches = await collected(source, 10, rows_max=3)
    await source.close()

    seen = 0
    for position, rows in [(begin, 0), *((batch.position, len(batch.events)) for batch in batches)]:
        seen += rows
        again = world.source()
        parsed = again.parse(again.format(position))
        assert position == parsed
        assert position == await again.start(parsed)
        if seen < 10:
            assert list(range(seen, 10)) == keys_of(*await collected(again, 10 - seen))
        await again.close()


async def a_source_starts_again_after_itself(world: World) -> None:
    """`start` on a running source begins anew from the position."""
    source = world.source()
    await source.start(None)
    world.commit(1)
    world.commit(2)
    (first, *_) = await collected(source, 2, rows_max=1)

    await source.start(first.position)

    assert [2] == keys_of(*await collected(source, 1))


async def a_cancelled_take_loses_nothing(world: World) -> None:
    """Takes that are cancelled while waiting lose no event."""
    source = world.source()
    await source.start(None)
    keys: list[int] = []
    for number in range(30):
        taking = asyncio.ensure_future(source.take(ROWS_MAX, BYTES_MAX))
        world.commit(number)
        await asyncio.wait({taking}, timeout=0.002 * (number % 5))
        if not taking.cancel():
            keys += keys_of(taking.result())
        else:
            with pytest.raises(asyncio.CancelledError):
                await taking
    if len(keys) < 30:
        keys += keys_of(*await collected(source, 30 - len(keys)))

    assert list(range(30)) == keys


async def idle_sources_report_progress(world: World) -> None:
    """Without any mapped change the position still reaches where the source stood, as batches without events."""
    source = world.source()
    await source.start(None)
    world.commit_unmapped()
    head = await source.head()

    batches = await reached(source, await source.passed(head))

    assert not keys_of(*batches)
    assert all(batch.complete and batch.transactions == 0 for batch in batches)


async def echoes_are_dropped(world: World) -> None:
    """Transactions of the connector's other feed are dropped, and are progress."""
    source = world.source()
    await source.start(None)
    world.commit(1)
    world.commit_echo(2, 3)
    world.commit(4)
    world.commit_echo(5)
    head = await source.head()

    batches = await reached(source, await source.passed(head))

    assert [1, 4] == keys_of(*batches)


async def a_heartbeat_is_reached(world: World) -> None:
    """A heartbeat's position lies after what was committed before it, and is reached without any other write."""
    source = world.source()
    await source.start(None)
    world.commit(1)
    position = await source.passed(await source.beat())

    batches = await reached(source, position)
    while batches[-1].commit_time is None:  # passed by the server's word already, the heartbeat follows
        batches.append(await taken(source))

    assert [1] == keys_of(*batches)


async def reading_is_bounded(world: World) -> None:
    """While nobody takes, no more than the buffer is held; afterwards everything comes."""
    source = world.source(buffer_bytes_max=64 << 10)
    await source.start(None)
    for number in range(40):
        world.commit(*range(number * 50, number * 50 + 50), body_bytes=1000)

    async def settled() -> int:
        before, same = -1, 0
        async with asyncio.timeout(DEADLINE_SECONDS):
            while same < 3:
                # Nothing: a group's member reads only what it is given, and gives back what it had then.
                same = same + 1 if before == source.ready_rows > 0 else 0
                before = source.ready_rows
                await source.lag()  # a round trip lets the loop read
                await source.lag()
        return before

    held = await settled()
    batches = await collected(source, 2000)

    assert 0 < held < 1500
    assert list(range(2000)) == keys_of(*batches)


async def confirmed_positions_survive(world: World) -> None:
    """What is confirmed isn't sent to a new feed again; what isn't, is."""
    source = world.source()
    await source.start(None)
    world.commit(1)
    world.commit(2)
    (first, *_) = await collected(source, 2, rows_max=1)
    source.confirm(first.position)
    await source.close()

    again = world.source()
    await again.start(None)

    assert [2] == keys_of(*await collected(again, 1))


async def closing_twice_is_closing(world: World) -> None:
    """`close` is idempotent, before and after a start; a take then says that the source isn't running."""
    source = world.source()
    await source.close()
    await source.start(None)
    await source.close()
    await source.close()

    with pytest.raises(ReplicatorError) as caught:
        await source.take(1, 1)

    assert ErrorKind.INTERNAL is caught.value.kind


async def foreign_positions_are_refused(world: World) -> None:
    """A position that this kind of source never wrote is refused, not guessed at."""
    source = world.source()

    with pytest.raises(ReplicatorError) as caught:
        source.parse("who knows")

    assert ErrorKind.CONFIG is caught.value.kind


PROMISES: list[Promise] = [
    events_in_commit_order,
    batches_end_with_transactions,
    large_transactions_in_parts,
    restart_brings_what_follows_a_position,
    a_source_starts_again_after_itself,
    a_cancelled_take_loses_nothing,
    idle_sources_report_progress,
    echoes_are_dropped,
    a_heartbeat_is_reached,
    reading_is_bounded,
    confirmed_positions_survive,
    closing_twice_is_closing,
    foreign_positions_are_refused,
]
