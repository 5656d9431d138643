"""A Kafka Connect worker (distributed mode, alone in its group) with Debezium's connectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.pins import Component
from replicator.demo.kafka_parts.process import QUICK_JVM, JavaServer, class_path, properties
from replicator.demo.kafka_parts.rest import ConnectRest
from replicator.demo.loopback import HOST, free_port

AVRO_CONVERTER = "io.confluent.connect.avro.AvroConverter"
JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"

PLUGINS: tuple[Component, ...] = ("postgres-connector", "jdbc-connector", "avro-converter")

_SETTINGS: dict[str, str] = {
    "key.converter": JSON_CONVERTER,
    "value.converter": JSON_CONVERTER,
    "offset.storage.replication.factor": "1",
    "offset.storage.partitions": "1",
    "config.storage.replication.factor": "1",
    "status.storage.replication.factor": "1",
    "status.storage.partitions": "1",
    # How far behind its records the committed source offset may be; a drain waits for it.
    "offset.flush.interval.ms": "500",
    "scheduled.rebalance.max.delay.ms": "0",
    "plugin.discovery": "service_load",
}


class ConnectServer(JavaServer):
    """A worker with Debezium's PostgreSQL source and JDBC sink, and the JSON and Avro converters.

    Args:
        parts: where the parts are
        bootstrap: the brokers; they may still be starting
        group: the worker's group, and the prefix of its three topics
        settings: the worker's settings beyond ours, as in connect-distributed.properties
        exactly_once: `exactly.once.source.support`: fences a former worker's tasks, by transactions
        home: a directory that stays, in place of a temporary one
        heap: the JVM's `-Xmx`
        jvm: its other options
    """

    title = "Kafka Connect"

    def __init__(
        self,
        parts: Parts,
        bootstrap: str,
        *,
        group: str = "connect",
        settings: Mapping[str, str] | None = None,
        exactly_once: bool = True,
        home: Path | None = None,
        heap: str = "384m",
        jvm: Sequence[str] = QUICK_JVM,
    ) -> None:
        self._options = class_path(parts)
        folders = [str(parts.folder(plugin)) for plugin in PLUGINS]
        super().__init__(home=home, heap=heap, jvm=jvm)
        self.port = free_port()
        self.rest = ConnectRest(f"http://{HOST}:{self.port}")
        named = {f"{store}.storage.topic": f"{group}-{store}" for store in ("offset", "config", "status")}
        self._settings = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            **named,
            "plugin.path": ",".join(folders),
            "listeners": self.url,
            "exactly.once.source.support": "enabled" if exactly_once else "disabled",
            **_SETTINGS,
            **(settings or {}),
        }

    @property
    def url(self) -> str:
        """The worker's REST interface."""
        return self.rest.url

    def _arguments(self) -> Sequence[str | Path]:
        config = self.home / "connect.properties"
        config.write_text(properties(self._settings))
        return [*self._options, "org.apache.kafka.connect.cli.ConnectDistributed", config]

    def _ready(self) -> bool:
        return self.rest.answers()
