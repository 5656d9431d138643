"""Verification on demand: the parts of a run, beside the daemon that applies changes and without asking it anything.

How far the feed is, the target tells: its checkpoints, or the ledger of a log's partitions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from replicator.compile import compile_mappings
from replicator.config import KafkaStream
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.inspection import Ends, open_ends
from replicator.daemon.investigating import open_investigator
from replicator.daemon.parts import open_parts
from replicator.engine.verify.investigate import ExplainingStore
from replicator.engine.verify.pace import Pace
from replicator.engine.verify.passes import PassSettings
from replicator.engine.verify.run import Report, Verification
from replicator.engine.verify.settle import Patience
from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.postgres.lsn import format_lsn
from replicator.postgres.slot import parse_position
from replicator.postgres.verify_state import open_verify_store
from replicator.postgres.versions import PostgresVersionedReader
from replicator.tables import TableName
from replicator.telemetry import State
from replicator.transforms import load_transforms
from replicator.verification import Scope

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.daemon.kafka_intake import KafkaIntake
    from replicator.mapping import Mapping, Mappings
    from replicator.verification import Reached

POLL_SECONDS: Final = 0.01
POLL_SECONDS_MAX: Final = 0.1
UNHEARD_SECONDS: Final = 15.0
"""Nobody reads the slot for so long: then nothing will be applied, and a run that waits would wait for ever."""
CHUNK_ROWS_MAX: Final = 10_000
_READERS: Final = 8
_LOG: Final = structlog.get_logger("replicator.verify")

Watch = Callable[[Verification], Awaitable[None]]
Checks = Callable[["Sequence[Mapping]", "Reached", Report], Awaitable[None]]
Finished = Callable[["Mappings", Report], Awaitable[None]]


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        tables: of either side, or names of mappings; empty for all.
        where: SQL on the old root table of the one table that is named.
        sample_percent: of the chunks.
        rows_per_second_max: None: no limit.
        patience_seconds: how long a row that never stands still is looked at.

    """

    tables: Sequence[str] = ()
    where: str | None = None
    sample_percent: float = 100.0
    rows_per_second_max: int | None = None
    patience_seconds: float = Patience.seconds


async def verify_connector(
    connector: Connector,
    wanted: Wanted,
    *,
    watch: Watch | None = None,
    checks: Checks | None = None,
    finished: Finished | None = None,
) -> Report:
    """Verify, beside the running daemon, and store the report.

    Args:
        connector: its file.
        wanted: see `Wanted`.
        watch: shows progress, until cancelled.
        checks: looks at what else must hold of these mappings, and puts the results into the report.
        finished: is awaited when the report is stored.

    Raises:
        ReplicatorError: CONFIG of an unknown table; CONNECTION, also when no daemon applies anything; what was done
            until then is kept, and the next run goes on with it.

    """
    old, upgraded = (_reader(connector, dsn) for dsn in (old_dsn(connector), upgraded_dsn(connector)))
    async with AsyncExitStack() as stack:
        for reader in (old, upgraded):
            stack.push_async_callback(reader.close)
        mappings = await mappings_of(connector, old, upgraded)
        chosen = _chosen(mappings, wanted)
        store = await stack.enter_async_context(open_verify_store(upgraded_dsn(connector), connector.name, FORWARD))
        investigator = await stack.enter_async_context(open_investigator(connector, chosen, old, upgraded))
        reached = await stack.enter_async_context(reached_by_target(connector, mappings))
        verification = Verification(
            chosen,
            source=old,
            target=upgraded,
            reached=reached,
            store=ExplainingStore(store, investigator),
            tolerances=connector.verify.tolerances,
            scope=_scope(chosen, wanted),
            pace=Pace(wanted.rows_per_second_max),
            settings=_settings(connector, wanted),
            clock=time.time,
        )
        report = await _watched(verification, watch)
        if checks is not None:
            await checks(chosen, reached, report)
        await verification.finish(report, report_document(report))
        if finished is not None:
            await finished(mappings, report)
        return report


def _reader(connector: Connector, dsn: str) -> PostgresVersionedReader:
    name = f"{connector.name}/verify"
    return PostgresVersionedReader(dsn, name, connector=connector.name, feed=FORWARD, connections_max=_READERS)


def _settings(connector: Connector, wanted: Wanted) -> PassSettings:
    """No chunk is larger than what may be read in a second."""
    rate = wanted.rows_per_second_max or PassSettings.digest_rows
    return PassSettings(
        chunk_rows=min(connector.backfill.chunk_rows, CHUNK_ROWS_MAX, rate),
        digest_rows=min(PassSettings.digest_rows, rate),
        patience=Patience(seconds=wanted.patience_seconds),
    )


def _scope(chosen: Sequence[Mapping], wanted: Wanted) -> Scope:
    names = tuple(mapping.name for mapping in chosen) if wanted.tables else ()
    return Scope(names, wanted.where, wanted.sample_percent)


async def _watched(verification: Verification, watch: Watch | None) -> Report:
    watching = None if watch is None else asyncio.ensure_future(watch(verification))
    try:
        return await verification.run()
    except ReplicatorError as error:
        if error.action is Action.RETRY and error.hint is None:
            error.hint = "What is verified so far is kept; verify again, and it goes on where it was"
        raise
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def mappings_of(
    connector: Connector, old: PostgresVersionedReader, upgraded: PostgresVersionedReader
) -> Mappings:
    """What the forward feed does, by the connector's files and both catalogs as they are now.

    Raises:
        ReplicatorError: CONFIG, CONNECTION, PERMISSION.

    """
    transforms = () if connector.transforms is None else load_transforms(connector.transforms)
    return compile_mappings(connector.tables, transforms, await old.catalog(), await upgraded.catalog(), forward=True)


def choose(mappings: Mappings, tables: Sequence[str]) -> list[Mapping]:
    """The mappings of these names, or of these source or target tables; all for none.

    Raises:
        ReplicatorError: CONFIG, naming one that there isn't.

    """
    if not tables:
        return list(mappings.all)
    chosen = []
    for name in tables:
        found = [mapping for mapping in mappings.all if _named(mapping, name)]
        if not found:
            raise ReplicatorError(
                f"the connector maps no table {name!r}",
                kind=ErrorKind.CONFIG,
                table=name,
                hint="nothing was done; `replicator plan` lists the mapped tables of both sides",
            )
        chosen += [mapping for mapping in found if mapping not in chosen]
    return chosen


def _chosen(mappings: Mappings, wanted: Wanted) -> list[Mapping]:
    chosen = choose(mappings, wanted.tables)
    if wanted.where is not None and (len(chosen) != 1 or chosen[0].multiset):
        raise ReplicatorError(
            "a condition needs one table that has a key",
            kind=ErrorKind.CONFIG,
            hint="nothing was done; name one with --table, or leave --where out",
        )
    return chosen


def _named(mapping: Mapping, name: str) -> bool:
    try:
        wanted = str(TableName.parse(name))
    except ValueError:
        wanted = name
    tables = {str(side.table.name) for side in (*mapping.sources, *mapping.targets)}
    return mapping.name in (name, wanted) or wanted in tables


def report_document(report: Report) -> dict[str, Any]:
    """The report as JSON."""
    position = None
    if report.first_lsn is not None and report.last_lsn is not None:
        position = {"from": format_lsn(report.first_lsn), "upto": format_lsn(report.last_lsn)}
    return {
        "ok": report.ok,
        "tables": [
            {
                "table": table,
                "rows": counts.rows,
                "missing": counts.missing,
                "extra": counts.extra,
                "different": counts.different,
                "unsettled": counts.unsettled,
                "within_tolerance": counts.within,
                "seconds": round(counts.seconds, 3),
            }
            for table, counts in sorted(report.tables.items())
        ],
        "checks": report.checks,
        "position": position,
        "tolerance": {
            f"{table}.{column}": str(most)
            for table, columns in report.tolerances.items()
            for column, most in columns.items()
        },
        "run": report.run,
        "resumed": report.resumed,
    }


# -- how far the feed is -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def reached_by_target(connector: Connector, mappings: Mappings) -> AsyncIterator[Reached]:
    """What tells, by the target's word alone, that everything before an LSN of the source is applied."""
    async with AsyncExitStack() as stack:
        ends = await stack.enter_async_context(open_ends(connector))
        if isinstance(connector.stream, KafkaStream):
            parts = await stack.enter_async_context(open_parts(connector))
            source = await cast("KafkaIntake", parts.intake).source(mappings)
            yield Proven(_GroupPosition(ends, source.applied).passes)
        else:
            yield Proven(_SlotPosition(ends).passes)


class Proven:
    """Asks once for what several wait for, and not again for what is known."""

    def __init__(self, prove: Reached) -> None:
        self._prove = prove
        self._lsn = -1
        self._turn = asyncio.Lock()

    async def __call__(self, lsn: int) -> None:
        """Return when everything before this LSN is applied."""
        if lsn <= self._lsn:
            return
        async with self._turn:
            if lsn > self._lsn:
                await self._prove(lsn)
                self._lsn = lsn


class _GroupPosition:
    """How far a group is that reads a log: by its ledger, and not before the copy lies behind it."""

    def __init__(self, ends: Ends, applied: Reached) -> None:
        self._ends = ends
        self._applied = applied

    async def passes(self, lsn: int) -> None:
        """Return when the group has applied what was committed before the LSN, and streams."""
        reaching = asyncio.ensure_future(self._reach(lsn))
        try:
            while not reaching.done():
                await asyncio.wait([reaching], timeout=UNHEARD_SECONDS)
                if not reaching.done():
                    _LOG.warning("waiting for the group to apply; is a daemon running?", upto=format_lsn(lsn))
            await reaching
        finally:
            reaching.cancel()

    async def _reach(self, lsn: int) -> None:
        await self._applied(lsn)
        while True:
            feed = await self._ends.feed()
            if feed is not None and feed.state == State.STREAMING:
                return
            await asyncio.sleep(POLL_SECONDS_MAX)


class _SlotPosition:
    """How far the feed of a slot is."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends

    async def passes(self, lsn: int) -> None:
        """Return when all lanes have passed the LSN, and the copy lies behind them."""
        await self._ends.mark()  # a heartbeat, which an idle feed passes at once
        heard = time.monotonic()
        looked = 0.0
        pause = POLL_SECONDS
        while True:
            lacks = await self._lacks(lsn)
            if lacks is None:
                return
            now = time.monotonic()
            if now - looked > 1:
                looked = now
                slot = await self._ends.slot()
                if slot is not None and slot.holder_pid is not None:
                    heard = now
            if now - heard > UNHEARD_SECONDS:
                raise ReplicatorError(
                    f"nobody reads the slot {self._ends.connector.slot_name}, and {lacks}",
                    kind=ErrorKind.CONNECTION,
                    hint="What is verified so far is kept. Start the daemon with `replicator run`, and verify again: "
                    "it goes on where it was",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, POLL_SECONDS_MAX)

    async def _lacks(self, lsn: int) -> str | None:
        feed = await self._ends.feed()
        if feed is None:
            return "the feed has not begun"
        if feed.state != State.STREAMING:
            return f"the state is {feed.state or 'unknown'}, not streaming"
        behind = [one for one in feed.checkpoints if one.position is None or parse_position(one.position).at < lsn]
        return f"the position is {behind[0].position}, not yet {format_lsn(lsn)}" if behind else None
