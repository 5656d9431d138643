"""The desk for dead letters: applies parked aggregates again, or forgets them, as an operator asks."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Sized
from typing import TYPE_CHECKING

from replicator.engine.apply import Applied, Applier, stripe
from replicator.engine.derive import AggregateReader
from replicator.engine.translation import translated
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, ChangeEvent, Key, Op, Transaction, Values

if TYPE_CHECKING:
    from collections.abc import Mapping as MappingType

    from replicator.engine.lane import Lane
    from replicator.engine.parking import Parking
    from replicator.events import Relation
    from replicator.mapping import Mapping
    from replicator.ports import DeadLetter, Reader, Target, TargetTransaction
    from replicator.telemetry import FeedStatus


class LetterDesk:
    """Works between two batches of the feed, in transactions of one lane."""

    def __init__(
        self,
        lane: Lane,
        parking: Parking,
        *,
        target: Target,
        applier: Applier,
        reader: Reader,
        status: FeedStatus,
    ) -> None:
        self._lane = lane
        self._parking = parking
        self._target = target
        self._applier = applier
        self._reader = reader
        self._status = status
        self._aggregates = AggregateReader(reader)

    async def retry(self, ids: Collection[int], xids: Collection[int]) -> str:
        """Apply the aggregates of these dead letters again, each with all that waits of it.

        A keyed aggregate is derived from the source as it is now: what waits is in it already, and later events are
        applied over it. Rows of a table without a key are applied from the letters, in order. Letters that don't wait
        any more are none to apply: the same request, begun by a process that has died since, may have freed them.

        Args:
            ids: of some of their letters.
            xids: transactions that the feed has taken and a new snapshot might not see.

        Raises:
            ReplicatorError: the first refusal; that aggregate and those after it stay parked.

        """
        letters = await self._target.dead_letters()
        groups = _groups(letters, ids)
        for (name, key), group in groups.items():
            mapping = self._mapping(name)
            async with self._target.transaction(self._lane.number) as tx:
                if mapping.multiset:
                    await self._replay(tx, mapping, group)
                else:
                    await self._derive(tx, mapping, key, xids)
                await tx.unpark([letter.id for letter in group])
            self._freed(name, key)
        return f"applied again: {_done(groups, letters, ids)}"

    async def discard(self, ids: Collection[int]) -> str:
        """Forget these dead letters and all that waits behind them."""
        letters = await self._target.dead_letters()
        groups = _groups(letters, ids)
        for (name, key), group in groups.items():
            async with self._target.transaction(self._lane.number) as tx:
                await tx.discard([letter.id for letter in group])
            self._freed(name, key)
        return f"discarded: {_done(groups, letters, ids)}"

    def _freed(self, name: str, key: Key) -> None:
        self._parking.parked.pop((name, key), None)
        self._status.dead_letters = self._parking.parked.total()

    def _mapping(self, name: str) -> Mapping:
        found = self._applier.mappings.named((name,))
        if not found:
            raise ReplicatorError(
                f"dead letters of {name} can't be retried: the connector no longer maps it",
                kind=ErrorKind.CONFIG,
                table=name,
                hint="discard them, or map the table again",
            )
        return found[0]

    async def _derive(self, tx: TargetTransaction, mapping: Mapping, key: Key, xids: Collection[int]) -> None:
        await tx.lock((stripe(mapping, key),))
        async with self._reader.snapshot(xids) as snapshot:
            aggregates, absent = await self._aggregates.by_key(snapshot, mapping, [key])
            writes = self._applier.plan_aggregates(mapping, aggregates, absent)
            self._applier.raise_floor(snapshot.insert_lsn, mapping)
        for write in self._applier.order(writes):
            await tx.write(await translated(tx, write))

    async def _replay(self, tx: TargetTransaction, mapping: Mapping, letters: Sequence[DeadLetter]) -> None:
        relation = self._reader.relation(mapping.root.table)
        for letter in letters:
            prepared = self._applier.prepare((_event(letter, relation),), plain=False)
            await self._applier.apply(tx, prepared, Applied())


def _done(groups: Sized, letters: Sequence[DeadLetter], ids: Collection[int]) -> str:
    keys = "1 parked key" if len(groups) == 1 else f"{len(groups)} parked keys"
    gone = len(set(ids) - {letter.id for letter in letters})
    return f"{keys} ({gone} of {len(set(ids))} dead letters had been freed before)" if gone else keys


def _groups(letters: Sequence[DeadLetter], ids: Collection[int]) -> dict[tuple[str, Key], list[DeadLetter]]:
    """The keys that these letters stand for, each with all its letters in order."""
    wanted = set(ids)
    keys = {(letter.mapping, letter.key) for letter in letters if letter.id in wanted}
    groups: dict[tuple[str, Key], list[DeadLetter]] = {}
    for letter in letters:
        at = (letter.mapping, letter.key)
        if at in keys:
            groups.setdefault(at, []).append(letter)
    return groups


def _event(letter: DeadLetter, relation: Relation) -> ChangeEvent:
    """The event that a dead letter keeps."""

    def values(named: MappingType[str, str | None] | None) -> Values | None:
        if named is None:
            return None
        texts = [(named.get(name), name in named) for name in relation.columns]
        return tuple(UNCHANGED if not there else None if text is None else text.encode() for text, there in texts)

    # A table without a key is parked with complete old rows only (REPLICA IDENTITY FULL).
    full = relation if relation.replica_identity == "f" else _full(relation)
    return ChangeEvent(Op(letter.op), full, values(letter.before), values(letter.after), Transaction(0, 0, 0.0), 1)


def _full(relation: Relation) -> Relation:
    return type(relation)(relation.table, relation.columns, relation.type_oids, relation.columns, "f")
