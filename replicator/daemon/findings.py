"""What verification has found, from the upgraded database: for the status, and by page for the API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from replicator.daemon.databases import FORWARD, upgraded_dsn
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.findings import open_findings
from replicator.tables import TableName
from replicator.telemetry import OpenFinding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.config import Connector
    from replicator.control import FindingsQuery
    from replicator.postgres.findings import Findings, StoredFinding, StoredRun
    from replicator.telemetry import VerifyStatus

AT_ONCE: Final = 2
"""Pages that are read at once: whoever asks more often waits."""


class FindingsPages:
    """Reads pages.

    Args:
        connectors: whose findings may be asked for.

    """

    def __init__(self, connectors: Sequence[Connector]) -> None:
        self._connectors = {one.name: one for one in connectors}
        self._free = asyncio.Semaphore(AT_ONCE)

    async def read(self, query: FindingsQuery) -> list[dict[str, Any]]:
        """One page.

        Raises:
            ReplicatorError: CONFIG, when `table` is no name of a table; CONNECTION.

        """
        table = None if query.table is None else _table(query.table)
        connector = self._connectors[query.connector]
        is_open = {"open": True, "closed": False}.get(query.state)
        async with self._free, open_findings(upgraded_dsn(connector), connector.name, FORWARD) as findings:
            if findings is None:
                return []
            rows = await findings.page(after=query.after, rows=query.limit, is_open=is_open, table=table)
        return [one.document() for one in rows]


async def count(findings: Findings, status: VerifyStatus) -> None:
    """Tell a status what is open.

    Raises:
        ReplicatorError: CONNECTION.

    """
    numbers = await findings.open()
    status.declare({table for table, _ in numbers})  # of a connector that has changed since
    status.counted(numbers, [_shown(one) for one in await findings.newest()])


def passed(run: StoredRun, status: VerifyStatus) -> None:
    """Tell a status of a verification that has ended."""
    tables: list[dict[str, Any]] = run.result.get("tables", [])
    status.passed(
        run.id,
        at=run.finished_at,
        seconds=run.finished_at - run.started_at,
        ok=bool(run.result.get("ok")),
        unsettled={one["table"]: one["unsettled"] for one in tables},
    )


async def read_verification(connector: Connector, status: VerifyStatus) -> None:
    """What the database knows of verification, without a daemon.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    async with open_findings(upgraded_dsn(connector), connector.name, FORWARD) as findings:
        if findings is not None:
            await count(findings, status)
            for run in await findings.runs([], 1):
                passed(run, status)


def _shown(one: StoredFinding) -> OpenFinding:
    return OpenFinding(one.id, str(one.table), one.key, one.kind, one.columns, one.cause, one.first_seen, one.last_seen)


def _table(name: str) -> TableName:
    try:
        return TableName.parse(name)
    except ValueError as error:
        raise ReplicatorError(str(error), kind=ErrorKind.CONFIG) from error
