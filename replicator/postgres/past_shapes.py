"""Relations of a stream, and what the catalog says about them. The stream is the past: a column that it shows may be
gone by now, or be of another type.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from replicator.captures import Described
from replicator.postgres.sqlstate import driver_errors
from replicator.tables import Column, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import AsyncConnection

    from replicator.events import Relation
    from replicator.tables import Catalog

# The base type's name: a domain's rows are written as its base type's.
_TYPES: Final = """
WITH RECURSIVE base(oid, at) AS (
    SELECT o, o FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS o
  UNION
    SELECT b.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) b.at
    WHERE t.typtype OPERATOR(pg_catalog.=) 'd'
)
SELECT b.oid, pg_catalog.format_type(b.at, -1)
FROM base b JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) b.at
WHERE t.typtype OPERATOR(pg_catalog.<>) 'd'
"""
_UNKNOWN: Final = "unknown"


def describe(relation: Relation, catalog: Catalog, types: Mapping[int, str] | None = None) -> Described | None:
    """The relation with what the catalog says.

    Args:
        relation: of the stream.
        catalog: now.
        types: names of types by oid, for columns that the catalog no longer has.

    Returns:
        None when the catalog has other columns, and `types` isn't given.

    """
    table = catalog.tables.get(relation.table)
    known: Mapping[str, Column] = {} if table is None else table.by_name
    columns = []
    for name, oid, typmod in zip(relation.columns, relation.type_oids, relation.typmods, strict=True):
        column = known.get(name)
        if column is not None and column.type_oid == oid:
            columns.append(column if column.typmod == typmod else replace(column, typmod=typmod, base_typmod=typmod))
        elif types is None:
            return None
        else:
            name_of_type = types.get(oid, _UNKNOWN)
            columns.append(Column(name, oid, name_of_type, name_of_type, typmod, base_typmod=typmod))
    if table is not None and types is None and _later(table, relation):
        return None
    shaped = Table(relation.table, tuple(columns)) if table is None else replace(table, columns=tuple(columns))
    return Described(relation, shaped, _key(shaped, relation), catalog.enums)


def _later(table: Table, relation: Relation) -> bool:
    """Whether the catalog has a column more than the relation: it was read after, or before, the shape changed."""
    return any(not column.generated and column.name not in relation.positions for column in table.columns)


def _key(table: Table, relation: Relation) -> tuple[str, ...]:
    """Debezium's key columns. Where the primary key was made later, the stream's own identity is what there was."""
    primary = table.primary_key
    carried = relation.key_columns if relation.replica_identity == "d" else relation.columns
    if primary is not None and set(primary.columns) <= set(carried):
        return primary.columns
    if relation.replica_identity in "di":
        return relation.key_columns
    return ()


async def read_type_names(connection: AsyncConnection[Any], oids: Sequence[int]) -> dict[int, str]:
    """The base types' names as SQL has them; a type that is gone is left out."""
    with driver_errors("reading the types of a past relation"):
        rows = await (await connection.execute(_TYPES, [list(oids)])).fetchall()
    return {int(oid): str(name) for oid, name in rows}
