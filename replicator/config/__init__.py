"""Connector files: YAML to frozen, checked values, with the place of every mistake.

The only part that imports pydantic and yaml. Reads the files it is pointed at, and nothing else; environment
variables are handed in.
"""

from replicator.config.checks import Check
from replicator.config.fields import Address, TablePattern
from replicator.config.load import load_connector, load_connectors, parse_connector
from replicator.config.models import (
    Apply,
    Backfill,
    CommandRouter,
    Connector,
    Cutover,
    Database,
    Http,
    NoRouter,
    PgbouncerRouter,
    Retry,
    Router,
    TableMapping,
    Verify,
    WebhookRouter,
)
from replicator.config.problems import ConfigError, Problem
from replicator.config.schema import json_schema
from replicator.config.secret import Dsn, Secret, WebUrl
from replicator.config.streams import Capture, KafkaStream, SchemaRegistry, SlotStream, Stream
from replicator.config.units import format_duration, format_size, parse_duration, parse_size

__all__ = [
    "Address",
    "Apply",
    "Backfill",
    "Capture",
    "Check",
    "CommandRouter",
    "ConfigError",
    "Connector",
    "Cutover",
    "Database",
    "Dsn",
    "Http",
    "KafkaStream",
    "NoRouter",
    "PgbouncerRouter",
    "Problem",
    "Retry",
    "Router",
    "SchemaRegistry",
    "Secret",
    "SlotStream",
    "Stream",
    "TableMapping",
    "TablePattern",
    "Verify",
    "WebUrl",
    "WebhookRouter",
    "format_duration",
    "format_size",
    "json_schema",
    "load_connector",
    "load_connectors",
    "parse_connector",
    "parse_duration",
    "parse_size",
]
