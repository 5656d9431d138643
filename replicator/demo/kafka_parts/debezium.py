"""Configurations of Debezium's PostgreSQL connector that lose nothing, beside the defaults that do."""

from typing import Literal
from urllib.parse import unquote, urlsplit

from replicator.demo.kafka_parts.connect import AVRO_CONVERTER, JSON_CONVERTER

Format = Literal["json", "json_without_schema", "avro"]

# What Debezium would do by itself: pass over values it can't convert, columns of types it doesn't know, TRUNCATE,
# and turn a numeric into a double or fail at its NaN.
_LOSSLESS: dict[str, str] = {
    "event.converting.failure.handling.mode": "fail",
    "include.unknown.datatypes": "true",
    "skipped.operations": "none",
    "decimal.handling.mode": "string",
    "interval.handling.mode": "string",
    "errors.tolerance": "none",
    # Makes the committed offset follow the log also where no mapped table changes.
    "heartbeat.interval.ms": "500",
    # How replicator marks a place in the WAL for the drain proof: heard of, but no record.
    "message.prefix.exclude.list": "replicator",
}


def source_config(
    dsn: str,
    *,
    prefix: str,
    tables: str,
    slot: str,
    publication: str,
    snapshot: Literal["initial", "no_data", "never", "initial_only"] = "no_data",
) -> dict[str, str]:
    """Return a source connector's configuration, without its converters.

    Args:
        dsn: the old database, as a postgresql:// URI with host, port, user and database
        prefix: of the topics: PREFIX.SCHEMA.TABLE
        tables: `table.include.list`: regular expressions of qualified names, with commas
        slot: the slot, made by Debezium where absent; dropping it is the caller's
        publication: made by Debezium for these tables where absent
        snapshot: `snapshot.mode`; `no_data` streams from the slot's beginning
    """
    address = urlsplit(dsn)
    return _LOSSLESS | {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": address.hostname or "",
        "database.port": str(address.port or 5432),
        "database.user": unquote(address.username or ""),
        "database.password": unquote(address.password or ""),
        "database.dbname": unquote(address.path.removeprefix("/")),
        "plugin.name": "pgoutput",
        "publication.name": publication,
        "publication.autocreate.mode": "filtered",
        "slot.name": slot,
        "topic.prefix": prefix,
        "table.include.list": tables,
        "snapshot.mode": snapshot,
    }


def converters(kind: Format, registry: str | None = None) -> dict[str, str]:
    """Return the settings of keys' and values' converters; Avro needs the registry's URL."""
    settings = {}
    for side in ("key", "value"):
        if kind == "avro":
            settings[f"{side}.converter"] = AVRO_CONVERTER
            settings[f"{side}.converter.schema.registry.url"] = registry or ""
            settings[f"{side}.converter.ignore.default.for.nullables"] = "true"  # else a NULL arrives as the default
        else:
            settings[f"{side}.converter"] = JSON_CONVERTER
            settings[f"{side}.converter.schemas.enable"] = "true" if kind == "json" else "false"
            settings[f"{side}.converter.replace.null.with.default"] = "false"
    if kind == "avro":  # names of columns and tables that Avro doesn't allow are spelled otherwise
        settings |= {"schema.name.adjustment.mode": "avro", "field.name.adjustment.mode": "avro"}
    return settings
