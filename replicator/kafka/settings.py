"""What librdkafka is told: the connector's settings, and ours that the promises rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.errors import Scrub

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.config import KafkaStream

_CONSUMER_REFUSED: Final[Mapping[str, str]] = {
    "isolation.level": "records of transactions that were aborted must never be seen",
    "enable.auto.commit": "progress is in the target, with the rows",
    "enable.auto.offset.store": "progress is in the target, with the rows",
    "auto.commit.interval.ms": "progress is in the target, with the rows",
    "auto.offset.reset": "an offset that is gone means lost changes, which stops the feed",
    "enable.partition.eof": "the drain proof needs to know where a partition ends",
    "partition.assignment.strategy": "members that disagree can't share a group",
    "group.protocol": "members that disagree can't share a group",
    "group.remote.assignor": "members that disagree can't share a group",
    "group.id": "belongs into stream.group",
    "group.instance.id": "belongs into stream.instance",
    "allow.auto.create.topics": "whoever fills a topic makes it",
    "queued.max.messages.kbytes": "follows from stream.buffer_bytes_max",
}
_MAX_POLL: Final = "max.poll.interval.ms"
_BYTES_MIN: Final = 64 << 10


def client_settings(stream: KafkaStream) -> dict[str, str]:
    """How brokers are reached, for every client: as the connector says. Holds secrets."""
    given = {name: value.reveal() for name, value in stream.settings.items()}
    return {"bootstrap.servers": stream.bootstrap_servers, "socket.keepalive.enable": "true"} | given


def consumer_settings(stream: KafkaStream, connector: str) -> dict[str, str | int | bool]:
    """The settings of a member of the group. Holds secrets.

    Half of `buffer_bytes_max` is librdkafka's, for what it has fetched ahead; the other half is the source's.

    Raises:
        ReplicatorError: CONFIG for a setting that a promise rests on.

    """
    for name, reason in _CONSUMER_REFUSED.items():
        if name in stream.settings:
            raise ReplicatorError(
                f"stream.settings must not set {name}: {reason}",
                kind=ErrorKind.CONFIG,
                hint="Remove it from the connector",
            )
    half = max(stream.buffer_bytes_max // 2, _BYTES_MIN)
    ours: dict[str, str | int | bool] = {
        "client.id": f"replicator-{connector}",
        # An empty answer, by which a partition's end is known, comes after this at the latest.
        "fetch.wait.max.ms": 50,
        "fetch.queue.backoff.ms": 20,  # the default, a second, starves a fast reader with a small queue
        "fetch.max.bytes": max(min(half, 52_428_800), 1_000_000),  # at least message.max.bytes
        "fetch.message.max.bytes": min(half, 1 << 20),
        "check.crcs": True,
        "log.connection.close": False,
        # A topic that gets its first event late is found within this.
        "topic.metadata.refresh.interval.ms": 5_000,
    }
    fixed: dict[str, str | int | bool] = {
        "group.id": group_of(stream, connector),
        # By range, one member has partition 0 of every topic: all of them, where each has one.
        "partition.assignment.strategy": "range" if stream.atomic else "cooperative-sticky",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "queued.max.messages.kbytes": half >> 10,
    }
    if stream.instance is None:
        # Nobody reads the partitions of a process that was killed before this is over: not 45 seconds, the default.
        ours["session.timeout.ms"] = 10_000
    else:
        fixed["group.instance.id"] = stream.instance
    return ours | client_settings(stream) | fixed


def group_of(stream: KafkaStream, connector: str) -> str:
    """The consumer group's name."""
    return stream.group or f"replicator_{connector}"


def max_poll_seconds(stream: KafkaStream) -> float:
    """How long a member may stand still before the group goes on without it.

    Raises:
        ReplicatorError: CONFIG when it isn't a number.

    """
    given = stream.settings.get(_MAX_POLL)
    try:
        return 300.0 if given is None else int(given.reveal()) / 1000
    except ValueError:
        raise ReplicatorError(
            f"stream.settings.{_MAX_POLL} is not a number of milliseconds",
            kind=ErrorKind.CONFIG,
            hint="Correct it in the connector",
        ) from None


def scrub_of(stream: KafkaStream) -> Scrub:
    """What takes this connector's secrets out of librdkafka's texts."""
    return Scrub({name: value.reveal() for name, value in stream.settings.items()})
