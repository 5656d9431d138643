"""Debezium's events in Avro, with their schemas in a registry."""

from replicator.codecs.avro.decoder import DebeziumAvroDecoder

__all__ = ["DebeziumAvroDecoder"]
