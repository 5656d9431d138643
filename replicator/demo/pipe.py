"""The demo's way through Kafka: a broker, a schema registry, and who fills the topics."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.demo.kafka_parts.connect import ConnectServer
from replicator.demo.kafka_parts.debezium import converters, source_config
from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.process import JavaServer
from replicator.demo.kafka_parts.registry import RegistryServer
from replicator.demo.product import Product

Via = Literal["capture", "debezium"]

CONNECTORS: Final[Mapping[Via, Path]] = {
    "capture": Path("connectors/crm-kafka.yaml"),
    "debezium": Path("connectors/crm-debezium.yaml"),
}
_PREFIX: Final = "old"
_NAME: Final = "crm"


class Pipe:
    """The servers between the two databases. As a context manager they run, and are gone on exit.

    Args:
        via: who fills the topics. The parts are fetched already.

    """

    def __init__(self, via: Via) -> None:
        self._via = via
        self._stack = ExitStack()
        parts = Parts.here()
        self._kafka = KafkaServer(parts)
        self._registry = RegistryServer(parts)
        self._connect = ConnectServer(parts, self._kafka.bootstrap) if via == "debezium" else None

    def __enter__(self) -> Self:
        servers: list[JavaServer] = [self._kafka, self._registry]
        if self._connect is not None:
            servers.append(self._connect)
        try:
            for server in servers:
                self._stack.callback(server.close)
                server.launch()
            for server in servers:
                server.wait_ready()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def title(self) -> str:
        """What runs, for people."""
        names = [f"Kafka on port {self._kafka.port}", f"registry on {self._registry.port}"]
        if self._connect is not None:
            names.append(f"Kafka Connect on {self._connect.port}")
        return ", ".join(names)

    @property
    def settings(self) -> dict[str, str]:
        """The environment of the connector's file."""
        found = {"KAFKA_BOOTSTRAP": self._kafka.bootstrap, "SCHEMA_REGISTRY_URL": self._registry.url}
        if self._connect is not None:
            found["CONNECT_URL"] = self._connect.url
        return found

    def fill(self, product: Product, old_dsn: str) -> str:
        """Have the topics filled from now on; returns by whom, for people."""
        if self._connect is None:
            product.start_capture()
            return "replicator capture"
        name = f"replicator_{_NAME}"
        config = source_config(old_dsn, prefix=_PREFIX, tables=r"public\..*", slot=name, publication=name)
        self._connect.rest.create(_NAME, config | converters("avro", self._registry.url))
        return "Debezium 3.6 in Kafka Connect"
