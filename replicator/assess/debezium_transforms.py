"""What becomes of Debezium's records on their way to Kafka: single message transforms and converters. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from replicator.assess.debezium_rules import LOSS, ORDER, SETTING, VALUES
from replicator.assess.debezium_settings import UNWRAP
from replicator.assess.findings import Finding, Level

if TYPE_CHECKING:
    from replicator.assess.debezium_settings import Settings, Transform
    from replicator.assess.feed import AssessedFeed

_HARMLESS: Final = {
    # Headers, logical messages, schema changes; what is too large stays what it is.
    *("InsertHeader", "DropHeaders", "HeaderFrom", "ActivateTracingSpan", "ExtractChangedRecordState", "OpenLineage"),
    *("DecodeLogicalDecodingMessageContent", "SchemaChangeEventFilter", "SetSchemaMetadata"),
}
_DROPPING: Final = {
    "Filter": "drops records by a condition",
    "EnforceRecordSize": "drops or cuts records by their size",
}
_ROUTING: Final = {
    *("ByLogicalTableRouter", "ToLogicalTopicRouter", "RegexRouter", "TimescaleDb", "ContentBasedRouter"),
    "TimestampRouter",
}
_SPLITTING: Final = {
    "ContentBasedRouter": "sends changes of one row to several topics, in any order",
    "TimestampRouter": "sends changes of one row to a new topic from time to time",
    "PartitionRouting": "chooses the partition by other fields than the key",
}
_OTHER_RECORDS: Final = {
    "EventRouter": "sends the outbox's records, not the tables' changes",
    "MongoEventRouter": "sends the outbox's records, not the tables' changes",
    "ExtractNewDocumentState": "is for MongoDB",
    "ReadToInsertEvent": "hides which records a snapshot has read: op r becomes c",
}
_REMEDY: Final = "Take it out of `transforms` in Debezium's configuration"
_FLATTENED: Final = ("op", "lsn", "source.lsn", "ts_ms", "source.ts_ms", "txId", "source.txId")
_DELETES_KEPT: Final = {"rewrite", "rewrite-with-tombstone"}


def assess_transforms(feed: AssessedFeed, settings: Settings, *, routed: bool) -> Iterator[Finding]:
    """Findings about each transform of the chain.

    Args:
        feed: only for the findings' level.
        settings: the connector's.
        routed: every mapped table has its topic in stream.topics.

    """
    for transform in settings.transforms():
        yield from _transform(feed, transform, routed=routed)


def _transform(feed: AssessedFeed, transform: Transform, *, routed: bool) -> Iterator[Finding]:
    kind, subject = transform.simple_type, f"transforms.{transform.name}"
    if kind == UNWRAP:
        yield from _unwrap(feed, transform)
    elif kind in _DROPPING:
        yield feed.finding(feed.stop, LOSS, subject, f"{kind} {_DROPPING[kind]}", _REMEDY)
    elif kind in _SPLITTING:
        yield feed.finding(feed.stop, ORDER, subject, f"{kind} {_SPLITTING[kind]}", _REMEDY)
    elif kind in _OTHER_RECORDS:
        yield feed.finding(feed.stop, SETTING, subject, f"{kind} {_OTHER_RECORDS[kind]}", _REMEDY)
    elif kind in _ROUTING:
        if not routed:
            yield feed.finding(
                Level.WARN,
                SETTING,
                subject,
                f"{kind} sends records to other topics than <topic.prefix>.<schema>.<table>",
                "Name the topic of every mapped table in stream.topics",
            )
    elif kind not in _HARMLESS:
        yield feed.finding(
            feed.stop,
            VALUES,
            subject,
            f"what {kind or 'it'} does to a record can't be undone here: it may change, rename or drop values",
            _REMEDY,
        )


def _unwrap(feed: AssessedFeed, transform: Transform) -> Iterator[Finding]:
    """ExtractNewRecordState: flattened events, which say only what they are told to say."""
    subject, options = f"transforms.{transform.name}", transform.options
    head = f'"transforms.{transform.name}.'
    added = {field.strip().partition(":")[0] for field in options.get("add.fields", "").split(",")}
    if "op" not in added or not added & {"lsn", "source.lsn"}:
        yield feed.finding(
            feed.stop,
            SETTING,
            subject,
            "flattened events don't say what happened, nor where: op and lsn are missing",
            f'In Debezium\'s configuration: {head}add.fields": "op,lsn,source.ts_ms,txId"',
        )
    mode = options.get("delete.tombstone.handling.mode", options.get("delete.handling.mode", "tombstone")).strip()
    if mode.lower() not in _DELETES_KEPT:
        yield feed.finding(
            feed.stop,
            LOSS,
            subject,
            f"deletes arrive as tombstones or not at all ({mode}), and tombstones can be lost",
            f'In Debezium\'s configuration: {head}delete.tombstone.handling.mode": "rewrite"',
        )
    if options.get("route.by.field", "").strip():
        yield feed.finding(
            feed.stop, ORDER, subject, "route.by.field sends changes of one row to several topics", _REMEDY
        )
    if options.get("drop.fields.header.name", "").strip():
        yield feed.finding(feed.stop, LOSS, subject, "it drops fields that a header names", _REMEDY)
    if options.get("replace.null.with.default", "true").strip().lower() != "false":
        yield feed.finding(
            feed.stop,
            LOSS,
            subject,
            "a NULL arrives as the column's default",
            f'In Debezium\'s configuration: {head}replace.null.with.default": "false"',
        )


def assess_converters(feed: AssessedFeed, settings: Settings, *, avro: bool) -> Iterator[Finding]:
    """Findings about how records are written, against `stream.format`."""
    converter = settings.text("value.converter").rpartition(".")[2]
    if not converter:
        yield feed.finding(
            Level.WARN,
            VALUES,
            "value.converter",
            "the worker's own is used, whose settings can't be seen from here",
            f"Set it in Debezium's configuration, with what belongs to it: {_converter(avro=avro)}",
        )
    elif (
        ("Avro" in converter) is not avro
        or "CloudEvents" in converter
        or not ("Avro" in converter or "Json" in converter)
    ):
        yield feed.finding(
            feed.stop,
            SETTING,
            "value.converter",
            f"{converter} writes something else than stream.format says",
            f"{_converter(avro=avro)}, or another stream.format",
        )
    for name, what in (
        ("converters", "custom converters write values in their own way"),
        ("post.processors", "post processors change values: what they read again is newer than the event"),
    ):
        if settings.words(name):
            yield feed.finding(feed.stop, VALUES, name, what, f"Take `{name}` out of Debezium's configuration")


def _converter(*, avro: bool) -> str:
    kind = "io.confluent.connect.avro.AvroConverter" if avro else "org.apache.kafka.connect.json.JsonConverter"
    return f'"value.converter": "{kind}"'
