"""Values of every built-in type, as PostgreSQL prints them: ordinary ones and those at the edges."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from replicator.rows import RawText, dump, value_oid
from replicator.rows.text import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from replicator.tables import Column

Make = Callable[["Random", "Column"], str]

_HEADER: Final = 4  # what a modifier counts beside the length of a text
_PLAIN: Final = string.ascii_letters + string.digits + " .,-_@"
_ODD: Final = " \t\n\"'\\{},;%$éßñ中文🐘\u0301\u200b\ufeff"
_DOCUMENTS: Final[tuple[Any, ...]] = (
    {},
    [],
    None,
    True,
    {"a": 1, "b": [1.5, None, "x"]},
    {"": {"nested": {"deep": "é🐘"}}},
    [0, -1, 12345678901234567890, 'quote" and \\ backslash'],
)


class CannotGenerateError(Exception):
    """A type that nobody here knows, of a column that must have a value."""


def _integer(bits: int) -> Make:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def make(rng: Random, _: Column) -> str:
        return str(
            rng.choice((0, 1, -1, low, high, rng.randint(low, high), rng.randint(1, 10_000), rng.randint(1, 100)))
        )

    return make


def _unsigned(rng: Random, _: Column) -> str:
    return str(rng.choice((0, 1, 2**32 - 1, rng.randrange(2**32))))


def _numeric(rng: Random, column: Column) -> str:
    typmod = column.base_typmod
    if typmod < _HEADER:
        edges = ("0", "NaN", "0.000", "1.50", "-1", "12345678901234567890.1234567890123456789")
        return rng.choice((*edges, f"{rng.randint(-(10**6), 10**6)}.{rng.randrange(100):02}"))
    precision, scale = (typmod - _HEADER) >> 16, (typmod - _HEADER) & 0x7FF
    if scale >= 0x400 or scale > precision:  # a negative scale, or only digits behind the point: 15 and later
        return "0"
    largest = 10**precision - 1
    number = rng.choice((0, 1, largest, -largest, rng.randint(-largest, largest), rng.randint(0, min(largest, 10**6))))
    digits = f"{abs(number):0{scale + 1}}"
    text = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
    return f"-{text}" if number < 0 else text


def _float(rng: Random, _: Column) -> str:
    return rng.choice(("0", "-0", "1", "0.1", "-2.5", "1e+30", "1e-30", "NaN", "Infinity", "-Infinity", "123456"))


def _characters(rng: Random, length: int) -> str:
    odd = rng.random() < 0.3
    return "".join(rng.choice(_ODD if odd and rng.random() < 0.5 else _PLAIN) for _ in range(length))


def _text(rng: Random, column: Column) -> str:
    longest = column.base_typmod - _HEADER if column.base_typmod >= _HEADER else 60
    return _characters(rng, rng.choice((0, 1, longest, rng.randint(0, longest), rng.randint(0, min(longest, 12)))))


def _padded(rng: Random, column: Column) -> str:
    length = max(1, column.base_typmod - _HEADER)
    return _text(rng, column)[:length].ljust(length)


def _name(rng: Random, _: Column) -> str:
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(1, 30)))


def _bytea(rng: Random, _: Column) -> str:
    return "\\x" + rng.randbytes(rng.choice((0, 1, 16, 300))).hex()


def _uuid(rng: Random, _: Column) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def _day(rng: Random) -> str:
    return f"{rng.randint(1, 9999):04}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _date(rng: Random, _: Column) -> str:
    edges = ("infinity", "-infinity", "0044-03-15 BC", "0001-01-01", "9999-12-31", "2024-02-29")
    return rng.choice(edges) if rng.random() < 0.15 else _day(rng)


def _clock(rng: Random) -> str:
    seconds = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    return seconds + rng.choice(("", "", ".5", ".000001", ".123456"))


def _timestamp(zone: str) -> Make:
    def make(rng: Random, column: Column) -> str:
        if rng.random() < 0.1:
            return rng.choice(("infinity", "-infinity"))
        clock = _clock(rng)
        whole = clock.partition(".")[0]
        return f"{_day(rng)} {clock if column.base_typmod in {-1, 6} else whole}{zone}"

    return make


def _time(zone: str) -> Make:
    def make(rng: Random, column: Column) -> str:
        clock = "24:00:00" if rng.random() < 0.05 else _clock(rng)
        return (clock if column.base_typmod in {-1, 6} else clock.partition(".")[0]) + zone

    return make


def _document(rng: Random, _: Column) -> str:
    return json_text(rng.choice((*_DOCUMENTS, {_characters(rng, 5): rng.randint(0, 99)})))


def _bits(rng: Random, column: Column) -> str:
    longest = column.base_typmod if column.base_typmod > 0 else 20
    fixed = column.type_name.startswith("bit(")  # both kinds are cast to bit varying
    return "".join(rng.choice("01") for _ in range(longest if fixed else rng.randint(0, longest)))


def _choice(*texts: str) -> Make:
    def make(rng: Random, _: Column) -> str:
        return rng.choice(texts)

    return make


_MAKERS: Final[dict[str, Make]] = {
    "boolean": _choice("t", "f"),
    "smallint": _integer(16),
    "integer": _integer(32),
    "bigint": _integer(64),
    "oid": _unsigned,
    "numeric": _numeric,
    "real": _float,
    "double precision": _float,
    "money": _choice("$0.00", "$1.00", "-$2.50", "$92,233,720,368,547,758.07"),
    "text": _text,
    "character varying": _text,
    "bpchar": _padded,
    '"char"': _choice("a", "Z"),
    "name": _name,
    "bytea": _bytea,
    "uuid": _uuid,
    "date": _date,
    "timestamp without time zone": _timestamp(""),
    "timestamp with time zone": _timestamp("+00"),
    "time without time zone": _time(""),
    "time with time zone": _time("+00"),
    "interval": _choice("00:00:00", "1 day", "-1 days", "1 year 2 mons 3 days", "04:05:06.7", "-00:00:01"),
    "json": _document,
    "jsonb": _document,
    "bit varying": _bits,
    "inet": _choice("10.0.0.1", "192.168.0.0/24", "::1", "2001:db8::/32"),
    "cidr": _choice("10.0.0.0/8", "192.168.1.0/24", "2001:db8::/32"),
    "macaddr": _choice("08:00:2b:01:02:03", "00:00:00:00:00:00"),
    "macaddr8": _choice("08:00:2b:01:02:03:04:05"),
    "point": _choice("(0,0)", "(1.5,-2)"),
    "box": _choice("(1,1),(0,0)"),
    "lseg": _choice("[(0,0),(1,1)]"),
    "line": _choice("{1,-1,0}"),
    "path": _choice("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "polygon": _choice("((0,0),(1,1),(1,0))"),
    "circle": _choice("<(0,0),1>"),
    "xml": _choice("<a/>", "<a>é</a>"),
    "tsvector": _choice("", "'a' 'cat'", "'cat':1,3 'dog':2A"),
    "tsquery": _choice("'a' & 'b'", "'cat'"),
    "pg_lsn": _choice("0/0", "16/B374D848"),
    "int4range": _choice("empty", "[1,5)", "(,)", "[3,)"),
    "int8range": _choice("empty", "[1,5)", "(,)"),
    "numrange": _choice("empty", "[1.5,2.5]", "(,10)"),
    "daterange": _choice("empty", "[2024-01-01,2024-02-01)", "[2024-01-01,)", "[2024-01-01,infinity)"),
    "tsrange": _choice("empty", '["2024-01-01 00:00:00","2024-01-02 00:00:00")'),
    "tstzrange": _choice("empty", '["2024-01-01 00:00:00+00",)'),
    "int4multirange": _choice("{}", "{[1,5),[7,9)}"),
    "int8multirange": _choice("{}", "{[1,5)}"),
    "nummultirange": _choice("{}", "{[1.5,2.5]}"),
    "datemultirange": _choice("{}", "{[2024-01-01,2024-02-01)}"),
    "tsmultirange": _choice("{}"),
    "tstzmultirange": _choice("{}"),
}


def _maker(cast_type: str, enums: Mapping[str, tuple[str, ...]]) -> Make | None:
    labels = enums.get(cast_type)
    if labels:
        return _choice(*labels)
    name = cast_type.removeprefix("pg_catalog.")
    extension = name.rpartition(".")[2]
    return _MAKERS.get(name) or {"citext": _text, "hstore": _choice("", '"a"=>"1", "b"=>NULL')}.get(extension)


def can_generate(column: Column, enums: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether values of this column's type can be made up."""
    return _maker(column.cast_type.removesuffix("[]"), enums) is not None


def generate(rng: Random, column: Column, enums: Mapping[str, tuple[str, ...]]) -> bytes:
    """The text of a random value, not NULL, that fits the column's type and modifier.

    Args:
        rng: where chance comes from; the same seed gives the same values.
        column: whose values.
        enums: labels by type, see `Catalog.enums`.

    Raises:
        CannotGenerateError: a type of an extension or of the user's that isn't known.

    """
    make = _maker(column.cast_type.removesuffix("[]"), enums)
    if make is None:
        raise CannotGenerateError(column.name)
    if not column.cast_type.endswith("[]"):
        return make(rng, column).encode()
    elements = [None if rng.random() < 0.2 else RawText(make(rng, column)) for _ in range(rng.choice((0, 1, 3)))]
    return dump(elements, value_oid(column))
