"""Types of columns: which type a text parameter is cast to, and whose operators compare it.

An explicit cast to a type with a modifier truncates silently, so parameters are cast to the type without it and the
assignment to the column checks the length: https://www.postgresql.org/docs/current/sql-expressions.html#SQL-SYNTAX-TYPE-CASTS
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from replicator.tables import ORDERING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import AsyncConnection

_BPCHAR: Final = 1042
_BIT: Final = 1560
_CANONICAL: Final = frozenset(
    {
        *("bigint", "integer", "smallint", "oid", "xid8", "pg_lsn", "boolean", "uuid", "bytea", "bit varying"),
        *("text", "character varying", "name", "inet", "cidr", "macaddr", "date"),
        *("time without time zone", "timestamp without time zone", "timestamp with time zone"),
    }
)
"""Of any other type equal values may have different texts, as far as we know."""
_WITHOUT_LENGTH: Final = {_BPCHAR: "bpchar", _BIT: "bit varying"}

# Types of the given tables' columns, and all that these are made of. A type is an array when it is its element's array
# type; `oidvector` has an element too, but is none. Binary-coercible types (varchar, cidr, regclass) have no operator
# class of their own and take that of the type they coerce to.
TYPES: Final = sql.SQL("""
    WITH RECURSIVE used(oid) AS (
        SELECT DISTINCT a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = ANY(%(tables)s) AND a.attnum > 0 AND NOT a.attisdropped
      UNION
        SELECT part.oid FROM used u
        JOIN pg_catalog.pg_type t ON t.oid = u.oid
        CROSS JOIN LATERAL (
            SELECT t.typelem UNION ALL
            SELECT t.typbasetype UNION ALL
            SELECT a.atttypid FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype = 'c'
        ) AS part(oid)
        WHERE part.oid <> 0
    )
    SELECT t.oid,
        t.typtype::text,
        pg_catalog.format_type(t.oid, -1),
        t.typbasetype,
        t.typtypmod,
        coalesce((SELECT e.oid FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid), 0::oid),
        t.typnotnull,
        t.typdefault IS NOT NULL,
        ARRAY(
            SELECT a.atttypid FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
        ),
        (
            SELECT ARRAY[n.nspname::text] || ARRAY(
                SELECT p.oprname::text FROM pg_catalog.pg_amop o
                JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr
                WHERE o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype AND o.amoprighttype = c.opcintype
                ORDER BY o.amopstrategy
            )
            FROM pg_catalog.pg_opclass c
            JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
            JOIN pg_catalog.pg_amop o ON o.amopfamily = c.opcfamily AND o.amopstrategy = 3
                AND o.amoplefttype = c.opcintype AND o.amoprighttype = c.opcintype
            JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr
            JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace
            WHERE c.opcdefault AND (
                c.opcintype = t.oid
                OR EXISTS (
                    SELECT FROM pg_catalog.pg_cast b
                    WHERE b.castsource = t.oid AND b.casttarget = c.opcintype
                        AND b.castmethod = 'b' AND b.castcontext = 'i'
                )
            )
            ORDER BY c.opcintype <> t.oid, n.nspname LIMIT 1
        )
    FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
""")


@dataclass(frozen=True, slots=True)
class TypeFacts:
    """One row of pg_type, as far as it matters here. Oids are 0 where the catalog has none."""

    oid: int
    kind: str
    name: str
    base: int
    typmod: int
    element: int
    not_null: bool
    has_default: bool
    attributes: list[int]
    operators: list[str] | None  # schema of the default btree class's operators, then their names by strategy


@dataclass(frozen=True)
class ColumnTypes:
    """The types of one database that some tables use, by oid."""

    by_oid: Mapping[int, TypeFacts] = field(default_factory=dict)

    def base(self, oid: int) -> TypeFacts:
        """The type below any domains."""
        found = self.by_oid[oid]
        while found.kind == "d":
            found = self.by_oid[found.base]
        return found

    def cast_type(self, oid: int) -> str:
        """SQL of the type to cast a text parameter to: base type, no modifier, no silent truncation."""
        found = self.base(oid)
        if found.element:
            return self.cast_type(found.element) + "[]"
        return _WITHOUT_LENGTH.get(found.oid, found.name)

    def domain_elements(self, oid: int) -> bool:
        """Whether it is an array, or a domain over one, whose elements are of a domain."""
        element = self.base(oid).element
        return bool(element) and self.by_oid[element].kind == "d"

    def typmod(self, oid: int, typmod: int) -> int:
        """The modifier in force on the base type: a domain's own, else the column's."""
        found = self.by_oid[oid]
        return self.typmod(found.base, found.typmod) if found.kind == "d" else typmod

    def not_null(self, oid: int) -> bool:
        """Whether a domain on the way to the base type says NOT NULL."""
        found = self.by_oid[oid]
        return found.kind == "d" and (found.not_null or self.not_null(found.base))

    def has_default(self, oid: int) -> bool:
        """Whether a column that is left out gets a domain's default."""
        found = self.by_oid[oid]
        return found.kind == "d" and (found.has_default or self.has_default(found.base))

    def operator_schema(self, oid: int) -> str:
        """The schema of the operators `=`, `<`, `>` of the type's default btree class, '' where there is none."""
        found = self.base(oid)
        if found.operators is not None:
            return found.operators[0]
        if found.kind in "erm":  # enums, ranges, multiranges: any* classes
            return "pg_catalog"
        if found.element:
            return "pg_catalog" if self.operator_schema(found.element) else ""
        if found.kind == "c":
            return "pg_catalog" if all(self.operator_schema(part) for part in found.attributes) else ""
        return ""

    def canonical(self, oid: int) -> bool:
        """Whether equal values of the type print alike, under a deterministic collation."""
        return self.cast_type(oid) in _CANONICAL

    def operator_names(self, oid: int) -> tuple[str, ...]:
        """The names of the operators of the type's default btree class, by strategy: `<`, `<=`, `=`, `>=`, `>`."""
        found = self.base(oid)
        return ORDERING if found.operators is None else tuple(found.operators[1:])


async def read_types(connection: AsyncConnection[Any], tables: list[int]) -> ColumnTypes:
    """The types that the columns of these tables (by oid) are made of; one statement."""
    cursor = await connection.execute(TYPES, {"tables": tables})
    facts = [TypeFacts(*row) for row in await cursor.fetchall()]
    return ColumnTypes({fact.oid: fact for fact in facts})
