"""Debezium's connector against our promises: every setting that loses data or breaks one, and what to set. Pure.

debezium_settings    how a configuration is read
debezium_rules       settings that are right or wrong by themselves
debezium_values      modes of values, by the types of the mapped columns
debezium_tables      tables and columns left out, masked, keyed otherwise
debezium_transforms  what becomes of records on their way
here                 the connector as a whole: snapshot, heartbeats, order, names
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from replicator.assess.debezium_rules import LOSS, ORDER, PROOF, SETTING, broken
from replicator.assess.debezium_settings import MARK, UNWRAP, Settings, marks_by_message, value_settings
from replicator.assess.debezium_tables import assess_tables
from replicator.assess.debezium_transforms import assess_converters, assess_transforms, told
from replicator.assess.debezium_values import assess_values
from replicator.assess.findings import Finding, Level
from replicator.tables import TableName

if TYPE_CHECKING:
    from replicator.assess.feed import AssessedFeed
    from replicator.assess.log_facts import DebeziumFacts
    from replicator.config import Connector, KafkaStream

_SUBJECT: Final = "Debezium"
_IN_CONFIG: Final = "In Debezium's configuration: "
_OLDEST: Final = (2, 7)
_CLASSES: Final = {"io.debezium.connector.postgresql.PostgresConnector", "PostgresConnector", "Postgres"}
_EMPTY_TRANSACTIONS_LEFT_OUT: Final = 150000
_HEARTBEAT: Final = TableName("replicator", "heartbeat")


def assess_debezium(
    feed: AssessedFeed,
    connector: Connector,
    stream: KafkaStream,
    facts: DebeziumFacts,
    *,
    money_digits: int | None,
    partitions: Mapping[TableName, int],
) -> Iterator[Finding]:
    """Everything about Debezium's connector.

    Args:
        feed: the forward feed, with the facts of the old database; slot and publication are Debezium's.
        connector: the file.
        stream: its stream.
        facts: what Kafka Connect told.
        money_digits: see `StreamFacts`.
        partitions: of each mapped table's topic, where it is there.

    """
    settings = Settings(facts.config)
    avro = stream.format == "debezium-avro"
    yield from _itself(feed, stream, facts, settings)
    for rule, value in broken(settings):
        remedy = f'{_IN_CONFIG}"{rule.name}": "{rule.remedy}"'
        yield feed.finding(rule.level, rule.code, rule.name, f"it is {value}: {rule.consequence}", remedy)
    yield from _repeated(feed, settings)
    yield from _skipped(feed, settings)
    yield from _producer(feed, settings)
    yield from _snapshot(feed, settings, copies=connector.backfill.enabled)
    yield from _proof(feed, connector, settings)
    yield from _mark(feed, facts.config)
    yield from _transactions(feed, stream, settings)
    yield from assess_tables(feed, settings, partitions, avro=avro)
    routed = all(table.name in stream.topics for _, table, _ in feed.published())
    yield from assess_transforms(feed, settings, routed=routed)
    yield from assess_converters(feed, settings, avro=avro)
    yield from _topics(feed, settings, routed=routed)
    yield from _records(feed, settings)
    shaping = Settings(value_settings(facts.config, stream.debezium))
    yield from assess_values(feed, shaping, avro=avro, version=facts.version, money_digits=money_digits)


def assess_unseen(feed: AssessedFeed, stream: KafkaStream, *, money_digits: int | None) -> Iterator[Finding]:
    """The same where Connect isn't named: what the connector's own file says of Debezium."""
    yield feed.finding(
        Level.WARN,
        PROOF,
        _SUBJECT,
        "its configuration can't be seen, and nothing proves that it has put everything into Kafka: the feed knows "
        "what has arrived, never that nothing is missing, and there can be no cutover",
        "stream: {connect_url: http://connect:8083, connect_name: ...}",
    )
    avro = stream.format == "debezium-avro"
    yield from assess_values(feed, Settings(stream.debezium), avro=avro, version=None, money_digits=money_digits)


def _itself(feed: AssessedFeed, stream: KafkaStream, facts: DebeziumFacts, settings: Settings) -> Iterator[Finding]:
    kind = settings.text("connector.class")
    if kind not in _CLASSES:
        yield feed.finding(
            feed.stop,
            SETTING,
            "connector.class",
            f"{stream.connect_name} is no Debezium connector for PostgreSQL",
            "Correct stream.connect_name",
        )
    prefix = settings.text("topic.prefix")
    if prefix != stream.topic_prefix:
        yield feed.finding(
            feed.stop,
            SETTING,
            "topic.prefix",
            f"Debezium's is {prefix or 'missing'}, the connector's is {stream.topic_prefix}",
            f"stream: {{topic_prefix: {prefix}}}" if prefix else "",
        )
    numbers = re.match(r"(\d+)\.(\d+)", facts.version or "")
    if numbers and tuple(map(int, numbers.groups())) < _OLDEST:
        yield feed.finding(
            Level.WARN, SETTING, _SUBJECT, f"version {facts.version} is older than what was tried (2.7 to 3.6)"
        )
    if facts.trouble is not None:
        yield feed.finding(
            Level.WARN, SETTING, _SUBJECT, f"it fills no topics now: {facts.trouble}", "Start it, or see its trace"
        )
    if facts.snapshot:
        yield feed.finding(Level.NOTE, "debezium_snapshot", _SUBJECT, "its snapshot is running")
    named, database = settings.text("database.dbname"), feed.source.server.database
    if named and database and named != database:
        yield feed.finding(
            Level.WARN, SETTING, "database.dbname", f"Debezium reads {named}, and old.dsn names {database}"
        )


def _repeated(feed: AssessedFeed, settings: Settings) -> Iterator[Finding]:
    """A restarted worker may write records again: rows with a key converge, and rows without one are doubled."""
    if settings.mode("exactly.once.support", "requested") == "required":
        return
    for mapping, table, _ in feed.published():
        if mapping.multiset:
            yield feed.finding(
                feed.stop,
                LOSS,
                str(table.name),
                "it has no key, and a worker that is started again may write records twice: the rows would be doubled",
                f'{_IN_CONFIG}"exactly.once.support": "required"; or give the table a key',
                of=mapping,
            )


def _skipped(feed: AssessedFeed, settings: Settings) -> Iterator[Finding]:
    names = {"c": "inserts", "u": "updates", "d": "deletes", "t": "truncations"}
    skipped = [names[one] for one in (settings.text("skipped.operations") or "t").lower().split(",") if one in names]
    if skipped:
        yield feed.finding(
            feed.stop,
            LOSS,
            "skipped.operations",
            f"{' and '.join(skipped)} never arrive",
            f'{_IN_CONFIG}"skipped.operations": "none"',
        )


def _producer(feed: AssessedFeed, settings: Settings) -> Iterator[Finding]:
    """Connect's own producers keep one request in flight, which orders without idempotence."""
    head = "producer.override."
    flights = settings.number(f"{head}max.in.flight.requests.per.connection", 1)
    if flights > 1 and not settings.flag(f"{head}enable.idempotence", default=False):
        yield feed.finding(
            feed.stop,
            ORDER,
            f"{head}max.in.flight.requests.per.connection",
            f"with {flights} requests in flight a repeated one lands behind a later one",
            f'{_IN_CONFIG}"{head}enable.idempotence": "true", or one in flight',
        )
    if settings.text(f"{head}partitioner.class"):
        yield feed.finding(
            feed.stop,
            ORDER,
            f"{head}partitioner.class",
            "another partitioner than Kafka's may put changes of one row into several partitions",
            f"Take it out of Debezium's configuration: {head}partitioner.class",
        )
    if settings.text(f"{head}bootstrap.servers"):
        yield feed.finding(
            Level.WARN,
            SETTING,
            f"{head}bootstrap.servers",
            "it writes to another cluster than Connect works for: see that it is that of stream.bootstrap_servers",
        )


_AGAIN: Final = {
    "always": "at each of its starts Debezium reads the tables again and goes on from there",
    "when_needed": "when Debezium's slot or offset is lost it reads the tables again and goes on from there",
}


def _snapshot(feed: AssessedFeed, settings: Settings, *, copies: bool) -> Iterator[Finding]:
    mode = settings.mode("snapshot.mode", "initial")
    subject, remedy = "snapshot.mode", f'{_IN_CONFIG}"snapshot.mode": "{"no_data" if copies else "initial"}"'
    if mode in _AGAIN:
        what = f"{_AGAIN[mode]}: what was deleted in between stays on the {feed.target_name} side"
        yield feed.finding(feed.stop, LOSS, subject, what, remedy)
    elif mode == "initial_only":
        yield feed.finding(feed.stop, SETTING, subject, "after its snapshot Debezium sends no change", remedy)
    elif mode in {"custom", "configuration_based"}:
        what = f"what {mode} reads, and from where it goes on, can't be known here"
        yield feed.finding(Level.WARN, SETTING, subject, what, remedy)
    elif mode == "initial" and copies:
        yield feed.finding(
            Level.WARN,
            "debezium_snapshot",
            subject,
            "everything is copied twice: by Debezium's snapshot through Kafka, and by the backfill",
            f"{remedy}; or leave it to Debezium: backfill: {{enabled: off}}",
        )
    if copies:
        return
    for name, what in (
        ("snapshot.include.collection.list", "Debezium's snapshot reads these tables only"),
        ("snapshot.select.statement.overrides", "Debezium's snapshot leaves rows out"),
    ):
        if settings.text(name):
            yield feed.finding(
                Level.WARN,
                "debezium_snapshot",
                name,
                f"{what}, and the backfill is off: the rest must have come to the {feed.target_name} side otherwise",
                f"Take {name} out of Debezium's configuration, or backfill: {{enabled: on}}",
            )


def _proof(feed: AssessedFeed, connector: Connector, settings: Settings) -> Iterator[Finding]:
    """Whether Debezium's offset moves soon: it is the proof that nothing is missing, and a cutover waits for it."""
    pause = connector.cutover.max_pause.total_seconds() * 1000
    wanted = max(100, int(pause / 10))
    heartbeat = settings.number("heartbeat.interval.ms", 0)
    remedy = f'{_IN_CONFIG}"heartbeat.interval.ms": "{wanted}"'
    if heartbeat <= 0:
        yield feed.finding(
            feed.stop,
            PROOF,
            "heartbeat.interval.ms",
            "it is 0: while the old database is idle Debezium's offset stands still, and nothing proves that all has "
            "arrived; its slot keeps the WAL of other databases' writes",
            remedy,
        )
    elif heartbeat > pause / 2:
        yield feed.finding(
            Level.WARN,
            PROOF,
            "heartbeat.interval.ms",
            f"a cutover waits for it: {heartbeat} ms of its pause of at most {pause:.0f}",
            remedy,
        )
    if settings.mode("exactly.once.support", "requested") != "required":
        yield feed.finding(
            Level.WARN,
            PROOF,
            "offset.flush.interval.ms",
            f"how often the worker commits Debezium's offset can't be seen from here (a minute, where nobody has set "
            f"it): a cutover waits for that within its pause of at most {pause:.0f} ms",
            f'In the configuration of Connect\'s workers: "offset.flush.interval.ms": "{wanted}"; or have offsets '
            "committed with the records, by exactly.once.source.support=enabled",
        )
    elif settings.mode("transaction.boundary", "poll") == "interval":
        yield feed.finding(
            Level.WARN,
            PROOF,
            "transaction.boundary",
            "records become visible, and the offset is committed, by the clock only: a cutover waits for that",
            f'{_IN_CONFIG}"transaction.boundary": "poll"',
        )


def _mark(feed: AssessedFeed, config: Mapping[str, str]) -> Iterator[Finding]:
    """Whether Debezium sees our marks on an idle source: a published heartbeat, or a message that it passes over."""
    if feed.source.catalog.server_version < _EMPTY_TRANSACTIONS_LEFT_OUT:
        return
    try:
        if marks_by_message(config):
            return
    except re.error:
        pass
    publication = feed.source.publication
    if publication is not None and _HEARTBEAT in publication.tables:
        return
    yield feed.finding(
        feed.stop,
        PROOF,
        "message.prefix.exclude.list",
        "what marks a place on an idle database doesn't reach Debezium: its publication lacks replicator.heartbeat, "
        "and a logical message would make it write a record to a topic of its own",
        f'{_IN_CONFIG}"message.prefix.exclude.list": "{MARK}"',
    )


def _transactions(feed: AssessedFeed, stream: KafkaStream, settings: Settings) -> Iterator[Finding]:
    if not stream.atomic:
        return
    if not settings.flag("provide.transaction.metadata", default=False):
        yield feed.finding(
            feed.stop,
            SETTING,
            "provide.transaction.metadata",
            "stream.atomic needs to know where transactions begin and end",
            f'{_IN_CONFIG}"provide.transaction.metadata": "true"',
        )
    if settings.text("topic.transaction", "transaction") != "transaction":
        yield feed.finding(
            feed.stop,
            SETTING,
            "topic.transaction",
            f"transactions are told in another topic than {stream.topic_prefix}.transaction",
            f'{_IN_CONFIG}"topic.transaction": "transaction"',
        )
    flattening = [one for one in settings.transforms() if one.simple_type == UNWRAP]
    for transform in flattening:
        missing = {"transaction.id", "transaction.total_order"} - told(transform)
        if missing:
            yield feed.finding(
                feed.stop,
                SETTING,
                f"transforms.{transform.name}",
                f"stream.atomic needs of flattened events what they don't tell: {', '.join(sorted(missing))}",
                f'{_IN_CONFIG}"transforms.{transform.name}.add.fields": "op,source.lsn,source.txId,source.ts_us,'
                'transaction.id,transaction.total_order"',
            )
    if settings.transforms():
        yield feed.finding(
            Level.WARN,
            SETTING,
            "transforms",
            "transforms also see the records of the transaction topic: a predicate should leave those alone",
        )


def _topics(feed: AssessedFeed, settings: Settings, *, routed: bool) -> Iterator[Finding]:
    strategy = settings.text("topic.naming.strategy").rpartition(".")[2]
    if strategy not in {"", "SchemaTopicNamingStrategy"} and not routed:
        yield feed.finding(
            Level.WARN,
            SETTING,
            "topic.naming.strategy",
            f"{strategy} may call topics otherwise than <topic.prefix>.<schema>.<table>",
            "Name the topic of every mapped table in stream.topics",
        )
    if settings.text("slot.stream.params"):
        yield feed.finding(
            Level.WARN,
            SETTING,
            "slot.stream.params",
            "options of pgoutput that somebody has set may leave changes out (origin, messages)",
            "Take slot.stream.params out of Debezium's configuration",
        )


def _records(feed: AssessedFeed, settings: Settings) -> Iterator[Finding]:
    """What records say of themselves."""
    if settings.text("unavailable.value.placeholder").startswith("hex:"):
        yield feed.finding(
            feed.stop,
            LOSS,
            "unavailable.value.placeholder",
            "a placeholder of bytes isn't known here: a value that hasn't changed would be taken for one that has",
            "Take unavailable.value.placeholder out of Debezium's configuration, or give it as text",
        )
    for name, ours in (
        ("sourceinfo.struct.maker", "PostgresSourceInfoStructMaker"),
        ("transaction.metadata.factory", "DefaultTransactionMetadataFactory"),
    ):
        kind = settings.text(name).rpartition(".")[2]
        if kind not in {"", ours}:
            yield feed.finding(
                feed.stop,
                SETTING,
                name,
                f"what {kind} writes of LSNs and transactions isn't known here",
                f"Take {name} out of Debezium's configuration",
            )
