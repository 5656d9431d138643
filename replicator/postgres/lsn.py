"""Log sequence numbers: as PostgreSQL prints them, and as the integers that we count with."""

from __future__ import annotations

import re
from typing import Final

_LSN: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")


def format_lsn(lsn: int) -> str:
    """Bytes since the beginning of the WAL, as pg_lsn prints them: `0/16B3748`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """The inverse of `format_lsn`.

    Raises:
        ValueError: not a pg_lsn.

    """
    match = _LSN.match(text)
    if match is None:
        msg = f"{text!r} is not a log sequence number"
        raise ValueError(msg)
    return int(match[1], 16) << 32 | int(match[2], 16)
