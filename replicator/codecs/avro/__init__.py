"""Debezium's events in Avro, with their schemas in a registry."""
