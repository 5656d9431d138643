"""What the daemon does about changes that the stream doesn't tell: log them, show them, stop where it must.

Nor does the stream tell that a table has left the publication, or that its updates have: that is looked for, too.

A dropped column stops the feed by itself, at its place in the stream, where the mapping needs it. A table that is gone,
or is another one of the same name, is in no stream any more: that stops the feed here. With a column of another type
the mappings are compiled again, for the values may have to be written in another way, or may not fit any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from replicator.daemon.databases import old_dsn
from replicator.engine.changes import Change, ChangeKind, Effect
from replicator.engine.watch import SchemaWatch
from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.publication import publication_gaps
from replicator.tables import TableName, quote_identifier

if TYPE_CHECKING:
    from replicator.daemon.parts import Parts
    from replicator.mapping import Mappings
    from replicator.telemetry import FeedStatus

PUBLICATION_SECONDS: Final = 10.0
"""Between two looks at the publication of a running feed."""
_ENDS_THE_FEED: Final = {ChangeKind.TABLE_MISSING, ChangeKind.TABLE_RECREATED}


class SchemaGuard:
    """The schema watch of a feed, with what is done about its reports.

    Args:
        parts: of the connector, its target taken over.
        mappings: of the feed.
        status: of the feed; its `stale` is kept up to date.

    """

    def __init__(self, parts: Parts, mappings: Mappings, status: FeedStatus) -> None:
        self._watch = SchemaWatch(
            reader=parts.reader, target=parts.target, store=parts.schema, mappings=mappings, report=self._changed
        )
        self._parts = parts
        self._publication = parts.intake.publication
        self._ours = self._publication == parts.connector.publication_name
        self._mappings = mappings
        self._status = status
        self._running = False
        self._log = structlog.get_logger("replicator.daemon").bind(connector=status.connector, feed=status.feed)

    async def begin(self, begun: Collection[str]) -> None:
        """Look once, before anything is copied; what changed while nobody looked is compiled in already.

        Args:
            begun: names of the mappings that have been copied, in part at least.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION, SUPERSEDED.

        """
        await self._watch.look()
        await self._unpublished(begun)
        await self._show()
        for mapping, reason in self._status.stale.items():
            self._log.warning("resync needed", mapping=mapping, reason=reason)

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            ReplicatorError: SCHEMA when a mapped table is gone; RESHAPED when a type is another, or the publication
                has lost something (SCHEMA where it is Debezium's, and nobody here puts it back); CONNECTION,
                PERMISSION, SUPERSEDED. In an ExceptionGroup.

        """
        self._running = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run())
            group.create_task(self._watch_publication())

    async def resynced(self, mapping: str, copy: Callable[[], Awaitable[None]]) -> None:
        """Copy a mapping again, which mends what had been noticed before.

        Raises:
            ReplicatorError: as `run`, and as `copy`.

        """
        await self._watch.resynced(mapping, copy)
        await self._show()

    async def _watch_publication(self) -> None:
        everything = [mapping.name for mapping in self._mappings.all]
        while True:
            await asyncio.sleep(PUBLICATION_SECONDS)
            gaps = await self._unpublished(everything)
            if gaps:
                raise self._lost(*min(gaps.items()))

    def _lost(self, table: TableName, why: str) -> ReplicatorError:
        hint = "It is put back, where the connector may do that; then `replicator resync` the table"
        if not self._ours:
            assert self._publication is not None
            hint = (
                "The checkpoint stays where it is. Put it back, in Debezium's table.include.list, or by ALTER "
                f"PUBLICATION {quote_identifier(self._publication)} ADD TABLE {table}; start again, then `replicator "
                "resync` the table. Or take it out of the connector"
            )
        return ReplicatorError(
            f"{table} {why} any more: changes are left out of the stream",
            kind=ErrorKind.RESHAPED if self._ours else ErrorKind.SCHEMA,
            table=str(table),
            hint=hint,
        )

    async def _unpublished(self, begun: Collection[str]) -> dict[TableName, str]:
        """Tables of mappings that go on though the publication has lost something of theirs: they need a resync.

        This is stored before anybody mends the publication: afterwards nothing shows it.
        """
        if self._publication is None:
            return {}
        tables = {
            side.table.name: mapping.name
            for mapping in self._mappings.all
            if mapping.name in begun
            for side in mapping.sources
            if self._ours or side.table.kind != "p"  # Debezium may publish partitions, and route them to one topic
        }
        dsn = old_dsn(self._parts.connector)
        gaps = await publication_gaps(dsn, self._publication, tables, whole=self._ours)
        if gaps:
            reasons = {
                tables[table]: f"{table} {why}: what was changed meanwhile is in no stream"
                for table, why in gaps.items()
            }
            async with self._parts.target.job("schema") as transaction:
                await self._parts.schema.see(transaction, {}, reasons)
        return gaps

    async def _show(self) -> None:
        self._status.stale = {stale.mapping: stale.reason for stale in await self._watch.stale()}

    async def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            log = self._log.info if change.effect is Effect.FITS else self._log.warning
            log(
                "schema changed",
                table=str(change.table),
                change=str(change.kind),
                effect=str(change.effect),
                detail=change.message,
            )
        await self._show()
        retyped = next((change for change in changes if change.kind is ChangeKind.COLUMN_RETYPED), None)
        gone = next((change for change in changes if change.kind in _ENDS_THE_FEED), None)
        if gone is not None and self._running:
            raise ReplicatorError(
                f"{gone.table}: {gone.message}",
                kind=ErrorKind.SCHEMA,
                table=str(gone.table),
                hint="The checkpoint stays where it is. `replicator plan` says what is mapped now; start again, then "
                f"`replicator resync` {gone.mapping}",
            )
        if retyped is not None and self._running:
            raise ReplicatorError(
                f"{retyped.table}: {retyped.message}",
                kind=ErrorKind.RESHAPED,
                table=str(retyped.table),
                column=retyped.column,
                hint="The mappings are compiled again from both catalogs",
            )
