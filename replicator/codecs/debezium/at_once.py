"""A column's values at once, where that says the same in less time than one after the other.

What is not as most values are goes through the column's converter, value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from replicator.codecs.debezium.conversion import Converter, PlainNumeric, PlainText
from replicator.codecs.debezium.moments import timestamptz_of_iso
from replicator.codecs.debezium.quantities import integer_text

if TYPE_CHECKING:
    from replicator.events import Value

ColumnConverter = Callable[[Sequence[Any]], "list[Value]"]
"""Values of one column, NULLs among them, to PostgreSQL's texts. Raises what the converter does."""

_encode: Final = msgspec.json.Encoder().encode
_SHAPE: Final = bytes.maketrans(b"123456789", b"000000000")
_YEARS: Final = frozenset(b"123456789")  # by their first digit
_PAIRS: Final = {
    5: frozenset((48 + one // 10, 48 + one % 10) for one in range(1, 13)),
    8: frozenset((48 + one // 10, 48 + one % 10) for one in range(1, 32)),
    11: frozenset((48 + one // 10, 48 + one % 10) for one in range(24)),
}
"""Where month, day and hour stand, and what may stand there."""
_SIXTY: Final = frozenset(b"012345")  # by their first digit


def column_converter(convert: Converter) -> ColumnConverter:
    """The converter of a whole column."""
    if convert is integer_text:
        return _integers
    if convert is timestamptz_of_iso:
        return _moments
    if isinstance(convert, PlainText):
        return lambda column: _texts(convert, column)
    if isinstance(convert, PlainNumeric):
        return lambda column: _numerics(convert, column)
    return lambda column: each(convert, column)


def each(convert: Converter, column: Iterable[Any]) -> list[Value]:
    """Value by value."""
    return [None if value is None else convert(value) for value in column]


def _integers(column: Sequence[Any]) -> list[Value]:
    if None in column:
        return each(integer_text, column)
    return list(_encode(column)[1:-1].split(b","))


def _texts(convert: PlainText, column: Sequence[Any]) -> list[Value]:
    if convert.placeholder in column or None in column:
        return each(convert, column)
    return [value.encode() for value in column]


def _numerics(convert: PlainNumeric, column: Sequence[Any]) -> list[Value]:
    if convert.whole or None in column:
        return each(convert, column)
    together = "\n".join(column)
    if "_" in together or "N" in together:  # NAN, an infinity, or what is unchanged
        return each(convert, column)
    return [value.encode() for value in column]


def _moments(column: Sequence[Any]) -> list[Value]:
    """Of timestamptz, which have as many digits as their column, and four of the year; see `timestamptz_of_iso`."""
    if None in column:
        return each(timestamptz_of_iso, column)
    count, step = len(column), len(column[0]) + 1
    together = "\n".join([*column, ""]).encode()
    row = b"0000-00-00T00:00:00" + (b"." + b"0" * (step - 22) if step > 22 else b"") + b"Z\n"
    plain = (
        step <= 28
        and together.translate(_SHAPE) == row * count
        and _YEARS.issuperset(together[0::step])
        and all(found.issuperset(_pairs(together, at, step)) for at, found in _PAIRS.items())
        and _SIXTY.issuperset(together[14::step])
        and _SIXTY.issuperset(together[17::step])
    )
    if not plain:
        return each(timestamptz_of_iso, column)
    made: list[Value] = list(together.replace(b"T", b" ").replace(b"Z\n", b"+00\n").split(b"\n")[:-1])
    if step > 22:
        zeros = together[step - 3 :: step]  # the fraction's last digits: PostgreSQL doesn't print zeros there
        at = zeros.find(b"0")
        while at >= 0:
            made[at] = timestamptz_of_iso(column[at])
            at = zeros.find(b"0", at + 1)
    return made


def _pairs(together: bytes, at: int, step: int) -> Iterable[tuple[int, int]]:
    """Two bytes of each row."""
    return zip(together[at::step], together[at + 1 :: step], strict=True)
