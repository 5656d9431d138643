"""What the brokers say about topics and offsets, beside the consumer: librdkafka's admin client, awaited.

End offsets are high watermarks (READ_UNCOMMITTED): the consumer's own query answers the last stable offset, which
hides records that were acknowledged within a transaction that is still open.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, not in __all__
    AdminClient,
    ConfigResource,
    OffsetSpec,
)

from replicator.errors import ErrorKind
from replicator.kafka.errors import Scrub, bad_setting, kind_of, mapped, of_exception

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from concurrent.futures import Future

    from replicator.kafka.logs import Log
    from replicator.partitions import Partition

_TIMEOUT_SECONDS: Final = 10.0
_EARLIEST: Final[OffsetSpec] = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the library's
_LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # likewise
_ABSENT: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001 - so they are called
_LEADERLESS: Final = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError._NOENT,  # noqa: SLF001 - so it is called: of none of them a leader is known, as after a broker's start
}
_PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that exists.

    Attributes:
        id: made anew with the topic.
        partitions: how many.

    """

    id: str
    partitions: int


class Admin:
    """Questions to the brokers. Every method raises `ReplicatorError`: CONNECTION, PERMISSION.

    Args:
        settings: of a client.
        scrub: takes secrets out of messages.
        log: where the library's own messages go.

    Raises:
        ReplicatorError: CONFIG for a setting that librdkafka refuses.

    """

    def __init__(self, settings: Mapping[str, Any], scrub: Scrub, log: Log) -> None:
        self._scrub = scrub
        self._log = log
        self._refusal: KafkaError | None = None
        try:
            configuration: dict[str, Any] = {**settings, "error_cb": self._reported}
            self._client = AdminClient(configuration, logger=log)
        except KafkaException as error:
            raise bad_setting(error, scrub) from None

    async def cluster(self) -> str:
        """The cluster's id; '' where the brokers tell none."""
        doing = "asking the brokers for their cluster"
        try:
            answer = await self._answer(self._client.describe_cluster(request_timeout=_TIMEOUT_SECONDS), doing)
        except KafkaException as error:
            raise of_exception(error, doing, scrub=self._scrub) from error
        return answer.cluster_id or ""

    async def topics(self, names: Collection[str]) -> dict[str, Topic]:
        """Those of the topics that exist."""
        if not names:
            return {}
        asked = self._client.describe_topics(TopicCollection(sorted(names)), request_timeout=_TIMEOUT_SECONDS)
        found: dict[str, Topic] = {}
        for name, answer in asked.items():
            doing = f"asking for topic {name}"
            try:
                described = await self._answer(answer, doing)
            except KafkaException as error:
                if _code(error) not in _ABSENT:
                    raise of_exception(error, doing, scrub=self._scrub) from error
            else:
                found[name] = Topic(str(described.topic_id), len(described.partitions))
        return found

    async def settings(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """What brokers do with each topic (`cleanup.policy`, ...); a topic that we may not ask about is left out."""
        asked = {ConfigResource(ConfigResource.Type.TOPIC, topic): topic for topic in topics}
        if not asked:
            return {}
        found = {}
        for resource, answer in self._client.describe_configs(list(asked), request_timeout=_TIMEOUT_SECONDS).items():
            try:
                entries = await asyncio.wrap_future(answer)
            except KafkaException as error:
                failure = of_exception(error, f"asking for the settings of topic {asked[resource]}", scrub=self._scrub)
                if failure.kind is ErrorKind.CONNECTION:
                    raise failure from error
            else:
                found[asked[resource]] = {
                    name: entry.value for name, entry in entries.items() if entry.value is not None
                }
        return found

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """High watermarks. A partition that doesn't exist is left out."""
        return await self._offsets(partitions, _LATEST)

    async def beginnings(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offsets that are still there. A partition that doesn't exist is left out."""
        return await self._offsets(partitions, _EARLIEST)

    async def _offsets(self, partitions: Iterable[Partition], which: OffsetSpec) -> dict[Partition, int]:
        """Asked again while a leader is being elected, and right after a topic was made, when none is known yet."""
        found: dict[Partition, int] = {}
        left = set(partitions)
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while left:
            answers = self._client.list_offsets(
                {TopicPartition(topic, number): which for topic, number in left},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=_TIMEOUT_SECONDS,
            )
            for one, answer in answers.items():
                partition = one.topic, one.partition
                doing = f"asking for the offsets of {one.topic}/{one.partition}"
                try:
                    found[partition] = (await self._answer(answer, doing)).offset
                except KafkaException as error:
                    code = _code(error)
                    if code in _LEADERLESS and time.monotonic() < deadline:
                        continue
                    if code not in {*_ABSENT, KafkaError._UNKNOWN_PARTITION}:  # noqa: SLF001 - so it is called
                        raise of_exception(error, doing, scrub=self._scrub) from error
                left.discard(partition)
            if left:
                await asyncio.sleep(_PAUSE_SECONDS)
        return found

    async def _answer(self, asked: Future[Any], doing: str) -> Any:
        """Wait for an answer, and meanwhile hear of what the library reports beside: it tries again in any case.

        Raises:
            ReplicatorError: PERMISSION when a broker refuses this user.
            KafkaException: what else the answer is.

        """
        answer = asyncio.wrap_future(asked)
        while not answer.done():
            await asyncio.wait({answer}, timeout=_PAUSE_SECONDS)
            self._refusal = None
            self._client.poll(0)
            if self._refusal is not None and not answer.done():
                answer.cancel()
                raise mapped(self._refusal, doing, scrub=self._scrub)
        return answer.result()

    def _reported(self, error: KafkaError) -> None:
        if kind_of(error) is ErrorKind.PERMISSION:
            self._refusal = error
        self._log.error(error)


def _code(error: KafkaException) -> int | None:
    (cause, *_) = error.args
    return cause.code() if isinstance(cause, KafkaError) else None
