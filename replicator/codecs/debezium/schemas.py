"""The schemas of Debezium's records, and the names of their fields: SchemaFactory, PostgresSchemaFactory,
TableSchemaBuilder, PostgresSourceInfoStructMaker of Debezium 3.6.

One field is ours: `exact`, at the end of a change's envelope (see `modes.Modes.exact`). Defaults of columns are left
out: a converter that replaces NULL by them would spoil rows.
"""

from __future__ import annotations

from typing import Final

from replicator.codecs.debezium.fields import Field

_TEXT, _OPTIONAL_TEXT = Field("string"), Field("string", optional=True)
_LONG, _OPTIONAL_LONG = Field("int64"), Field("int64", optional=True)

SOURCE: Final = Field(
    "struct",
    "io.debezium.connector.postgresql.Source",
    version=1,
    fields=(
        ("version", _TEXT),
        ("connector", _TEXT),
        ("name", _TEXT),
        ("ts_ms", _LONG),
        (
            "snapshot",
            Field(
                "string",
                "io.debezium.data.Enum",
                {"allowed": "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},
                1,
                optional=True,
            ),
        ),
        ("db", _TEXT),
        ("sequence", _OPTIONAL_TEXT),
        ("ts_us", _OPTIONAL_LONG),
        ("ts_ns", _OPTIONAL_LONG),
        ("schema", _TEXT),
        ("table", _TEXT),
        ("txId", _OPTIONAL_LONG),
        ("lsn", _OPTIONAL_LONG),
        ("xmin", _OPTIONAL_LONG),
        ("origin", _OPTIONAL_TEXT),
        ("origin_lsn", _OPTIONAL_LONG),
    ),
)
TRANSACTION: Final = Field(
    "struct",
    "event.block",
    version=1,
    optional=True,
    fields=(("id", _TEXT), ("total_order", _LONG), ("data_collection_order", _LONG)),
)
_TEXTS: Final = Field("map", optional=True, keys=_TEXT, values=_OPTIONAL_TEXT)
EXACT: Final = Field(
    "struct", "replicator.exact", version=1, optional=True, fields=(("before", _TEXTS), ("after", _TEXTS))
)
_TIMES: Final = (("ts_ms", _OPTIONAL_LONG), ("ts_us", _OPTIONAL_LONG), ("ts_ns", _OPTIONAL_LONG))

MARK_KEY: Final = Field(
    "struct", "io.debezium.connector.common.TransactionMetadataKey", version=1, fields=(("id", _TEXT),)
)
_COLLECTION: Final = Field(
    "struct",
    "event.collection",
    version=1,
    optional=True,
    fields=(("data_collection", _TEXT), ("event_count", _LONG)),
)
MARK_VALUE: Final = Field(
    "struct",
    "io.debezium.connector.common.TransactionMetadataValue",
    version=1,
    fields=(
        ("status", _TEXT),
        ("id", _TEXT),
        ("event_count", _OPTIONAL_LONG),
        ("data_collections", Field("array", optional=True, items=_COLLECTION)),
        ("ts_ms", _LONG),
    ),
)
BEAT_KEY: Final = Field(
    "struct", "io.debezium.connector.common.ServerNameKey", version=1, fields=(("serverName", _TEXT),)
)
BEAT_VALUE: Final = Field("struct", "io.debezium.connector.common.Heartbeat", version=1, fields=(("ts_ms", _LONG),))
MESSAGE_KEY: Final = Field(
    "struct", "io.debezium.connector.postgresql.MessageKey", version=1, fields=(("prefix", _OPTIONAL_TEXT),)
)
_MESSAGE: Final = Field(
    "struct",
    "io.debezium.connector.postgresql.Message",
    version=1,
    fields=(("prefix", _OPTIONAL_TEXT), ("content", Field("bytes", optional=True))),
)
MESSAGE_VALUE: Final = Field(
    "struct",
    "io.debezium.connector.postgresql.MessageValue",
    version=1,
    fields=(
        ("op", _TEXT),
        ("ts_ms", _OPTIONAL_LONG),
        ("source", SOURCE),
        ("transaction", TRANSACTION),
        ("message", _MESSAGE),
    ),
)


def key_schema(topic: str, fields: tuple[tuple[str, Field], ...]) -> Field:
    """Of a topic's keys: the key's columns."""
    return Field("struct", f"{topic}.Key", fields=fields)


def envelope_schema(topic: str, fields: tuple[tuple[str, Field], ...]) -> Field:
    """Of a topic's values: changes of rows with these columns."""
    row = Field("struct", f"{topic}.Value", fields=fields, optional=True)
    return Field(
        "struct",
        f"{topic}.Envelope",
        version=2,
        fields=(
            ("before", row),
            ("after", row),
            ("source", SOURCE),
            ("transaction", TRANSACTION),
            ("op", _TEXT),
            *_TIMES,
            ("exact", EXACT),
        ),
    )
