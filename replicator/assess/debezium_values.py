"""Which values of which columns Debezium's modes lose: by the types that the mapped tables really have. Pure.

PostgresValueConverter of Debezium 3.6 is what this follows; what an older version doesn't know yet it leaves out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Mapping as Mapping_
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replicator.assess.debezium_rules import LOSS, VALUES
from replicator.assess.feed import AssessedFeed
from replicator.assess.findings import Finding, Level, column_list

if TYPE_CHECKING:
    from replicator.assess.debezium_settings import Settings
    from replicator.mapping import Mapping, Side
    from replicator.tables import Column, TableName

TIME_MODES: Final = frozenset(
    {"adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"}
)
_TIMES: Final = {"time without time zone", "timestamp without time zone"}
_KNOWN: Final = {
    *("smallint", "integer", "bigint", "numeric", "real", "double precision", "money", "boolean", "oid", "uuid"),
    *("text", "character varying", "bpchar", '"char"', "bytea", "bit varying", "json", "jsonb", "xml"),
    *("date", "timestamp with time zone", "time with time zone", "interval", *_TIMES),
    *("inet", "cidr", "macaddr", "macaddr8", "point", "citext", "hstore", "ltree", "geometry", "geography", "isbn"),
    *("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"),
}
_KNOWN_LATER: Final = {"tsvector", "vector", "halfvec", "sparsevec"}
_LATER: Final = (3, 1)
_NEVER_IN_ARRAYS: Final = {"money", "name", "interval", "bit varying", "xml", "point", "refcursor"}
_VECTORS: Final = {"int2vector", "oidvector"}
_DOMAIN: Final = "domain"
_MILLISECONDS: Final = 3
_CENTS: Final = 2


@dataclass(frozen=True)
class _Lost:
    """What a setting does to a column; without `remedy` no setting keeps it. `loud`: Debezium would say it itself."""

    setting: str
    what: str
    remedy: str = ""
    loud: bool = False


def assess_values(
    feed: AssessedFeed, settings: Settings, *, avro: bool, version: str | None, money_digits: int | None
) -> Iterator[Finding]:
    """One finding for each way in which values are lost, with all columns that it concerns.

    Args:
        feed: with the mapped tables.
        settings: Debezium's, those that shape values at least.
        avro: how records are written.
        version: Debezium's, None unknown.
        money_digits: see `StreamFacts`.

    """
    if settings.mode("time.precision.mode", "adaptive") not in TIME_MODES:
        yield feed.finding(
            feed.stop,
            LOSS,
            "time.precision.mode",
            f"{settings.mode('time.precision.mode', '')} is none of the modes that are known here",
            '"time.precision.mode": "adaptive"',
        )
    known = _KNOWN | (_KNOWN_LATER if _reached(version) else set())
    lost: dict[_Lost, dict[TableName, list[str]]] = defaultdict(lambda: defaultdict(list))
    for mapping in feed.mappings.all:
        for side in mapping.sources:
            for column in carried(mapping, side):
                for one in _losses(feed, column, settings, known, avro=avro, money_digits=money_digits):
                    lost[one][side.table.name].append(column.name)
    for one, places in lost.items():
        where = _where(places)
        remedy = f"In Debezium's configuration: {one.remedy}" if one.remedy else _LEAVE_OUT
        level, code = (Level.WARN, VALUES) if one.loud else (feed.stop, LOSS)
        yield feed.finding(level, code, one.setting, f"{one.what}: {where}", remedy)
    yield from _bounds(feed, {(table, name) for where in lost.values() for table in where for name in where[table]})


def _where(places: Mapping_[TableName, list[str]]) -> str:
    return "; ".join(f"{table} ({column_list(dict.fromkeys(columns))})" for table, columns in places.items())


def _bounds(feed: AssessedFeed, lost: set[tuple[TableName, str]]) -> Iterator[Finding]:
    """Debezium's arrays are lists: '[0:1]={7,8}' arrives as '{7,8}'. Only the values tell whether there is one."""
    places: dict[TableName, list[str]] = defaultdict(list)
    for mapping in feed.mappings.all:
        for side in mapping.sources:
            for column in carried(mapping, side):
                if column.cast_type.endswith("[]") and (side.table.name, column.name) not in lost:
                    places[side.table.name].append(column.name)
    if places:
        yield feed.finding(
            Level.WARN,
            VALUES,
            "arrays",
            "Debezium leaves out where an array begins, so one that doesn't begin at 1 arrives as if it did; whether "
            f"there are such values isn't known here: {_where(places)}",
            "Look for them on the old side: SELECT ... WHERE array_lower(COLUMN, 1) <> 1; `replicator verify` finds "
            "them too. stream.kind: slot and stream.capture keep them",
        )


_LEAVE_OUT: Final = (
    "Leave the columns out of the mapping (drop), or read the changes by stream.kind: slot or stream.capture, which "
    "keep every value"
)


def carried(mapping: Mapping, side: Side) -> list[Column]:
    """The columns of a source table whose values are taken from the stream."""
    table = side.table
    if mapping.reads_back:  # the rest is read from the source
        wanted = {*side.key, *table.key}
    elif mapping.function is None:
        wanted = set(mapping.columns)
    else:
        wanted = set(table.column_names)
    return [column for column in table.columns if column.name in wanted and not column.generated]


def _losses(
    feed: AssessedFeed, column: Column, settings: Settings, known: set[str], *, avro: bool, money_digits: int | None
) -> Iterator[_Lost]:
    of_array = column.cast_type.endswith("[]")
    kind = column.cast_type.removesuffix("[]")
    local = kind if kind in known else kind.rpartition(".")[2].strip('"')
    varying = local == "bit varying" and not column.type_name.startswith("bit(")
    if column.domain_elements:  # which Debezium doesn't look up there
        local = kind = _DOMAIN
    if of_array and local in _NEVER_IN_ARRAYS and (varying or local != "bit varying"):
        yield _Lost(kind + "[]", f"Debezium sends no array of {kind} at all")
    elif of_array and local == "bit varying":
        yield _Lost("bit[]", "Debezium sends NULL in place of an array of bits")
    elif of_array and local == "time without time zone":
        yield _Lost("time[]", "Debezium cuts times in arrays to milliseconds, and makes 24:00:00 of them 00:00:00")
    elif varying:
        yield _Lost("bit varying", "Debezium sends no length of a bit string: zeros at its beginning are lost")
    elif local == "time with time zone":
        yield _Lost(kind, "Debezium turns the time into UTC: the offset that was stored is lost")
    elif local in _VECTORS:
        yield _Lost(local, "Debezium sends an empty array in its place, or stops at it")
    elif local not in known and kind not in feed.source.catalog.enums:
        if not settings.flag("include.unknown.datatypes", default=False):
            yield _Lost(
                "include.unknown.datatypes",
                "columns of types that Debezium doesn't know are left out of its events",
                '"include.unknown.datatypes": "true"',
            )
    else:
        yield from _by_mode(local, column, settings, money_digits)
    yield from _defaults(column, settings, avro=avro)


def _by_mode(kind: str, column: Column, settings: Settings, money_digits: int | None) -> Iterator[_Lost]:
    decimal, time = settings.mode("decimal.handling.mode", "precise"), settings.mode("time.precision.mode", "adaptive")
    as_text = '"decimal.handling.mode": "string"'
    if kind in {"numeric", "money"} and decimal == "double":
        yield _Lost("decimal.handling.mode", "a double holds 15 digits, others are rounded", as_text)
    elif kind == "numeric" and decimal == "precise":
        # One without scale prints the zeros that it was given; NaN fits into any numeric.
        if column.base_typmod < 0:
            what = "zeros at the end of a number without scale are cut off"
            yield _Lost("decimal.handling.mode", what, as_text)
        else:
            yield _Lost("decimal.handling.mode", "NaN ends Debezium's task", as_text, loud=True)
    elif kind == "money":
        if money_digits not in {None, _CENTS}:
            what = f"amounts have {money_digits} fractional digits on the source (lc_monetary), and 2 are known here"
            yield _Lost("money", what)
        elif decimal == "precise" and settings.number("money.fraction.digits", _CENTS) < _CENTS:
            what = "amounts are rounded to fewer fractional digits than they have"
            yield _Lost("money.fraction.digits", what, f'"money.fraction.digits": "{_CENTS}"')
    elif kind == "interval" and settings.mode("interval.handling.mode", "numeric") == "numeric":
        yield _Lost(
            "interval.handling.mode",
            "months, days and hours are added up into microseconds",
            '"interval.handling.mode": "string"',
        )
    elif kind in _TIMES and time == "connect" and not 0 <= column.base_typmod <= _MILLISECONDS:
        yield _Lost("time.precision.mode", "microseconds are cut off", '"time.precision.mode": "adaptive"')
    elif kind == "time without time zone" and time == "isostring":
        yield _Lost("time.precision.mode", "24:00:00 comes as 00:00:00", '"time.precision.mode": "adaptive"')
    elif kind == "timestamp without time zone" and time == "nanoseconds":
        what = "64 bits of nanoseconds hold the years 1678 to 2261 only: others stop the feed"
        yield _Lost("time.precision.mode", what, '"time.precision.mode": "adaptive"', loud=True)


def _defaults(column: Column, settings: Settings, *, avro: bool) -> Iterator[_Lost]:
    """Connect's converters write a column's default in the place of NULL, unless they are told not to."""
    if not (column.nullable and column.has_default):
        return
    name = f"value.converter.{'ignore.default.for.nullables' if avro else 'replace.null.with.default'}"
    wanted = avro
    if settings.flag(name, default=not wanted) is not wanted:
        value = str(wanted).lower()
        yield _Lost(name, "a NULL arrives as the column's default", f'"{name}": "{value}" (beside value.converter)')


def _reached(version: str | None) -> bool:
    parts = (version or "").split(".")
    return len(parts) >= 2 and all(part.isdigit() for part in parts[:2]) and tuple(map(int, parts[:2])) >= _LATER
