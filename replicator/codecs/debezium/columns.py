"""How Debezium writes a column of the old database: the schema it would give, from the catalog and its settings.

Where records carry their schema, that one counts; where they don't, this one. Also what our own capture writes.
Debezium: PostgresValueConverter.schemaBuilder, TemporalPrecisionMode, SpecialValueDecimal, and pgjdbc's TypeInfoCache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.codecs.debezium.fields import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replicator.codecs.debezium.modes import Modes
    from replicator.tables import Column

_EXTENSIONS: Final = frozenset(
    {
        *("hstore", "citext", "ltree", "isbn", "geometry", "geography"),
        *("vector", "halfvec", "sparsevec"),
    }
)
"""Types of extensions that Debezium knows, by name, whatever their schema."""
_INTEGERS: Final = {"smallint": "int16", "integer": "int32", "bigint": "int64", "oid": "int64"}
_FLOATS: Final = {"real": "float", "double precision": "double"}
_TEXTS: Final = frozenset(
    {
        *("text", "character varying", "bpchar", '"char"', "citext", "isbn"),
        *("inet", "cidr", "macaddr", "macaddr8"),
        *("tsrange", "tstzrange", "daterange", "int4range", "numrange", "int8range"),
    }
)
_NAMED: Final = {
    "uuid": "io.debezium.data.Uuid",
    "json": "io.debezium.data.Json",
    "jsonb": "io.debezium.data.Json",
    "xml": "io.debezium.data.Xml",
    "tsvector": "io.debezium.data.Tsvector",
    "ltree": "io.debezium.data.Ltree",
}
_VECTORS: Final = {"int2vector": "int16", "oidvector": "int64"}
"""Arrays, to Debezium (which stops at some values of oidvector). Our capture writes them as a type it doesn't know."""
GEOMETRIC: Final = frozenset({"box", "circle", "line", "lseg", "path", "polygon"})
"""Types that Debezium reads through the JDBC driver's objects, which print numbers as Java does."""
FIXED: Final = frozenset({"name", '"char"'})
"""Texts that are never TOASTed."""
_DOMAIN: Final = "domain"
_NO_ARRAYS: Final = frozenset({"money", "name", "interval", "bit varying", "xml", "point", "refcursor"})
"""Elements whose arrays Debezium leaves out of its records."""


@dataclass(frozen=True)
class Shape:
    """What matters of a column's type.

    Attributes:
        kind: the base type's name without schema, for Debezium's extension types; `bit` and `bit varying` told apart.
            Of an array its element's; one of a domain, whose type Debezium doesn't look up there, is `domain`.
        array: it is one.
        typmod: the modifier in force, -1 without.
        labels: of an enum.

    """

    kind: str
    array: bool
    typmod: int
    labels: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[int, int] | None:
        """Precision and scale of numeric, None without. Scale may be negative (15 and later)."""
        if self.typmod < 4:
            return None
        modifier = self.typmod - 4
        return modifier >> 16 & 0xFFFF, (modifier & 0x7FF ^ 1024) - 1024

    @property
    def fraction(self) -> int:
        """Digits of a second."""
        return self.typmod if 0 <= self.typmod <= 6 else 6

    @property
    def element(self) -> Shape:
        """Of an array: that of its elements."""
        return Shape(self.kind, array=False, typmod=self.typmod, labels=self.labels)


def shape_of(column: Column, enums: Mapping[str, tuple[str, ...]] | None = None) -> Shape:
    """The shape of a column's type, domains looked through.

    Args:
        column: the catalog's.
        enums: `Catalog.enums`.

    """
    array = column.cast_type.endswith("[]")
    kind = column.cast_type.removesuffix("[]")
    if kind == "bit varying" and column.type_name.startswith("bit") and not column.type_name.startswith("bit varying"):
        kind = "bit"
    if column.domain_elements:
        kind = _DOMAIN
    labels = (enums or {}).get(kind, ())
    bare = kind.rpartition(".")[2]
    if not labels and bare in _EXTENSIONS:
        kind = bare
    return Shape(kind, array, column.base_typmod, labels)


def field_of(column: Column, modes: Modes, enums: Mapping[str, tuple[str, ...]] | None = None) -> Field | None:
    """The schema of the column's values in Debezium's records; None where it leaves the column out.

    Our own capture leaves none out: it writes such a column as one of a type that Debezium doesn't know.
    """
    shape = shape_of(column, enums)
    element = _field(shape.element, modes)
    if shape.array and element is not None:
        element = None if shape.kind in _NO_ARRAYS else Field("array", items=_with(element, optional=True))
    if element is None:
        if not modes.exact:
            return None
        element = Field("bytes")
    has_default = column.has_default and not column.generated and not column.identity
    return _with(element, optional=column.nullable, has_default=has_default)


def _with(field: Field, *, optional: bool, has_default: bool = False) -> Field:
    return Field(
        field.type,
        field.name,
        field.parameters,
        field.version,
        optional,
        field.items,
        field.keys,
        field.values,
        field.fields,
        has_default,
    )


def _field(shape: Shape, modes: Modes) -> Field | None:
    """Of a value that is no array."""
    kind = shape.kind
    if shape.labels:
        return Field("string", "io.debezium.data.Enum", {"allowed": ",".join(shape.labels)}, 1)
    if kind in _INTEGERS:
        return Field(_INTEGERS[kind])
    if kind in _FLOATS:
        return Field(_FLOATS[kind])
    if kind in _TEXTS:
        return Field("string")
    if kind in _NAMED:
        return Field("string", _NAMED[kind], version=1)
    if kind in _VECTORS and not modes.exact:
        return Field("array", items=Field(_VECTORS[kind], optional=True))
    if kind in _FAMILIES:
        return _FAMILIES[kind](shape, modes)
    if kind == "name" and modes.unknown_types:
        return Field("string")
    return _binary(modes) if modes.unknown_types else None


def _binary(modes: Modes) -> Field:
    return Field("bytes" if modes.binary == "bytes" else "string")


def _numeric(shape: Shape, modes: Modes) -> Field:
    if modes.decimal != "precise":
        return Field("double" if modes.decimal == "double" else "string")
    if shape.numeric is None:
        fields = (("scale", Field("int32")), ("value", Field("bytes")))
        return Field("struct", "io.debezium.data.VariableScaleDecimal", version=1, fields=fields)
    precision, scale = shape.numeric
    # Debezium takes the scale's 11 bits in the type modifier without their sign: numeric(3, -2) has 2046 (tried).
    return _decimal(scale % 2048, {"connect.decimal.precision": str(precision)})


def _decimal(scale: int, parameters: Mapping[str, str]) -> Field:
    return Field("bytes", "org.apache.kafka.connect.data.Decimal", {"scale": str(scale), **parameters}, 1)


def _money(_: Shape, modes: Modes) -> Field:
    if modes.decimal != "precise":
        return Field("double" if modes.decimal == "double" else "string")
    return _decimal(modes.money_digits, {})


def _date(_: Shape, modes: Modes) -> Field:
    if modes.time == "isostring":
        return Field("string", "io.debezium.time.IsoDate", version=1)
    name = "org.apache.kafka.connect.data.Date" if modes.time == "connect" else "io.debezium.time.Date"
    return Field("int32", name, version=1)


def _time(shape: Shape, modes: Modes) -> Field:
    mode = modes.time
    if mode == "isostring":
        return Field("string", "io.debezium.time.IsoTime", version=1)
    if mode == "connect":
        return Field("int32", "org.apache.kafka.connect.data.Time", version=1)
    if mode == "nanoseconds":
        return Field("int64", "io.debezium.time.NanoTime", version=1)
    if mode == "adaptive" and shape.fraction <= 3:
        return Field("int32", "io.debezium.time.Time", version=1)
    return Field("int64", "io.debezium.time.MicroTime", version=1)


def _timestamp(shape: Shape, modes: Modes) -> Field:
    mode = modes.time
    if mode == "isostring":
        return Field("string", "io.debezium.time.IsoTimestamp", version=1)
    if mode == "connect":
        return Field("int64", "org.apache.kafka.connect.data.Timestamp", version=1)
    if mode == "nanoseconds":
        return Field("int64", "io.debezium.time.NanoTimestamp", version=1)
    if mode.startswith("adaptive") and shape.fraction <= 3:
        return Field("int64", "io.debezium.time.Timestamp", version=1)
    return Field("int64", "io.debezium.time.MicroTimestamp", version=1)


def _interval(_: Shape, modes: Modes) -> Field:
    if modes.interval == "string":
        return Field("string", "io.debezium.time.Interval", version=1)
    return Field("int64", "io.debezium.time.MicroDuration", version=1)


def _bits(shape: Shape, _: Modes) -> Field:
    if shape.typmod == 1:
        return Field("boolean")
    # Without a length pgjdbc says the largest integer.
    length = shape.typmod if shape.typmod > 0 else 2_147_483_647
    return Field("bytes", "io.debezium.data.Bits", {"length": str(length)}, 1)


def _hstore(_: Shape, modes: Modes) -> Field:
    if modes.hstore == "json":
        return Field("string", "io.debezium.data.Json", version=1)
    return Field("map", keys=Field("string"), values=Field("string", optional=True))


def _point(_: Shape, __: Modes) -> Field:
    fields = (("x", Field("double")), ("y", Field("double")))
    return Field("struct", "io.debezium.data.geometry.Point", version=1, fields=fields + _GEOMETRY_OPTIONAL)


_SRID: Final = (("srid", Field("int32", optional=True)),)
_GEOMETRY_OPTIONAL: Final = (("wkb", Field("bytes", optional=True)), *_SRID)


def _geometry(shape: Shape, _: Modes) -> Field:
    name = f"io.debezium.data.geometry.{shape.kind.capitalize()}"
    return Field("struct", name, version=1, fields=(("wkb", Field("bytes")), *_SRID))


def _sparse_vector(_: Shape, __: Modes) -> Field:
    pairs = Field("map", keys=Field("int16"), values=Field("double"))
    fields = (("dimensions", Field("int16")), ("vector", pairs))
    return Field("struct", "io.debezium.data.SparseDoubleVector", version=1, fields=fields)


_FAMILIES: Final = {
    "boolean": lambda _shape, _modes: Field("boolean"),
    "bytea": lambda _shape, modes: _binary(modes),
    "numeric": _numeric,
    "money": _money,
    "date": _date,
    "time without time zone": _time,
    "time with time zone": lambda _shape, _modes: Field("string", "io.debezium.time.ZonedTime", version=1),
    "timestamp without time zone": _timestamp,
    "timestamp with time zone": lambda _shape, _modes: Field("string", "io.debezium.time.ZonedTimestamp", version=1),
    "interval": _interval,
    "bit": _bits,
    "bit varying": _bits,
    "hstore": _hstore,
    "point": _point,
    "geometry": _geometry,
    "geography": _geometry,
    "vector": lambda _s, _m: Field("array", "io.debezium.data.DoubleVector", version=1, items=Field("double")),
    "halfvec": lambda _s, _m: Field("array", "io.debezium.data.FloatVector", version=1, items=Field("float")),
    "sparsevec": _sparse_vector,
}
