"""What becomes of Debezium's records on their way to Kafka: single message transforms and converters. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from replicator.assess.debezium_rules import LOSS, ORDER, SETTING, VALUES
from replicator.assess.debezium_settings import UNWRAP
from replicator.assess.findings import Finding, Level, table_list

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
_DELETES_KEPT: Final = {"rewrite", "rewrite-with-tombstone"}
_TOLD: Final = ("op", "source.lsn", "source.txId")
_PLACES: Final = {"op": "", "ts_ms": "", "ts_us": "", "ts_ns": "", "id": "transaction.", "total_order": "transaction."}


def assess_transforms(feed: AssessedFeed, settings: Settings, *, routed: bool) -> Iterator[Finding]:
    """Findings about each transform of the chain.

    Args:
        feed: only for the findings' level.
        settings: the connector's.
        routed: every mapped table has its topic in stream.topics.

    """
    for transform in settings.transforms():
        yield from _transform(feed, transform, settings, routed=routed)


def _transform(feed: AssessedFeed, transform: Transform, settings: Settings, *, routed: bool) -> Iterator[Finding]:
    kind, subject = transform.simple_type, f"transforms.{transform.name}"
    if kind == UNWRAP:
        yield from _unwrap(feed, transform, settings)
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


def _unwrap(feed: AssessedFeed, transform: Transform, settings: Settings) -> Iterator[Finding]:
    """ExtractNewRecordState: flattened events, which say only what they are told to say."""
    subject, options = f"transforms.{transform.name}", transform.options
    head = f"In Debezium's configuration: \"transforms.{transform.name}."
    added = told(transform)
    missing = [one for one in _TOLD if one not in added]
    if missing:
        yield feed.finding(
            feed.stop,
            SETTING,
            subject,
            f"flattened events don't say what happened, where, and in which transaction: {', '.join(missing)}",
            f'{head}add.fields": "op,source.lsn,source.txId,source.ts_us"',
        )
    yield from _deletes(feed, transform, settings, f'{head}delete.tombstone.handling.mode": "rewrite"')
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
            f'{head}replace.null.with.default": "false"',
        )


def told(transform: Transform) -> set[str]:
    """What ExtractNewRecordState adds to rows or headers, by its place in the envelope: `op`, `source.lsn`, ..."""
    listed = ",".join(transform.options.get(name, "") for name in ("add.fields", "add.headers"))
    paths = {part.strip().partition(":")[0] for part in listed.split(",") if part.strip()}
    return {path if "." in path else f"{_PLACES.get(path, 'source.')}{path}" for path in paths}


def _deletes(feed: AssessedFeed, transform: Transform, settings: Settings, remedy: str) -> Iterator[Finding]:
    """Whether deletes arrive, and say of which row."""
    subject, options = f"transforms.{transform.name}", transform.options
    mode = options.get("delete.tombstone.handling.mode", "").strip().lower()
    if not mode and "delete.handling.mode" in options:  # of 2.x
        mode = options["delete.handling.mode"].strip().lower()
        left = options.get("drop.tombstones", "true").strip().lower() == "false"
        mode = "tombstone" if mode == "none" or (mode == "drop" and left) else mode
    mode = mode or "tombstone"
    if mode in _DELETES_KEPT:
        return
    kept = settings.flag("tombstones.on.delete", default=True)
    if mode not in {"tombstone", "delete-to-tombstone"} or (mode == "tombstone" and not kept):
        yield feed.finding(feed.stop, LOSS, subject, f"deletes don't arrive ({mode})", remedy)
        return
    whole = [table.name for _, table, _ in feed.published() if table.replica_identity == "f" or not table.key]
    if whole:
        yield feed.finding(
            feed.stop,
            SETTING,
            subject,
            f"deletes arrive as tombstones, which don't hold the old row: {table_list(dict.fromkeys(whole))}",
            remedy,
        )
    else:
        yield feed.finding(
            Level.WARN, SETTING, subject, "deletes arrive as tombstones, which a compacted topic loses", remedy
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
