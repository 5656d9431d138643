"""Rows as COPY text: the cheapest way to insert many, for the server and for us.

Beside the statement with arrays, measured for 10,000 rows of 6 columns: the server's time is halved (COPY writes whole
pages of rows at once, and reads each value with the type's own input function, the column's modifier included), and
encoding costs 0.3 µs a row in place of 0.8. Escaping each value would cost ten times that, so rows are joined first,
and looked at afterwards: text that needs no escapes is the rule.

https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from replicator.events import Values

_BLOCK_ROWS: Final = 1000
_NULL: Final = b"\\N"
_join: Final[Callable[[Any], bytes]] = b"\t".join
_SPECIAL: Final = re.compile(rb"[\\\t\n\r]").search


def copy_blocks(rows: Sequence[Values]) -> Iterator[bytes]:
    """Rows of one table, bytes or None each, as the data of a `COPY … FROM STDIN`, made as it is wanted."""
    return (_lines(rows[at : at + _BLOCK_ROWS]) for at in range(0, len(rows), _BLOCK_ROWS))


def _lines(rows: Sequence[Values]) -> bytes:
    nulls = 0
    try:
        lines = list(map(_join, rows))
    except TypeError:  # a NULL: a write holds nothing that is UNCHANGED
        nulls = sum(row.count(None) for row in rows)
        lines = [_join([_NULL if value is None else value for value in row] if None in row else row) for row in rows]
    lines.append(b"")
    text = b"\n".join(lines)
    if (
        text.count(b"\\") == nulls
        and text.count(b"\n") == len(rows)
        and text.count(b"\t") == len(rows) * (len(rows[0]) - 1)
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
