"""Which topics hold the changes of which tables, by Debezium's names. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from replicator.config import KafkaStream
    from replicator.tables import TableName

_FORBIDDEN: Final = re.compile(r"[^a-zA-Z0-9._-]")


def topic_of(prefix: str, table: TableName) -> str:
    """`<prefix>.<schema>.<table>`; other signs than a topic's become underscores (as Debezium's do)."""
    return _FORBIDDEN.sub("_", f"{prefix}.{table.schema}.{table.name}")


def transaction_topic(prefix: str) -> str:
    """Where Debezium tells of transactions' beginnings and ends (`topic.transaction`)."""
    return f"{prefix}.transaction"


def message_topic(prefix: str) -> str:
    """Where logical messages go."""
    return f"{prefix}.message"


def heartbeat_topic(prefix: str) -> str:
    """Where heartbeats go (`topic.heartbeat.prefix`)."""
    return f"__debezium-heartbeat.{prefix}"


class Topics:
    """Of one connector.

    Args:
        stream: says which topics are named otherwise.
        tables: the mapped ones.

    Attributes:
        by_table: the topic of each table.
        tables: the tables of each topic; several where their topics have the same name.

    """

    def __init__(self, stream: KafkaStream, tables: Collection[TableName]) -> None:
        self.by_table: Mapping[TableName, str] = {
            table: stream.topics.get(table) or topic_of(stream.topic_prefix, table) for table in sorted(tables)
        }
        shared: dict[str, list[TableName]] = defaultdict(list)
        for table, topic in self.by_table.items():
            shared[topic].append(table)
        self.tables: Mapping[str, tuple[TableName, ...]] = {topic: tuple(names) for topic, names in shared.items()}
        self.transactions = transaction_topic(stream.topic_prefix)

    @property
    def of_one_table(self) -> Mapping[str, TableName]:
        """Topics that hold one table's changes only, as far as is known: for decoders of records that name none."""
        return {topic: tables[0] for topic, tables in self.tables.items() if len(tables) == 1}
