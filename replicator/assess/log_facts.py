"""What is known about a log, and about who fills it, before a plan is made. Frozen; read by the adapters of Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from replicator.tables import TableName


@dataclass(frozen=True)
class TopicFacts:
    """A topic that is there.

    Attributes:
        partitions: how many.
        compacted: older records of a key may be removed.
        retention_seconds: how long records stay at least; None without a limit, or unknown.

    """

    partitions: int
    compacted: bool = False
    retention_seconds: float | None = None


@dataclass(frozen=True)
class LogFacts:
    """A Kafka cluster, as far as a connector is concerned.

    Attributes:
        cluster: its id.
        topics: those that were asked for and exist, by name.
        lag: records that the group has still to read, of those topics; None before it has begun.

    """

    cluster: str = ""
    topics: Mapping[str, TopicFacts] = field(default_factory=dict)
    lag: int | None = None


@dataclass(frozen=True)
class DebeziumFacts:
    """Debezium's connector, as Kafka Connect tells it.

    Attributes:
        config: its configuration, secrets included: no message repeats more of it than names and modes.
        version: Debezium's, None where unknown.
        trouble: why it fills no topics now, in words.
        snapshot: its snapshot is running.
        cluster: id of the Kafka cluster that Connect works for, '' unknown.

    """

    config: Mapping[str, str] = field(repr=False)
    version: str | None = None
    trouble: str | None = None
    snapshot: bool = False
    cluster: str = ""


@dataclass(frozen=True)
class Unreachable:
    """Somebody who could not be asked: why, and what to do."""

    why: str
    hint: str = ""


@dataclass(frozen=True)
class StreamFacts:
    """Everything around a log.

    Attributes:
        topics: the topic of each mapped table.
        transactions: the topic that tells of transactions.
        log: the cluster, or why it could not be asked.
        slot, publication: names of Debezium's, where they are known.
        debezium: its connector; None where Connect isn't named, or our capture fills the log.
        registry: None where there is none, or it answers.
        money_digits: fractional digits of `money` on the source; None unknown.

    """

    topics: Mapping[TableName, str]
    transactions: str
    log: LogFacts | Unreachable
    debezium: DebeziumFacts | Unreachable | None = None
    registry: Unreachable | None = None
    money_digits: int | None = None
    slot: str | None = None
    publication: str | None = None

    def topic(self, table: TableName) -> TopicFacts | None:
        """The topic of a mapped table, where it is there."""
        return None if isinstance(self.log, Unreachable) else self.log.topics.get(self.topics.get(table, ""))

    @property
    def partitions(self) -> dict[TableName, int]:
        """Partitions of each mapped table's topic, where it is there."""
        found = {table: self.topic(table) for table in self.topics}
        return {table: topic.partitions for table, topic in found.items() if topic is not None}

    def described(self, tables: Iterable[TableName]) -> tuple[tuple[str, int | None], ...]:
        """The topics of these tables with their partitions, None for one that isn't there; none if nobody could ask."""
        if isinstance(self.log, Unreachable):
            return ()
        names = dict.fromkeys(self.topics[table] for table in tables)
        return tuple(
            (name, None if (found := self.log.topics.get(name)) is None else found.partitions) for name in names
        )
