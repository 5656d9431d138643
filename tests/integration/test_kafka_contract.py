"""A Kafka source keeps the contract of `ports.Source`, with whole transactions (`stream.atomic`).

Two promises differ by their nature, and are left out here:

- where a session goes on is told by the target's ledger, so a position of an earlier session has no text:
  `restart_brings_what_follows_a_position`, see test_kafka_source.py;
- neither an origin nor a marker of the other feed arrives by Kafka: the capture leaves its transactions out
  (`echoes_are_dropped`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from replicator.events import Position
from replicator.kafka.source import KafkaSource
from replicator.ports import SourceLag
from tests.conformance import source_contract
from tests.conformance.source_contract import PROMISES, Promise
from tests.fix_group import GroupMember
from tests.fix_kafka_source import ITEMS, KafkaWorld
from tests.polling import looped

OTHERWISE = {source_contract.restart_brings_what_follows_a_position, source_contract.echoes_are_dropped}


class Committing(KafkaSource):
    """A source beside a target that commits what is confirmed: as the contract's slot keeps what it confirms."""

    member: GroupMember
    _confirmed = ""

    async def start(self, position: Position | None) -> Position:
        """Commit what lies before `position`, and begin once the group has given the partitions."""
        if position is not None:
            self._confirmed = self.progress(position)
        await self.close()
        await self.member.target.take_over(1)
        begun = await super().start(None)
        await looped(lambda: len(self.member.ledger.held) == 2)
        return begun

    def confirm(self, position: Position) -> None:
        self._confirmed = self.progress(position)
        super().confirm(position)

    async def lag(self) -> SourceLag:
        """The loop, and the thread, get some time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.2)
        return await super().lag()

    async def close(self) -> None:
        if self._confirmed:
            async with self.member.target.transaction(0) as transaction:
                await transaction.checkpoint(self._confirmed, None)
            self._confirmed = ""
        await super().close()


class WholeTransactions:
    """See `source_contract.World`."""

    def __init__(self, world: KafkaWorld) -> None:
        self.world = world
        self.transactions = 0
        self.readers: list[Committing] = []

    def source(self, *, buffer_bytes_max: int = 64 << 20) -> Committing:
        reader = self.world.reader(atomic=True, buffer_bytes_max=buffer_bytes_max, kind_of_source=Committing)
        assert isinstance(reader.source, Committing)
        reader.source.member = reader.member
        return reader.source

    def commit(self, *keys: int, body_bytes: int = 1) -> None:
        self.transactions += 1
        name, body = f"x{self.transactions}", "x" * body_bytes
        self._mark(name, None)
        for order, key in enumerate(keys, 1):
            change: dict[str, Any] = {"table": str(ITEMS), "id": key, "body": body, "lsn": self.transactions * 100}
            self.world.say({**change, "transaction": name, "order": order}, producer=self.world.producer)
        self._mark(name, {str(ITEMS): len(keys)})
        assert self.world.producer.flush(20) == 0

    def commit_unmapped(self) -> None:
        self.transactions += 1
        self._mark(f"x{self.transactions}", {"public.others": 1})
        assert self.world.producer.flush(20) == 0

    def commit_echo(self, *keys: int) -> None:
        raise NotImplementedError

    def _mark(self, name: str, tables: dict[str, int] | None) -> None:
        events = None if tables is None else sum(tables.values())
        mark = {"kind": "mark", "id": name, "events": events, "tables": tables or {}}
        self.world.say(mark, topic=f"{self.world.prefix}.transaction", producer=self.world.producer)


@pytest.fixture
async def whole(kafka_world: KafkaWorld) -> AsyncIterator[WholeTransactions]:
    """A world whose topics are there."""
    kafka_world.make_topic()
    made = WholeTransactions(kafka_world)
    made.commit_unmapped()
    yield made
    for reader in kafka_world.readers:
        await reader.source.close()


@pytest.mark.parametrize(
    "promise", [one for one in PROMISES if one not in OTHERWISE], ids=lambda promise: promise.__name__
)
async def test_kafka_keeps_the_contract(promise: Promise, whole: WholeTransactions) -> None:
    """Every other promise of the port, on topics of a real broker, beside a real target."""
    await promise(whole)
