"""What a plan needs to know about a log and about Debezium: asked, nothing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replicator.assess.log_facts import DebeziumFacts, LogFacts, TopicFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.kafka.admin import Admin
    from replicator.kafka.connect import ConnectClient
    from replicator.kafka.topics import Topics
    from replicator.partitions import Partition

_UNLIMITED: Final = "-1"


async def read_log(admin: Admin, topics: Topics, applied: Mapping[Partition, int]) -> LogFacts:
    """The cluster, those of the topics that are there, and how much is still to be read.

    Args:
        admin: of the cluster.
        topics: the connector's.
        applied: the next offset of each partition that was begun; empty before the feed has begun.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION.

    """
    names = {*topics.tables, topics.transactions}
    found = await admin.topics(names)
    settings = await admin.settings(found)
    lag = None
    if applied:
        ends = await admin.ends(one for one in applied if one[0] in found)
        lag = sum(max(0, end - applied[one]) for one, end in ends.items())
    described = {}
    for name, topic in found.items():
        told = settings.get(name, {})
        policy, kept = told.get("cleanup.policy", ""), told.get("retention.ms", _UNLIMITED)
        described[name] = TopicFacts(
            topic.partitions,
            compacted="compact" in policy,
            retention_seconds=None if kept == _UNLIMITED or "delete" not in policy else int(kept) / 1000,
        )
    return LogFacts(await admin.cluster(), described, lag)


async def read_debezium(connect: ConnectClient) -> DebeziumFacts:
    """Debezium's connector, as Kafka Connect tells it.

    Raises:
        ReplicatorError: CONNECTION, PERMISSION, CONFIG.

    """
    config = await connect.config()
    offsets = await connect.offsets()
    ours = next((one for one in offsets if one.server == config.get("topic.prefix")), None)
    return DebeziumFacts(
        config=config,
        version=await connect.plugin_version(config.get("connector.class", "")),
        trouble=(await connect.status()).trouble,
        snapshot=ours is not None and ours.snapshot,
        cluster=(await connect.worker()).cluster,
    )
