"""A Kafka broker of one node, its own controller (KRaft)."""

import secrets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.process import QUICK_JVM, JavaServer, answers, class_path, properties
from replicator.demo.loopback import HOST, free_port

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

_STARTED = "Kafka Server started"
_PLAIN = "PLAINTEXT"

# One node, small, and quick to answer: nothing waits for others that might join.
_SETTINGS: dict[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker may return only when its former life has timed out.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",  # the default is half of the heap
}


class KafkaServer(JavaServer):
    """A broker on loopback ports, with the listener PLAINTEXT and those that are asked for.

    Args:
        parts: where the parts are
        settings: the broker's settings beyond ours, as in server.properties
        listeners: further listeners, each with its security protocol; every one gets a port (`address`)
        home: a directory that stays, in place of a temporary one
        heap: the JVM's `-Xmx`
        jvm: its other options
    """

    title = "Kafka"

    def __init__(
        self,
        parts: Parts,
        *,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, Protocol] | None = None,
        home: Path | None = None,
        heap: str = "256m",
        jvm: Sequence[str] = QUICK_JVM,
    ) -> None:
        self._options = class_path(parts)
        super().__init__(home=home, heap=heap, jvm=jvm)
        self._protocols: dict[str, str] = {_PLAIN: "PLAINTEXT", **(listeners or {})}
        self._ports = {name: free_port() for name in (*self._protocols, "CONTROLLER")}
        self._settings = _SETTINGS | dict(settings or {})
        # Base64 of a UUID; one that begins with a dash would be taken for an option.
        self.cluster_id = "R" + secrets.token_urlsafe(16)[1:21] + "A"
        self.advertised: dict[str, str] = {}
        """Addresses that clients are told in place of a listener's own, read at each start: a proxy's, for one."""

    @property
    def port(self) -> int:
        """The port of the plain listener."""
        return self._ports[_PLAIN]

    @property
    def bootstrap(self) -> str:
        """The plain listener as `bootstrap.servers` wants it."""
        return self.address(_PLAIN)

    @property
    def data(self) -> Path:
        """The directory of the log."""
        return self.home / "data"

    def port_of(self, listener: str) -> int:
        """The port of this listener."""
        return self._ports[listener]

    def address(self, listener: str) -> str:
        """Host and port of this listener."""
        return f"{HOST}:{self._ports[listener]}"

    def _arguments(self) -> Sequence[str | Path]:
        config = self.home / "server.properties"
        config.write_text(properties(self._listening() | self._settings))
        if not (self.data / "meta.properties").exists():
            self._format(config)
        return [*self._options, "kafka.Kafka", config]

    def _listening(self) -> dict[str, str]:
        protocols = self._protocols | {"CONTROLLER": "PLAINTEXT"}
        addresses = {name: self.address(name) for name in self._protocols} | self.advertised
        return {
            "listeners": ",".join(f"{name}://{self.address(name)}" for name in protocols),
            "advertised.listeners": ",".join(f"{name}://{address}" for name, address in addresses.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in protocols.items()),
            "inter.broker.listener.name": _PLAIN,
            "controller.quorum.voters": f"1@{self.address('CONTROLLER')}",
            "log.dirs": str(self.data),
        }

    def _format(self, config: Path) -> None:
        tool: list[str | Path] = [
            *self._options,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            self.cluster_id,
            "-c",
            config,
        ]
        made = subprocess.run(
            [self.java.program, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *tool],
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise self._failure(f"could not format its directory:\n{(made.stdout + made.stderr)[-2000:]}")

    def _ready(self) -> bool:
        return _STARTED in self.log_since_start and answers(self.port)
