"""What converters of values are, and what they are built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from replicator.codecs.debezium.columns import Shape
from replicator.codecs.debezium.fields import Field, MalformedError
from replicator.codecs.debezium.modes import Modes
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Value

Converter = Callable[[Any], Value]
"""A decoded value, never null, to PostgreSQL's text: what JSON or Avro has for the field's type; a field of type
'bytes' as bytes, or as JSON's base64 text.

Raises one of `CONVERSION_ERRORS`; whoever decodes the record adds place and column.
"""

CONVERSION_ERRORS: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""MalformedError, which says what is wrong, or what Python raises for a value of another type."""


@dataclass(frozen=True)
class Context:
    """What a converter is built from.

    Attributes:
        field: how the value is written.
        shape: what the column is; None where the catalog has none of that name.
        modes: Debezium's settings.
        column: its name, for messages; '' where there is none.

    """

    field: Field
    shape: Shape | None
    modes: Modes
    column: str

    @property
    def kind(self) -> str:
        """The column's; '' where there is none."""
        return "" if self.shape is None else self.shape.kind

    def refuse(self, what: str, setting: str | None) -> NoReturn:
        """Say that this way of writing loses something."""
        hint = f"Set {setting} in Debezium's connector" if setting else "No setting of Debezium keeps it"
        raise ReplicatorError(
            f"Debezium's records don't keep column {self.column or '?'}: {what}",
            kind=ErrorKind.DECODE,
            column=self.column or None,
            hint=f"{hint}, or leave the column out (column.exclude.list), or read by slot or `replicator capture`; "
            "nothing of it was applied",
        )


def placeholder_only(value: str, placeholder: str | None) -> Value:
    """A text where something else belongs."""
    if value != placeholder:
        raise MalformedError("it is a text")
    return UNCHANGED


@dataclass(frozen=True, slots=True)
class PlainText:
    """A converter of texts that are PostgreSQL's own.

    Attributes:
        placeholder: what an unchanged value comes as; None where none can.

    """

    placeholder: str | None

    def __call__(self, value: str) -> Value:
        """The text."""
        return UNCHANGED if value == self.placeholder else value.encode()


@dataclass(frozen=True, slots=True)
class PlainNumeric:
    """A converter of numerics that come as texts, but for NaN and the infinities.

    Attributes:
        placeholder: as of `PlainText`.
        whole: they have no fraction, and come with one.

    """

    placeholder: str | None
    whole: bool

    def __call__(self, value: str) -> Value:
        """The text."""
        if value == self.placeholder:
            return UNCHANGED
        text = _SPECIAL.get(value) or value.encode()
        return without_fraction(text) if self.whole else text


_SPECIAL: Final = {"NAN": b"NaN", "POSITIVE_INFINITY": b"Infinity", "NEGATIVE_INFINITY": b"-Infinity"}


def without_fraction(text: bytes) -> bytes:
    """A whole number without the zeros behind its point.

    Raises:
        MalformedError: it is none.

    """
    number, _, fraction = text.partition(b".")
    if fraction.strip(b"0"):
        raise MalformedError("it has a fraction, which its column can't have")
    return number
