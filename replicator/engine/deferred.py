"""Deferred aggregates: what could not be written because of a unique value that was moving.

Two rows may exchange a unique value between the snapshots of their chunks: then the target refuses the second, and no
retry of its chunk helps, for the other's change lies ahead in the stream. So the chunk leaves the refused aggregate out
and notes it in the same transaction. Once the feed has passed all snapshots, the aggregate is derived again, together
with whatever stands in its way, from one snapshot (`unique.py`). What is refused even then is a data error.

The feed does the same with an event that meets a row which is newer than itself, from such a snapshot or from another
lane, and whose source row is gone already: its end lies ahead in the stream, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import structlog

from replicator.engine.apply import Applied
from replicator.engine.parking import text_key
from replicator.errors import Action, ErrorKind, ReplicatorError
from replicator.events import Key, Op
from replicator.ports import DeadLetter

if TYPE_CHECKING:
    from replicator.copies import BackfillStore
    from replicator.engine.recent import RecentTransactions
    from replicator.engine.unique import UniqueResolver
    from replicator.mapping import Mapping, Mappings
    from replicator.ports import Reader, Target

_ROUNDS: Final = 3
"""A row in the way may have lost its source row a moment ago, by an event that is still ahead: not before the feed has
passed the moment of the refusal twice is it certain that none comes."""
_TOGETHER: Final = 100  # aggregates of one target transaction
_WORKER: Final = "deferred"


class DeferredAggregates:
    """Settles the deferred aggregates of one feed, beside it.

    Args:
        mappings: of the feed.
        resolver: the feed's.
        reader: of the source.
        target: taken over.
        store: where they are kept.
        recent: told by the feed what it applies.
        format_lsn: for the place in dead letters.
        dead_letters: park what is refused for good (`on_error: dlq`), or raise.

    """

    def __init__(
        self,
        *,
        mappings: Mappings,
        resolver: UniqueResolver,
        reader: Reader,
        target: Target,
        store: BackfillStore,
        recent: RecentTransactions,
        format_lsn: Callable[[int], str],
        dead_letters: bool = False,
    ) -> None:
        self._mappings = mappings
        self._resolver = resolver
        self._reader = reader
        self._target = target
        self._store = store
        self._recent = recent
        self._format = format_lsn
        self._dead_letters = dead_letters
        self._log = structlog.get_logger("replicator.backfill")

    async def settle(self, reach: Callable[[int], Awaitable[None]]) -> None:
        """Write all that wait now; call when the feed has passed every snapshot that was copied.

        What is deferred meanwhile is left to the next call: under load there may always be some.

        Args:
            reach: waits until the feed has applied everything up to a source LSN.

        Raises:
            ReplicatorError: DATA, naming table and key, when two rows claim one value at the source too; it stays
                deferred. Other kinds as they come.

        """
        rounds: Counter[tuple[str, Key]] = Counter()
        waiting = await self._store.deferred()
        while waiting:
            with self._recent.watch() as xids:
                await self._reader.wait_for_running()
                refused = [
                    pair
                    for name, group in groupby(sorted(waiting), key=itemgetter(0))
                    for pair in await self._of_mapping(name, [key for _, key in group], xids)
                ]
            self._log.info("deferred aggregates derived again", aggregates=len(waiting), refused=len(refused))
            async with self._reader.snapshot() as snapshot:
                lsn = snapshot.insert_lsn
            rounds.update((mapping.name, key) for mapping, key, _ in refused)
            hopeless = [one for one in refused if rounds[one[0].name, one[1]] >= _ROUNDS]
            if hopeless:
                await self._give_up(hopeless, lsn)
            await reach(lsn)
            again = {(mapping.name, key) for mapping, key, _ in refused}
            waiting = [one for one in await self._store.deferred() if one in again]

    async def _of_mapping(
        self, name: str, keys: Sequence[Key], xids: set[int]
    ) -> list[tuple[Mapping, Key, ReplicatorError]]:
        """Settle the aggregates of one mapping; returns those that were refused."""
        found = self._mappings.named((name,))
        if not found:  # no longer mapped
            async with self._target.job(_WORKER) as tx:
                for key in keys:
                    await self._store.settled(tx, name, key)
            return []
        mapping, refused = found[0], []
        for at in range(0, len(keys), _TOGETHER):
            some = keys[at : at + _TOGETHER]
            if await self._try(mapping, some, xids) is None:
                continue
            for key in some:
                error = await self._try(mapping, [key], xids)
                if error is not None:
                    refused.append((mapping, key, error))
        return refused

    async def _try(self, mapping: Mapping, keys: Sequence[Key], xids: set[int]) -> ReplicatorError | None:
        try:
            async with self._target.job(_WORKER) as tx:
                await self._resolver.settle(tx, mapping, keys, xids, Applied())
                for key in keys:
                    await self._store.settled(tx, mapping.name, key)
        except ReplicatorError as error:
            if error.action is not Action.ISOLATE:
                raise
            return error
        return None

    async def _give_up(self, refused: Sequence[tuple[Mapping, Key, ReplicatorError]], lsn: int) -> None:
        if not self._dead_letters:
            mapping, key, error = refused[0]
            raise ReplicatorError(
                error.message,
                kind=ErrorKind.DATA,
                table=str(mapping.root.table.name),
                key=text_key(key),
                constraint=error.constraint,
                hint=(
                    "this row was left out and is kept in replicator.deferred, everything else is applied. "
                    "Mend it at the source, or the constraint on the target, or set apply.on_error: dlq; then start"
                ),
                sqlstate=error.sqlstate,
            )
        for mapping, key, error in refused:
            letter = DeadLetter(
                mapping=mapping.name,
                key=key,
                table=mapping.root.table.name,
                op=Op.READ.value,
                position=self._format(lsn),
                kind=str(error.kind),
                message=error.message,
            )
            async with self._target.job(_WORKER) as tx:
                await tx.park([letter])
                await self._store.settled(tx, mapping.name, key)
