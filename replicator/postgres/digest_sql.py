"""SQL that computes digests of a range's rows in the server: as cheap as printing them, and equal where they are.

A row's hash is 64 bits. Its columns are hashed one after the other, each with the hash so far as its seed, so that it
depends on which value stands where; a range's digest is the number of its rows and the sum of their hashes.

What is hashed is exact: texts and integers by all of their bits, other values by the bytes that the server would send
in binary, or by the text that it prints. The hash functions of most types are not used: for them -1 and 1 of numeric
are alike, two halves of a bigint may be exchanged, and times of a day and a half are 36 hours. Those that are used
(of text, integer, uuid and arrays) place rows into hash partitions, so they are the same in all versions, 13 to 18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

from replicator.postgres import range_sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replicator.verification import HashedColumn, HashedRange

_AND: Final = sql.SQL(" AND ")
_COMMA: Final = sql.SQL(", ")
_MASK_BITS: Final = 30  # of a positive int4

_SENT: Final[dict[str, LiteralString]] = {
    "timestamp with time zone": "pg_catalog.timestamptz_send({})",
    "timestamp without time zone": "pg_catalog.timestamp_send({})",
    "time without time zone": "pg_catalog.time_send({})",
    "date": "pg_catalog.date_send({})",
    "real": "pg_catalog.float4send({})",
    "double precision": "pg_catalog.float8send({})",
    "numeric": "pg_catalog.numeric_send({})",
    "bytea": "{}",
}
"""By type, what gives the bytes of a value in its binary form."""


def digests(of: HashedRange) -> sql.Composed:
    """Of the rows of a range, by bucket: how many, and the sum of their hashes.

    Parameters: the boundaries that there are; then, where there are buckets, the largest one's number, which is all
    ones in binary.
    """
    table, where, number = range_sql.from_table(of.table), _where(of), _given(of)
    if of.buckets == 1:
        return sql.SQL("SELECT 0, pg_catalog.count(*), pg_catalog.sum({hash}) FROM {table} AS t{where}").format(
            hash=_hash(of), table=table, where=where
        )
    # OFFSET 0 keeps the planner from computing the hash twice.
    return sql.SQL(
        "SELECT h.b, pg_catalog.count(*), pg_catalog.sum(h.h) FROM ("
        "SELECT (g.h & {last}::pg_catalog.int8)::pg_catalog.int4 AS b, g.h FROM ("
        "SELECT {hash} AS h FROM {table} AS t{where} OFFSET 0) AS g) AS h GROUP BY h.b"
    ).format(last=sql.SQL(f"${number + 1}"), hash=_hash(of), table=table, where=where)


def in_buckets(of: HashedRange, *, keys: bool = False) -> sql.Composed:
    """The rows of a range whose hashes are in one of some buckets: xmin and all columns, or their keys alone.

    Parameters: the boundaries that there are, the largest bucket's number, the wanted ones'.
    """
    number = _given(of)
    names = of.by if keys else of.table.column_names
    return sql.SQL(
        "SELECT {xmin}{columns} FROM {table} AS t{where}{so} "
        "({hash} & {last}::pg_catalog.int8)::pg_catalog.int4 = ANY({wanted}::pg_catalog.int4[])"
    ).format(
        xmin=sql.SQL("" if keys else "t.xmin, "),
        columns=_COMMA.join(sql.Identifier("t", name) for name in names),
        table=range_sql.from_table(of.table),
        where=_where(of),
        so=_AND if number else sql.SQL(" WHERE"),
        hash=_hash(of),
        last=sql.SQL(f"${number + 1}"),
        wanted=sql.SQL(f"${number + 2}"),
    )


def _given(of: HashedRange) -> int:
    """How many parameters the boundaries take."""
    return len(of.by) * ((of.after is not None) + (of.upto is not None))


def _where(of: HashedRange) -> sql.Composable:
    return range_sql.bounded(of.table, of.by, after=of.after is not None, upto=of.upto is not None)


def _hash(of: HashedRange) -> sql.Composable:
    """The hash of one row: from the inside, what is sent in binary, what is printed, each other column, the NULLs.

    The last step is never an array's: that adds up its elements' hashes, and a sum of such sums over many rows would
    not tell which row a value is of.
    """
    columns = of.table.by_name
    sent, printed, singles, nulls = [], [], [], []
    for one in of.columns:
        value = sql.Identifier("t", one.name)
        if one.form == "sent":
            kind = columns[one.name].cast_type.removeprefix("pg_catalog.")
            sent.append(sql.SQL(_SENT[kind]).format(value))
        elif one.form == "number":
            sent.append(sql.SQL("pg_catalog.numeric_send(pg_catalog.trim_scale({}::pg_catalog.numeric))").format(value))
        elif one.form == "printed":
            printed.append(value)
        else:
            singles.append(one)
            if one.nullable:
                nulls.append(value)
    made: sql.Composable = sql.SQL("0::pg_catalog.int8")
    if sent:  # an array's hash takes a NULL as it is
        made = sql.SQL("pg_catalog.hash_array_extended(ARRAY[{}], {})").format(_COMMA.join(sent), made)
    if printed:
        made = sql.SQL('pg_catalog.hashtextextended(ROW({})::pg_catalog.text COLLATE "C", {})').format(
            _COMMA.join(printed), made
        )
    for one in singles:
        made = _single(one, made)
    for at in range(0, max(1, len(nulls)), _MASK_BITS):
        made = sql.SQL("pg_catalog.hashint4extended({}, {})").format(_mask(nulls[at : at + _MASK_BITS]), made)
    return made


def _single(one: HashedColumn, seed: sql.Composable) -> sql.Composed:
    """The hash of one column's value; of a NULL, that of some value, since `_mask` tells them apart."""
    value: sql.Composable = sql.Identifier("t", one.name)
    absent: LiteralString
    cast, absent = _SINGLES[one.form]
    value = sql.SQL(cast).format(value)
    if one.nullable:
        value = sql.SQL("coalesce({}, {})").format(value, sql.SQL(absent))
    return sql.SQL(_HASHES[one.form]).format(value=value, seed=seed)


_SINGLES: Final[dict[str, tuple[LiteralString, LiteralString]]] = {
    "text": ("{}::pg_catalog.text", "''"),
    "integer": ("{}::pg_catalog.int4", "0"),
    "bigint": ("{}::pg_catalog.int8", "0"),
    "uuid": ("{}", "'00000000-0000-0000-0000-000000000000'::pg_catalog.uuid"),
}
"""By form: what the function takes, and what stands for NULL."""
_HASHES: Final[dict[str, LiteralString]] = {
    "text": 'pg_catalog.hashtextextended({value} COLLATE "C", {seed})',
    "integer": "pg_catalog.hashint4extended({value}, {seed})",
    # Its own function would fold it to 32 bits.
    "bigint": "pg_catalog.hashint4extended((({value} << 32) >> 32)::pg_catalog.int4, "
    "pg_catalog.hashint4extended(({value} >> 32)::pg_catalog.int4, {seed}))",
    "uuid": "pg_catalog.uuid_hash_extended({value}, {seed})",
}


def _mask(nulls: Sequence[sql.Composable]) -> sql.Composable:
    """Which of some columns are NULL, as a number."""
    bits = [
        sql.SQL("CASE WHEN {} IS NULL THEN {} ELSE 0 END").format(value, sql.Literal(1 << bit))
        for bit, value in enumerate(nulls)
    ]
    return sql.SQL(" | ").join(bits) if bits else sql.SQL("0")
