"""Where a connector stands, as its databases tell it: without the daemon, or beside it.

target   state, epoch, checkpoints, copies, dead letters      source   slot, its holder, end of the WAL
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from replicator.config import KafkaStream
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.findings import read_verification
from replicator.daemon.parts import open_parts
from replicator.engine.backfill import JOB
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Position
from replicator.postgres.backfill_state import PostgresBackfillStore
from replicator.postgres.digest_state import PostgresDigestStore
from replicator.postgres.heartbeat import beat
from replicator.postgres.job_state import JobState
from replicator.postgres.probe import Probe
from replicator.postgres.schema_state import PostgresSchemaStore
from replicator.postgres.slot import format_position, parse_position
from replicator.postgres.slots import Slot, read_slot
from replicator.postgres.state import FeedState, State, open_state
from replicator.telemetry import (
    BackfillState,
    ConnectorStatus,
    FeedStatus,
    TableBackfill,
    connector_document,
)
from replicator.telemetry import State as Stage

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.daemon.kafka_intake import KafkaIntake

POLL_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Ends:
    """Sessions on both ends of a connector, for looking and asking.

    Attributes:
        connector: its file.
        state: in the target.
        source: beside the slot.

    """

    connector: Connector
    state: State
    source: Probe

    async def feed(self) -> FeedState | None:
        """The forward feed as the target knows it; None before it has begun."""
        return next((one for one in await self.state.feeds() if one.feed == FORWARD), None)

    async def slot(self) -> Slot | None:
        """The forward feed's slot; its holder is the running daemon."""
        return await read_slot(await self.source.session(), self.connector.slot_name)

    async def mark(self) -> Position:
        """A position after everything that is committed on the source now: by a heartbeat, or the end of its WAL."""
        try:
            return Position(await beat(await self.source.session(), f"{self.connector.name}/{FORWARD}"))
        except ReplicatorError as error:
            if error.kind is not ErrorKind.PERMISSION:
                raise
        return Position(await self.source.insert_lsn())


@asynccontextmanager
async def open_ends(connector: Connector) -> AsyncIterator[Ends]:
    """Both ends; the sessions end with the block.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION, of the target; the source is asked later.

    """
    source = Probe(old_dsn(connector), f"{connector.name}/{FORWARD}/status")
    async with open_state(upgraded_dsn(connector), connector.name) as state:
        try:
            yield Ends(connector, state, source)
        finally:
            await source.close()


async def served(ends: Ends) -> bool:
    """Whether a daemon runs, as far as the databases can tell: it reads the slot, or is of a group that reads a log."""
    connector = ends.connector
    if isinstance(connector.stream, KafkaStream):
        jobs = JobState(upgraded_dsn(connector), connector.name)
        return await jobs.anybody(f"{connector.name}/{FORWARD}/leader")
    slot = await ends.slot()
    return slot is not None and slot.holder_pid is not None


async def read_status(connector: Connector) -> dict[str, Any]:
    """The status document, as far as the databases know it; what only the daemon knows is null.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION, when the target can't be read.

    """
    now = time.time()
    status = ConnectorStatus.new(connector.name, now)
    forward = status.forward
    forward.state_since = None
    running: bool | None = None
    async with open_ends(connector) as ends:
        feed = await ends.feed()
        if feed is not None:
            await _fill(forward, feed, connector)
            await read_verification(connector, forward.verify)
        try:
            running = await served(ends)
            forward.retained_wal_bytes = await ends.source.retained_wal_bytes(connector.slot_name)
        except ReplicatorError as error:
            if error.kind is ErrorKind.CONFIG:
                raise
            running = None  # the source can't be asked, and what it would say is unknown
    document = connector_document(status, now)
    unknown = dict.fromkeys(("ready", "started_at", "transactions_applied", "rows_applied", "restarts"))
    return {**document, **unknown, "running": running}


async def _fill(status: FeedStatus, feed: FeedState, connector: Connector) -> None:
    status.epoch = feed.epoch
    status.dead_letters = feed.dead_letters
    if feed.state is not None:
        status.state = Stage(feed.state)
    for one in feed.checkpoints:
        if one.position is not None:
            status.moved(one.position, one.lane)
    times = [one.commit_time for one in feed.checkpoints]
    known = [moment for moment in times if moment is not None]
    if known:
        status.commit_time = max(known)
        if len(known) == len(times):
            status.proven(min(known))
    store = PostgresBackfillStore(upgraded_dsn(connector), connector.name, FORWARD)
    schema = PostgresSchemaStore(upgraded_dsn(connector), connector.name, FORWARD)
    status.stale = {stale.mapping: stale.reason for stale in await schema.stale()}
    digests = await PostgresDigestStore(upgraded_dsn(connector), connector.name, FORWARD).mapping_digests()
    status.transform_changed = {
        name: one.writes_since or one.since for name, one in sorted(digests.items()) if one.mixed
    }
    for name, copied in (await store.load(JOB)).items():
        table = TableBackfill(name, rows_done=copied.rows, chunks_done=len(copied.chunks))
        table.state = BackfillState.DONE if copied.complete else BackfillState.COPYING
        status.backfill[name] = table


@dataclass(frozen=True)
class Waited:
    """What waiting came to.

    Attributes:
        reached: in time.
        seconds: how long it took.
        waits_for: what is still to come, when it was not reached.

    """

    reached: bool
    seconds: float
    waits_for: str = ""


async def wait_until_streaming(connector: Connector, timeout_seconds: float, *, caught_up: bool) -> Waited:
    """Wait until the running daemon streams, and, if asked, has applied what is committed on the source now.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION; SLOT_LOST, LOG_LOST.

    """
    began = time.monotonic()
    async with open_ends(connector) as ends:
        mark = await ends.mark() if caught_up else None
        async with _group_applied(connector, mark) as applied:
            while True:
                waits_for = await _lacking(ends, mark) if applied is None else await _group_lacks(ends, applied)
                seconds = time.monotonic() - began
                if waits_for is None:
                    return Waited(reached=True, seconds=seconds)
                if seconds >= timeout_seconds:
                    return Waited(reached=False, seconds=seconds, waits_for=waits_for)
                await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def _group_applied(connector: Connector, mark: Position | None) -> AsyncIterator[asyncio.Future[None] | None]:
    """Done once a group has applied what was committed before the mark; None where no group reads the stream."""
    if not isinstance(connector.stream, KafkaStream):
        yield None
        return
    async with open_parts(connector) as parts:

        async def wait() -> None:
            if mark is not None:
                intake = cast("KafkaIntake", parts.intake)
                await intake.applied(await parts.mappings(), mark.at)

        applied = asyncio.ensure_future(wait())
        try:
            yield applied
        finally:
            applied.cancel()
            await asyncio.gather(applied, return_exceptions=True)


async def _group_lacks(ends: Ends, applied: asyncio.Future[None]) -> str | None:
    """What is still to come of a group's work, in words; None when all is there."""
    feed = await ends.feed()
    if feed is None:
        return "the feed has not begun: is a daemon running?"
    if feed.state != Stage.STREAMING:
        return f"the state is {feed.state or 'unknown'}, not streaming"
    if not applied.done():
        return "not everything that is committed on the old side is in Kafka, and applied from there"
    await applied
    if feed.deferred:
        return f"{feed.deferred} rows wait for unique values that are moving, or for rows that they refer to"
    return None


async def _lacking(ends: Ends, mark: Position | None) -> str | None:
    """What is still to come, in words; None when all is there."""
    slot = await ends.slot()
    daemon = "" if slot is not None and slot.holder_pid is not None else "; no daemon reads the slot: is one running?"
    feed = await ends.feed()
    if feed is None:
        return f"the feed has not begun{daemon}"
    if feed.state != Stage.STREAMING:
        return f"the state is {feed.state or 'unknown'}, not streaming{daemon}"
    if mark is not None:
        behind = [one for one in feed.checkpoints if one.position is None or parse_position(one.position) < mark]
        if behind:
            return f"the position is {behind[0].position}, not yet {format_position(mark)}{daemon}"
        if feed.deferred:
            return f"{feed.deferred} rows wait for unique values that are moving{daemon}"
        return None
    return f"the state is streaming{daemon}" if daemon else None
