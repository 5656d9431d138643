"""What a feed sees to before it applies what a log says, which others fill: it is visible, and nothing is left out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.runs import parts_of, xids_of

if TYPE_CHECKING:
    from replicator.events import Batch, Relation
    from replicator.mapping import Mappings
    from replicator.ports import Reader

_VISIBLE_SECONDS: Final = 30.0


class LogGuard:
    """Checks batches of one session.

    Args:
        reader: of the source.
        mappings: of the feed.
        since: LSN at which the session began.

    """

    def __init__(self, reader: Reader, mappings: Mappings, since: int) -> None:
        self._reader = reader
        self._mappings = mappings
        self._since = since
        self._whole: dict[int, Relation] = {}

    async def check(self, batch: Batch) -> None:
        """Return when the batch may be applied.

        Raises:
            ReplicatorError: TIMEOUT, when the source doesn't show what it does; SCHEMA, when it lacks columns.

        """
        await self._see(batch)
        await self._check_whole(batch)

    async def _see(self, batch: Batch) -> None:
        """Wait until the source shows what the batch does.

        Raises:
            ReplicatorError: TIMEOUT, when it doesn't for long.

        """
        try:
            async with (
                asyncio.timeout(_VISIBLE_SECONDS),
                self._reader.snapshot(xids_of(batch.events)),
            ):
                return
        except TimeoutError:
            raise ReplicatorError(
                f"the source doesn't show a transaction of the log, {_VISIBLE_SECONDS:.0f} s after it came from there",
                kind=ErrorKind.TIMEOUT,
                hint="Nothing of this batch was applied. Either a synchronous standby doesn't answer, or the topics "
                "are another database's, or were filled before this one was restored: compare old.dsn with Debezium's",
            ) from None

    async def _check_whole(self, batch: Batch) -> None:
        """Whoever fills a log may leave columns out: a row that was written since this session began has them all.

        Raises:
            ReplicatorError: SCHEMA, naming the columns that would silently stay as they are.

        """
        for part in {id(part.relation): part for part in parts_of(batch.events)}.values():
            relation = part.relation
            if id(relation) in self._whole or part.transaction.commit_lsn <= self._since:
                continue
            mapping, side = self._mappings.by_source[relation.table]
            lacking = [name for name in mapping.columns if name not in relation.positions]
            if lacking and mapping.function is None:
                table = (await self._reader.catalog()).tables.get(side.table.name)
                left_out = [name for name in lacking if table is not None and name in table.by_name]
                if left_out:
                    raise ReplicatorError(
                        f"the records of {relation.table} lack {', '.join(left_out)}, which the table has",
                        kind=ErrorKind.SCHEMA,
                        table=str(relation.table),
                        column=left_out[0],
                        hint="Nothing of this batch was applied. Have the producer write them (column.include.list, "
                        "column.exclude.list), or leave them out of the mapping (drop)",
                    )
            self._whole[id(relation)] = relation
