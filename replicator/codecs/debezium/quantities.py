"""Numbers, booleans and bits in Debezium's records."""

from __future__ import annotations

from decimal import Decimal
from typing import NoReturn

from replicator.codecs.debezium import printing
from replicator.codecs.debezium.binaries import bytes_of
from replicator.codecs.debezium.conversion import Context, Converter, without_fraction
from replicator.codecs.debezium.fields import MalformedError
from replicator.codecs.debezium.floats import float4_text, float8_text
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Value


def integer(_: Context) -> Converter:
    """Any integer."""
    return integer_text


def integer_text(value: int) -> Value:
    """An integer."""
    return b"%d" % value


def boolean(context: Context) -> Converter:
    """Boolean, and bit(1)."""
    yes, no = (b"1", b"0") if context.kind.startswith("bit") else (b"t", b"f")
    return lambda value: yes if value else no


def float_of(context: Context) -> Converter:
    """Real and double precision; NaN and the infinities are texts in JSON."""
    if context.kind in {"numeric", "money"}:
        context.refuse("its decimals come as binary floats", "decimal.handling.mode=string")
    write = float4_text if context.kind == "real" or context.field.type == "float" else float8_text
    return lambda value: write(float(value))


def decimal(context: Context) -> Converter:
    """Connect's Decimal: the unscaled number, big-endian, or with decimal.format=NUMERIC the number itself."""
    try:
        scale = int(context.field.parameters["scale"])
    except (KeyError, ValueError):
        raise ReplicatorError(
            f"the schema of column {context.column} has no scale", kind=ErrorKind.DECODE, column=context.column
        ) from None
    if context.kind == "money":
        if scale < 2:
            context.refuse("money is rounded", "money.fraction.digits=2")
        return lambda value: printing.money_text(cents_of(_number(value, scale)))

    whole = is_whole(context)

    def convert(value: bytes | str | Decimal) -> Value:
        if isinstance(value, Decimal):
            text = f"{value:f}".encode()
        else:
            text = printing.numeric_text(int.from_bytes(bytes_of(value), signed=True), scale)
        return without_fraction(text) if whole else text

    return convert


def is_whole(context: Context) -> bool:
    """Whether a column's scale is negative, which Debezium takes for one of some 2,000 digits."""
    return context.shape is not None and context.shape.numeric is not None and context.shape.numeric[1] <= 0


def _number(value: bytes | str | Decimal, scale: int) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(int.from_bytes(bytes_of(value), signed=True)).scaleb(-scale)


def cents_of(value: Decimal) -> int:
    """Of an amount of money.

    Raises:
        MalformedError: it is none, or has fractions of a cent.

    """
    cents = value * 100
    if not cents.is_finite() or cents != cents.to_integral_value():
        raise MalformedError("it is no amount of money")
    return int(cents)


def variable_scale(context: Context) -> NoReturn:
    """Numeric without precision, as decimal.handling.mode=precise writes it."""
    context.refuse(
        "trailing zeros of its numbers are cut off (and NaN stops the connector)", "decimal.handling.mode=string"
    )


def bits(context: Context) -> Converter:
    """Little-endian; what is not set at its end is cut off."""
    if context.kind == "bit varying":
        context.refuse("zeros at the beginning of bit varying are cut off", None)
    try:
        length = int(context.field.parameters["length"])
    except (KeyError, ValueError):
        length = 0
    if context.shape is not None and context.shape.typmod > 0:
        length = context.shape.typmod

    def convert(value: bytes | str) -> Value:
        text = f"{int.from_bytes(bytes_of(value), 'little'):0{length}b}"
        if len(text) != length:
            raise MalformedError(f"it is longer than bit({length})")
        return text.encode()

    return convert
