"""SQL that tells what orders texts, so that two servers can be compared."""

from __future__ import annotations

from typing import Final, LiteralString

_DATABASE_VERSIONED: Final = 150_000
"""The version since which a database's collation has a provider, and its library's version can be asked for."""

# Strings that are compared by their bytes are ordered by code point in UTF-8, whatever compares them: libc's C and its
# kin, and the builtin provider, all of whose collations order so.
_COLLATIONS: Final = """
    SELECT a.attname::text, CASE
        WHEN NOT o.deterministic THEN ''
        WHEN o.provider = 'b' OR (o.provider = 'c' AND upper(replace(o.locale, '-', ''))
            IN ('C', 'POSIX', 'C.UTF8', 'UCS_BASIC')) THEN 'code points ' || o.encoding
        WHEN o.version IS NULL THEN ''
        ELSE concat_ws(' ', o.provider, o.locale, o.version, o.rules, o.encoding)
    END
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_class AS t ON t.oid = a.attrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
    JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation
    JOIN pg_catalog.pg_database AS d ON d.datname = current_database(),
    LATERAL (SELECT to_jsonb(c) AS c, to_jsonb(d) AS d, c.collprovider = 'd' AS by_default) AS j,
    LATERAL (
        SELECT c.collisdeterministic AS deterministic, pg_encoding_to_char(d.encoding)::text AS encoding,
            CASE WHEN j.by_default THEN coalesce(j.d ->> 'datlocprovider', 'c') ELSE j.c ->> 'collprovider'
                END AS provider,
            CASE WHEN j.by_default
                THEN coalesce(j.d ->> 'datlocale', j.d ->> 'daticulocale', j.d ->> 'datcollate')
                ELSE coalesce(j.c ->> 'colllocale', j.c ->> 'colliculocale', j.c ->> 'collcollate')
                END AS locale,
            CASE WHEN j.by_default THEN j.d ->> 'daticurules' ELSE j.c ->> 'collicurules' END AS rules,
            CASE WHEN j.by_default THEN {version} ELSE pg_collation_actual_version(c.oid) END AS version
    ) AS o
    WHERE n.nspname = $1::text AND t.relname = $2::text AND a.attname = ANY($3::text[]) AND a.attnum > 0
"""


def collations(server_version: int) -> str:
    """By name of a column: its collation with all that its order depends on, "" where that can't be known.

    Parameters: schema, table, names of columns.
    """
    version: LiteralString = "NULL"
    if server_version >= _DATABASE_VERSIONED:
        version = "pg_database_collation_actual_version(d.oid)"
    return _COLLATIONS.format(version=version)
