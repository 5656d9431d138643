"""A database, its slot, a broker, and captures between them: with records as plain as can be."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from replicator.captures import Described, NewRows, Progress, Records, SchemaText
from replicator.codecs.pgoutput import PgoutputDecoder
from replicator.config.streams import KafkaStream
from replicator.engine.capture import Capture, CaptureSettings
from replicator.engine.recording import CaptureTopics, Recording
from replicator.events import Relation, Values
from replicator.kafka.filled import progress_topic
from replicator.kafka.producer import KafkaLog
from replicator.kafka.topics import heartbeat_topic, message_topic, topic_of, transaction_topic
from replicator.postgres.change_log import SlotChangeLog
from replicator.postgres.lsn import format_lsn
from replicator.postgres.slots import ensure_slot
from replicator.records import Beat, RowChange, TransactionMark
from replicator.records import Message as LogicalMessage
from replicator.telemetry import FeedStatus
from tests.fix_kafka import Kafka
from tests.fix_postgres import Database, MakeDatabase
from tests.polling import looped


class PlainEncoder:
    """The key is the key's values, the value a JSON list of all that a change says."""

    def __init__(self) -> None:
        self.shapes: list[Described] = []
        self._keys: dict[Relation, tuple[int, ...]] = {}

    def shape(self, topic: str, described: Described) -> Sequence[SchemaText]:
        del topic
        self.shapes.append(described)
        self._keys[described.relation] = tuple(described.relation.positions[name] for name in described.key)
        return ()

    def marks(self, topic: str) -> Sequence[SchemaText]:
        del topic
        return ()

    beats = messages = marks

    def learn(self, schema: SchemaText, number: int) -> None:
        raise AssertionError((schema, number))

    def key(self, relation: Relation, row: Values) -> bytes | None:
        values = [row[at] for at in self._keys[relation]]
        return b",".join(value for value in values if isinstance(value, bytes)) if values else None

    def header(self, relation: Relation, row: Values) -> bytes:
        return self.key(relation, row) or b""

    def value(self, change: RowChange, now: float) -> bytes:
        del now
        rows = [
            None if row is None else [value.decode() if isinstance(value, bytes) else repr(value) for value in row]
            for row in (change.before, change.after)
        ]
        return json.dumps([change.op.value, *rows, change.transaction, change.order, change.table_order]).encode()

    def new_rows(self, changes: NewRows, now: float) -> Records | None:
        del changes, now
        return None

    def mark(self, mark: TransactionMark, now: float) -> tuple[bytes, bytes]:
        del now
        tables = {str(table): events for table, events in mark.tables}
        return mark.id.encode(), json.dumps([mark.id, mark.events, tables]).encode()

    def beat(self, beat: Beat) -> tuple[bytes, bytes]:
        del beat
        return b"beat", b"beat"

    def message(self, message: LogicalMessage, now: float) -> tuple[bytes, bytes]:
        del now
        return message.prefix.encode(), message.content


class RunningCapture:
    """A capture that runs in a task."""

    def __init__(self, capture: Capture, source: SlotChangeLog, log: KafkaLog) -> None:
        self.capture = capture
        self.source = source
        self.log = log
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(capture.run(self.stop))

    async def catch_up(self) -> None:
        """Return once everything committed so far is in the log."""
        reached = asyncio.ensure_future(self.capture.reach(await self.source.head()))
        try:
            async with asyncio.timeout(60):
                while not reached.done() and not self.task.done():
                    self.source.nudge()
                    await asyncio.wait({reached, self.task}, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reached.cancel()
        if self.task.done():
            await self.task

    def hold_commits(self) -> asyncio.Event:
        """Commit no rows from now on; the event says that everything else has been done for it."""
        produced = asyncio.Event()
        committing = self.log.commit

        async def commit(progress: Progress) -> None:
            if not self.capture._recording.rows:
                await committing(progress)
                return
            await asyncio.to_thread(self.log._opened().flush)
            produced.set()
            await asyncio.Event().wait()

        setattr(self.log, "commit", commit)  # noqa: B010 - the moment before the commit, made to last
        return produced

    async def freeze(self, *, committing: bool = False) -> None:
        """Do nothing more: neither read, nor produce, nor commit, nor undo.

        Args:
            committing: in the middle of a commit that is held; else between two transactions of the log, since a
                commit that has begun goes on in its thread.

        """
        if not committing:
            await looped(lambda: not self.capture._open, 60)
        self.task.cancel()
        await asyncio.wait([self.task])

    async def end(self) -> None:
        if not self.task.cancelled():
            self.stop.set()
            await self.task


class CaptureWorld:
    """One database with publication and slot, one topic prefix."""

    def __init__(self, database: Database, kafka: Kafka, prefix: str) -> None:
        self.database = database
        self.kafka = kafka
        self.prefix = prefix
        self.slot = f"capture_{database.name}"
        self.status = FeedStatus(prefix, "capture")
        self.encoder = PlainEncoder()

    async def prepare(self) -> None:
        self.database.execute("CREATE TABLE items (id int PRIMARY KEY, body text)")
        self.database.execute("CREATE TABLE bag (v int); ALTER TABLE bag REPLICA IDENTITY FULL")
        self.database.execute("CREATE PUBLICATION p FOR ALL TABLES")
        await ensure_slot(self.database.dsn, self.slot, create=True)

    def topic(self, table: str = "items") -> str:
        return f"{self.prefix}.public.{table}"

    def stream(self, settings: dict[str, str] | None = None, **capture: Any) -> KafkaStream:
        return KafkaStream.model_validate(
            {
                "kind": "kafka",
                "bootstrap_servers": self.kafka.bootstrap,
                "format": "debezium-json",
                "topic_prefix": self.prefix,
                "capture": capture,
                "settings": settings or {},
            }
        )

    @contextlib.asynccontextmanager
    async def capture(
        self,
        *,
        owner: str | None = None,
        held_before: bool = False,
        former: int | None = None,
        settings: dict[str, str] | None = None,
        source: type[SlotChangeLog] = SlotChangeLog,
        heartbeat_seconds: float = 0.0,
        **section: Any,
    ) -> AsyncIterator[RunningCapture]:
        """Open a capture and run it until the block ends."""
        stream = self.stream(settings, **section)
        assert stream.capture is not None
        changes = source(
            self.database.dsn,
            feed=f"{self.prefix}/capture",
            slot=self.slot,
            publication="p",
            decoder=PgoutputDecoder(),
            drop_origins=f"replicator/{self.prefix}/reverse/",
            former=former,
        )
        log = KafkaLog(stream, stream.capture, self.prefix)
        topics = CaptureTopics(
            of_table=lambda table: topic_of(self.prefix, table),
            transactions=transaction_topic(self.prefix),
            messages=message_topic(self.prefix),
            heartbeats=heartbeat_topic(self.prefix),
        )
        recording = Recording(changes, log, self.encoder, None, topics, tombstones=True)
        capture = Capture(
            changes,
            log,
            recording,
            settings=CaptureSettings(owner or uuid.uuid4().hex, heartbeat_seconds),
            status=self.status,
            clock=time.time,
            format_lsn=format_lsn,
        )
        try:
            await capture.open(held_before=held_before)
            running = RunningCapture(capture, changes, log)
            yield running
            await running.end()
        finally:
            await log.close()
            await changes.close()

    async def read(self, *topics: str, isolation: str = "read_committed") -> list[Message]:
        """Read all records of topics from their beginning, in order of each partition."""
        return await asyncio.to_thread(self._read, topics or (self.topic(),), isolation)

    def _read(self, topics: Sequence[str], isolation: str) -> list[Message]:
        return read_all(self.kafka.bootstrap, topics, isolation)

    def progress_topic(self) -> str:
        return progress_topic(self.prefix)


def read_all(bootstrap: str, topics: Sequence[str], isolation: str = "read_committed") -> list[Message]:
    """All records of topics, in order of each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": uuid.uuid4().hex,
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,  # only an empty answer is an end: who writes meanwhile must not delay it for ever
        }
    )
    try:
        known = consumer.list_topics(timeout=60).topics
        partitions = [(topic, number) for topic in topics if topic in known for number in known[topic].partitions]
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in partitions])
        found, ended = [], 0
        while ended < len(partitions):
            message = consumer.poll(60)
            assert message is not None, "the broker is silent"
            error = message.error()
            if error is None:
                found.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended += 1
        return found
    finally:
        consumer.close()


@pytest.fixture
async def captured(make_database: MakeDatabase, kafka: Kafka, topic_prefix: str) -> CaptureWorld:
    """A world on PostgreSQL 18: tables `items` (keyed) and `bag` (without key), published with all others."""
    world = CaptureWorld(make_database(), kafka, topic_prefix)
    await world.prepare()
    return world
