"""Values of Debezium's events, back to the text that PostgreSQL prints."""

from __future__ import annotations

from collections.abc import Callable

from replicator.codecs.debezium.fields import Field
from replicator.codecs.debezium.modes import Modes
from replicator.events import Value
from replicator.tables import Column

Converter = Callable[[object], Value]
"""A decoded value (of JSON or Avro; a field of type 'bytes' comes as bytes, or as JSON's base64 text) to PostgreSQL's.

Raises MalformedError; whoever decodes the record adds place and column.
"""


def converter(field: Field, column: Column | None, modes: Modes) -> Converter:
    """How values of one column are brought back.

    Args:
        field: how they are written.
        column: the catalog's; None where it has none of that name.
        modes: Debezium's settings.

    Raises:
        ReplicatorError: DECODE, when this way of writing loses what the column may hold; names the setting that
            keeps it.

    """
    raise NotImplementedError
