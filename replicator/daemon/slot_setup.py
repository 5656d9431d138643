"""Publication and slot on the source: made where the connector says so, for a feed and for a capture alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from replicator.postgres.lsn import format_lsn
from replicator.postgres.publication import ensure_publication
from replicator.postgres.session import connect
from replicator.postgres.slots import ensure_slot, lost_slot, read_slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.tables import Table


@dataclass(frozen=True)
class SlotSetup:
    """What a reader of a slot needs on its source.

    Attributes:
        dsn: of the source.
        connector, feed: for whom.
        slot, publication: their names.
        create: make what is missing; else a DBA has.
        heartbeat: the publication carries the heartbeat's table, too.

    """

    dsn: str
    connector: str
    feed: str
    slot: str
    publication: str
    create: bool
    heartbeat: bool

    async def publish(self, tables: Sequence[Table]) -> bool:
        """See that the publication carries these tables; returns whether something was added to it now.

        Raises:
            ReplicatorError: CONFIG, PERMISSION, CONNECTION.

        """
        found = await ensure_publication(
            self.dsn, self.publication, tables, create=self.create, heartbeat=self.heartbeat
        )
        if found.created or found.added:
            self._log.info(
                "publication made" if found.created else "publication extended",
                publication=self.publication,
                tables=len(found.added),
            )
        return found.created or bool(found.added)

    async def hold_back(self, since: str | None) -> None:
        """See that the slot holds back what happens from now on; one that has gone missing is never made again.

        Args:
            since: what is lost with a missing slot (`after 0/16B3748`); None while nothing has been read by it.

        Raises:
            ReplicatorError: SLOT_LOST, CONFIG, PERMISSION, CONNECTION.

        """
        if since is None:
            lsn, made = await ensure_slot(self.dsn, self.slot, create=self.create)
            self._log.info("slot made" if made else "slot found", slot=self.slot, position=format_lsn(lsn))
            return
        async with await connect(self.dsn, f"{self.connector}/{self.feed}/setup") as connection:
            if await read_slot(connection, self.slot) is None:
                raise lost_slot(self.slot, "it does not exist", since)

    @property
    def _log(self) -> structlog.stdlib.BoundLogger:
        log: structlog.stdlib.BoundLogger = structlog.get_logger("replicator.daemon")
        return log.bind(connector=self.connector, feed=self.feed)
