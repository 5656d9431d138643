"""Both databases of the demo, compared in full, by code of its own.

What the upgraded side should have is written here a second time, in plain SQL over the old side. Nothing of the
product takes part: not its transforms, its key map, its checkpoint, nor its rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import psycopg
from psycopg import sql

from replicator.demo.operations import STAFF

_ORDERS = UUID("5b8f1f0e-3c7b-4d0f-9a55-0d6f2f6f9d10")
_SAMPLES_MAX = 5

Record = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one upgraded table should have.

    Attributes:
        table: its name.
        expected: query of the old database; all columns as text, the key first.
        actual: query of the upgraded database with the same columns.
        key: how many columns the key has.
        order: position of a column that holds an order's number, which is a UUID on the other side.

    """

    table: str
    expected: str
    actual: str
    key: int = 1
    order: int | None = None


_PRODUCT = "sku, name, price::text, sold::text, tags::text, attributes::text, description"
_ITEM = "order_id::text, line::text, sku, quantity::text, price::text"
_PAYMENT = "id::text, order_id::text, amount::text, method, paid_at::text"

EXPECTATIONS = (
    Expectation("ref.countries", "SELECT iso, name FROM countries", "SELECT iso_code, name FROM ref.countries"),
    Expectation(
        "crm.accounts",
        """SELECT id::text, company, phone, country_iso, primary_contact_id::text, created_at::text,
                  jsonb_build_object('street', street, 'postal_code', postal_code, 'city', city)::text
           FROM accounts""",
        """SELECT id::text, name, phone, country_code, primary_contact_id::text, created_at::text, address::text
           FROM crm.accounts""",
    ),
    Expectation(
        "crm.users",
        """SELECT id::text, account_id::text, split_part(full_name, ' ', 1),
                  CASE WHEN full_name ~ ' ' THEN substr(full_name, strpos(full_name, ' ') + 1) END,
                  email, last_login::text
           FROM users""",
        "SELECT id::text, account_id::text, first_name, last_name, email, last_login::text FROM crm.users",
    ),
    Expectation(
        "crm.user_permissions",
        """SELECT u.id::text, permission
           FROM users u JOIN (VALUES ('viewer', 'read'), ('editor', 'read'), ('editor', 'write'), ('admin', 'read'),
                                     ('admin', 'write'), ('admin', 'invite')) AS granted (role, permission)
                ON granted.role = u.role::text""",
        "SELECT user_id::text, permission FROM crm.user_permissions",
        key=2,
    ),
    Expectation(
        "crm.contacts",
        "SELECT id::text, account_id::text, name, phone FROM contacts WHERE deleted_at IS NULL",
        "SELECT id::text, account_id::text, name, phone FROM crm.contacts",
    ),
    Expectation("crm.products", f"SELECT {_PRODUCT} FROM products", f"SELECT {_PRODUCT} FROM crm.products"),
    Expectation(
        "crm.orders",
        """SELECT o.id::text, account_id::text, state, total::text, contract, ordered_at::text,
                  (SELECT coalesce(jsonb_agg(jsonb_build_object('id', n.id, 'author', n.author, 'body', n.body,
                                                                'written_at', n.written_at::text) ORDER BY n.id), '[]')
                   FROM order_notes n WHERE n.order_id = o.id)::text
           FROM orders o""",
        """SELECT id::text, account_id::text, state, total::text, contract, placed_at::text, notes::text
           FROM crm.orders""",
        order=0,
    ),
    Expectation(
        "crm.order_items",
        f"SELECT {_ITEM} FROM order_items",
        f"SELECT {_ITEM} FROM crm.order_items",
        key=2,
        order=0,
    ),
    Expectation("crm.payments", f"SELECT {_PAYMENT} FROM payments", f"SELECT {_PAYMENT} FROM crm.payments", order=1),
)


@dataclass(slots=True)
class Comparison:
    """One table's result; each list holds keys.

    Attributes:
        table: on the upgraded side.
        rows: that it should have.
        missing: expected, and not there.
        extra: there, and not expected.
        different: there with another value.

    """

    table: str
    rows: int = 0
    missing: list[Record] = field(default_factory=list)
    extra: list[Record] = field(default_factory=list)
    different: list[Record] = field(default_factory=list)

    @property
    def differences(self) -> int:
        """How many rows are wrong."""
        return len(self.missing) + len(self.extra) + len(self.different)

    def samples(self) -> list[str]:
        """A few of the keys that are wrong, with what is wrong about them."""
        found = [
            f"{self.table}: key ({', '.join(map(str, key))}) is {what}"
            for what in ("missing", "extra", "different")
            for key in getattr(self, what)
        ]
        return found[:_SAMPLES_MAX]


def compare(old_dsn: str, upgraded_dsn: str, expectations: Iterable[Expectation] = EXPECTATIONS) -> list[Comparison]:
    """Compare every row of every table, in one snapshot of each side. Nobody may write meanwhile.

    Raises:
        psycopg.Error: a side can't be read.

    """
    with _reading(old_dsn) as old, _reading(upgraded_dsn) as upgraded:
        return [_compare(old, upgraded, one) for one in expectations]


def _reading(dsn: str) -> psycopg.Connection[Record]:
    connection: psycopg.Connection[Record] = psycopg.connect(dsn, options="-c TimeZone=UTC -c DateStyle=ISO")
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    return connection


def _compare(
    old: psycopg.Connection[Record], upgraded: psycopg.Connection[Record], expectation: Expectation
) -> Comparison:
    wanted: dict[Record, Record] = {}
    for row in old.execute(expectation.expected.encode()):
        record = _with_uuid(row, expectation.order)
        wanted[record[: expectation.key]] = record
    result = Comparison(expectation.table, rows=len(wanted))
    for record in upgraded.execute(expectation.actual.encode()):
        key = record[: expectation.key]
        expected = wanted.pop(key, None)
        if expected is None:
            result.extra.append(key)
        elif expected != record:
            result.different.append(key)
    result.missing.extend(wanted)
    return result


def _with_uuid(record: Record, order: int | None) -> Record:
    if order is None:
        return record
    return (*record[:order], str(uuid5(_ORDERS, str(record[order]))), *record[order + 1 :])


def orphans(upgraded_dsn: str) -> dict[str, int]:
    """Rows whose foreign key leads nowhere, by constraint: replicated rows aren't checked when they are written.

    Raises:
        psycopg.Error: the database can't be read.

    """
    with psycopg.connect(upgraded_dsn, autocommit=True) as connection:
        keys = connection.execute(
            """SELECT c.conname, tn.nspname, t.relname, rn.nspname, r.relname,
                      array_agg(a.attname::text ORDER BY at), array_agg(ra.attname::text ORDER BY at)
               FROM pg_constraint c
               JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
               JOIN pg_class r ON r.oid = c.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
               CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k (own, referenced, at)
               JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.own
               JOIN pg_attribute ra ON ra.attrelid = r.oid AND ra.attnum = k.referenced
               WHERE c.contype = 'f' GROUP BY 1, 2, 3, 4, 5 ORDER BY 2, 3, 1"""
        ).fetchall()
        return {
            f"{key.schema}.{key.table} {key.name}": _orphans(connection, key) for key in map(_ForeignKey._make, keys)
        }


class _ForeignKey(NamedTuple):
    name: str
    schema: str
    table: str
    referenced_schema: str
    referenced: str
    columns: list[str]
    referenced_columns: list[str]


def _orphans(connection: psycopg.Connection[Any], key: _ForeignKey) -> int:
    pairs = zip(key.columns, key.referenced_columns, strict=True)
    query = sql.SQL("SELECT count(*) FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {})").format(
        sql.Identifier(key.schema, key.table),
        sql.SQL(" AND ").join(sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.columns),
        sql.Identifier(key.referenced_schema, key.referenced),
        sql.SQL(" AND ").join(
            sql.SQL("c.{} = p.{}").format(sql.Identifier(own), sql.Identifier(other)) for own, other in pairs
        ),
    )
    row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])


Links = dict[tuple[int, str], int]
"""A permission's own id by user and permission."""


def links(upgraded_dsn: str) -> Links:
    """The permissions of users whose role never changes: their ids must stay, for others may refer to them.

    Raises:
        psycopg.Error: the database can't be read.

    """
    with psycopg.connect(upgraded_dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT user_id, permission, id FROM crm.user_permissions WHERE user_id %% %s = 0", (STAFF,)
        )
        return {(user, permission): number for user, permission, number in rows}
