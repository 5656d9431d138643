"""Debezium's settings that shape values: `stream.debezium`, or the connector's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from replicator.codecs.debezium.flattened import Flattening
from replicator.errors import ErrorKind, ReplicatorError
from replicator.tables import TableName

PLACEHOLDER: Final = "__debezium_unavailable_value"


@dataclass(frozen=True)
class Modes:
    """Settings of Debezium 2.7 to 3.6, and of Connect's converters; the defaults are theirs.

    Attributes:
        decimal: decimal.handling.mode.
        time: time.precision.mode.
        interval: interval.handling.mode.
        hstore: hstore.handling.mode.
        binary: binary.handling.mode.
        money_digits: money.fraction.digits.
        placeholder: unavailable.value.placeholder; None where unchanged values are told otherwise.
        unknown_types: include.unknown.datatypes.
        null_is_null: false where the converter writes a column's default in place of NULL
            (value.converter.replace.null.with.default, or in Avro ignore.default.for.nullables: Connect's defaults).
        decimal_format: value.converter.decimal.format: BASE64 or NUMERIC.
        heartbeat_prefix: topic.heartbeat.prefix.
        transaction_topic: topic.transaction.
        exact: records tell besides, in `exact`, which values are unchanged, and the text of those that their form
            doesn't hold (our own capture's).
        flattening: what the transform ExtractNewRecordState was told; None without it.
        unread: columns that no mapping carries: they may lose what they like.

    """

    decimal: str = "precise"
    time: str = "adaptive"
    interval: str = "numeric"
    hstore: str = "json"
    binary: str = "bytes"
    money_digits: int = 2
    placeholder: str | None = PLACEHOLDER
    unknown_types: bool = False
    null_is_null: bool = False
    decimal_format: str = "BASE64"
    heartbeat_prefix: str = "__debezium-heartbeat"
    transaction_topic: str = "transaction"
    exact: bool = False
    flattening: Flattening | None = None
    unread: frozenset[tuple[TableName, str]] = frozenset()

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Modes:
        """Read from settings by Debezium's names; others are passed over.

        Raises:
            ReplicatorError: CONFIG for a value that Debezium doesn't have, or a transform that drops something.

        """
        read = _Settings(settings)
        return cls(
            decimal=read.one_of("decimal.handling.mode", ("precise", "double", "string")),
            time=read.one_of(
                "time.precision.mode",
                ("adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"),
            ),
            interval=read.one_of("interval.handling.mode", ("numeric", "string")),
            hstore=read.one_of("hstore.handling.mode", ("json", "map")),
            binary=read.one_of("binary.handling.mode", ("bytes", "base64", "base64-url-safe", "hex")),
            money_digits=read.number("money.fraction.digits", 2),
            placeholder=settings.get("unavailable.value.placeholder", PLACEHOLDER),
            unknown_types=read.flag("include.unknown.datatypes", default=False),
            null_is_null=not read.flag("value.converter.replace.null.with.default", default=True)
            or read.flag("value.converter.ignore.default.for.nullables", default=False),
            decimal_format=read.one_of("value.converter.decimal.format", ("base64", "numeric")).upper(),
            heartbeat_prefix=settings.get("topic.heartbeat.prefix", cls.heartbeat_prefix),
            transaction_topic=settings.get("topic.transaction", cls.transaction_topic),
            flattening=Flattening.of(settings),
        )


CAPTURED: Final = Modes(
    decimal="string", interval="string", unknown_types=True, null_is_null=True, placeholder=None, exact=True
)
"""As `replicator capture` writes: of Debezium's settings those that lose the least, the defaults where none does."""


class _Settings:
    """Settings by name, read with what is allowed."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of these, whatever its case; the first is the default."""
        value = self._settings.get(name, allowed[0]).strip().lower()
        if value not in allowed:
            raise self._refused(name, f"is one of {', '.join(allowed)}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._settings.get(name, str(default)).strip().lower()
        if value not in {"true", "false"}:
            raise self._refused(name, "is true or false")
        return value == "true"

    def number(self, name: str, default: int) -> int:
        """A number that is not negative."""
        value = self._settings.get(name, str(default)).strip()
        if not (value.isascii() and value.isdigit() and len(value) <= 4):
            raise self._refused(name, "is a number")
        return int(value)

    def _refused(self, name: str, what: str) -> ReplicatorError:
        return ReplicatorError(
            f"stream.debezium: {name} {what}, not {self._settings[name]!r}",
            kind=ErrorKind.CONFIG,
            hint="Give the setting as Debezium's connector has it",
        )
