"""Rows as COPY text: the cheapest way to insert many, for the server and for us.

Beside the statement with arrays, measured for 10,000 rows of 6 columns: the server's time is halved (COPY writes whole
pages of rows at once, and reads each value with the type's own input function, the column's modifier included), and
encoding costs 0.3 µs a row in place of 0.8. Escaping each value would cost ten times that, so rows are joined first,
and looked at afterwards: text that needs no escapes is the rule.

https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from replicator.runs import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from replicator.events import Values

_BLOCK_ROWS: Final = 1000
_NULL: Final = b"\\N"
_SPECIAL: Final = re.compile(rb"[\\\t\n\r]").search


def copy_blocks(rows: Sequence[Values]) -> Iterator[bytes]:
    """Rows of one table, bytes or None each, as the data of a `COPY … FROM STDIN`, made as it is wanted."""
    return (_lines(rows[at : at + _BLOCK_ROWS]) for at in range(0, len(rows), _BLOCK_ROWS))


def _lines(rows: Sequence[Values]) -> bytes:
    values, width = (
        (rows.values, rows.width) if isinstance(rows, Rows) else (list(chain.from_iterable(rows)), len(rows[0]))
    )
    parts: list[Any] = [b"\t"] * (2 * len(values))
    parts[0::2] = values
    parts[2 * width - 1 :: 2 * width] = [b"\n"] * len(rows)
    nulls = 0
    try:
        text = b"".join(parts)
    except TypeError:  # a NULL: a write holds nothing that is UNCHANGED
        nulls = len([None for value in values if value is None])
        parts[0::2] = [_NULL if value is None else value for value in values]
        text = b"".join(parts)
    if (
        text.count(b"\\") == nulls
        and text.count(b"\n") == len(rows)
        and text.count(b"\t") == len(rows) * (width - 1)
        and b"\r" not in text
    ):
        return text
    return b"".join(map(_escaped_line, rows))


def _escaped_line(row: Values) -> bytes:
    return b"\t".join([_NULL if value is None else _escaped(value) for value in row]) + b"\n"  # type: ignore[arg-type] # bytes


def _escaped(value: bytes) -> bytes:
    if not _SPECIAL(value):
        return value
    return value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
