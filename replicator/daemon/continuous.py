"""Continuous verification: pass after pass over all mappings, beside the feed of the process that leads.

    pass ──interval──▶ pass ──▶ …        each resumable: a restart goes on where it was
      │  reads both sides, no faster than the brake allows (`engine.verify.pace`); then the checks, and a certificate
      └─ waits while the feed is not streaming: a look is not decided before the feed has passed it

Nothing that happens here ends the feed. What fails is shown in the status, and tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import structlog

from replicator.daemon.certifying import issue_certificate
from replicator.daemon.checking import result_document, run_checks
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.investigating import open_investigator
from replicator.daemon.runner import known_error, pauses
from replicator.daemon.verifying import Proven, report_document
from replicator.engine.verify.investigate import ExplainingStore
from replicator.engine.verify.pace import Brake, Latencies, Pace, Signals
from replicator.engine.verify.passes import PassSettings
from replicator.engine.verify.run import Verification
from replicator.engine.verify.telling import TellingStore
from replicator.postgres.measured import MeasuredReader
from replicator.postgres.verify_state import open_verify_store
from replicator.telemetry import Trouble, VerifyState, lag_of
from replicator.verification import Scope

if TYPE_CHECKING:
    from replicator.checks import StandStill
    from replicator.config import Connector
    from replicator.mapping import Mappings
    from replicator.telemetry import FeedStatus
    from replicator.verification import Reached

BRAKE_SECONDS: Final = 1.0
"""Between two decisions of the brake."""
LATE_SAMPLES: Final = 10
SHOWN_SECONDS: Final = 30.0
"""How long it is shown how quickly a database answered, when nothing is asked of it any more."""
CHUNK_ROWS: Final = 2_000
"""Smaller than on demand: a chunk is a burst, and the brake works between two."""
DIGEST_ROWS: Final = 10_000
RETRY_MAX_SECONDS: Final = 300.0
KEPT_DAYS: Final = 7
"""Passes that have ended, and certificates that newer ones have followed, are kept so long."""
_READERS: Final = 6


@dataclass
class _Ends:
    """Readers of both databases, which measure."""

    old: MeasuredReader
    upgraded: MeasuredReader
    latencies: Mapping[str, Latencies]


class ContinuousVerification:
    """Verifies as long as the feed streams.

    Args:
        connector: its file.
        mappings: of the forward feed.
        status: the feed's.
        stand: see `checks.StandStill`; None where the feed can't.

    """

    def __init__(self, connector: Connector, mappings: Mappings, status: FeedStatus, stand: StandStill | None) -> None:
        self._connector = connector
        self._mappings = mappings
        self._stand = stand
        self._feed = status
        self._status = status.verify
        self._interval = connector.verify.interval.total_seconds()
        self._rate_max = connector.verify.rows_per_second_max
        self._pace = Pace(self._rate_max)
        rate = self._rate_max or DIGEST_ROWS
        self._settings = PassSettings(min(connector.backfill.chunk_rows, CHUNK_ROWS, rate), min(DIGEST_ROWS, rate))
        self._log = structlog.get_logger("replicator.verify").bind(connector=connector.name, feed=FORWARD)

    async def run(self, reached: Reached) -> None:
        """Pass after pass, until cancelled.

        Args:
            reached: returns once the feed has applied everything before an LSN, and streams.

        """
        left = self._pauses()
        try:
            while True:
                failed = await self._attempt(Proven(reached))
                if failed.passes:
                    left = self._pauses()
                await self._pause(failed.error, next(left))
        finally:
            self._status.state = VerifyState.OFF

    async def _attempt(self, reached: Reached) -> _Failed:
        """Passes until one of them fails; returns with what."""
        passes = 0
        try:
            async with self._open() as ends, asyncio.TaskGroup() as group:
                braking = group.create_task(self._brake(ends.latencies))
                try:
                    while True:
                        began = time.monotonic()
                        await self._pass(ends, reached)
                        passes += 1
                        await self._wait(began + self._interval - time.monotonic())
                finally:
                    braking.cancel()
        except Exception as error:  # noqa: BLE001 - whatever happens to verification, the feed goes on
            return _Failed(error, passes)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[_Ends]:
        connector = self._connector
        latencies = {"old": Latencies(), "upgraded": Latencies()}
        async with AsyncExitStack() as stack:
            readers = []
            for side, dsn in (("old", old_dsn(connector)), ("upgraded", upgraded_dsn(connector))):
                reader = MeasuredReader(
                    dsn,
                    f"{connector.name}/{FORWARD}/verify",
                    connector=connector.name,
                    feed=FORWARD,
                    connections_max=_READERS,
                    took=latencies[side].add,
                )
                stack.push_async_callback(reader.close)
                readers.append(reader)
            yield _Ends(readers[0], readers[1], latencies)

    async def _pass(self, ends: _Ends, reached: Reached) -> None:
        connector, status = self._connector, self._status
        async with (
            open_investigator(connector, self._mappings.all, ends.old, ends.upgraded) as investigator,
            open_verify_store(upgraded_dsn(connector), connector.name, FORWARD) as store,
        ):
            verification = Verification(
                self._mappings.all,
                source=ends.old,
                target=ends.upgraded,
                reached=reached,
                store=TellingStore(ExplainingStore(store, investigator), status),
                tolerances=connector.verify.tolerances,
                scope=Scope(continuous=True),
                pace=self._pace,
                settings=self._settings,
                clock=time.time,
            )
            status.progress = verification.progress
            status.pass_began, status.next_at = time.time(), None
            status.state = VerifyState.VERIFYING
            report = await verification.run()
            results = await run_checks(connector, self._mappings.all, reached, stand=self._stand, report=report)
            report.checks[:] = map(result_document, results)
            await verification.finish(report, report_document(report))
            await store.forget(KEPT_DAYS)
        if report.ok:
            await issue_certificate(connector, self._mappings, report, quiet=True)
        status.trouble = status.retry_at = None

    async def _wait(self, seconds: float) -> None:
        self._status.state = VerifyState.WAITING
        self._status.next_at = time.time() + max(0.0, seconds)
        await asyncio.sleep(max(0.0, seconds))

    # -- when it fails -------------------------------------------------------------------------------------------------

    async def _pause(self, error: Exception, seconds: float) -> None:
        known = known_error(error, self._log)
        now = time.time()
        self._status.state = VerifyState.RETRYING
        self._status.trouble = Trouble.of(known, now)
        self._status.retry_at = now + seconds
        self._log.warning("verification failed", error=known.message, pause_seconds=round(seconds, 3), **known.facts())
        await asyncio.sleep(seconds)

    def _pauses(self) -> Iterator[float]:
        return pauses(self._connector.apply.retry.initial.total_seconds(), RETRY_MAX_SECONDS)

    # -- how fast ------------------------------------------------------------------------------------------------------

    async def _brake(self, latencies: Mapping[str, Latencies]) -> None:
        """Decide each second how fast both databases may be read."""
        brake = Brake(self._rate_max, self._connector.cutover.lag_max.total_seconds())
        rows, told = self._pace.rows, False
        seen: dict[str, float] = {}
        while True:
            late = await _late(BRAKE_SECONDS)
            now = time.monotonic()
            ratios = {side: one.ratio(now, late=late) for side, one in latencies.items()}
            lag = lag_of(self._feed, time.time())
            signals = Signals(ratios, lag.end_to_end_seconds, (self._pace.rows - rows) / BRAKE_SECONDS, late)
            rows = self._pace.rows
            self._pace.limit = brake.decide(now, signals)
            self._status.limit, self._status.reasons = self._pace.limit, brake.reasons
            for side, ratio in ratios.items():
                if ratio is not None or now - seen.get(side, 0.0) > SHOWN_SECONDS:
                    self._status.latency[side], seen[side] = ratio, now
            if told is not brake.braked:
                told = brake.braked
                self._log.info(
                    "verification slows down" if told else "verification at full speed",
                    rows_per_second=None if self._pace.limit is None else round(self._pace.limit),
                    reasons=list(brake.reasons),
                )


async def _late(seconds: float) -> float:
    """Wait so long; returns how late this process wakes up meanwhile, in the middle."""
    times = []
    for _ in range(LATE_SAMPLES):
        began = time.monotonic()
        await asyncio.sleep(seconds / LATE_SAMPLES)
        times.append(time.monotonic() - began - seconds / LATE_SAMPLES)
    return max(0.0, median(times))


@dataclass(frozen=True)
class _Failed:
    """Why passes ended, and how many there were before."""

    error: Exception
    passes: int
