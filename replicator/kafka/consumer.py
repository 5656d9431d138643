"""One member of a consumer group, in a thread of its own that hands records to the event loop.

Why a thread and not librdkafka's asyncio consumer (confluent-kafka 2.16, one broker, 400-byte records, 2 cores): the
thread reads 790,000 records a second where AIOConsumer reads 730,000 (batches of 1,000), and a single record arrives
0.4 ms after its acknowledgement in place of 0.7 ms (`consume` alone waits for its whole timeout: 29 ms with 50). And
no poll may be made beside the callbacks of a rebalance: here that is so by construction.

    poll thread                                     event loop
    poll, consume ──records, ends of partitions──▶  arrived
    on_assign ─────────────waits for──────────────▶ assigned ──▶ where each one begins
    on_revoke ─────────────waits for──────────────▶ revoked       until what was given out is confirmed
    full? wait, then pause ◀──────────room───────── release
    ◀──────────────────────ask────────────────────  commit, refresh the topics
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.arrivals import Arrival, arrivals_of, size_of
from replicator.kafka.errors import Scrub, bad_setting, of_exception
from replicator.records import Record

if TYPE_CHECKING:
    from replicator.kafka.logs import Log
    from replicator.partitions import Partition

T = TypeVar("T")

_POLL_SECONDS: Final = 0.05
_BATCH: Final = 1_000
_HOLD_SECONDS: Final = 1.0
"""How long a full buffer keeps the thread from polling, before partitions are paused (which drops what the library has
fetched ahead, so that it is fetched again)."""
_LOOK_SECONDS: Final = 0.005
_UNEXPECTED: Final = "Nothing is lost: offsets stand where the target has them. Start again; report it if it comes back"
_CLOSE_SECONDS: Final = 15.0
_LEAVE_SECONDS: Final = 3.0


class Member(Protocol):
    """Who the thread works for; all of it runs on the event loop."""

    def arrived(self, arrivals: Sequence[Arrival], size: int) -> None:
        """Records and more, in the order of each partition. `size` is to be given back by `GroupThread.release`."""

    async def assigned(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """These are ours from now on; returns where each one begins."""

    async def revoked(self, partitions: Collection[Partition], seconds: float) -> None:
        """These are given up when this returns, at the latest after so long."""

    @property
    def wanted(self) -> tuple[Collection[Partition], int, bool]:
        """Partitions to read though the buffer is full: what is in it waits for them; how many of the records that were
        handed over this is said in view of; and whether something can be given out, so that there will be room without
        reading more. Asked from the thread.
        """

    def lost(self, partitions: Collection[Partition]) -> None:
        """These belong to others already."""

    def ended(self, error: ReplicatorError) -> None:
        """The thread is over."""


class GroupThread:
    """A consumer, polled until `close`.

    Args:
        settings: of the consumer.
        topics: those to subscribe to; one that isn't there yet is found when it is.
        member: who gets the records.
        bytes_max: what may be handed over and not released.
        grace_seconds: how long a callback of a rebalance may take.
        scrub, log: for the library's messages.

    Raises:
        ReplicatorError: CONFIG for a setting that librdkafka refuses.

    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topics: Collection[str],
        member: Member,
        *,
        bytes_max: int,
        grace_seconds: float,
        scrub: Scrub,
        log: Log,
    ) -> None:
        self._topics = sorted(topics)
        self._cooperative = "cooperative" in str(settings["partition.assignment.strategy"])
        self._member = member
        self._bytes_max = bytes_max
        self._grace = grace_seconds
        self._scrub = scrub
        self._loop = asyncio.get_running_loop()
        self._questions: queue.SimpleQueue[tuple[Callable[[Consumer], Any], asyncio.Future[Any]]] = queue.SimpleQueue()
        self._room = threading.Event()
        self._room.set()
        self._ending = False
        self._held: list[Message] = []
        self._paused = False
        self._taken_bytes = 0  # written by the thread
        self._handed_over = 0  # records
        self._released_bytes = 0  # written by the loop
        self._waiting: concurrent.futures.Future[Any] | None = None
        self._last_words: Callable[[Consumer], Any] | None = None
        try:
            self._consumer = Consumer({**settings, "error_cb": log.error, "on_commit": _committed}, logger=log)
        except KafkaException as error:
            raise bad_setting(error, scrub) from None
        self._thread = threading.Thread(target=self._run, name="kafka consumer", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether nothing more is read until something is released."""
        return not self._room.is_set()

    # --- from the event loop ------------------------------------------------------------------------------------

    def release(self, size: int) -> None:
        """What was handed over is given out, or dropped."""
        self._released_bytes += size
        if self._taken_bytes - self._released_bytes <= self._bytes_max // 2:
            self._room.set()

    async def ask(self, question: Callable[[Consumer], T]) -> T:
        """Have the thread call the consumer, which nobody else may.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION, ... ; CancelledError when the thread ends.

        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._questions.put((question, answer))
        if not self._thread.is_alive():
            self._dismiss()
        return await answer

    async def close(self, last_words: Callable[[Consumer], Any] | None = None) -> None:
        """Leave the group (a static member doesn't) and end the thread. Idempotent.

        Where no broker answers, a commit of offsets that is under way can keep the library for as long as the group's
        session timeout: then the thread is left to itself after a while, and nobody hears of it any more.

        Args:
            last_words: what is yet to be said to the consumer; None also where no broker can be reached.

        """
        self._last_words = last_words
        self._ending = True
        self._room.set()
        if self._waiting is not None:
            self._waiting.cancel()
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS if last_words else _LEAVE_SECONDS)

    # --- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        consumer = self._consumer
        try:
            consumer.subscribe(self._topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)
            while not self._ending:
                self._answer()
                self._hold_on()
                first = consumer.poll(_POLL_SECONDS)
                if first is not None:
                    self._held.append(first)
                    self._held += consumer.consume(_BATCH, 0)
                    self._hand_over()
            if self._last_words is not None:
                self._last_words(consumer)
        except ReplicatorError as error:
            self._tell(self._member.ended, error)
        except KafkaException as error:
            self._tell(self._member.ended, of_exception(error, "reading from Kafka", scrub=self._scrub))
        except concurrent.futures.CancelledError:
            pass  # closed while a rebalance was waiting
        except BaseException as error:
            # Whatever it is, whoever waits for records must hear of it; its text may hold a record, and is kept back.
            failed = f"reading from Kafka failed unexpectedly ({type(error).__qualname__})"
            self._tell(self._member.ended, ReplicatorError(failed, kind=ErrorKind.INTERNAL, hint=_UNEXPECTED))
            raise
        finally:
            self._ending = True
            self._leave()
            self._dismiss()

    def _leave(self) -> None:
        """Leaving revokes what is left: by then the session is over."""
        try:
            self._consumer.close()
        except (KafkaException, ReplicatorError, RuntimeError, concurrent.futures.CancelledError):
            return  # it was on its way out

    def _answer(self) -> None:
        while True:
            try:
                question, answer = self._questions.get_nowait()
            except queue.Empty:
                return
            try:
                found = question(self._consumer)
            except KafkaException as error:
                self._tell(_settle, answer, None, of_exception(error, "asking the brokers", scrub=self._scrub))
            else:
                self._tell(_settle, answer, found, None)

    def _dismiss(self) -> None:
        while True:
            try:
                _, answer = self._questions.get_nowait()
            except queue.Empty:
                return
            self._tell(answer.cancel)

    def _hold_on(self) -> None:
        """While the buffer is full: wait; and poll paused partitions, so that the group keeps this member."""
        if self._room.is_set() or self._room.wait(_HOLD_SECONDS):
            return
        consumer = self._consumer
        self._paused = True
        consumer.pause(consumer.assignment())
        wanted: Collection[Partition] = frozenset()
        polled = time.monotonic()
        while not self._room.is_set():
            self._answer()
            now_wanted, in_view_of, ready = self._member.wanted
            busy = ready or in_view_of < self._handed_over
            if wanted and busy and time.monotonic() - polled < _HOLD_SECONDS:
                self._room.wait(_LOOK_SECONDS)  # while the loop is busy all of a partition would be read for one record
                continue
            if ready:  # and for long: a pause at each moment of it would have the library fetch anew, again and again
                now_wanted = frozenset()
            polled = time.monotonic()
            if now_wanted != wanted:
                consumer.pause(consumer.assignment())
                wanted = now_wanted
                assigned = {(one.topic, one.partition): one for one in consumer.assignment()}
                consumer.resume([assigned[one] for one in wanted if one in assigned])
            arrival = consumer.poll(_POLL_SECONDS)
            if arrival is not None:
                self._held.append(arrival)
                self._hand_over()
        self._paused = False
        if not self._ending:
            consumer.resume(consumer.assignment())

    def _hand_over(self) -> None:
        """Give what was read to the loop, before anything that is told of its partitions."""
        if not self._held:
            return
        arrivals = arrivals_of(self._held)
        records = [one for one in arrivals if type(one) is Record]
        size = size_of(records)
        self._handed_over += len(records)
        self._held.clear()
        self._taken_bytes += size
        if self._taken_bytes - self._released_bytes > self._bytes_max:
            self._room.clear()
            if self._taken_bytes - self._released_bytes <= self._bytes_max // 2:  # released meanwhile
                self._room.set()
        self._tell(self._member.arrived, arrivals, size)

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _wait_for(self, work: Coroutine[Any, Any, T], doing: str) -> T:
        """Run something on the loop, and wait.

        Raises:
            ReplicatorError: what it raises; REASSIGNED when it takes too long; CancelledError when closed meanwhile.

        """
        self._waiting = waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        if self._ending:
            waiting.cancel()
        try:
            return waiting.result(self._grace)
        except concurrent.futures.TimeoutError as error:
            waiting.cancel()
            raise ReplicatorError(
                f"{doing} took longer than the consumer group allows ({self._grace:.0f} s)",
                kind=ErrorKind.REASSIGNED,
                hint="This process joins its group again; raise max.poll.interval.ms in stream.settings if it persists",
            ) from error
        finally:
            self._waiting = None

    # --- rebalances: called by the consumer, within `poll` and `close` ----------------------------------------------

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._hand_over()
        begin: Mapping[Partition, int] = {}
        if partitions and not self._ending:
            begin = self._wait_for(self._member.assigned(_pairs(partitions)), "taking partitions over")
        assigned = [TopicPartition(topic, number, offset) for (topic, number), offset in begin.items()]
        if self._cooperative:
            consumer.incremental_assign(assigned)
        else:
            consumer.assign(assigned)
        if assigned:
            # A pause outlives an assignment: one that left while it was paused would stand still when it is back.
            (consumer.pause if self._paused else consumer.resume)(assigned)

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._hand_over()
        if not self._ending:  # else the session is over, and has given all up
            self._wait_for(self._member.revoked(_pairs(partitions), self._grace * 0.9), "giving partitions up")
        self._unassign(consumer, partitions)

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._held.clear()
        self._tell(self._member.lost, _pairs(partitions))
        self._unassign(consumer, partitions)

    def _unassign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()


def _pairs(partitions: Collection[TopicPartition]) -> list[Partition]:
    return [(one.topic, one.partition) for one in partitions]


def _settle(answer: asyncio.Future[Any], found: object, error: ReplicatorError | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(found)


def _committed(error: KafkaError | None, partitions: list[TopicPartition]) -> None:
    """Offsets in Kafka are for monitoring tools: a commit that a rebalance refuses is made again soon."""
