"""How a connector's changes are read: a replication slot, or Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from replicator.config.fields import (
    BufferSize,
    Duration,
    Identifier,
    PlainUrl,
    SingleTable,
    SlotName,
    Text,
)
from replicator.config.secret import Secret
from replicator.config.section import Breach, Section
from replicator.config.units import parse_duration


class SlotStream(Section):
    """Changes straight from a PostgreSQL replication slot: no broker."""

    kind: Literal["slot"] = "slot"
    slot: SlotName | None = Field(default=None, description="Name of the slot; replicator_<name> if left out.")
    publication: Identifier | None = Field(
        default=None, description="Name of the publication; replicator_<name> if left out."
    )
    create: bool = Field(default=True, description="Make slot and publication; off where a DBA made them beforehand.")
    heartbeat_interval: Duration = Field(
        default=parse_duration("10s"),
        description="How often an idle database gets a heartbeat, so that its slot moves; 0 is off.",
    )
    buffer_bytes_max: BufferSize = Field(
        default=64 << 20, description="Changes held in memory while the target is busy."
    )


class SchemaRegistry(Section):
    """Where Avro schemas come from (Confluent's API)."""

    url: PlainUrl = Field(description="Base URL, such as http://registry:8081.")
    user: Text | None = None
    password: Secret | None = None
    ca_file: Text | None = Field(default=None, description="PEM file of the authority to trust.")
    certificate_file: Text | None = Field(
        default=None, description="PEM file of our own certificate, where the registry asks for one."
    )
    key_file: Text | None = Field(default=None, description="PEM file of its key, where that is another file.")

    def _breaches(self) -> Iterable[Breach]:
        if self.key_file is not None and self.certificate_file is None:
            yield Breach(("key_file",), "needs certificate_file")
        if self.password is not None and self.user is None:
            yield Breach(("password",), "needs user")


class Capture(Section):
    """How `replicator capture` fills the topics from a replication slot; without this section Debezium does."""

    publication: Identifier | None = Field(
        default=None, description="Name of the publication; replicator_<name> if left out."
    )
    create: bool = Field(default=True, description="Make slot and publication; off where a DBA made them beforehand.")
    schemas: bool = Field(default=True, description="Whether each JSON record carries its schema, as Debezium's do.")
    partitions: int = Field(default=1, ge=1, le=10_000, description="Partitions of a topic that it makes.")
    replication_factor: int | None = Field(
        default=None, ge=1, le=100, description="Copies of a topic that it makes; the brokers' default if left out."
    )
    tombstones: bool = Field(default=True, description="Whether a delete is followed by a tombstone.")
    transaction_metadata: bool = Field(
        default=True, description="Whether transactions' beginnings and ends are told in a topic of their own."
    )


class KafkaStream(Section):
    """Changes in Debezium's format from Kafka."""

    kind: Literal["kafka"]
    bootstrap_servers: Text = Field(description="host:port, several with commas.")
    format: Literal["debezium-json", "debezium-avro"]
    topic_prefix: Text = Field(description="Debezium's topic.prefix.")
    topics: dict[SingleTable, Text] = Field(
        default_factory=dict, description="Topics of tables where they aren't <topic_prefix>.<schema>.<table>."
    )
    group: Text | None = Field(default=None, description="Consumer group; replicator_<name> if left out.")
    instance: Text | None = Field(
        default=None,
        description="Static membership: a name of this daemon that no other one has, best ${HOSTNAME}",
    )
    schema_registry: SchemaRegistry | None = Field(default=None, description="Needed for debezium-avro.")
    capture: Capture | None = Field(
        default=None, description="Present where `replicator capture` fills the topics, not Debezium."
    )
    slot: SlotName | None = Field(
        default=None, description="The slot that fills the topics; replicator_<name> for capture, else Debezium's."
    )
    connect_url: PlainUrl | None = Field(
        default=None, description="Kafka Connect's REST API: Debezium's configuration, and how far it has come."
    )
    connect_name: Text | None = Field(default=None, description="Name of Debezium's connector in Kafka Connect.")
    debezium: dict[Text, Text] = Field(
        default_factory=dict,
        description="Debezium's settings that shape values, by its names (decimal.handling.mode, ...); "
        "read from connect_url where that is given.",
    )
    atomic: bool = Field(
        default=False,
        description="Apply whole source transactions; needs transaction metadata and one partition a topic.",
    )
    heartbeat_interval: Duration = Field(
        default=parse_duration("10s"), description="How often an idle database gets a heartbeat; 0 is off."
    )
    buffer_bytes_max: BufferSize = Field(
        default=64 << 20, description="Records held in memory while the target is busy."
    )
    settings: dict[str, Secret] = Field(
        default_factory=dict,
        description="Passed to librdkafka as they are (security.protocol, sasl.password, ...).",
    )

    def _breaches(self) -> Iterable[Breach]:
        if self.format == "debezium-avro" and self.schema_registry is None:
            yield Breach(("format",), "debezium-avro needs schema_registry")
        if "bootstrap.servers" in self.settings:
            yield Breach(("settings", "bootstrap.servers"), "belongs into bootstrap_servers")
        if self.capture is not None:
            for name in ("connect_url", "connect_name"):
                if getattr(self, name) is not None:
                    yield Breach((name,), "is Debezium's; with capture there is none")
            if self.atomic and not self.capture.transaction_metadata:
                yield Breach(("atomic",), "needs capture.transaction_metadata")
            if self.atomic and self.capture.partitions > 1:
                yield Breach(("atomic",), "needs one partition a topic")
        elif (self.connect_url is None) != (self.connect_name is None):
            yield Breach(("connect_url",), "connect_url and connect_name are given together")


def _stream_kind(value: Any) -> str:
    """The tag of a stream; slot if it names none."""
    kind = value.get("kind", "slot") if isinstance(value, dict) else getattr(value, "kind", "slot")
    return kind if isinstance(kind, str) else "slot"


Stream = Annotated[
    Annotated[SlotStream, Tag("slot")] | Annotated[KafkaStream, Tag("kafka")],
    Discriminator(_stream_kind),
]
