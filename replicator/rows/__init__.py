"""Rows and aggregates as a transform sees them, and their way to text and back."""

from replicator.rows.aggregate import Aggregate, new_aggregate
from replicator.rows.row import Row, Shape, missing_column, parse_table, source_row, target_of, write_row
from replicator.rows.text import (
    RawText,
    RowError,
    UnknownColumnError,
    UnreadableValueError,
    UnwritableValueError,
    dump,
    load,
    text_equal,
    value_oid,
)

__all__ = [
    "Aggregate",
    "RawText",
    "Row",
    "RowError",
    "Shape",
    "UnknownColumnError",
    "UnreadableValueError",
    "UnwritableValueError",
    "dump",
    "load",
    "missing_column",
    "new_aggregate",
    "parse_table",
    "source_row",
    "target_of",
    "text_equal",
    "value_oid",
    "write_row",
]
