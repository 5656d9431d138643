"""The log that a capture fills: one transactional producer of librdkafka, whose waits happen in a thread.

Any failure ends the producer: the next one's `init_transactions` undoes what was open (or completes it, where its
commit had begun), and the progress in the log says which. So there is one way back for every error, and no resuming of
half-done calls.

Names and partitions are those that Java's producer gives: murmur2 of the key.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from replicator.captures import Progress, Records
from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.errors import Scrub, bad_setting, mapped, of_exception
from replicator.kafka.filled import TOPIC_CONFIG, progress_record, progress_topic, read_progress
from replicator.kafka.logs import Log
from replicator.kafka.making import TopicMaker
from replicator.kafka.settings import client_settings, scrub_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from replicator.captures import Headers
    from replicator.config import KafkaStream
    from replicator.config.streams import Capture

T = TypeVar("T")

_OPEN_SECONDS: Final = 60.0
_COMMIT_SECONDS: Final = 120.0
_ABORT_SECONDS: Final = 5.0
_ROOM_SECONDS: Final = 0.1
_TRANSACTION_MS: Final = 900_000
"""How long a transaction may be open: what brokers allow at most by default. It ends with the next producer anyway."""
_REFUSED: Final[Mapping[str, str]] = {
    "transactional.id": "it fences a former process of the same capture, and is made from the connector's name",
    "enable.idempotence": "a record must not be doubled by a retry",
    "acks": "a record is produced once all replicas in sync have it",
    "partitioner": "keys must lie where Debezium would put them",
}


def producer_settings(stream: KafkaStream, connector: str) -> dict[str, str | int | bool]:
    """The settings of the capture's producer. Holds secrets.

    Raises:
        ReplicatorError: CONFIG for a setting that a promise rests on.

    """
    for name, reason in _REFUSED.items():
        if name in stream.settings:
            raise ReplicatorError(
                f"stream.settings must not set {name}: {reason}",
                kind=ErrorKind.CONFIG,
                hint="Remove it from the connector",
            )
    ours: dict[str, str | int | bool] = {
        "client.id": f"replicator-capture-{connector}",
        "transaction.timeout.ms": _TRANSACTION_MS,
        "compression.type": "lz4",  # a record's schema is most of it, and the same each time
        "linger.ms": 20,  # a commit waits for none of it
        "queue.buffering.max.kbytes": max(stream.buffer_bytes_max >> 10, 1024),
        "queue.buffering.max.messages": 200_000,
    }
    fixed: dict[str, str | int | bool] = {
        "transactional.id": f"replicator-capture-{connector}",
        "partitioner": "murmur2_random",
        "delivery.report.only.error": True,
    }
    return ours | client_settings(stream) | fixed


class KafkaLog:
    """See `captures.TransactionalLog` for the contract. One attempt's: opened once.

    Args:
        stream: the connector's section.
        capture: its `capture`.
        connector: its name.

    Raises:
        ReplicatorError: CONFIG for a setting that librdkafka or we refuse.

    """

    def __init__(self, stream: KafkaStream, capture: Capture, connector: str) -> None:
        self._connector = connector
        self._partitions = capture.partitions
        self._scrub: Scrub = scrub_of(stream)
        self._log = Log(self._scrub, connector=connector, client="capture")
        self._client = client_settings(stream)
        self._settings = producer_settings(stream, connector)
        self._timeout = int(self._settings["transaction.timeout.ms"]) / 1000
        self._maker = TopicMaker(self._client, capture.replication_factor, self._scrub, self._log)
        self._made: set[str] = set()
        self._thread = ThreadPoolExecutor(1, "kafka producer")
        self._producer: Producer | None = None
        self._in_transaction = False
        self._began = 0.0
        self._undelivered: KafkaError | None = None
        self._closed = False

    async def progress(self) -> Progress | None:
        """See `captures.TransactionalLog`."""
        return await self._blocking(lambda: read_progress(self._client, self._connector, self._scrub, self._log))

    async def open(self) -> Progress | None:
        """See `captures.TransactionalLog`."""
        await self._make([progress_topic(self._connector)], 1, TOPIC_CONFIG)
        await self._blocking(self._init)
        return await self.progress()

    def _init(self) -> None:
        given = {**self._settings, "error_cb": self._log.error, "on_delivery": self._delivered}
        try:
            self._producer = Producer(given, logger=self._log)
        except KafkaException as error:
            raise bad_setting(error) from None
        try:
            self._producer.init_transactions(_OPEN_SECONDS)
        except KafkaException as error:
            raise self._error(error, "taking over the producer") from error

    async def make_topics(self, topics: Collection[str], *, single: bool = False) -> None:
        """See `captures.TransactionalLog`."""
        await self._make([name for name in topics if name not in self._made], 1 if single else self._partitions)

    async def _make(self, topics: Collection[str], partitions: int, config: Mapping[str, str] | None = None) -> None:
        await self._maker.make(topics, partitions, config)
        self._made.update(topics)

    async def begin(self) -> None:
        """See `captures.TransactionalLog`."""
        try:
            self._opened().begin_transaction()
        except KafkaException as error:
            raise self._error(error, "beginning a transaction") from error
        self._in_transaction = True
        self._began = time.monotonic()

    async def produce(self, topic: str, records: Records) -> None:
        """See `captures.TransactionalLog`."""
        if None in records.keys or records.headers:
            for at, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
                await self._produce(topic, key, value, records.headers.get(at, ()))
        else:
            await self._produce_many(topic, records)
        self._opened().poll(0)
        self._check()

    async def _produce_many(self, topic: str, records: Records) -> None:
        """Records with keys, and without headers."""
        producer = self._opened()
        messages: list[dict[str, Any]] = [
            {"key": key, "value": value} for key, value in zip(records.keys, records.values, strict=True)
        ]
        while (taken := producer.produce_batch(topic, messages)) < len(messages):
            # The first ones have found room. Whatever else keeps one out ends the transaction.
            for message in messages:
                error: KafkaError | None = message.get("_error")
                if error is not None and error.code() != KafkaError._QUEUE_FULL:  # noqa: SLF001 - so it is called
                    raise self._sorted(mapped(error, f"producing to topic {topic}", scrub=self._scrub))
            messages = messages[taken:]
            await self._room()

    async def _produce(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        producer = self._opened()
        given: dict[str, Any] = {"headers": list(headers)} if headers else {}
        if key is None:
            given["partition"] = 0
        while True:
            try:
                producer.produce(topic, value, key, **given)
            except BufferError:
                await self._room()
            except KafkaException as error:
                raise self._error(error, f"producing to topic {topic}") from error
            else:
                return

    async def _room(self) -> None:
        """Wait until the library has passed on some of what it holds."""
        producer = self._opened()
        await self._blocking(lambda: producer.poll(_ROOM_SECONDS))
        self._check()

    async def commit(self, progress: Progress) -> None:
        """See `captures.TransactionalLog`."""
        producer = self._opened()
        key, value = progress_record(self._connector, progress)
        await self.produce(progress_topic(self._connector), Records([key], [value]))
        try:
            await self._blocking(lambda: producer.commit_transaction(_COMMIT_SECONDS))
        except KafkaException as error:
            self._check()
            raise self._error(error, "committing a transaction") from error
        self._in_transaction = False

    async def close(self) -> None:
        """See `captures.TransactionalLog`."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown(wait=False)

    def _end(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if self._in_transaction:
            try:
                producer.abort_transaction(_ABORT_SECONDS)  # so that no reader waits for its timeout
            except KafkaException as error:
                self._log.log(20, "the open transaction was left to the next producer: %s", error.args[0].str())
        producer.purge()

    def _opened(self) -> Producer:
        if self._producer is None:
            raise ReplicatorError("the log was not opened", kind=ErrorKind.INTERNAL)
        return self._producer

    async def _blocking(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # --- errors -------------------------------------------------------------------------------------------------

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        """What made a record fail: the transaction's own error only says that some did."""
        if error is not None and self._undelivered is None and error.code() != KafkaError._PURGE_QUEUE:  # noqa: SLF001 - so it is called
            self._undelivered = error

    def _check(self) -> None:
        if self._undelivered is not None:
            raise self._sorted(mapped(self._undelivered, "producing a record", scrub=self._scrub))

    def _error(self, error: KafkaException, doing: str) -> ReplicatorError:
        return self._sorted(of_exception(error, doing, scrub=self._scrub))

    def _sorted(self, error: ReplicatorError) -> ReplicatorError:
        """The kind as far as a producer is concerned: a new one, or a topic that is made again, may do better."""
        if error.kind in (ErrorKind.INTERNAL, ErrorKind.LOG_LOST, ErrorKind.DECODE):
            error.kind = ErrorKind.CONNECTION
        if error.kind is not ErrorKind.SUPERSEDED:
            return error
        open_seconds = time.monotonic() - self._began if self._in_transaction else 0.0
        if open_seconds >= self._timeout:
            return ReplicatorError(
                f"the brokers ended a transaction that was open for {open_seconds:.0f} s",
                kind=ErrorKind.TIMEOUT,
                hint="Raise transaction.timeout.ms in stream.settings, and transaction.max.timeout.ms of the brokers",
            )
        return ReplicatorError(
            f"another process has taken over the capture of connector {self._connector}",
            kind=ErrorKind.SUPERSEDED,
            hint="It goes on where this one was; nothing is lost, and nothing was produced twice",
        )
