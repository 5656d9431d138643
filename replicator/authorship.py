"""Who wrote a row of the target: what verification asks of it to find out why a row is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from replicator.tables import Table


@dataclass(frozen=True)
class Writer:
    """Who wrote a row of the target last, by its xmin.

    Attributes:
        xid: xmin.
        committed_at: seconds since the epoch; None: the server doesn't know (any more).
        origin: name of the replication origin; None: none, or unknown.
        ours: it was a feed of this connector, or a job of one; False: it certainly was not; None: it can't be told.
        unknown_because: why it can't be told.

    """

    xid: int
    committed_at: float | None = None
    origin: str | None = None
    ours: bool | None = None
    unknown_because: str = ""


class Writers(Protocol):
    """Who writes the target's rows."""

    async def of(self, xids: Collection[int]) -> dict[int, Writer]:
        """The writers of rows with these xmins."""

    async def triggers(self, table: Table) -> tuple[str, ...]:
        """The table's row triggers that fire for rows which a feed writes."""
