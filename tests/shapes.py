"""Tables for unit tests, written the way one would say them: `table("public.users", "id bigint pk", "role text")`."""

import itertools

import psycopg

from replicator.tables import Catalog, Column, ForeignKey, Table, TableName, UniqueKey

FLAGS = {"pk", "null", "default", "generated", "always"}
ENUM_OID = 90_000
OIDS = itertools.count(20_000)


def cast_type(plain: str) -> str:
    info = psycopg.adapters.types.get(plain)
    if info is None:
        return f"public.{plain}"
    return "bpchar" if plain == "bpchar" else (info.regtype or info.name) + "[]" * plain.endswith("[]")


def column(text: str) -> Column:
    """`name type [pk] [null] [default] [generated] [always]`: always is an identity; NOT NULL unless it says null.

    Other types are enums.
    """
    name, *words = text.split()
    flags = FLAGS.intersection(words)
    declared = " ".join(word for word in words if word not in FLAGS)
    plain, _, modifier = declared.partition("(")
    types = psycopg.adapters.types
    typmod = -1
    if modifier:
        numbers = [int(number) for number in modifier.rstrip(")").split(",")]
        typmod = (
            (numbers[0] << 16 | (numbers[1] if len(numbers) > 1 else 0)) + 4 if plain == "numeric" else numbers[0] + 4
        )
    info = types.get(plain)
    return Column(
        name=name,
        type_oid=types.get_oid(plain) if info else ENUM_OID,
        type_name=declared,
        cast_type=cast_type(plain),
        typmod=typmod,
        base_typmod=typmod,
        nullable="null" in flags,
        has_default=bool(flags & {"default", "generated", "always"}),
        generated="s" if "generated" in flags else "",
        identity="a" if "always" in flags else "",
    )


def table(
    name: str,
    *columns: str,
    unique: tuple[tuple[str, ...], ...] = (),
    foreign: dict[str, tuple[str, str]] | None = None,
    parent: str | None = None,
    key: tuple[str, ...] = (),
) -> Table:
    """A table; `foreign` is {column: (table, column)}; `key` gives the primary key in another order."""
    made = tuple(column(text) for text in columns)
    primary = key or tuple(each.name for each, text in zip(made, columns, strict=True) if "pk" in text.split())
    keys = [UniqueKey("primary", primary, primary=True)] if primary else []
    nullable = {each.name for each in made if each.nullable}
    keys += [UniqueKey("_".join(each), each, not_null=not nullable & set(each)) for each in unique]
    return Table(
        TableName.parse(name),
        made,
        unique_keys=tuple(keys),
        foreign_keys=tuple(
            ForeignKey(f"{name}_fkey", (name,), TableName.parse(to), (referenced,))
            for name, (to, referenced) in (foreign or {}).items()
        ),
        parent=TableName.parse(parent) if parent else None,
        oid=next(OIDS),
    )


def catalog(*tables: Table) -> Catalog:
    """A database's catalog."""
    return Catalog(180000, {each.name: each for each in tables})
