"""Sources on topics of a broker, each with the ledger and the target of a process of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # exported, not in __all__

from replicator.codecs.debezium.grouping import grouped
from replicator.config import KafkaStream
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Batch, ChangeEvent, Op, Relation
from replicator.kafka.source import KafkaSource
from replicator.records import Beat, Decoded, Message, Record, RegistrySchema, RowChange, RowChanges, TransactionMark
from replicator.tables import TableName
from tests.fix_group import GroupMember, MakeGroupWorld, PostgresGroupWorld
from tests.fix_kafka import Kafka

ITEMS = TableName("public", "items")
ORDERS = TableName("public", "orders")
DEADLINE_SECONDS = 40


class PlainDecoder:
    """Records as small JSON objects: what a codec would say of them, so that the source is tested alone."""

    def __init__(self) -> None:
        self._relations: dict[str, Relation] = {}

    def needs(self, record: Record) -> Collection[RegistrySchema]:
        del record
        return ()

    def learn(self, schema: RegistrySchema, text: str) -> None:
        raise NotImplementedError

    def decode(self, record: Record) -> Decoded:
        if record.value is None:
            return None
        said = json.loads(record.value)
        kind = said.pop("kind", "change")
        if kind == "beat":
            return Beat(said["at"])
        if kind == "message":
            return Message("test", b"", said["lsn"], 0)
        if kind == "mark":
            tables = tuple((TableName.parse(name), count) for name, count in said["tables"].items())
            return TransactionMark(said["id"], said["events"], tables, 0.0)
        name = said["table"]
        relation = self._relations.setdefault(name, Relation(TableName.parse(name), ("id", "body")))
        key, body = str(said["id"]).encode(), said.get("body", "").encode()
        op = Op(said.get("op", "c"))
        return RowChange(
            op,
            relation,
            (key, None) if op is Op.DELETE else None,
            (key, body) if op in {Op.INSERT, Op.UPDATE, Op.READ} else None,
            said.get("xid", 0),
            said.get("lsn", 0),
            float(said.get("time", 1)),
            said.get("transaction"),
            said.get("order"),
            tuple(said["sequence"]) if "sequence" in said else None,
        )

    def decode_run(self, records: Sequence[Record]) -> list[Decoded]:
        read: list[Decoded] = []
        for record in records:
            try:
                read.append(self.decode(record))
            except ReplicatorError:
                if not read:
                    raise
                break
        return read

    def decode_rows(self, records: Sequence[Record]) -> list[Decoded | RowChanges]:
        return grouped(self.decode_run(records))


class Refusing(PlainDecoder):
    """Refuses the table `not a table`."""

    def decode(self, record: Record) -> Decoded:
        if record.value is not None and b"not a table" in record.value:
            raise ReplicatorError(f"{record} is odd", kind=ErrorKind.DECODE)
        return super().decode(record)


class Source:
    """The plain side, as far as the source needs it; `hold` keeps the producer's proof back."""

    def __init__(self) -> None:
        self.produced_upto = asyncio.Event()
        self.produced_upto.set()

    async def beat(self) -> int:
        return 1

    async def head(self) -> int:
        return 1

    async def retained_wal_bytes(self) -> int | None:
        return None

    async def produced(self, lsn: int) -> None:
        del lsn
        await self.produced_upto.wait()


class Reader:
    """One process: a source, and what it has applied."""

    def __init__(self, world: "KafkaWorld", member: GroupMember, source: KafkaSource, plain: Source) -> None:
        self.world = world
        self.member = member
        self.source = source
        self.plain = plain
        self.applied: list[int] = []

    async def start(self) -> None:
        await self.member.target.take_over(1)
        await self.source.start(None)

    async def take(self, rows_max: int = 10_000, bytes_max: int = 16 << 20) -> Batch:
        return await asyncio.wait_for(self.source.take(rows_max, bytes_max), DEADLINE_SECONDS)

    async def commit(self, batch: Batch) -> None:
        """Commit the batch's position, as a lane would."""
        async with self.member.target.transaction(0) as transaction:
            await transaction.checkpoint(self.source.progress(batch.position), batch.commit_time)
        self.source.confirm(batch.position)
        self.applied += keys_of(batch)

    async def apply_until(self, check: Callable[[], bool], **limits: int) -> None:
        while not check():
            await self.commit(await self.take(**limits))

    async def apply(self, count: int, **limits: int) -> list[int]:
        """Apply until so many events are applied; return their keys, in order."""
        await self.apply_until(lambda: len(self.applied) >= count, **limits)
        return self.applied

    async def run(self) -> None:
        """Apply until cancelled."""
        await self.apply_until(lambda: False)

    async def close(self) -> None:
        await self.source.close()
        await self.member.close()


class KafkaWorld:
    """Topics with the prefix, and processes that read them."""

    def __init__(self, kafka: Kafka, prefix: str, targets: PostgresGroupWorld) -> None:
        self.kafka = kafka
        self.prefix = prefix
        self.targets = targets
        self.bootstrap = kafka.bootstrap
        self.admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        settings = {"bootstrap.servers": kafka.bootstrap, "linger.ms": 0, "enable.idempotence": True}
        self.producer = Producer(settings)
        self.readers: list[Reader] = []

    def topic(self, table: TableName = ITEMS) -> str:
        return f"{self.prefix}.{table.schema}.{table.name}"

    def make_topic(self, table: TableName = ITEMS, partitions: int = 1, **config: str) -> str:
        name = self.topic(table)
        settings = {key.replace("_", "."): value for key, value in config.items()}
        (made,) = self.admin.create_topics([NewTopic(name, partitions, 1, config=settings)]).values()
        made.result(20)
        return name

    def write(
        self, *keys: int, table: TableName = ITEMS, partition: int = 0, producer: Producer | None = None, **said: Any
    ) -> None:
        """Write changes, acknowledged (or within the producer's transaction)."""
        for key in keys:
            self.say({"table": str(table), "id": key, **said}, table=table, partition=partition, producer=producer)
        if producer is None:
            assert self.producer.flush(20) == 0

    def say(
        self,
        value: dict[str, Any] | None,
        *,
        topic: str | None = None,
        table: TableName = ITEMS,
        partition: int = 0,
        producer: Producer | None = None,
    ) -> None:
        text = None if value is None else json.dumps(value)
        (producer or self.producer).produce(topic or self.topic(table), text, key="k", partition=partition)
        if producer is None:
            assert self.producer.flush(20) == 0

    def transactional(self) -> Producer:
        made = Producer({"bootstrap.servers": self.kafka.bootstrap, "transactional.id": self.prefix, "linger.ms": 0})
        made.init_transactions(20)
        return made

    def reader(self, *tables: TableName, **options: Any) -> Reader:
        """One more process; closed by the world."""
        settings = {"session.timeout.ms": "6000", **options.pop("settings", {})}
        decoder = options.pop("decoder", PlainDecoder())
        member = options.pop("member", None) or self.targets.member()
        kind: type[KafkaSource] = options.pop("kind_of_source", KafkaSource)
        stream = KafkaStream.model_validate(
            {
                "kind": "kafka",
                "bootstrap_servers": self.bootstrap,
                "format": "debezium-json",
                "topic_prefix": self.prefix,
                "group": self.prefix,
                "settings": settings,
                **options,
            }
        )
        plain = Source()
        source = kind(
            stream,
            connector="crm",
            tables=tables or (ITEMS,),
            decoder=decoder,
            ledger=member.ledger,
            marker=plain,
            proof=plain,
        )
        made = Reader(self, member, source, plain)
        self.readers.append(made)
        return made

    async def started(self, *tables: TableName, **options: Any) -> Reader:
        made = self.reader(*tables, **options)
        await made.start()
        return made

    async def close(self) -> None:
        for reader in self.readers:
            await reader.close()


MakeKafkaWorld = Callable[[Kafka], Awaitable[KafkaWorld]]


def key_of(event: ChangeEvent) -> int:
    values = event.after or event.before
    assert values is not None
    assert isinstance(values[0], bytes)
    return int(values[0])


def keys_of(*batches: Batch) -> list[int]:
    return [key_of(event) for batch in batches for event in batch.events]


@pytest.fixture
async def make_kafka_world(make_group_world: MakeGroupWorld, topic_prefix: str) -> AsyncIterator[MakeKafkaWorld]:
    """Make a world on a broker of the test's own."""
    made: list[KafkaWorld] = []

    async def make(kafka: Kafka) -> KafkaWorld:
        made.append(KafkaWorld(kafka, topic_prefix, await make_group_world(None)))
        return made[-1]

    yield make
    for world in made:
        await world.close()


@pytest.fixture
async def kafka_world(make_kafka_world: MakeKafkaWorld, real_kafka: Kafka) -> KafkaWorld:
    """A world on the shared broker."""
    return await make_kafka_world(real_kafka)
