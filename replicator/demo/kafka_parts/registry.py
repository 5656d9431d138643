"""A schema registry (Apicurio), in memory, with Confluent's interface beside its own."""

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path

from replicator.demo.kafka_parts.fetch import Parts
from replicator.demo.kafka_parts.pins import REGISTRY_JAVA_MIN
from replicator.demo.kafka_parts.process import JavaServer
from replicator.demo.loopback import HOST, free_port


class RegistryServer(JavaServer):
    """A registry that forgets its schemas when it stops.

    Args:
        parts: where the parts are
        settings: the registry's settings beyond ours, by the names in Apicurio's reference
        home: a directory that stays, in place of a temporary one
        heap: the JVM's `-Xmx`
    """

    title = "Apicurio registry"
    java_min = REGISTRY_JAVA_MIN

    def __init__(
        self,
        parts: Parts,
        *,
        settings: Mapping[str, str] | None = None,
        home: Path | None = None,
        heap: str = "256m",
    ) -> None:
        self._program = parts.folder("registry") / "quarkus-run.jar"
        super().__init__(home=home, heap=heap)
        self.port = free_port()
        self._settings = {
            "quarkus.http.host": HOST,
            "quarkus.http.port": str(self.port),
            # Health and metrics would be on port 9000 of every interface, and a second registry could not start.
            "quarkus.management.host": HOST,
            "quarkus.management.port": str(free_port()),
            **(settings or {}),
        }

    @property
    def url(self) -> str:
        """Confluent's interface, as `schema.registry.url` wants it."""
        return f"http://{HOST}:{self.port}/apis/ccompat/v7"

    def _arguments(self) -> Sequence[str | Path]:
        return [*(f"-D{name}={value}" for name, value in self._settings.items()), "-jar", self._program]

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request("GET", "/apis/ccompat/v7/subjects")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
