"""What a consumer hands over: records, ends of partitions, troubles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Any, Final, NamedTuple, cast

from confluent_kafka import KafkaError, Message

from replicator.records import Record

_RECORD_BYTES: Final = 300
_key_of, _value_of = attrgetter("key"), attrgetter("value")
_new_record: Final[Callable[[Iterable[Any]], Record]] = partial(tuple.__new__, Record)


class End(NamedTuple):
    """The consumer stands at a partition's end: the next offset, control records passed."""

    topic: str
    partition: int
    offset: int


class Trouble(NamedTuple):
    """What the consumer reports in place of a record."""

    error: KafkaError
    topic: str | None
    partition: int


Arrival = Record | End | Trouble


def size_of(records: Sequence[Record]) -> int:
    """Estimated memory of some records."""
    keys, values = map(_key_of, records), map(_value_of, records)
    return _RECORD_BYTES * len(records) + sum(map(len, filter(None, keys))) + sum(map(len, filter(None, values)))


def arrivals_of(messages: Sequence[Message]) -> list[Arrival]:
    """What the library gave, in order; records without headers at once, as nearly all are."""
    if [None for one in messages if one.error() is not None or one.headers()]:
        return list(map(_arrival, messages))
    fields = zip(
        map(Message.topic, messages),
        map(Message.partition, messages),
        map(Message.offset, messages),
        [stamp if kind else None for kind, stamp in map(Message.timestamp, messages)],
        map(Message.key, messages),
        map(Message.value, messages),
        repeat(()),
        strict=False,
    )
    return list(map(_new_record, fields))


def _arrival(message: Message) -> Arrival:
    error, topic, partition, offset = message.error(), message.topic(), message.partition(), message.offset()
    if error is not None:
        if error.code() == KafkaError._PARTITION_EOF and topic is not None:  # noqa: SLF001 - so it is called
            return End(topic, partition or 0, offset or 0)
        return Trouble(error, topic, -1 if partition is None else partition)
    assert topic is not None
    assert partition is not None
    assert offset is not None
    kind, timestamp = message.timestamp()
    headers = message.headers()
    return Record(
        topic,
        partition,
        offset,
        timestamp if kind else None,
        message.key(),
        message.value(),
        tuple(cast("list[tuple[str, bytes | None]]", headers)) if headers else (),
    )
