"""One session of a Kafka source: from joining the consumer group until it leaves, or fails.

What was given out of a partition is confirmed before the partition is given up. A partition that was lost ends the
session: whatever is in hand of it can't be committed, since its new holder has raised its epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Batch, Position
from replicator.kafka.arrivals import Arrival, Trouble
from replicator.kafka.atomic import Merge
from replicator.kafka.backlog import Backlog, Reading
from replicator.kafka.consumer import GroupThread
from replicator.kafka.decoding import Decoding
from replicator.kafka.drain import Drain
from replicator.kafka.errors import Scrub, kind_of, mapped
from replicator.kafka.logs import Log
from replicator.kafka.offsets import Yielded
from replicator.kafka.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence

    from confluent_kafka import Consumer

    from replicator.kafka.admin import Admin
    from replicator.kafka.beginning import Beginning
    from replicator.kafka.topics import Topics
    from replicator.partitions import Ledger, Partition, ProducerProof, RecordDecoder, Registry
    from replicator.tables import TableName

_COMMIT_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 5.0
_REFRESH_SECONDS: Final = 5.0


class Session:
    """See `consumer.Member`. Made by `open`.

    Attributes:
        readings: this process's partitions.
        backlog: what was read.
        yielded: what was given out.
        drain: the drain proof.
        failure: why it ended.
        changed: something happened that a take may wait for.
        confirmed: the next offset of each partition that the target has committed.
        taken_over: how often it was given partitions.

    """

    taken_over = 0
    _committed_at = 0.0
    _promised = 0
    _lost = False
    _giving_up = False
    _closing = False

    def __init__(
        self,
        *,
        decoder: RecordDecoder,
        registry: Registry | None,
        tables: Collection[TableName],
        ledger: Ledger,
        proof: ProducerProof,
        admin: Admin,
        beginning: Beginning,
        scrub: Scrub,
        whole: Topics | None = None,
    ) -> None:
        self.readings: dict[Partition, Reading] = {}
        self.yielded = Yielded()
        self.backlog = Backlog(self.yielded)
        self.failure: Exception | None = None
        self.changed = asyncio.Event()
        self._ledger = ledger
        self._beginning = beginning
        self._scrub = scrub
        merge = None if whole is None else Merge(whole.by_table, whole.transactions, self.backlog)
        self._whole = whole is not None
        self._decoding = Decoding(
            decoder,
            registry,
            tables=tables,
            readings=self.readings,
            backlog=self.backlog,
            partitions_of=lambda topic: beginning.found[topic].partitions,
            forgetting=ledger.forgetting,
            release=self._release,
            full=self._full,
            merge=merge,
            progressed=self._progressed,
        )
        self.drain = Drain(
            proof, admin, beginning, ledger, readings=self.readings, backlog=self.backlog, refresh=self._refresh
        )
        self.confirmed: dict[Partition, int] = {}
        self._uncommitted: dict[Partition, int] = {}
        self._settled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: set[asyncio.Task[Any]] = set()
        self._probe = Probe(admin, scrub, self.fail)
        self._thread: GroupThread | None = None

    def open(self, settings: Mapping[str, Any], *, bytes_max: int, grace_seconds: float, **bound: str) -> None:
        """Join the group.

        Raises:
            ReplicatorError: CONFIG for a setting that librdkafka refuses.

        """
        loop = asyncio.get_running_loop()

        def watch(error: KafkaError) -> None:
            loop.call_soon_threadsafe(self._reported, error)

        log = Log(self._scrub, watch, **bound)
        self._thread = GroupThread(
            settings,
            self._beginning.topics,
            self,
            bytes_max=bytes_max,
            grace_seconds=grace_seconds,
            scrub=self._scrub,
            log=log,
        )
        self._tasks = [asyncio.ensure_future(self._run(self._decoding.run)), asyncio.ensure_future(self._watch())]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Give everything up and leave. What was given out and isn't confirmed is for the next session."""
        if self._closing:
            return
        self._closing = True
        self._settled.set()
        self._probe.close()
        for task in (*self._tasks, *self._asking):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._asking, return_exceptions=True)
        try:
            if self.readings:
                with contextlib.suppress(ReplicatorError):  # then whoever has them next finds this member gone
                    await self._ledger.release(self.readings.keys())
        finally:
            if self._thread is not None:
                last_words = self._commit(synchronously=True) if await self._probe.answers() else None
                await self._thread.close(last_words)

    # --- what the port asks -----------------------------------------------------------------------------------------

    def cut(self, rows_max: int, bytes_max: int) -> Batch | None:
        """The next batch with events."""
        batch = self.backlog.cut(rows_max, bytes_max, self.readings.values(), forced=self._full())
        if batch is not None:
            self._release(batch.bytes)
        return batch

    def levelled(self) -> Batch | None:
        """A batch of nothing, once, where a partition is to be given up of which something isn't confirmed: a commit
        that didn't wait for the disk becomes durable with the next one, which may not come otherwise.
        """
        if not self._giving_up or self.backlog.rows or self.backlog.open:
            return None
        self._giving_up = False
        return Batch([], Position(self.backlog.number))

    def confirm(self, position: Position) -> None:
        """The target has committed everything up to there."""
        done = self.yielded.confirm(position)
        self.confirmed |= done
        self._uncommitted |= done
        self._settled.set()
        now = asyncio.get_running_loop().time()
        if self._uncommitted and now - self._committed_at >= _COMMIT_SECONDS and not self._probe.in_doubt:
            self._committed_at = now
            self._ask(self._commit(synchronously=False))

    async def passed(self, lsn: int) -> Position:
        """See `ports.Source`."""
        position = await self.drain.passed(lsn)
        self._promised = max(self._promised, position.at)
        return position

    def fail(self, error: Exception) -> None:
        """End the session, with the first error that it met. What was read before is given out; no more is read."""
        if self.failure is None:
            self.failure = error
            self.changed.set()
            for task in self._tasks:
                if task is not asyncio.current_task():
                    task.cancel()

    # --- the member -------------------------------------------------------------------------------------------------

    def arrived(self, arrivals: Sequence[Arrival], size: int) -> None:
        """See `Member`."""
        del size  # what each record takes is given back as it is read
        troubles = [one for one in arrivals if isinstance(one, Trouble)]
        self._decoding.add(one for one in arrivals if not isinstance(one, Trouble))
        for trouble in troubles:
            self._troubled(trouble)

    async def assigned(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See `Member`.

        Raises:
            ReplicatorError: as `Beginning.begin`; REASSIGNED in a session that has lost partitions: what is in hand of
                them may yet be committed under the new epoch, beside what would be read again.

        """
        if self._lost or self.failure is not None or self.yielded.holds(partitions):
            raise _lost(partitions, "the group has gone on without this process before")
        offsets = await self._beginning.begin(partitions)
        marks = await self._ledger.marks(offsets)
        for one, offset in offsets.items():
            self.readings[one] = Reading.begin(one, offset, marks.get(one))
            self.confirmed[one] = offset
        self.taken_over += 1
        return offsets

    @property
    def wanted(self) -> tuple[Collection[Partition], int, bool]:
        """See `Member`."""
        return self._decoding.wanted, self._decoding.passed, self.backlog.rows > 0

    async def revoked(self, partitions: Collection[Partition], seconds: float) -> None:
        """See `Member`. Where transactions are whole, one process has all partitions or works on none."""
        self._forget(partitions)
        if self._whole and partitions:
            self.fail(_lost(partitions, "the group shares its partitions out anew"))
        self._giving_up = self.yielded.holds(partitions)
        self.changed.set()
        try:
            async with asyncio.timeout(seconds):
                while self.yielded.holds(partitions) and not self._closing:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            error = _lost(partitions, f"what was in hand of them wasn't committed within {seconds:.0f} s")
            self.fail(error)
            raise error from None
        if not self._closing:
            await self._ledger.release(partitions)

    def lost(self, partitions: Collection[Partition]) -> None:
        """See `Member`."""
        if partitions:
            self._lost = True
            self._forget(partitions)
            self._spawn(self._gone(_lost(partitions, "the group went on without this process")))

    def ended(self, error: ReplicatorError) -> None:
        """See `Member`."""
        self.fail(error)

    # --- within -----------------------------------------------------------------------------------------------------

    def _release(self, size: int) -> None:
        if self._thread is not None:
            self._thread.release(size)

    def _full(self) -> bool:
        return self._thread is not None and self._thread.full

    def _progressed(self) -> None:
        self.changed.set()
        self.drain.progressed()

    def _forget(self, partitions: Collection[Partition]) -> None:
        """Drop what was read of them and not given out: whoever has them next reads it again."""
        gone = set(partitions)
        self._decoding.drop(gone)
        before = self.backlog.bytes
        dropped = self.backlog.drop(gone)
        self._release(before - self.backlog.bytes)
        for one in gone:
            self.readings.pop(one, None)
            self.confirmed.pop(one, None)
            self._uncommitted.pop(one, None)
        if dropped is not None and dropped < self._promised:
            # Somebody waits for a position behind it, which would be reached without it.
            self.fail(_lost(gone, "while what was read of them was being waited for"))

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A task of the session: what it raises ends the session."""
        try:
            await work()
        except ReplicatorError as error:
            self.fail(error)

    async def _watch(self) -> None:
        """See every few seconds that the log is still the same."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                await self._beginning.check()
            except ReplicatorError as error:
                if error.kind is not ErrorKind.CONNECTION:  # of which the consumer hears as well
                    self.fail(error)
                    return

    def _ask(self, question: Callable[[Consumer], Any]) -> None:
        """Have the consumer do something, whose failure doesn't matter."""

        async def ask() -> None:
            assert self._thread is not None
            with contextlib.suppress(ReplicatorError):
                await self._thread.ask(question)

        self._spawn(ask())

    def _refresh(self) -> None:
        self._ask(lambda consumer: consumer.list_topics(timeout=_REFRESH_SECONDS))

    def _commit(self, *, synchronously: bool) -> Callable[[Consumer], Any]:
        """Tell Kafka how far the target is, for monitoring tools."""
        offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in self._uncommitted.items()]
        self._uncommitted.clear()

        def commit(consumer: Consumer) -> None:
            if offsets:
                with contextlib.suppress(KafkaException):  # a rebalance refuses it; the next one holds more
                    if synchronously:
                        consumer.commit(offsets=offsets, asynchronous=False)
                    else:
                        consumer.commit(offsets=offsets, asynchronous=True)

        return commit

    # --- trouble ----------------------------------------------------------------------------------------------------

    def _troubled(self, trouble: Trouble) -> None:
        """What the consumer reports in place of a record."""
        error, topic, partition = trouble
        kind = kind_of(error)
        if kind is ErrorKind.LOG_LOST:
            reading = self.readings.get((topic or "", partition))
            self._spawn(self._run(self._beginning.check if reading is None else partial(self._out_of_range, reading)))
        elif kind is ErrorKind.CONNECTION:
            self._probe.doubt(error)
        else:
            place = "" if topic is None else f" {topic}" if partition < 0 else f" {topic}/{partition}"
            self.fail(mapped(error, f"reading{place}", scrub=self._scrub))

    async def _gone(self, error: ReplicatorError) -> None:
        """Partitions were lost: to others, mostly, but a topic that is gone is lost for everybody."""
        try:
            async with asyncio.timeout(_REFRESH_SECONDS):
                await self._beginning.check()
        except TimeoutError:
            pass
        except ReplicatorError as worse:
            if worse.kind is ErrorKind.LOG_LOST:
                error = worse
        self.fail(error)

    async def _out_of_range(self, reading: Reading) -> None:
        await self._beginning.check()  # a topic that is gone, or made again, has a better message
        raise await self._beginning.lost(reading.partition, reading.read)

    def _reported(self, error: KafkaError) -> None:
        """What the library reports beside."""
        if self._closing:
            return
        if error.fatal():
            self.fail(mapped(error, "reading from Kafka", scrub=self._scrub))
        elif error.code() == KafkaError._ALL_BROKERS_DOWN or kind_of(error) is ErrorKind.PERMISSION:  # noqa: SLF001
            self._probe.doubt(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """What nobody foresaw ends the session too: with a task that is gone in silence it would wait for ever."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.fail(error)


def _lost(partitions: Collection[Partition], reason: str) -> ReplicatorError:
    names = ", ".join(f"{topic}/{number}" for topic, number in sorted(partitions)[:5])
    more = f" and {len(partitions) - 5} more" if len(partitions) > 5 else ""
    return ReplicatorError(
        f"another process may apply {names}{more} now: {reason}",
        kind=ErrorKind.REASSIGNED,
        hint="This process writes nothing of it any more, and joins its group again",
    )
