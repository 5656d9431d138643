"""How far a capture has filled its log: one record a transaction, in a compacted topic of its own.

Why a topic, and not an offset that is committed in the transaction (`send_offsets_to_transaction`): a group's offsets
expire, a week after the last commit by the brokers' default, and a capture that was stopped for longer would begin
again at its slot, where transactions may lie that were produced already.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from replicator.captures import Progress
from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.errors import Scrub, bad_setting, mapped, of_exception

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.kafka.logs import Log

TOPIC_CONFIG: Final = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),
    "min.cleanable.dirty.ratio": "0.1",
    "retention.ms": "-1",
}
_TIMEOUT_SECONDS: Final = 15.0
_SPAN: Final = 1_000
_ABSENT: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001 - so they are called


def progress_topic(connector: str) -> str:
    """The topic of one connector's capture."""
    return f"__replicator-capture.{connector}"


def progress_record(connector: str, progress: Progress) -> tuple[bytes, bytes]:
    """Key and value."""
    return connector.encode(), json.dumps({"lsn": progress.lsn, "owner": progress.owner}).encode()


def read_progress(settings: Mapping[str, Any], connector: str, scrub: Scrub, log: Log) -> Progress | None:
    """The newest record of committed transactions; blocks.

    Args:
        settings: of a client.
        connector: whose.
        scrub: takes secrets out of the library's messages.
        log: where these go.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION; DECODE for a record that is none of ours.

    """
    topic = progress_topic(connector)
    fixed = {
        "group.id": f"replicator-capture-{connector}",  # it never joins, and commits nothing
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",  # compaction may remove the record where it would begin
        "fetch.wait.max.ms": 50,
        "error_cb": log.error,
    }
    try:
        consumer = Consumer({**settings, **fixed}, logger=log)
    except KafkaException as error:
        raise bad_setting(error) from None
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), _TIMEOUT_SECONDS)
        span = _SPAN
        while high > low:
            begin = max(low, high - span)
            value = _last(consumer, topic, begin, connector.encode(), scrub)
            if value is not None or begin == low:
                return None if value is None else _parsed(topic, value)
            span *= 10
    except KafkaException as error:
        if error.args[0].code() in _ABSENT:
            return None
        raise of_exception(error, f"reading topic {topic}", scrub=scrub) from error
    finally:
        consumer.close()
    return None


def _last(consumer: Consumer, topic: str, begin: int, key: bytes, scrub: Scrub) -> bytes | None:
    """The value of the last record of this key from an offset on."""
    consumer.assign([TopicPartition(topic, 0, begin)])
    found = None
    while True:
        message = consumer.poll(_TIMEOUT_SECONDS)
        if message is None:
            raise ReplicatorError(
                f"reading topic {topic} failed: the brokers sent nothing for {_TIMEOUT_SECONDS:.0f} s",
                kind=ErrorKind.CONNECTION,
            )
        error = message.error()
        if error is None:
            if message.key() == key:
                found = message.value()
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - so it is called
            return found
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            continue  # the library asks for the group's coordinator all the same; nothing here needs it, nor the right
        elif not error.retriable():
            raise mapped(error, f"reading topic {topic}", scrub=scrub)


def _parsed(topic: str, value: bytes) -> Progress:
    try:
        document = json.loads(value)
        return Progress(int(document["lsn"]), str(document["owner"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ReplicatorError(
            f"topic {topic} holds a record that no capture wrote",
            kind=ErrorKind.DECODE,
            hint="How far the capture came can't be known from it. See who else writes to this topic",
        ) from error
