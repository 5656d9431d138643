"""Which schemas a record in Avro is written with, and where its bytes begin.

Confluent (https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format)
    a zero byte, the schema's id in 4 bytes, big-endian
Apicurio (https://www.apicurio.io/registry/docs/apicurio-registry/3.0.x/getting-started/assembly-using-kafka-client-serdes.html)
    the same, the id being a contentId (the default since 3.0); with 8 bytes for a globalId (the default before); or
    nothing before the bytes, and the id in a header such as apicurio.value.globalId, 8 bytes

No registry gives the id 0, so five zero bytes at the start are the beginning of an id of 8 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, NoReturn

from replicator.errors import ErrorKind, ReplicatorError
from replicator.records import RegistrySchema

if TYPE_CHECKING:
    from replicator.records import Record

Part = Literal["key", "value"]

_MAGIC: Final = 0
_LONG: Final = bytes(5)
_HEADERS: Final = "apicurio."
_SPACE: Final = b" \t\r\n"


class Frame(NamedTuple):
    """The schema, and how many bytes come before the ones that are written with it."""

    schema: RegistrySchema
    at: int


def frame_of(record: Record, part: Part, data: bytes) -> Frame:
    """How a record's key or value is framed.

    Args:
        record: the record, for its headers and its place.
        part: which of the two.
        data: its bytes.

    Raises:
        ReplicatorError: DECODE, when it isn't.

    """
    if record.headers:
        by_header = _frame_of_headers(record, part)
        if by_header is not None:
            return by_header
    if len(data) < 5 or data[0] != _MAGIC:
        _refuse(record, part, data)
    if not data.startswith(_LONG):
        return Frame(RegistrySchema("id", int.from_bytes(data[1:5])), 5)
    if len(data) < 9:
        _refuse(record, part, data)
    return Frame(RegistrySchema("global", int.from_bytes(data[1:9])), 9)


def _frame_of_headers(record: Record, part: Part) -> Frame | None:
    """As Apicurio's headers say it; None where there are none for this part."""
    prefix = f"{_HEADERS}{part}."
    found = {name.removeprefix(prefix): value for name, value in record.headers if name.startswith(prefix)}
    if not found:
        return None
    encoding = found.get("encoding")
    if encoding not in {None, b"BINARY"}:
        raise _error(record, f"its {part} is in Avro's JSON encoding", "Set apicurio.registry.avro.encoding to BINARY")
    for name, kind in (("globalId", "global"), ("contentId", "content")):
        value = found.get(name)
        if value is not None and len(value) in {4, 8}:
            return Frame(RegistrySchema(kind, int.from_bytes(value)), 0)
    raise _error(
        record,
        f"the headers that name the schema of its {part} ({', '.join(sorted(prefix + name for name in found))}) "
        "have neither a globalId nor a contentId",
        "Set apicurio.registry.use-id to globalId or contentId in the converter that writes it",
    )


def _refuse(record: Record, part: Part, data: bytes) -> NoReturn:
    """Say what the bytes look like."""
    start = data.lstrip(_SPACE)[:1]
    if start in {b"{", b"["}:
        raise _error(record, f"its {part} is JSON, not Avro", "Set stream.format to debezium-json")
    if data[:1] == b"\1":
        raise _error(
            record,
            f"its {part} begins with the byte 1: a schema named by its GUID",
            "Set the converter's schema id serializer to Confluent's prefix with 4 bytes (its default)",
        )
    what = "is empty" if not data else f"begins with {data[:9].hex(' ')}, {len(data)} bytes in all"
    raise _error(
        record,
        f"its {part} {what}: neither Confluent's framing (0, then a schema's id in 4 bytes) nor Apicurio's",
        f"Set {part}.converter of whoever writes the topic to an Avro converter with a registry",
    )


def _error(record: Record, why: str, hint: str) -> ReplicatorError:
    return ReplicatorError(
        f"record {record} can't be read: {why}",
        kind=ErrorKind.DECODE,
        hint=f"Nothing was skipped. {hint}, and make the topic anew, or begin behind what it wrote before",
    )
