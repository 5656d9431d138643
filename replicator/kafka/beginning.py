"""Where partitions begin, and whether the log is still the one that the stored offsets are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from replicator.kafka.admin import Admin, Topic
    from replicator.partitions import Ledger, Partition


class Beginning:
    """Of one session.

    Args:
        admin: asks the brokers.
        ledger: knows how far each partition is applied.
        topics: those that are read.
        transactions: the transaction topic, where whole transactions are put together: then each topic must have one
            partition.

    Attributes:
        topics: those that are read, the transaction topic among them.
        found: those of them that existed when they were looked for last.

    """

    def __init__(
        self, admin: Admin, ledger: Ledger, topics: Collection[str], *, transactions: str | None = None
    ) -> None:
        self.topics = frozenset(topics) | ({transactions} if transactions else set())
        self.found: Mapping[str, Topic] = {}
        self._transactions = transactions
        self._admin = admin
        self._ledger = ledger

    async def check(self) -> None:
        """See that this is the log that was read before.

        Raises:
            ReplicatorError: LOG_LOST when a topic that had been begun is gone, or was made again, or has other
                partitions, or the cluster is another one; CONFIG for a topic of several partitions where transactions
                are to be whole; CONNECTION, PERMISSION.

        """
        found = await self._admin.topics(self.topics)
        divided = sorted(name for name, topic in found.items() if self._transactions and topic.partitions > 1)
        if divided:
            raise ReplicatorError(
                f"stream.atomic needs topics of one partition, and {', '.join(divided)} has more",
                kind=ErrorKind.CONFIG,
                hint="Set stream.atomic: false, or have the producer write to topics of one partition",
            )
        begun = await self._ledger.offsets()
        gone = sorted({topic for topic, _ in begun if topic in self.topics and topic not in found})
        if gone:
            raise ReplicatorError(
                f"topic {', '.join(gone)} is gone, and had been read: what was written to it since is lost",
                kind=ErrorKind.LOG_LOST,
                hint="Nothing else was changed. Restore the topic, or have its producer take a new snapshot, then copy "
                "its tables anew with `replicator resync`",
            )
        seen = {name: f"{topic.id}/{topic.partitions}" for name, topic in found.items()}
        await self._ledger.identity(await self._admin.cluster(), seen)
        self.found = found

    async def refresh(self) -> None:
        """See which topics there are now, with one question to the brokers; `check` anew where that is another answer.

        Raises:
            ReplicatorError: as `check`.

        """
        if not self.found or await self._admin.topics(self.topics) != self.found:
            await self.check()

    async def begin(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Take these partitions over, and see where each one begins: the next offset.

        One that nobody has begun begins with its first record: what was copied before lies behind its mark, and what
        begins later must be there from the first record on. The transaction topic's holds no rows: transactions whose
        end is gone are given out as at any beginning.

        Raises:
            ReplicatorError: as `check`; LOG_LOST when an offset isn't in the log any more, or the first record of a
                partition that nobody has begun.

        """
        await self.check()
        stored = await self._ledger.take_over(partitions)
        first, end = await self._admin.beginnings(partitions), await self._admin.ends(partitions)
        fresh = {one: first[one] for one, offset in stored.items() if offset is None and one in first}
        cut = {one: offset for one, offset in fresh.items() if offset and one[0] != self._transactions}
        if cut:
            raise self._cut(cut)
        begun = await self._ledger.begin(fresh)
        offsets: dict[Partition, int] = {}
        for one, offset in stored.items():
            next_offset = begun.get(one) if offset is None else offset
            if next_offset is None or one not in first or one not in end:
                raise ReplicatorError(
                    f"{_name(one)} is assigned to this process, but the brokers don't know it",
                    kind=ErrorKind.CONNECTION,
                    hint="The topic may be about to be deleted; this is tried again",
                )
            if not first[one] <= next_offset <= end[one]:
                raise out_of_range(one, next_offset, first[one], end[one])
            offsets[one] = next_offset
        return offsets

    async def mark(self, topics: Collection[str]) -> None:
        """Have every partition of these topics that exists now, and that nobody has begun, begin at its end.

        Raises:
            ReplicatorError: as `check`.

        """
        await self.check()
        await self._ledger.begin(await self._admin.ends(one for one in self.partitions() if one[0] in topics))

    def partitions(self) -> list[Partition]:
        """All partitions of the topics that were found."""
        return [(name, number) for name, topic in self.found.items() for number in range(topic.partitions)]

    def _cut(self, fresh: Mapping[Partition, int]) -> ReplicatorError:
        topic = min(fresh)[0]
        cut = {one: offset for one, offset in sorted(fresh.items()) if one[0] == topic}
        partition, first = next(iter(cut.items()))
        return ReplicatorError(
            f"topic {topic} is read for the first time, and its beginning is gone: {_name(partition)} begins at offset "
            f"{first} now",
            kind=ErrorKind.LOG_LOST,
            hint="Nothing of it was applied. Retention has deleted records that no copy is proven to hold. To go on "
            f"with what is left: raise the topic's retention, run `{self._ledger.beginning(cut)}` in the target, start "
            "again, and copy its tables anew with `replicator resync`, unless the upgraded side is known to hold what "
            "is gone",
        )

    async def lost(self, partition: Partition, next_offset: int) -> ReplicatorError:
        """The error of an offset that a broker no longer has."""
        first, end = await self._admin.beginnings([partition]), await self._admin.ends([partition])
        return out_of_range(partition, next_offset, first.get(partition), end.get(partition))


def out_of_range(partition: Partition, next_offset: int, first: int | None, end: int | None) -> ReplicatorError:
    """The error of an offset that isn't in the log: never reset silently."""
    if first is None or end is None:
        there = "the partition is gone"
    elif next_offset < first:
        there = f"the log begins at {first} now: {first - next_offset} offsets are lost"
    else:
        there = f"the log ends at {end}: it was cut, and what is written there now is something else"
    return ReplicatorError(
        f"{_name(partition)} was applied up to offset {next_offset}, but {there}",
        kind=ErrorKind.LOG_LOST,
        hint="Nothing was skipped. Raise the topic's retention, so that it spans the longest outage; then copy its "
        "tables anew: give the connector another name, or remove the feed's state and let the backfill run",
    )


def _name(partition: Partition) -> str:
    return f"{partition[0]}/{partition[1]}"
