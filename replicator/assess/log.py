"""A log as the source: topics, partitions, order, who fills it, and what can be proven of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from replicator.assess.debezium import assess_debezium, assess_unseen
from replicator.assess.debezium_settings import Settings
from replicator.assess.debezium_tables import key_columns
from replicator.assess.findings import Finding, Level, table_list
from replicator.assess.log_facts import DebeziumFacts, Unreachable

if TYPE_CHECKING:
    from replicator.assess.feed import AssessedFeed
    from replicator.assess.log_facts import LogFacts, StreamFacts
    from replicator.config import Connector, KafkaStream
    from replicator.mapping import Mapping
    from replicator.tables import Table

ORDER: Final = "log_order"
_DAY_SECONDS: Final = 86_400


def assess_log(feed: AssessedFeed, connector: Connector, stream: KafkaStream, facts: StreamFacts) -> Iterator[Finding]:
    """Findings about a feed that reads Kafka.

    Args:
        feed: the forward feed; slot and publication in its facts are those of whoever fills the log.
        connector: the file.
        stream: its stream.
        facts: what was found.

    """
    if isinstance(facts.log, Unreachable):
        yield feed.finding(feed.stop, "log_unreachable", "Kafka", facts.log.why, facts.log.hint)
    else:
        yield from _topics(feed, stream, facts, facts.log)
        yield from _records(feed, facts)
    if facts.registry is not None:
        yield feed.finding(
            feed.stop, "registry_unreachable", "schema registry", facts.registry.why, facts.registry.hint
        )
    if connector.apply.lanes > 1:
        yield feed.finding(
            Level.NOTE,
            "lanes",
            "apply.lanes",
            "it counts for a slot only: by Kafka, more processes share the partitions",
        )
    if stream.capture is None:
        yield from _debezium(feed, connector, stream, facts)


def _debezium(feed: AssessedFeed, connector: Connector, stream: KafkaStream, facts: StreamFacts) -> Iterator[Finding]:
    found = facts.debezium
    if found is None:
        yield from assess_unseen(feed, stream, money_digits=facts.money_digits)
    elif isinstance(found, Unreachable):
        yield feed.finding(feed.stop, "connect_unreachable", "Kafka Connect", found.why, found.hint)
    else:
        yield from assess_debezium(
            feed, connector, stream, found, money_digits=facts.money_digits, partitions=facts.partitions
        )
        if not isinstance(facts.log, Unreachable) and found.cluster and facts.log.cluster not in {"", found.cluster}:
            yield feed.finding(
                Level.WARN,
                "clusters",
                "Kafka Connect",
                "it works for another Kafka cluster than stream.bootstrap_servers names: right only where one mirrors "
                "the other",
            )


def _topics(feed: AssessedFeed, stream: KafkaStream, facts: StreamFacts, log: LogFacts) -> Iterator[Finding]:
    missing = sorted({topic for topic in facts.topics.values() if topic not in log.topics})
    if missing:
        makes = "replicator capture makes them" if stream.capture is not None else "made at a table's first event"
        every = len(missing) == len(set(facts.topics.values()))
        yield feed.finding(
            Level.WARN if every else Level.NOTE,
            "topics_missing",
            "Kafka",
            f"{'none' if every else len(missing)} of {len(set(facts.topics.values()))} topics "
            f"{'is there' if every else 'are not there yet'} ({makes}): {', '.join(missing)}",
            "If changes have been written already: correct stream.topic_prefix or stream.topics" if every else "",
        )
    if stream.atomic:
        several = sorted(topic for topic, one in log.topics.items() if one.partitions > 1)
        if several:
            yield feed.finding(
                feed.stop,
                "log_atomic",
                "stream.atomic",
                f"whole transactions need topics of one partition: {', '.join(several)}",
                "Make these topics again with one partition, or stream: {atomic: off}",
            )
        if facts.transactions not in log.topics:
            yield feed.finding(
                Level.WARN,
                "topics_missing",
                facts.transactions,
                "the topic that tells where transactions end is not there yet: nothing is applied without it",
                "It comes with the first transaction, where provide.transaction.metadata is true",
            )
    if log.lag is not None:
        yield feed.finding(Level.NOTE, "log_lag", "Kafka", f"{log.lag} record(s) are still to be read")


def _records(feed: AssessedFeed, facts: StreamFacts) -> Iterator[Finding]:
    """Per table: keys and partitions, TRUNCATE, and what the brokers remove."""
    config = facts.debezium.config if isinstance(facts.debezium, DebeziumFacts) else {}
    truncated = []
    for mapping, table, _ in feed.published():
        topic = facts.topic(table.name)
        if topic is None:
            continue
        if topic.partitions > 1:
            truncated.append(table.name)
            if not _keyed(table, Settings(config)):
                yield _keyless(feed, facts.topics[table.name], mapping, table, topic.partitions)
        if topic.compacted:
            yield feed.finding(
                Level.WARN,
                "log_compacted",
                facts.topics[table.name],
                "it is compacted: of several changes of a row the older ones are removed, and after "
                "delete.retention.ms deletes as well, read or not",
                f"cleanup.policy=delete for {facts.topics[table.name]}",
                of=mapping,
            )
        if topic.retention_seconds is not None and topic.retention_seconds < _DAY_SECONDS:
            yield feed.finding(
                Level.WARN,
                "log_retention",
                facts.topics[table.name],
                f"records are removed after {topic.retention_seconds:.0f} s, read or not: a feed that is stopped for "
                "longer has lost them, and must begin again",
                f"retention.ms of a few days for {facts.topics[table.name]}",
                of=mapping,
            )
    if truncated:
        tables = table_list(dict.fromkeys(truncated))
        yield feed.finding(
            Level.WARN,
            "log_truncate",
            "TRUNCATE",
            "it comes in one of a topic's partitions, and has no place among the changes in the others: the feed stops "
            f"there, and the table is to be copied again by `replicator resync`: {tables}",
            "Topics of one partition keep its place",
        )


def _keyed(table: Table, settings: Settings) -> bool:
    """Whether records of one row have a key, and so one partition."""
    if any(key.usable for key in table.unique_keys) or table.primary_key is not None:
        return True
    try:
        return bool(key_columns(settings, table))
    except re.error:
        return False


def _keyless(feed: AssessedFeed, topic: str, mapping: Mapping, table: Table, partitions: int) -> Finding:
    return feed.finding(
        feed.stop,
        ORDER,
        table.name,
        f"it has no key, so its records have none, and lie in any of {topic}'s {partitions} partitions: an insert and "
        "the delete of the same row may change places",
        f"Make {topic} again with one partition; or give its records a key: message.key.columns",
        of=mapping,
    )


def promised(feed: AssessedFeed, stream: KafkaStream, facts: StreamFacts | None) -> tuple[bool, str]:
    """Promise P3 by Kafka: whether a reader of the target never sees half a source transaction, and why."""
    if not stream.atomic:
        return False, (
            "by Kafka the order of each key's changes is kept (one key, one partition), but a transaction's rows come "
            "in several partitions; stream.atomic puts them together"
        )
    several = facts is not None and any(count > 1 for count in facts.partitions.values())
    if several:
        return False, "stream.atomic can't hold: topics have several partitions"
    back = [mapping.name for mapping in feed.mappings.all if mapping.reads_back]
    if back:
        return False, f"aggregates that are read back are read as they are now, not as they were: {', '.join(back)}"
    return True, "stream.atomic: each transaction is put together by its metadata, in one process"
