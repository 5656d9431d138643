"""Checks: their parts from the connector's file, carried out at the end of a verification, or whenever one likes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from replicator.assess import Finding, Level
from replicator.checks import CheckResult, Severity, SqlRule, SuiteRule
from replicator.config import SlotStream
from replicator.daemon.databases import FORWARD, old_dsn, upgraded_dsn
from replicator.daemon.standing import AskedStanding, open_readers
from replicator.engine.checks.looks import Ends, refuse_shapes
from replicator.engine.checks.run import OF_THE_CHECK, CheckRun, Wanted
from replicator.errors import ReplicatorError
from replicator.expectations import suite_runner
from replicator.postgres.certificate_state import open_proof_store
from replicator.postgres.check_reads import PostgresCheckReader
from replicator.postgres.lsn import format_lsn
from replicator.postgres.session import conninfo_for_reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.checks import StandStill
    from replicator.config import Check, Connector
    from replicator.daemon.verifying import Checks
    from replicator.daemon.verifying import Wanted as WantedRun
    from replicator.engine.verify.run import Report
    from replicator.mapping import Mapping
    from replicator.tables import Column
    from replicator.verification import Reached

PATIENCE_SECONDS: Final = 20.0


async def run_checks(
    connector: Connector,
    mappings: Sequence[Mapping],
    reached: Reached,
    *,
    stand: StandStill | None,
    report: Report | None = None,
    counts: bool = True,
    whole: bool = True,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[CheckResult]:
    """Carry out all checks, and keep their results in the target.

    Args:
        connector: its file.
        mappings: that are looked at.
        reached: see `verification.Reached`.
        stand: see `checks.StandStill`; None where the feed can't stand still.
        report: of a verification of these mappings that has just finished.
        counts: it was complete: its counts explain the rows.
        whole: these are all mappings: the business's own rules are looked at too.
        patience_seconds: how long rows that never stand still are looked at.

    Raises:
        ReplicatorError: CONNECTION, RESOURCES; one of the check itself leaves that check undecided.

    """
    async with open_readers(connector) as (source, target):
        ends = Ends(source, target, reached, patience_seconds, shows_whole_transactions(connector, mappings), stand)
        wanted = Wanted(
            mappings,
            [_rule(one) for one in connector.checks if one.great_expectations is None] if whole else (),
            [_suite(one) for one in connector.checks if one.great_expectations is not None] if whole else (),
            report.tables if report is not None and counts else None,
        )
        reading = partial(conninfo_for_reading, upgraded_dsn(connector), f"{connector.name}/expectations")
        results = await CheckRun(ends, suite_runner(reading)).run(wanted)
    async with open_proof_store(upgraded_dsn(connector), connector.name, FORWARD) as store:
        await store.record(results, None if report is None else report.run)
    return results


async def broken_checks(connector: Connector) -> list[Finding]:
    """Checks of the connector whose SQL can't be run as things are; nothing is run.

    Raises:
        ReplicatorError: CONNECTION, where a database can't be asked.

    """
    found = []
    for check in connector.checks:
        try:
            sides = [
                await _described(dsn, connector, query)
                for dsn, query in ((old_dsn(connector), check.old), (upgraded_dsn(connector), check.upgraded))
                if query is not None
            ]
            refuse_shapes(*sides)
        except ReplicatorError as error:
            if error.kind not in OF_THE_CHECK:
                raise
            found.append(
                Finding(
                    Level.WARN,
                    "check",
                    check.name,
                    f"this check can't be carried out: {error.message}",
                    "Correct its SQL in checks; until then it is undecided, which is not ok",
                )
            )
    return found


async def _described(dsn: str, connector: Connector, query: str) -> tuple[Column, ...]:
    reader = PostgresCheckReader(dsn, f"{connector.name}/plan", connector=connector.name, feed=FORWARD)
    try:
        async with reader.checking() as snapshot:
            return await snapshot.describe(query)
    finally:
        await reader.close()


def checks_of(connector: Connector, wanted: WantedRun) -> Checks:
    """What `verify_connector` calls when the rows are compared; the results go into its report."""

    async def check(mappings: Sequence[Mapping], reached: Reached, report: Report) -> None:
        complete = wanted.where is None and wanted.sample_percent >= 100
        results = await run_checks(
            connector,
            mappings,
            reached,
            stand=asked_to_stand(connector),
            report=report,
            counts=complete,
            whole=not wanted.tables,
            patience_seconds=wanted.patience_seconds,
        )
        report.checks[:] = map(result_document, results)

    return check


def asked_to_stand(connector: Connector) -> StandStill | None:
    """Both databases at one position, with the help of the running daemon; a log has no such position."""
    return AskedStanding(connector).both if isinstance(connector.stream, SlotStream) else None


def shows_whole_transactions(connector: Connector, mappings: Sequence[Mapping]) -> bool:
    """Whether every commit of the target is a whole number of the source's transactions."""
    one_lane = isinstance(connector.stream, SlotStream) and connector.apply.lanes == 1
    return one_lane and not any(mapping.reads_back for mapping in mappings)


def result_document(one: CheckResult) -> dict[str, Any]:
    """A result as JSON."""
    return {
        "name": one.name,
        "ok": one.ok,
        "severity": str(one.severity),
        "kind": str(one.kind),
        "message": one.message,
        "keys": list(one.keys),
        "position": None if one.position is None else format_lsn(one.position),
        "seconds": round(one.seconds, 3),
    }


def _rule(check: Check) -> SqlRule:
    return SqlRule(
        check.name,
        check.old,
        check.upgraded,
        Severity(check.severity),
        check.tolerance,
        check.timeout.total_seconds(),
        show=check.show,
    )


def _suite(check: Check) -> SuiteRule:
    assert check.great_expectations is not None
    return SuiteRule(
        check.name,
        check.great_expectations,
        check.table,
        check.upgraded,
        Severity(check.severity),
        check.timeout.total_seconds(),
    )
