"""Points, geometries and vectors in Debezium's records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replicator.codecs.debezium.binaries import bytes_of
from replicator.codecs.debezium.conversion import Context, Converter, placeholder_only
from replicator.codecs.debezium.floats import float4_text, float8_text
from replicator.events import Value


def point(_: Context) -> Converter:
    """Point."""

    def convert(value: Mapping[str, Any]) -> Value:
        return b"(%b,%b)" % (float8_text(float(value["x"])), float8_text(float(value["y"])))

    return convert


def geometry(_: Context) -> Converter:
    """PostGIS prints EWKB in hex, which Debezium's `wkb` is."""
    return lambda value: bytes_of(value["wkb"]).hex().upper().encode()


def vector(context: Context) -> Converter:
    """Vector and halfvec of pgvector, which print as real does."""
    placeholder = context.modes.placeholder

    def convert(value: list[Any] | str) -> Value:
        if isinstance(value, str):
            return placeholder_only(value, placeholder)
        return b"[" + b",".join(float4_text(float(one)) for one in value) + b"]"

    return convert


def sparse_vector(_: Context) -> Converter:
    """Sparsevec; its pairs are a map, which JSON has as pairs, Avro as records."""

    def convert(value: Mapping[str, Any]) -> Value:
        pairs = value["vector"]
        if isinstance(pairs, Mapping):
            pairs = pairs.items()
        numbered = sorted(
            (int(one["key"]), float(one["value"])) if isinstance(one, Mapping) else (int(one[0]), float(one[1]))
            for one in pairs
        )
        text = b",".join(b"%d:%b" % (at, float4_text(number)) for at, number in numbered)
        return b"{%b}/%d" % (text, value["dimensions"])

    return convert
