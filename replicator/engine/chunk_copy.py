"""The copy of one chunk: from one snapshot of the source, inside one target transaction.

    PIPE      COPY to COPY, bytes that nobody takes apart: same shape, nothing to translate, no such rows there yet
    OVER      the same through a temporary table: rows may be there (a target that isn't empty, a resync)
    VALUES    rows are read, transformed, translated and written as the feed would write them
    CAREFUL   the same in savepoints, halved until each refused aggregate stands alone: refused for a unique value it
              is deferred (see `deferred.py`), else it is parked, or stops the chunk

A way that fails on data is followed by the next more careful one, with a new snapshot and a new transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from replicator.copies import MultisetCut
from replicator.engine.chunks import Portion
from replicator.engine.copy_text import row_groups
from replicator.engine.derive import AggregateReader
from replicator.engine.parking import text_key
from replicator.engine.translation import translated
from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.events import Op
from replicator.planner import order_writes, plan_multiset, plan_truncate
from replicator.ports import DeadLetter
from replicator.writes import Write, WriteAction

if TYPE_CHECKING:
    from replicator.copies import BackfillStore, Chunk, ChunkTarget
    from replicator.engine.apply import Applier
    from replicator.mapping import Mapping, SourceAggregate
    from replicator.ports import Reader, SourceSnapshot, TargetTransaction

RETRIED_HERE: Final = frozenset({ErrorKind.SERIALIZATION, ErrorKind.TIMEOUT, ErrorKind.RESOURCES})
"""Kinds for which a chunk is tried again; lost connections are made anew by whoever runs the connector."""
_ROWS_AT_ONCE: Final = 2_000
"""Transformed between two statements: neither session is idle for long, nor is the loop blocked, by a slow function."""


class Way(Enum):
    """How a chunk is copied, the fastest first."""

    PIPE = auto()
    OVER = auto()
    VALUES = auto()
    CAREFUL = auto()


def first_way(mapping: Mapping, *, rows_there: bool = False) -> Way:
    """The fastest way for this mapping."""
    if mapping.function is not None or mapping.key_map is not None or mapping.references:
        return Way.VALUES
    table = mapping.target.table
    if any(key.deferrable for key in table.unique_keys) or table.deferrable_exclusions:
        return Way.VALUES  # checked by triggers, which don't fire in the role in which COPY runs
    return Way.OVER if rows_there and not mapping.multiset else Way.PIPE


def next_way(mapping: Mapping, way: Way, error: ReplicatorError) -> Way | None:
    """The way to try after `way` failed with this error; None when there is none, or no way helps."""
    if error.action is not Action.ISOLATE or mapping.multiset or way is Way.CAREFUL:
        return None
    there = error.kind is ErrorKind.UNIQUE and error.constraint not in _other_constraints(mapping)
    return Way.OVER if way is Way.PIPE and there else Way.CAREFUL


def _other_constraints(mapping: Mapping) -> set[str]:
    """Unique ones that are not the key's: what they refuse is a value that moves, not a row that is there."""
    target = mapping.target
    others = {key.name for key in target.table.unique_keys if set(key.columns) != set(target.key)}
    return others.union(target.table.other_unique_indexes)


@dataclass(slots=True)
class Copied:
    """What the copy of one chunk did: rows and bytes read from the root; aggregates that were not written."""

    rows: int = 0
    bytes: int = 0
    deferred: int = 0
    parked: int = 0


@dataclass(slots=True)
class _Refused:
    """Aggregates that the target refused one by one."""

    aggregates: list[tuple[SourceAggregate, ReplicatorError]] = field(default_factory=list)


class ChunkCopier:
    """Copies chunks for a backfill or a resync.

    Args:
        applier: plans writes as the feed does.
        reader: of the source.
        chunks: of the target.
        store: where deferred aggregates and cuts go.
        format_lsn: for the place in dead letters.
        dead_letters: park what can't be written (`on_error: dlq`), or stop the chunk.
        bytes_max: bytes of rows that are held in memory at once, about, by each worker that reads values.

    """

    def __init__(
        self,
        *,
        applier: Applier,
        reader: Reader,
        chunks: ChunkTarget,
        store: BackfillStore,
        format_lsn: Callable[[int], str],
        dead_letters: bool = False,
        bytes_max: int = 16 * 1024 * 1024,
    ) -> None:
        self._applier = applier
        self._reader = reader
        self._chunks = chunks
        self._store = store
        self._format = format_lsn
        self._dead_letters = dead_letters
        self._bytes_max = bytes_max
        self._portions: dict[str, Portion] = {}
        self._aggregates = AggregateReader(reader)

    async def copy(
        self, way: Way, tx: TargetTransaction, snapshot: SourceSnapshot, mapping: Mapping, chunk: Chunk
    ) -> Copied:
        """Copy a chunk's range; the caller records it and commits.

        A table without a key is emptied first (of what the mapping owns), and its snapshot is stored.

        Raises:
            ReplicatorError: of any kind; the transaction is then to be rolled back. See `next_way`.

        """
        if mapping.multiset:
            await self._begin_multiset(tx, snapshot, mapping)
        if way is Way.PIPE or way is Way.OVER:
            return await self._pipe(tx, snapshot, mapping, chunk, over=way is Way.OVER)
        if mapping.multiset:
            return await self._append(tx, snapshot, mapping)
        copied = Copied()
        async for aggregates in self._portions_of(snapshot, mapping, chunk, copied):
            if way is Way.VALUES:
                await self._write(tx, self._applier.plan_aggregates(mapping, aggregates))
            else:
                refused = _Refused()
                await self._halves(tx, mapping, aggregates, refused)
                await self._set_aside(tx, snapshot, mapping, refused, copied)
        return copied

    async def _portions_of(
        self, snapshot: SourceSnapshot, mapping: Mapping, chunk: Chunk, copied: Copied
    ) -> AsyncIterator[list[SourceAggregate]]:
        """The aggregates of a chunk, as many at once as may be held in memory."""
        root, after = mapping.root, chunk.after
        portion = self._portions.setdefault(mapping.name, Portion(root.table, self._bytes_max))
        while True:
            rows = min(portion.rows, _ROWS_AT_ONCE)
            upto = await snapshot.count_before(root.table, root.key, after, rows, upto=chunk.upto)
            end = chunk.upto if upto is None else upto
            values = await snapshot.chunk(root.table, root.key, after, end, where=mapping.owns_source)
            size = sum(len(value) for row in values for value in row if isinstance(value, bytes))
            portion.saw(len(values), size)
            copied.rows += len(values)
            copied.bytes += size
            yield await self._aggregates.of_roots(snapshot, mapping, values)
            if upto is None:
                return
            after = upto

    async def _begin_multiset(self, tx: TargetTransaction, snapshot: SourceSnapshot, mapping: Mapping) -> None:
        emptied = plan_truncate(mapping, self._applier.mappings)
        # Not by TRUNCATE, which would lock out readers, and is refused where a foreign key refers to the table.
        await self._write(tx, [replace(write, action=WriteAction.CLEAR, also=()) for write in emptied])
        cut = MultisetCut(mapping.root.table.name, snapshot.text, snapshot.insert_lsn)
        await self._store.record_cut(tx, mapping.name, cut)

    async def _pipe(
        self, tx: TargetTransaction, snapshot: SourceSnapshot, mapping: Mapping, chunk: Chunk, *, over: bool
    ) -> Copied:
        root, target = mapping.root, mapping.target
        carried = [(old, new) for old, new in mapping.columns.items() if not target.table.by_name[new].generated]
        copied = Copied()
        columns = tuple(new for _, new in carried)
        out = snapshot.copy_out(
            root.table,
            tuple(old for old, _ in carried),
            root.key,
            chunk.after,
            chunk.upto,
            where=mapping.owns_source,
        )
        async with aclosing(out):
            blocks = _counted(out, copied)
            if over:
                copied.rows = await self._chunks.copy_over(tx, target.table, columns, target.key, blocks)
            else:
                copied.rows = await self._chunks.copy_in(tx, target.table, columns, blocks)
        return copied

    async def _append(self, tx: TargetTransaction, snapshot: SourceSnapshot, mapping: Mapping) -> Copied:
        """A whole table without a key through values, some megabytes at a time."""
        root, copied = mapping.root, Copied()
        relation = self._reader.relation(root.table)
        out = snapshot.copy_out(root.table, root.table.column_names, (), None, None, where=mapping.owns_source)
        async with aclosing(out):
            async for rows in row_groups(_counted(out, copied), self._bytes_max):
                await self._write(tx, plan_multiset(mapping, relation, rows, ()))
                copied.rows += len(rows)
        return copied

    async def _write(self, tx: TargetTransaction, writes: Sequence[Write]) -> None:
        for write in order_writes(writes, self._applier.mappings.target_tables):
            await tx.write(await translated(tx, write))

    # -- one refused aggregate among many ----------------------------------------------------------------------------

    async def _halves(
        self, tx: TargetTransaction, mapping: Mapping, aggregates: Sequence[SourceAggregate], refused: _Refused
    ) -> None:
        try:
            async with tx.savepoint():
                await self._write(tx, self._applier.plan_aggregates(mapping, aggregates))
        except ReplicatorError as error:
            if error.action is not Action.ISOLATE:
                raise
            if len(aggregates) == 1:
                refused.aggregates.append((aggregates[0], error))
                return
            middle = len(aggregates) // 2
            await self._halves(tx, mapping, aggregates[:middle], refused)
            await self._halves(tx, mapping, aggregates[middle:], refused)

    async def _set_aside(
        self, tx: TargetTransaction, snapshot: SourceSnapshot, mapping: Mapping, refused: _Refused, copied: Copied
    ) -> None:
        moving = [one.key for one, error in refused.aggregates if error.kind is ErrorKind.UNIQUE]
        guilty = [(one, error) for one, error in refused.aggregates if error.kind is not ErrorKind.UNIQUE]
        if guilty and not self._dead_letters:
            raise named(mapping, *guilty[0])
        await self._store.defer(tx, mapping.name, moving)
        await tx.park([self._letter(mapping, one, error, snapshot.insert_lsn) for one, error in guilty])
        copied.deferred += len(moving)
        copied.parked += len(guilty)

    def _letter(
        self, mapping: Mapping, aggregate: SourceAggregate, error: ReplicatorError, insert_lsn: int
    ) -> DeadLetter:
        root = aggregate.tables[0]
        values = zip(root.relation.columns, root.rows[0], strict=True)
        return DeadLetter(
            mapping=mapping.name,
            key=aggregate.key,
            table=mapping.root.table.name,
            op=Op.READ.value,
            position=self._format(insert_lsn),
            kind=str(error.kind),
            message=error.message,
            after={name: value.decode() if isinstance(value, bytes) else None for name, value in values},
        )


def named(mapping: Mapping, aggregate: SourceAggregate, error: ReplicatorError) -> ReplicatorError:
    """The error with the aggregate that was refused, and what the reader can do."""
    advice = (
        "nothing of its chunk was written, the rest of the copy goes on. Mend the cause, or set apply.on_error: dlq to "
        "park such rows, then start again: only what is missing is copied"
    )
    return ReplicatorError(
        error.message,
        kind=error.kind,
        table=str(mapping.root.table.name),
        key=text_key(aggregate.key),
        column=error.column,
        constraint=error.constraint,
        hint=f"{error.hint.rstrip('.')}. {advice}" if error.hint else advice,
        sqlstate=error.sqlstate,
    )


async def _counted(blocks: AsyncIterator[bytes], copied: Copied) -> AsyncIterator[bytes]:
    async for block in blocks:
        copied.bytes += len(block)
        yield block
