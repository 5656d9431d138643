"""The text of floats, against what a server prints."""

import random
import struct

import pytest

from replicator.codecs.debezium.floats import float4_text, float8_text
from replicator.demo.servers import PostgresServer
from tests.fix_postgres import MakeDatabase


def _float4(bits: int) -> float:
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def _float8(bits: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value


def _neighbours(values: list[int]) -> list[int]:
    return [value + step for value in values for step in (-1, 0, 1)]


def test_float4(server18: PostgresServer, make_database: MakeDatabase) -> None:
    """Every power of two and of ten with its neighbours, the smallest, large whole numbers, and any: as printed."""
    some = random.Random(4)
    bits = _neighbours([exponent << 23 for exponent in range(1, 255)])
    bits += [*range(1, 2000), *(some.randrange(0x7F800000) for _ in range(3_000))]
    bits += [some.randrange(0x4A000000, 0x50000000) for _ in range(3_000)]
    values = [_float4(one) for one in bits] + [float(f"1e{power}") for power in range(-44, 39)]
    values += [-one for one in values[:3000]] + [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 0.1]
    with make_database(server18).connect() as connection:
        rows = connection.execute("SELECT x::float4::text FROM unnest(%s::float8[]) x", (values,)).fetchall()
    assert [row[0].encode() for row in rows] == [float4_text(one) for one in values]


def test_float8(server18: PostgresServer, make_database: MakeDatabase) -> None:
    """Likewise with 64 bits."""
    some = random.Random(8)
    bits = _neighbours([exponent << 52 for exponent in range(1, 2047)])
    bits += [*range(1, 2000), *(some.randrange(0x7FF0000000000000) for _ in range(3_000))]
    bits += [some.randrange(0x4330000000000000, 0x4500000000000000) for _ in range(3_000)]
    values = [_float8(one) for one in bits] + [float(f"1e{power}") for power in range(-323, 309)]
    values += [5e15 + step for step in range(100)] + [some.randrange(10**15, 10**23) * 1.0 for _ in range(1_000)]
    values += [round(some.uniform(-1e6, 1e6), some.randrange(8)) for _ in range(1_000)]
    values += [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 123456789012345.0, 1234567890123456.0]
    with make_database(server18).connect() as connection:
        rows = connection.execute("SELECT x::text FROM unnest(%s::float8[]) x", (values,)).fetchall()
    assert [row[0].encode() for row in rows] == [float8_text(one) for one in values]


@pytest.mark.parametrize(
    "value, text",
    [
        (170056608.0, b"1.7005661e+08"),
        (1e6, b"1e+06"),
        (123456.0, b"123456"),
        (1e-5, b"1e-05"),
        (0.0001, b"0.0001"),
        (1e39, b"Infinity"),
    ],
)
def test_float4_forms(value: float, text: bytes) -> None:
    """The forms of a float4, for those without a server."""
    assert text == float4_text(value)
