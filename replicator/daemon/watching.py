"""Verification beside a feed: what any process finds becomes metrics, status and events; and, if asked, passes.

    replicator.divergence, verification ──once a second──▶ FindingsWatch ──▶ status (metrics, API), bus (event stream)

A finding is a row before it is anything else, so those of `replicator verify` and of a repair come the same way.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from replicator.daemon.continuous import ContinuousVerification
from replicator.daemon.databases import FORWARD, upgraded_dsn
from replicator.daemon.findings import count, passed
from replicator.daemon.runner import known_error
from replicator.postgres.findings import Findings, StoredFinding, StoredRun, open_findings
from replicator.telemetry import VerifyState

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.mapping import Mappings
    from replicator.telemetry import Bus, ConnectorStatus, VerifyStatus
    from replicator.verification import Reached

LOOK_SECONDS: Final = 1.0
COUNT_SHARE: Final = 20
"""Counting what is open takes no more than one part in so many of the time."""
RETRY_SECONDS: Final = 5.0
_RUNS: Final = 20


class VerificationBeside:
    """All of verification that runs in the daemon; see `Streaming`.

    Args:
        connector: its file.
        mappings: of the forward feed.
        status: the connector's.

    """

    def __init__(self, connector: Connector, mappings: Mappings, status: ConnectorStatus) -> None:
        self._watch = FindingsWatch(connector, status.forward.verify, status.bus)
        self._passes: ContinuousVerification | None = None
        if connector.verify.continuous:
            self._passes = ContinuousVerification(connector, mappings, status.forward)
            status.forward.verify.state = VerifyState.WAITING

    async def run(self, reached: Reached) -> None:
        """Until cancelled; never fails."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run())
            if self._passes is not None:
                group.create_task(self._passes.run(reached))


class FindingsWatch:
    """Tells status and bus what verification has found.

    Args:
        connector: its file.
        status: of the feed's verification.
        bus: of the connector.

    """

    def __init__(self, connector: Connector, status: VerifyStatus, bus: Bus) -> None:
        self._connector = connector
        self._status = status
        self._bus = bus
        self._known: list[int] | None = None
        self._counted_at = 0.0
        self._count_seconds = 0.0
        self._log = structlog.get_logger("replicator.verify").bind(connector=connector.name, feed=FORWARD)

    async def run(self) -> None:
        """Until cancelled; what can't be read now is read later."""
        connector = self._connector
        while True:
            try:
                async with open_findings(upgraded_dsn(connector), connector.name, FORWARD) as findings:
                    assert findings is not None  # the feed has made the tables
                    await self._follow(findings)
            except Exception as error:  # noqa: BLE001 - whatever happens here, the feed goes on
                self._status.open = None  # unknown, until it can be read again
                known = known_error(error, self._log)
                self._log.warning("findings can't be read", error=known.message, **known.facts())
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self, findings: Findings) -> None:
        stale = True
        while True:
            changed = await findings.changed()
            for one in changed:
                self._tell(one)
            stale = stale or bool(changed)
            now = time.monotonic()
            if stale and now - self._counted_at >= COUNT_SHARE * self._count_seconds:
                await count(findings, self._status)
                self._counted_at, stale = time.monotonic(), False
                self._count_seconds = self._counted_at - now
            await self._runs(findings)
            await asyncio.sleep(LOOK_SECONDS)

    def _tell(self, one: StoredFinding) -> None:
        if one.new:
            self._status.found[str(one.table), one.kind] += 1
        self._bus.publish("finding", time.time(), one.document())

    async def _runs(self, findings: Findings) -> None:
        """Verifications that have ended; those from before this process are no news, but the newest one is known."""
        first = self._known is None
        known = self._known or []
        runs = await findings.runs(known, 1 if first else _RUNS)
        for run in reversed(runs):
            self._passed(run, first=first)
        self._known = [*known, *(run.id for run in runs)][-_RUNS:]

    def _passed(self, run: StoredRun, *, first: bool) -> None:
        passed(run, self._status)
        if first:
            self._status.passes -= 1
            return
        facts = {"run": run.id, "ok": run.result.get("ok"), "tables": run.result.get("tables", [])}
        self._bus.publish("pass", time.time(), facts)
