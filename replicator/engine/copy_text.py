r"""COPY's text format, read into rows: for a table without a key that is copied through values. Pure.

https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2: a line a row, a tab between columns, `\N` for
NULL, a backslash before what would be taken for one of these.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from replicator.events import Values

_NULL: Final = b"\\N"
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def parse_rows(block: bytes) -> list[Values]:
    """The rows of a block that holds whole lines."""
    lines = block.split(b"\n")
    del lines[-1]  # what follows the last line's end
    if b"\\" not in block:
        return [tuple(line.split(b"\t")) for line in lines]
    return [tuple([None if field == _NULL else unescape(field) for field in line.split(b"\t")]) for line in lines]


def unescape(field: bytes) -> bytes:
    """A field's value; the server never writes octal or hexadecimal escapes."""
    if b"\\" not in field:
        return field
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), field)


async def row_groups(blocks: AsyncIterator[bytes], bytes_max: int) -> AsyncIterator[list[Values]]:
    """Rows of a stream of blocks, in groups of about `bytes_max` bytes."""
    rows: list[Values] = []
    size = 0
    async for block in blocks:
        rows.extend(parse_rows(block))
        size += len(block)
        if size >= bytes_max:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows
