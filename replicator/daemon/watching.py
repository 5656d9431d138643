"""Verification beside a feed: what any process finds becomes metrics, status and events; and, if asked, passes.

    replicator.divergence, verification ──once a second──▶ FindingsWatch ──▶ status (metrics, API), bus (event stream)

A finding is a row before it is anything else, so those of `replicator verify` and of a repair come the same way.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from replicator.daemon.certifying import judge_certificate
from replicator.daemon.continuous import ContinuousVerification
from replicator.daemon.databases import FORWARD, upgraded_dsn
from replicator.daemon.findings import count, passed
from replicator.daemon.runner import known_error
from replicator.errors import ReplicatorError
from replicator.postgres.certificate_state import open_proof_store
from replicator.postgres.findings import Findings, StoredFinding, StoredRun, Told, open_findings
from replicator.telemetry import CertificateStatus, CheckStatus, VerifyState

if TYPE_CHECKING:
    from replicator.certificate import Assessment
    from replicator.checks import StandStill
    from replicator.config import Connector
    from replicator.mapping import Mappings
    from replicator.telemetry import Bus, ConnectorStatus, VerifyStatus
    from replicator.verification import Reached

LOOK_SECONDS: Final = 1.0
PROOF_SECONDS: Final = 30.0
"""Checks and certificate are looked at so often ..."""
PROOF_SECONDS_MIN: Final = 2.0
"""... and this soon after something is found, or a verification has ended."""
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
        stand: see `checks.StandStill`; None where the feed can't.

    """

    def __init__(
        self, connector: Connector, mappings: Mappings, status: ConnectorStatus, stand: StandStill | None
    ) -> None:
        self._watch = FindingsWatch(connector, mappings, status.forward.verify, status.bus)
        self._passes: ContinuousVerification | None = None
        if connector.verify.continuous:
            self._passes = ContinuousVerification(connector, mappings, status.forward, stand)
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
        mappings: of the forward feed.
        status: of the feed's verification.
        bus: of the connector.

    """

    def __init__(self, connector: Connector, mappings: Mappings, status: VerifyStatus, bus: Bus) -> None:
        self._connector = connector
        self._proofs = ProofWatch(connector, mappings, status, bus)
        self._status = status
        self._bus = bus
        self._known: list[int] | None = None
        self._told = Told()
        self._counted_at = 0.0
        self._count_seconds = 0.0
        self._log = structlog.get_logger("replicator.verify").bind(connector=connector.name, feed=FORWARD)

    async def run(self) -> None:
        """Until cancelled; what can't be read now is read later."""
        connector, dsn = self._connector, upgraded_dsn(self._connector)
        while True:
            try:
                async with open_findings(dsn, connector.name, FORWARD, self._told) as findings:
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
            ended = await self._runs(findings)
            await self._proofs.look(at_once=bool(changed) or ended)
            await asyncio.sleep(LOOK_SECONDS)

    def _tell(self, one: StoredFinding) -> None:
        if one.new:
            self._status.found[str(one.table), one.kind] += 1
        self._bus.publish("finding", time.time(), one.document())

    async def _runs(self, findings: Findings) -> bool:
        """Verifications that have ended; those from before this process are no news, but the newest one is known."""
        first = self._known is None
        known = self._known or []
        runs = await findings.runs(known, 1 if first else _RUNS)
        for run in reversed(runs):
            self._passed(run, first=first)
        self._known = [*known, *(run.id for run in runs)][-_RUNS:]
        return bool(runs)

    def _passed(self, run: StoredRun, *, first: bool) -> None:
        passed(run, self._status)
        if first:
            self._status.passes -= 1
            return
        facts = {"run": run.id, "ok": run.result.get("ok"), "tables": run.result.get("tables", [])}
        self._bus.publish("pass", time.time(), facts)


class ProofWatch:
    """Tells status and bus what the checks say, and whether the certificate is valid.

    Args:
        connector, mappings, status, bus: see `FindingsWatch`.

    """

    def __init__(self, connector: Connector, mappings: Mappings, status: VerifyStatus, bus: Bus) -> None:
        self._connector = connector
        self._mappings = mappings
        self._status = status
        self._bus = bus
        self._looked_at = 0.0
        self._news = True
        self._log = structlog.get_logger("replicator.verify").bind(connector=connector.name, feed=FORWARD)
        status.declare((), [CheckStatus(check.name, check.severity) for check in connector.checks])

    async def look(self, *, at_once: bool) -> None:
        """Look again, if it is time, or something has happened; what can't be read is unknown."""
        self._news = self._news or at_once
        if time.monotonic() - self._looked_at < (PROOF_SECONDS_MIN if self._news else PROOF_SECONDS):
            return
        self._looked_at, self._news = time.monotonic(), False
        connector = self._connector
        try:
            async with open_proof_store(upgraded_dsn(connector), connector.name, FORWARD) as store:
                for result in await store.newest():
                    self._checked(result)
            self._certified(await judge_certificate(connector, self._mappings))
        except ReplicatorError as error:
            self._status.certificate = None
            self._log.debug("the certificate can't be judged", error=error.message, **error.facts())

    def _checked(self, result: dict[str, Any]) -> None:
        at = datetime.fromisoformat(result["checked_at"]).timestamp()
        new = CheckStatus(result["name"], result["severity"], result["ok"], at, result["message"])
        before = self._status.checks.get(new.name)
        self._status.checks[new.name] = new
        first = before is None or before.at is None
        if (first and new.ok) or (before is not None and (before.ok, before.message) == (new.ok, new.message)):
            return
        log = self._log.info if new.ok else self._log.warning
        log("check", check=new.name, ok=new.ok, severity=new.severity)  # its message may hold values
        facts = {"name": new.name, "ok": new.ok, "severity": new.severity, "message": new.message}
        self._bus.publish("check", time.time(), facts)

    def _certified(self, assessment: Assessment) -> None:
        one = assessment.certificate
        reason = "; ".join(lack.message for lack in assessment.missing)
        new = CertificateStatus(assessment.valid, None if one is None else one.issued_at, reason)
        before, self._status.certificate = self._status.certificate, new
        if before is not None and (before.valid, before.reason) != (new.valid, new.reason):
            facts = {"certificate": None if one is None else one.id, "valid": new.valid, "reason": new.reason}
            self._bus.publish("certificate", time.time(), facts)
