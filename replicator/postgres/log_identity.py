"""Whether a log is the one whose offsets are stored: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def compare_identity(
    connector: str, feed: str, cluster: str, topics: Mapping[str, str], stored: Iterable[tuple[str, str, str, str]]
) -> None:
    """Compare what is seen with what is stored.

    Args:
        connector: its name.
        feed: 'forward' or 'reverse'.
        cluster: the cluster's id now.
        topics: as in `partitions.Ledger.identity`; topics that are not among them are passed over.
        stored: topic, cluster, topic id and number of partitions, as they were.

    Raises:
        ReplicatorError: LOG_LOST, naming what is lost and what to do.

    """
    for topic, cluster_before, id_before, partitions_before in stored:
        if cluster_before != cluster:
            raise _lost(
                f"the offsets of feed {connector}/{feed} are of Kafka cluster {cluster_before}, not of {cluster}",
                "point the connector at the cluster it began with; if that one is gone, stop all its processes, run "
                f"`{_forget(connector, feed, None)}` in the target, and copy all tables anew: `replicator resync`",
            )
        if topic not in topics:
            continue
        id_now, _, partitions_now = topics[topic].rpartition("/")
        if id_now != id_before:
            raise _lost(
                f"topic {topic} was made again (its id was {id_before} and is {id_now}): records of feed "
                f"{connector}/{feed} that were not applied are lost with the former one",
                f"stop all processes of the connector, run `{_forget(connector, feed, topic)}` in the target, and copy "
                "its tables anew: `replicator resync`",
            )
        if partitions_now != partitions_before:
            raise _lost(
                f"topic {topic} has {partitions_now} partitions, and had {partitions_before} when feed "
                f"{connector}/{feed} began: a key's changes may now lie in two of them, in no order",
                "let the processes of the connector apply what came before (all offsets at their ends, nothing being "
                f"written on the source), stop them, and run `{_forget_identity(connector, feed, topic)}` in the "
                "target; if the source was written meanwhile, copy its tables anew: `replicator resync`",
            )


def _lost(message: str, hint: str) -> ReplicatorError:
    return ReplicatorError(message, kind=ErrorKind.LOG_LOST, hint=f"Nothing was applied since. To go on: {hint}")


def _forget(connector: str, feed: str, topic: str | None) -> str:
    return (
        f"DELETE FROM replicator.partition WHERE {_where(connector, feed, topic)}; "
        f"{_forget_identity(connector, feed, topic)}"
    )


def _forget_identity(connector: str, feed: str, topic: str | None) -> str:
    return f"DELETE FROM replicator.log_identity WHERE {_where(connector, feed, topic)};"


def _where(connector: str, feed: str, topic: str | None) -> str:
    one = f"connector = '{connector}' AND feed = '{feed}'"
    return one if topic is None else f"{one} AND topic = '{topic}'"
