"""float4 and float8 to the text that PostgreSQL 12 and later print, whatever of them is written by others.

PostgreSQL prints the shortest number that lies strictly between the two that would be halfway to the neighbours, and of
those the closest; in plain digits from 1e-04 up to six (float4) or fifteen digits before the point. Its sources:
src/common/f2s.c, d2s.c (Ryu, with the ends of the interval left out). Python's `repr` takes the ends in, and knows no
float4.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Final

_float4 = struct.Struct("<f")
_EXACT4: Final = float(1 << 21)
_EXACT8: Final = float(1 << 52)
"""From here on a short number can lie halfway between two floats: below, it has more digits than are ever printed."""
_NORMAL4: Final = 1.1754944e-38


def float4_text(value: float) -> bytes:
    """A float4 as PostgreSQL prints it.

    Args:
        value: any double; rounded to the nearest float4, to infinity beyond them.

    """
    try:
        data = _float4.pack(value)
    except OverflowError:
        return b"Infinity" if value > 0 else b"-Infinity"
    value = _float4.unpack(data)[0]
    if not math.isfinite(value):
        return _special(value)
    short = float(f"{value:.6g}")
    if short != value:
        if not _NORMAL4 < abs(value) < _EXACT4 or not int.from_bytes(data, "little") & 0x7FFFFF:
            return _shortest(value, 24, -149, 6)
        for digits in (6, 7, 8, 9):
            short = float(f"{value:.{digits}g}")
            if _float4.pack(short) == data:
                break
    return _printed(short, 6)


def float8_text(value: float) -> bytes:
    """A float8 as PostgreSQL prints it."""
    if not math.isfinite(value):
        return _special(value)
    return _printed(value, 15) if abs(value) < _EXACT8 else _shortest(value, 53, -1074, 15)


def _special(value: float) -> bytes:
    return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"


def _printed(short: float, digits_max: int) -> bytes:
    """A number whose `repr` has the right digits, in the right form."""
    text = repr(short)
    if "e" not in text:
        text = text.removesuffix(".0")
        if abs(short) >= 10.0**digits_max:
            sign, text = ("-", text[1:]) if text[0] == "-" else ("", text)
            whole, _, rest = text.partition(".")
            text = sign + _form(int((whole + rest).rstrip("0")), len(whole) - 1, digits_max)
    return text.encode()


def _shortest(value: float, precision: int, exponent_min: int, digits_max: int) -> bytes:
    """As defined above, by exact arithmetic."""
    mantissa, power = math.frexp(abs(value))
    exponent = max(power - precision, exponent_min)
    unit = Fraction(2) ** exponent
    exact = Fraction(abs(value))
    below = unit / 4 if mantissa == 0.5 and exponent > exponent_min else unit / 2  # the next lower one is nearer there
    low, high = exact - below, exact + unit / 2
    scale = math.floor(math.log10(abs(value))) + 1
    for shift in range(scale, scale - 19, -1):
        step = Fraction(10) ** shift
        whole = exact // step
        found = [number for number in (whole, whole + 1) if low < number * step < high]
        if found:
            number = min(found, key=lambda one: (abs(one * step - exact), one & 1))
            text = str(number)
            return (("-" if value < 0 else "") + _form(number, shift + len(text) - 1, digits_max)).encode()
    raise AssertionError("a float has no decimal of 19 digits")


def _form(digits: int, exponent: int, digits_max: int) -> str:
    """`digits` with the point after the first one, times ten to the power of `exponent`."""
    text = str(digits)
    if -4 <= exponent < digits_max:
        if exponent < 0:
            return "0." + "0" * (-exponent - 1) + text
        text = text.ljust(exponent + 1, "0")
        return text[: exponent + 1] + (f".{text[exponent + 1 :]}" if len(text) > exponent + 1 else "")
    mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
    return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"
