"""Findings as a job beside a feed keeps them: under the feed's epoch, so that who was superseded writes none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from replicator.postgres.copying import connection_of
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch
from replicator.postgres.verify_state import DOING, PostgresVerifyStore

if TYPE_CHECKING:
    from replicator.postgres.target import PostgresTarget

_WORKER: Final = "repair-findings"


class FencedFindings(PostgresVerifyStore):
    """`verification.VerifyStore`, but for `begin`: each call is a transaction of a job.

    Args:
        target: taken over by the feed.
        connector, feed: whose findings.

    """

    def __init__(self, target: PostgresTarget, connector: str, feed: str) -> None:
        super().__init__(None, connector, feed)
        self._target = target

    async def _run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        async with self._target.job(_WORKER) as transaction:
            with driver_errors(DOING):
                return await fetch(await connection_of(transaction), query, *values)
