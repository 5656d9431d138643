"""Debezium's change events, to rows and back: JSON, and what JSON and Avro share. Pure."""
