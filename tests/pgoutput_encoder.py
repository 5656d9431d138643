"""The server's side of pgoutput, protocol 1: what the decoder must understand, written from the documentation."""

import struct
from collections.abc import Iterable, Sequence

from replicator.events import UNCHANGED, Value


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def begin(commit_lsn: int, microseconds: int = 0, xid: int = 1) -> bytes:
    return struct.pack(">cQqI", b"B", commit_lsn, microseconds, xid)


def commit(commit_lsn: int, end_lsn: int, microseconds: int = 0) -> bytes:
    return struct.pack(">cBQQq", b"C", 0, commit_lsn, end_lsn, microseconds)


def origin(name: str, lsn: int = 0) -> bytes:
    return struct.pack(">cQ", b"O", lsn) + _name(name)


def relation(
    oid: int,
    schema: str,
    table: str,
    columns: Iterable[tuple[str, int, bool]],
    identity: str = "d",
) -> bytes:
    """Encode a shape; columns are (name, type oid, part of the replica identity)."""
    parts = [struct.pack(">B", key) + _name(name) + struct.pack(">Ii", type_oid, -1) for name, type_oid, key in columns]
    head = struct.pack(">cI", b"R", oid) + _name(schema) + _name(table)
    return head + identity.encode() + struct.pack(">H", len(parts)) + b"".join(parts)


def type_(oid: int, schema: str, name: str) -> bytes:
    return struct.pack(">cI", b"Y", oid) + _name(schema) + _name(name)


def values(row: Sequence[Value]) -> bytes:
    """Encode a tuple: the number of columns, then each by its kind."""
    out = [struct.pack(">H", len(row))]
    for value in row:
        if value is None:
            out.append(b"n")
        elif value is UNCHANGED:
            out.append(b"u")
        else:
            out.append(struct.pack(">cI", b"t", len(value)) + value)
    return b"".join(out)


def insert(oid: int, row: Sequence[Value]) -> bytes:
    return struct.pack(">cI", b"I", oid) + b"N" + values(row)


def update(oid: int, row: Sequence[Value], before: Sequence[Value] | None = None, kind: bytes = b"K") -> bytes:
    old = b"" if before is None else kind + values(before)
    return struct.pack(">cI", b"U", oid) + old + b"N" + values(row)


def delete(oid: int, before: Sequence[Value], kind: bytes = b"K") -> bytes:
    return struct.pack(">cI", b"D", oid) + kind + values(before)


def truncate(*oids: int, cascade: bool = False, restart_identity: bool = False) -> bytes:
    options = cascade | restart_identity << 1
    return struct.pack(f">cIB{len(oids)}I", b"T", len(oids), options, *oids)


def message(prefix: str, content: bytes, *, transactional: bool = True, lsn: int = 0) -> bytes:
    head = struct.pack(">cBQ", b"M", transactional, lsn)
    return head + _name(prefix) + struct.pack(">I", len(content)) + content
