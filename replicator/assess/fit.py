"""Whether every value of one column can be stored in another without losing anything.

A value travels as text and is assigned to the column, and assignment loses silently: numeric(10,2) rounds 1.239,
timestamp(0) rounds .7 of a second, varchar(3) drops trailing spaces. So a smaller type is refused, not tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.assess.findings import Level

if TYPE_CHECKING:
    from replicator.tables import Column

_INTEGERS: Final = {"smallint": 5, "integer": 10, "bigint": 19}  # decimal digits
_FLOATS: Final = {"real": 1, "double precision": 2}
_TEXTS: Final = {"text", "character varying", "bpchar", "name", '"char"'}
_BITS: Final = {"bit varying"}  # the cast type of bit, too
_PRECISE: Final = {
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "time with time zone",
}
_PRECISION_MAX: Final = 6
_VARHDRSZ: Final = 4
# Pairs of different types whose every value is read by the other type as the same value.
_WIDER: Final = {
    ("real", "double precision"),
    ("cidr", "inet"),
    ("date", "timestamp without time zone"),
    ("jsonb", "json"),
    ("real", "numeric"),
    ("double precision", "numeric"),
    ("smallint", "real"),
    ("smallint", "double precision"),
    ("integer", "double precision"),
}
_KNOWN: Final = {
    *_INTEGERS,
    *_FLOATS,
    *_TEXTS,
    *_BITS,
    *_PRECISE,
    *("numeric", "boolean", "date", "interval", "uuid", "json", "jsonb", "xml", "bytea", "inet", "cidr", "macaddr"),
    *("macaddr8", "money", "oid", "tsvector", "tsquery", "point", "line", "lseg", "box", "path", "polygon", "circle"),
    *("pg_lsn", "int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"),
}

Enums = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Misfit:
    """Why a column doesn't take every value of another; `level` is STOP where a value would be lost or refused."""

    level: Level
    reason: str


def misfit(source: Column, target: Column, source_enums: Enums, target_enums: Enums) -> Misfit | None:
    """What stands against carrying a source column into a target column as it is; None: every value fits."""
    from_type, from_array = _element(source.cast_type)
    to_type, to_array = _element(target.cast_type)
    from_mod, to_mod = _modifier(source), _modifier(target)
    if to_type in {"text", "character varying"} and not to_array and to_mod < 0:
        return None  # the text of any type, as it is printed
    if from_array != to_array:
        return _stop(source, target, "one is an array")
    if from_type in source_enums or to_type in target_enums:
        labels, allowed = source_enums.get(from_type), target_enums.get(to_type)
        if labels is None or allowed is None:
            return _stop(source, target, "only one is an enum")
        missing = [label for label in labels if label not in allowed]
        return _stop(source, target, f"it lacks the labels {', '.join(missing)}") if missing else None
    if target.type_name.startswith("bit(") and (from_mod != to_mod or not source.type_name.startswith("bit(")):
        return _stop(source, target, "another length")
    smaller = _smaller(from_type, to_type, from_mod, to_mod)
    if smaller is not None:
        return _stop(source, target, smaller) if smaller else None
    if _local(from_type) == _local(to_type):
        return None if to_mod in {-1, from_mod} else _warn(source, target, "another modifier")
    if (from_type, to_type) in _WIDER:
        return None
    if {from_type, to_type} <= _KNOWN:
        return _stop(source, target, "another kind of type")
    return _warn(source, target, "nobody knows whether every value fits")


def _smaller(source: str, target: str, from_mod: int, to_mod: int) -> str | None:
    """Why the target is smaller; '' where it isn't; None where this can't be said from size."""
    if source in _INTEGERS:
        if target in _INTEGERS:
            return "" if _INTEGERS[source] <= _INTEGERS[target] else "smaller range"
        if target == "numeric":
            return _numeric((_INTEGERS[source], 0), to_mod)
    if source == target == "numeric":
        return _numeric(None if from_mod < 0 else _precision_and_scale(from_mod), to_mod)
    if source in _FLOATS and target == "numeric":
        return "" if to_mod < 0 else "smaller scale or precision"
    if source in _TEXTS and target in _TEXTS:
        return _text(source, target, from_mod, to_mod)
    if source in _BITS and target in _BITS:
        return "" if to_mod < 0 or 0 <= from_mod <= to_mod else "shorter"
    if source in _PRECISE and (source == target):
        fits = _digits(from_mod) <= _digits(to_mod)
        return "" if fits else "fewer digits of a second: assignment rounds"
    if source == target == "interval":
        return _interval(from_mod, to_mod)
    return None


def _numeric(source: tuple[int, int] | None, to_mod: int) -> str:
    """`source` is (precision, scale), None without limits."""
    if to_mod < 0:
        return ""
    if source is None:
        return "smaller scale and precision: assignment rounds"
    precision, scale = _precision_and_scale(to_mod)
    if scale < source[1]:
        return "smaller scale: assignment rounds"
    return "" if precision - scale >= source[0] - source[1] else "smaller precision"


def _precision_and_scale(typmod: int) -> tuple[int, int]:
    """https://git.postgresql.org/cgit/postgresql.git/tree/src/backend/utils/adt/numeric.c, make_numeric_typmod."""
    value = typmod - _VARHDRSZ
    return value >> 16 & 0xFFFF, ((value & 0x7FF) ^ 1024) - 1024


def _text(source: str, target: str, from_mod: int, to_mod: int) -> str:
    if target in {"name", '"char"'} and source != target:
        return "shorter: the cast truncates"
    if target == "bpchar" and source != "bpchar":
        return "padded with blanks"
    limit = from_mod if source != '"char"' else 1 + _VARHDRSZ
    if source == "name":
        limit = 63 + _VARHDRSZ
    return "" if to_mod < 0 or 0 <= limit <= to_mod else "shorter"


def _interval(from_mod: int, to_mod: int) -> str:
    """The upper half is a mask of fields, the lower one the digits of a second."""
    if to_mod < 0:
        return ""
    mask, digits = to_mod >> 16 & 0x7FFF, to_mod & 0xFFFF
    from_mask, from_digits = (0x7FFF, 0xFFFF) if from_mod < 0 else (from_mod >> 16 & 0x7FFF, from_mod & 0xFFFF)
    if mask not in {0x7FFF, from_mask}:
        return "fewer fields"
    return "" if min(from_digits, _PRECISION_MAX) <= min(digits, _PRECISION_MAX) else "fewer digits of a second"


def _digits(typmod: int) -> int:
    return _PRECISION_MAX if typmod < 0 else typmod


def _modifier(column: Column) -> int:
    return column.base_typmod if column.base_typmod >= 0 else column.typmod


def _element(cast_type: str) -> tuple[str, bool]:
    return cast_type.removesuffix("[]"), cast_type.endswith("[]")


def _local(name: str) -> str:
    """The name without its schema: an extension may live in another one."""
    return name.rsplit(".", 1)[-1]


def _stop(source: Column, target: Column, why: str) -> Misfit:
    return Misfit(Level.STOP, f"{source.type_name} does not fit into {target.type_name}: {why}")


def _warn(source: Column, target: Column, why: str) -> Misfit:
    return Misfit(Level.WARN, f"{source.type_name} goes into {target.type_name}: {why}")
