"""Bytes in Debezium's records: bytea, and the text of types that Debezium doesn't know."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from replicator.codecs.debezium.columns import GEOMETRIC
from replicator.codecs.debezium.conversion import Context, Converter
from replicator.codecs.debezium.floats import float8_text
from replicator.codecs.debezium.modes import Modes
from replicator.events import UNCHANGED, Value

_NUMBER: Final = re.compile(rb"-?(?:\d[\d.]*(?:[eE][+-]?\d+)?|Infinity|NaN)")


def bytes_of(value: bytes | str) -> bytes:
    """A value of Connect's type 'bytes': as it is, or JSON's base64.

    Raises:
        ValueError: it is no base64.

    """
    return binascii.a2b_base64(value, strict_mode=True) if isinstance(value, str) else bytes(value)


def _url_safe(value: str) -> bytes:
    return binascii.a2b_base64(value.translate({ord("-"): "+", ord("_"): "/"}), strict_mode=True)


_BINARY_TEXTS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "base64": bytes_of,
    "base64-url-safe": _url_safe,
    "hex": bytes.fromhex,
}


def binary_reader(kind: str, modes: Modes) -> Callable[[Any], bytes]:
    """How bytes are read from a field of the type 'bytes', or 'string' (binary.handling.mode)."""
    return bytes_of if kind == "bytes" else _BINARY_TEXTS.get(modes.binary, bytes_of)


def binary(context: Context) -> Converter:
    """Bytea, or the text of a type that Debezium doesn't know (include.unknown.datatypes)."""
    placeholder = context.modes.placeholder
    unchanged = None if placeholder is None else placeholder.encode()
    read = binary_reader(context.field.type, context.modes)
    array = context.shape is not None and context.shape.array
    write = _as_text
    if not array and context.kind in {"bytea", ""}:
        write = _as_hex
    elif not array and context.kind in GEOMETRIC:
        write = _as_geometry

    def convert(value: bytes | str) -> Value:
        if value == placeholder:
            return UNCHANGED
        content = read(value)
        return UNCHANGED if content == unchanged else write(content)

    return convert


def _as_text(content: bytes) -> bytes:
    return content


def _as_hex(content: bytes) -> bytes:
    return b"\\x" + content.hex().encode()


def _as_geometry(content: bytes) -> bytes:
    """Numbers as PostgreSQL prints them, not as Java does (1.0 is 1)."""
    return _NUMBER.sub(lambda match: float8_text(float(match[0])), content)
