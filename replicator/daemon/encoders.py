"""Which encoder a capture writes with, from the connector's section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.codecs.avro.encoder import DebeziumAvroEncoder
from replicator.codecs.debezium.encoder import DebeziumJsonEncoder

if TYPE_CHECKING:
    from replicator.captures import RecordEncoder
    from replicator.config import KafkaStream
    from replicator.config.streams import Capture


def encoder_of(stream: KafkaStream, capture: Capture, database: str) -> RecordEncoder:
    """The encoder of `stream.format`.

    Args:
        stream: the connector's section.
        capture: its `capture`.
        database: the old database's own name.

    """
    if stream.format == "debezium-avro":
        return DebeziumAvroEncoder(stream.topic_prefix, database)
    return DebeziumJsonEncoder(stream.topic_prefix, database, with_schemas=capture.schemas)
