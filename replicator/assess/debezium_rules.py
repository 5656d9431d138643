"""Debezium's settings whose right value doesn't depend on anything else: one row each, and who else looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from replicator.assess.debezium_settings import Settings
from replicator.assess.findings import Level

LOSS: Final = "debezium_loss"  # changes or values would be lost without an error: a start refuses it, too
ORDER: Final = "debezium_order"  # changes of one row could change places
PROOF: Final = "debezium_proof"  # what is proven, and how soon
SETTING: Final = "debezium_setting"  # it can't work, or not as one would think
VALUES: Final = "debezium_values"  # values arrive otherwise than PostgreSQL prints them


@dataclass(frozen=True)
class Rule:
    """One setting.

    Attributes:
        name: Debezium's, or Kafka Connect's.
        default: what counts where it isn't set.
        allowed: values that are right.
        level, code: of the finding where another one is set.
        consequence: what happens then.
        remedy: the value to set.

    """

    name: str
    default: str
    allowed: frozenset[str]
    level: Level
    code: str
    consequence: str
    remedy: str


def _loss(name: str, default: str, allowed: str, consequence: str) -> Rule:
    return _rule(name, default, allowed, consequence, LOSS)


def _rule(name: str, default: str, allowed: str, consequence: str, code: str, *, level: Level = Level.STOP) -> Rule:
    """`allowed` are the right values, the one to set first, with `|` between them."""
    values = allowed.split("|")
    return Rule(name, default, frozenset(values), level, code, consequence, values[0])


RULES: Final = (
    _rule("plugin.name", "decoderbufs", "pgoutput", "only pgoutput's values are known", SETTING),
    _loss(
        "event.converting.failure.handling.mode", "warn", "fail", "a value that Debezium can't convert arrives as NULL"
    ),
    _loss("event.processing.failure.handling.mode", "fail", "fail", "an event that Debezium can't read is passed over"),
    _loss(
        "errors.tolerance",
        "none",
        "none",
        "Connect passes over records that it can't convert or write, and counts them as acknowledged",
    ),
    _loss("slot.drop.on.stop", "false", "false", "what is committed while Debezium is stopped is lost with its slot"),
    _loss(
        "offset.mismatch.strategy",
        "no_validation",
        "no_validation|trust_offset",
        "after its slot was made again Debezium goes on from there, past what was committed between",
    ),
    _rule(
        "lsn.flush.mode",
        "connector",
        "connector|connector_and_driver",
        "Debezium confirms nothing to its slot: the source keeps its WAL until somebody else does",
        SETTING,
        level=Level.WARN,
    ),
    _rule(
        "flush.lsn.source",
        "true",
        "true",
        "Debezium confirms nothing to its slot: the source keeps its WAL until somebody else does",
        SETTING,
        level=Level.WARN,
    ),
    _rule(
        "exactly.once.support",
        "requested",
        "required",
        "nothing tells whether the worker fences a frozen predecessor, whose late records would land behind newer "
        "ones; `required` makes Connect refuse to run without (Debezium 3.3 and later, and the worker's "
        "exactly.once.source.support=enabled)",
        ORDER,
        level=Level.WARN,
    ),
    _loss(
        "producer.override.acks",
        "all",
        "all|-1",
        "a broker that fails may lose records that were counted as acknowledged",
    ),
    _rule(
        "producer.override.partitioner.ignore.keys",
        "false",
        "false",
        "changes of one row come in several partitions, in any order",
        ORDER,
    ),
    _rule(
        "topic.delimiter",
        ".",
        ".",
        "topics aren't called <topic.prefix>.<schema>.<table>: name each one in stream.topics",
        SETTING,
        level=Level.WARN,
    ),
    _rule(
        "snapshot.isolation.mode",
        "serializable",
        "serializable|repeatable_read",
        "the snapshot's tables are read at different moments: rows of it can contradict each other until the stream "
        "has passed them",
        SETTING,
        level=Level.WARN,
    ),
)


def broken(settings: Settings) -> Iterator[tuple[Rule, str]]:
    """The rules that a configuration breaks, each with the value that it has."""
    for rule in RULES:
        value = settings.mode(rule.name, rule.default)
        if value not in rule.allowed:
            yield rule, value
