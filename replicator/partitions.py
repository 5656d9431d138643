"""The ports of a source that is a log of several partitions, such as Kafka. A port's docstring is its contract.

log ──Record──▶ RecordDecoder ──RowChange──▶ Source ──▶ feed ──▶ Target, and with it the Ledger of partitions
▲                          │
Registry             ProducerProof, Marker: what the log alone can't tell
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from replicator.records import Decoded, Record, RegistrySchema, RowChanges

Partition = tuple[str, int]
"""Topic and number."""


class RecordDecoder(Protocol):
    """Records of a log to changes: pure; whoever reads the log does what I/O it asks for."""

    def needs(self, record: Record) -> Collection[RegistrySchema]:
        """The registry's schemas that `decode` needs for this record and has not learned; mostly none.

        Raises:
            ReplicatorError: DECODE, when the record's framing can't be read.

        """

    def learn(self, schema: RegistrySchema, text: str) -> None:
        """A schema as the registry has it (Avro's JSON).

        Raises:
            ReplicatorError: DECODE, when it is none.

        """

    def decode(self, record: Record) -> Decoded:
        """What the record says.

        Raises:
            ReplicatorError: DECODE (names topic, partition and offset, what is wrong, and the setting of the producer
                that would keep what this record has lost); SCHEMA when the table is not what the catalog says.

        """

    def decode_run(self, records: Sequence[Record]) -> list[Decoded]:
        """What the first of these records say, as `decode` says it of each, in less time.

        Args:
            records: of one topic, at least one.

        Returns:
            As many as could be read; none when `needs` has to be asked about the first.

        Raises:
            ReplicatorError: as `decode`, of the first record.

        """

    def decode_rows(self, records: Sequence[Record]) -> list[Decoded | RowChanges]:
        """Likewise, in the least time: changes of one kind that follow each other come as one. Those don't say what
        Debezium's transaction metadata does, nor may a change among them that comes alone.

        Args:
            records: of one partition, at least one.

        Raises:
            ReplicatorError: as `decode_run`.

        """


class Registry(Protocol):
    """A schema registry."""

    async def schema(self, schema: RegistrySchema) -> str:
        """The schema's text; cached by the caller through `RecordDecoder.learn`.

        Raises:
            ReplicatorError: CONNECTION (tried again by the caller's session), PERMISSION, DECODE for an unknown id.

        """


class Ledger(Protocol):
    """Who applies which partition of a log, and up to where: in the target, with the rows.

    The transactions of `Target` move what this process holds by compare-and-set of (epoch, offset) for each partition
    (`TargetTransaction.checkpoint` with the text of `Source.progress`: `topic/partition:offset`, joined by commas, and
    `@mark` after an offset to keep a mark beside it: no comma, no space). One whose epoch another process has raised
    makes the transaction fail with REASSIGNED, and nothing of it is written (P2).
    """

    async def take_over(self, partitions: Collection[Partition]) -> dict[Partition, int | None]:
        """Become the one who applies these partitions: raises each one's epoch and waits for (or ends) an open
        transaction of who held it before. Returns the next offset of each; None for one that nobody has begun.

        Raises:
            ReplicatorError: CONNECTION, TIMEOUT, PERMISSION.

        """

    async def begin(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        """Store where partitions begin that nobody has begun; returns where they do begin (another process may have
        stored it first).
        """

    def beginning(self, offsets: Mapping[Partition, int]) -> str:
        """The statement, for a person, that has partitions begin there that nobody has begun, and that were taken
        over.
        """

    async def marks(self, partitions: Collection[Partition]) -> dict[Partition, str]:
        """The mark that was kept last beside the offset of each of these partitions, where one was."""

    def forgetting(self, partition: Partition) -> str:
        """The statement, for a person, that has the target forget a partition's mark."""

    async def release(self, partitions: Collection[Partition]) -> None:
        """Give partitions up whose transactions have ended, so that a successor doesn't wait for anything."""

    async def offsets(self) -> dict[Partition, int]:
        """The next offset of every partition that somebody has begun: committed with its rows."""

    async def identity(self, cluster: str, topics: Mapping[str, str]) -> None:
        """Compare with what is stored, or store what isn't: the cluster's id, and each topic's id and partition count
        (as text `topic id/partitions`).

        Raises:
            ReplicatorError: LOG_LOST when a topic was made again, has other partitions, or the cluster is another
                one: what is lost, and what to do.

        """


class Marker(Protocol):
    """The plain side of a source whose changes come through a log: its clock is the WAL."""

    async def beat(self) -> int:
        """As `Source.beat`."""

    async def head(self) -> int:
        """As `Source.head`."""

    async def retained_wal_bytes(self) -> int | None:
        """WAL that the producer's slot holds back; None where that isn't known."""


class ProducerProof(Protocol):
    """Whoever fills the log: Debezium, or our capture."""

    async def produced(self, lsn: int) -> None:
        """Wait until everything that was committed on the source before `lsn` is in the log, acknowledged. Cancel-safe.

        Raises:
            ReplicatorError: CONFIG where nothing can prove it; CONNECTION.

        """
