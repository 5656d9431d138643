"""Names as Debezium spells them where Avro allows no others: field.name.adjustment.mode, schema.name.adjustment.mode.

Debezium: SchemaNameAdjuster, FieldNameSelector, UnicodeReplacementFunction. They go by Java's characters, of 16 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from replicator.codecs.debezium.fields import Field
    from replicator.tables import Table

SOURCE_COLUMN: Final = "__debezium.source.column.name"
"""The parameter that names the column as it is (column.propagate.source.type)."""
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS: Final = frozenset("0123456789")


def avro_name(name: str) -> str:
    """A column's name in the mode `avro`: what Avro doesn't allow is an underscore."""
    units = _java_characters(name)
    spelled = [unit if unit in _LETTERS or unit in _DIGITS or unit == "_" else "_" for unit in units]
    if units and units[0] in _DIGITS:
        spelled.insert(0, "_")
    return "".join(spelled)


def avro_unicode_name(name: str) -> str:
    """A column's name in the mode `avro_unicode`: what Avro doesn't allow, and the underscore, is _uXXXX."""
    return "".join(
        unit if unit in _LETTERS or (at and unit in _DIGITS) else _escaped(unit)
        for at, unit in enumerate(_java_characters(name))
    )


def avro_full_name(name: str) -> str:
    """A schema's name in the mode `avro`: as `avro_name`, but for its dots."""
    if not name:
        return name
    spelled = "".join(
        unit if unit in _LETTERS or unit in _DIGITS or unit in "._" else "_" for unit in _java_characters(name)
    )
    return f"_{spelled}" if spelled[0] in _DIGITS else f"_{spelled[1:]}" if spelled[0] == "." else spelled


def columns_of_fields(fields: Iterable[tuple[str, Field]], table: Table) -> Mapping[str, str]:
    """Which column each field holds.

    Args:
        fields: of a row, with their schemas.
        table: the catalog's.

    Returns:
        The column's name by the field's; a field that is no column of the table under its own name.

    Raises:
        ReplicatorError: SCHEMA, when two columns may be meant, or two fields are one column.

    """
    named = tuple(fields)
    found = {name: field.parameters.get(SOURCE_COLUMN, name) for name, field in named}
    exact = {column for column in found.values() if column in table.by_name}
    for name, column in found.items():
        if column in table.by_name:
            continue
        meant = [
            other
            for other in table.column_names
            if other not in exact and name in {avro_name(other), avro_unicode_name(other)}
        ]
        if len(meant) > 1:
            _refuse(table, f"field {name} may be any of the columns {', '.join(meant)}")
        found[name] = meant[0] if meant else column
    if len(set(found.values())) < len(found):
        _refuse(table, "two fields hold the same column")
    return found


def _refuse(table: Table, why: str) -> None:
    raise ReplicatorError(
        f"names in the records of {table.name} are ambiguous: {why}",
        kind=ErrorKind.SCHEMA,
        table=str(table.name),
        hint="Nothing of it was applied. Set field.name.adjustment.mode=avro_unicode in Debezium's connector, or "
        f"column.propagate.source.type to {table.name}\\..* , which adds the columns' own names to the schema",
    )


def _java_characters(name: str) -> list[str]:
    """UTF-16 code units."""
    data = name.encode("utf-16-le", "surrogatepass")
    return [chr(int.from_bytes(data[at : at + 2], "little")) for at in range(0, len(data), 2)]


def _escaped(unit: str) -> str:
    digits = f"{ord(unit):x}"
    return f"_u00{digits}" if len(digits) <= 2 else f"_u{digits}"
