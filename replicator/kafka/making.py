"""Topics that a capture makes where they lack."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from replicator.kafka.errors import Scrub, bad_setting, of_exception

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from replicator.kafka.logs import Log

_TIMEOUT_SECONDS: Final = 30.0


class TopicMaker:
    """Makes topics.

    Args:
        settings: of a client.
        replication: copies of each; None for the brokers' default.
        scrub, log: for the library's messages.

    Raises:
        ReplicatorError: CONFIG for a setting that librdkafka refuses.

    """

    def __init__(self, settings: Mapping[str, Any], replication: int | None, scrub: Scrub, log: Log) -> None:
        self._replication = -1 if replication is None else replication
        self._scrub = scrub
        try:
            given: dict[str, Any] = {**settings, "error_cb": log.error}
            self._client = AdminClient(given, logger=log)
        except KafkaException as error:
            raise bad_setting(error) from None

    async def make(
        self, topics: Collection[str], partitions: int, config: Mapping[str, str] | None = None
    ) -> list[str]:
        """Make those that lack; returns their names.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION; CONFIG, where the brokers refuse the number of copies.

        """
        if not topics:
            return []
        wanted = [NewTopic(name, partitions, self._replication, config=dict(config or {})) for name in sorted(topics)]
        made = []
        asked = self._client.create_topics(wanted, request_timeout=_TIMEOUT_SECONDS, operation_timeout=_TIMEOUT_SECONDS)
        for name, answer in asked.items():
            try:
                await asyncio.wrap_future(answer)
                made.append(name)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise of_exception(error, f"making topic {name}", scrub=self._scrub) from error
        return made
