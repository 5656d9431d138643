"""Tables as the catalogs of PostgreSQL describe them: frozen values, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ORDERING: Final = ("<", "<=", "=", ">=", ">")
"""Names of a btree class's operators, by strategy, as nearly every type has them."""
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_PART: Final = re.compile(r'"((?:[^"]|"")+)"|([^".\s]+)')


def quote_identifier(name: str) -> str:
    """An identifier for people to read: quoted only where PostgreSQL would fold or split it (never used in SQL)."""
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A schema-qualified table name, exactly as the catalog spells it."""

    schema: str
    name: str

    def __str__(self) -> str:
        """`schema.name`, each part quoted where needed: `parse` reads it back."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Read `schema.table`, with double quotes around parts that need them.

        An unquoted part is taken as it stands (no folding to lower case: what the catalog shows is what one writes).

        Raises:
            ValueError: not exactly two parts.

        """
        parts: list[str] = []
        at = 0
        while True:
            match = _PART.match(text, at)
            if match is None:
                break
            parts.append(match[1].replace('""', '"') if match[1] is not None else match[2])
            at = match.end()
            if at == len(text) or text[at] != ".":
                break
            at += 1
        if at != len(text) or len(parts) != 2:
            msg = f"{text!r} is not a table name of the form schema.table"
            raise ValueError(msg)
        return cls(*parts)


@dataclass(frozen=True, slots=True)
class Column:
    """One column, in attnum order (dropped ones left out).

    Attributes:
        name: as in the catalog.
        type_oid: the declared type's oid (a domain's own oid where it is a domain).
        type_name: `format_type(atttypid, atttypmod)`, for people and for comparison of modifiers.
        cast_type: the type to cast a text parameter to: schema-qualified where needed, a domain's base type, without
            modifier, `bpchar` for `character`, `bit varying` for `bit` (an explicit cast to the modified type
            truncates silently; the assignment to the column then checks length and constraint). SQL text made by the
            server from its catalog, never user input.
        typmod: `atttypmod`, -1 without.
        nullable: false for NOT NULL.
        has_default: a default, identity or generation expression exists.
        generated: '' or 's' (stored) or 'v' (virtual): never written.
        identity: '' or 'a' (always) or 'd' (by default).
        comparable: `=` and IS NOT DISTINCT FROM work on it under our search_path: the type has a default btree class
            with operators in pg_catalog (json, xml, point, ... have none; hstore's and citext's are elsewhere).
        operator_schema: schema of that class's operators `=`, `<`, `>`; '' where the type has none. Where it isn't
            pg_catalog a bare `=` means another operator or none (citext: that of text, which can't use the index);
            write `OPERATOR(schema.=)`.
        operator_names: of that class's operators, by strategy; hstore's are called otherwise.
        base_typmod: the modifier in force on `cast_type`: a domain's own, else `typmod`.
        fast_default: rows older than the column show a default that no event has carried (`atthasmissing`).
        version: xmin of the column's row in pg_attribute: another one after every ALTER of the column.
        number: `attnum`: stays when the column is renamed, and never comes again; 0 where it isn't known.
        canonical: equal values print alike. Those of numeric (1.0, 1.00), citext, a nondeterministic collation and some
            more don't: as a key they are one row under several texts.
        domain_elements: an array (or a domain over one) whose elements are of a domain.

    """

    name: str
    type_oid: int
    type_name: str
    cast_type: str
    typmod: int = -1
    nullable: bool = True
    has_default: bool = False
    generated: str = ""
    identity: str = ""
    comparable: bool = True
    operator_schema: str = "pg_catalog"
    operator_names: tuple[str, ...] = ORDERING
    base_typmod: int = -1
    fast_default: bool = field(default=False, compare=False)
    version: int = field(default=0, compare=False)
    number: int = field(default=0, compare=False)
    canonical: bool = True
    domain_elements: bool = False


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index over plain columns, of all rows (no expression, no predicate).

    `usable` ones (immediate, all columns NOT NULL) can serve as a key and as ON CONFLICT's arbiter.
    """

    name: str
    columns: tuple[str, ...]
    primary: bool = False
    deferrable: bool = False
    not_null: bool = True

    @property
    def usable(self) -> bool:
        """Whether ON CONFLICT can name it and every row has a value for it."""
        return not self.deferrable and self.not_null


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key, from this table's columns to the referenced table's."""

    name: str
    columns: tuple[str, ...]
    referenced: TableName
    referenced_columns: tuple[str, ...]
    deferrable: bool = False
    on_delete: str = "a"  # confdeltype: a no action, r restrict, c cascade, n set null, d set default
    validated: bool = True


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user's trigger (internal ones left out); `enabled` is tgenabled: O origin, D disabled, R replica, A always."""

    name: str
    enabled: str = "O"


@dataclass(frozen=True)
class Table:
    """One ordinary or partitioned table.

    Attributes:
        name: qualified name.
        columns: in attnum order.
        unique_keys: the primary key first, then the replica identity's index, then the others by name; deferrable ones
            included.
        other_unique_indexes: names of unique or exclusion indexes that are partial, over expressions, or EXCLUDE.
        deferrable_exclusions: those of `other_unique_indexes` whose check is a trigger (DEFERRABLE).
        foreign_keys: those that this table has (not those that point at it).
        replica_identity: 'd' default, 'n' nothing, 'f' full, 'i' index.
        identity_columns: the columns that an old tuple carries: primary key ('d'), index ('i'), all ('f'), none ('n').
        kind: 'r' ordinary, 'p' partitioned.
        leaves: names of all leaf partitions, of a partitioned table (foreign ones too, which are no `Table`).
        parent: the partitioned table that this one is a partition of.
        triggers: user triggers (those of our own fence left out).
        rules: it has rewrite rules, which INSERT follows, COPY passes by, and MERGE refuses.
        rows_estimate: pg_class.reltuples, -1 unknown.
        bytes: pg_table_size, partitions included.
        oid, relfilenode: to notice rewrites and re-creation.

    """

    name: TableName
    columns: tuple[Column, ...]
    unique_keys: tuple[UniqueKey, ...] = ()
    other_unique_indexes: tuple[str, ...] = ()
    deferrable_exclusions: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    replica_identity: str = "d"
    identity_columns: tuple[str, ...] = ()
    kind: str = "r"
    leaves: tuple[TableName, ...] = ()
    parent: TableName | None = None
    triggers: tuple[Trigger, ...] = ()
    row_security: bool = False
    rules: bool = False
    persistence: str = "p"
    rows_estimate: int = -1
    bytes: int = 0
    oid: int = 0
    relfilenode: int = 0

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """Columns by name."""
        return {column.name: column for column in self.columns}

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names in attnum order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def writable(self) -> tuple[str, ...]:
        """Columns that an INSERT may name: all but generated ones."""
        return tuple(column.name for column in self.columns if not column.generated)

    @cached_property
    def primary_key(self) -> UniqueKey | None:
        """The primary key, deferrable or not."""
        return next((key for key in self.unique_keys if key.primary), None)

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row: the primary key, else the first usable unique key, else none."""
        if self.primary_key is not None:
            return self.primary_key.columns
        return next((key.columns for key in self.unique_keys if key.usable), ())

    def arbiter(self, columns: tuple[str, ...]) -> UniqueKey | None:
        """The usable unique key over exactly these columns (in any order), for ON CONFLICT."""
        wanted = set(columns)
        return next((key for key in self.unique_keys if key.usable and set(key.columns) == wanted), None)


@dataclass(frozen=True)
class Catalog:
    """What one database's catalogs say about its tables at one moment.

    Attributes:
        server_version: `server_version_num`, 150004 for 15.4.
        tables: every ordinary and partitioned table of the user's schemas; leaf partitions are tables too. Left out:
            temporary tables, our own schema, and tables that belong to an extension.
        enums: labels of every enum in order, by the type's name as in `Column.cast_type`.

    """

    server_version: int
    tables: Mapping[TableName, Table] = field(default_factory=dict)
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
