"""Damage to plant in the upgraded side of `verified_world`, and an oracle that tells what is wrong with it.

The oracle is plain SQL: what each upgraded table should hold, written by hand over the old tables, compared with what
it holds while nothing changes. It shares nothing with verification, the transforms included.
"""

import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.fix_migration import Migration
from tests.fix_postgres import Database

Session = psycopg.Connection[tuple[Any, ...]]
Finding = tuple[str, tuple[str, ...], str, tuple[str, ...]]
"""Table, key, kind, columns."""


@dataclass(frozen=True)
class Damageable:
    """One upgraded table: its key, ways to change a row, columns to exchange, and the key of a row to add."""

    key: tuple[str, ...]
    changes: tuple[str, ...]
    exchanged: tuple[str, ...]
    added: str
    hot: str = "false"
    without: tuple[str, ...] = ()


_NOBODYS = "md5(random()::text)::uuid"
_HOT_UUIDS = "(SELECT md5(w || n)::uuid FROM generate_series(1, 9199) n, unnest(ARRAY['order ', 'hot ']) w WHERE {})"
DAMAGEABLE = {
    "lots": Damageable(
        ("code",),
        (
            "name = nullif(name, '')",
            "name = coalesce(name, '')",
            "name = name || ' '",
            "amount = amount + 0.01",
            "amount = -amount",
            "rate = 0.3",  # one unit in the last place
            "at = at + interval '1 microsecond'",
            "at = (at AT TIME ZONE 'UTC') AT TIME ZONE 'Asia/Tokyo'",
            "at = (at AT TIME ZONE 'Asia/Tokyo') AT TIME ZONE 'Asia/Tokyo'",  # the same instant
            "flag = NOT flag",
            "flag = NULL",
            "doc = doc || '{\"n\": 1.5}'",
            "doc = jsonb_build_object('tags', doc->'tags', 'n', ((doc->>'n') || '.0')::numeric)",  # the same value
            "name = upper(name), amount = 0",
        ),
        ("name", "amount", "at"),
        "code || '~' || random()",
        "code LIKE 'hot%'",
    ),
    "prices": Damageable(
        ("no",),
        ("v = v + 1e-20", "v = -v", "v = 'NaN'", "v = v * 1.000", "no = no + 0.001"),
        ("v",),
        "no + random()",
        "no >= 9000",
    ),
    "devices": Damageable(
        ("id",),
        ("seen = seen + interval '1 microsecond'", "f = 1.0000001", "f = -f", "b = b || '\\x00'", "b = NULL", "b = ''"),
        ("seen", "b"),
        _NOBODYS,
        "id IN " + _HOT_UUIDS.format("n < 9"),
    ),
    "ticks": Damageable(
        ("at",),
        ("v = v + 4294967296", "v = -v", "at = at + interval '1 microsecond'"),
        ("v",),
        "at + random() * interval '1 s'",
        "v >= 9000 OR at < '2000-01-01'",
    ),
    "cells": Damageable(
        ("x", "y"), ("v = v || ' '", "v = NULL", "y = upper(y)", "x = -x"), ("v",), "y || '~'", "x >= 90"
    ),
    "customers": Damageable(
        ("id",),
        (
            "balance = balance + 0.01",
            "email = upper(email)",
            "opened = opened + interval '1 us'",
            "note = nullif(note, '')",
        ),
        ("email", "balance"),
        "id + 500000",
        "id >= 9000",
    ),
    "purchases": Damageable(
        ("id",),
        ("notes = notes + 1", "last = NULL", f"follows = {_NOBODYS}", "body = body || '.'", f"id = {_NOBODYS}"),
        ("body", "follows"),
        _NOBODYS,
        "id IN " + _HOT_UUIDS.format("n > 9000"),
    ),
    "purchase_tags": Damageable(
        ("purchase_id", "tag"),
        ("tag = tag || 'x'", f"purchase_id = {_NOBODYS}"),
        (),
        "tag || '~'",
        "purchase_id IN " + _HOT_UUIDS.format("n > 9000"),
        ("id",),
    ),
    "shipments": Damageable(
        ("id",),
        (f"purchase_id = {_NOBODYS}", "purchase_id = NULL", "sent = NOT sent"),
        ("purchase_id",),
        "id + 500000",
        "id >= 9000",
    ),
    "parties": Damageable(("id",), ("name = name || 'x'", "kind = 'other'"), ("name",), "id + 500000", "id >= 9000"),
}
# What a trigger of the upgraded side makes of whatever a feed writes to two of its tables.
SPOILED = """
    CREATE SCHEMA watch;
    CREATE FUNCTION watch.spoil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        IF NEW.id IN (31, 32, 33) THEN NEW.balance := NEW.balance + 0.01; END IF; RETURN NEW; END$$;
    CREATE TRIGGER spoils BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION watch.spoil();
    ALTER TABLE customers ENABLE ALWAYS TRIGGER spoils;
"""
WRITTEN_AGAIN = "UPDATE clients SET cents = cents WHERE id IN (31, 32, 33, 34)"


def plant(upgraded: Database, choose: random.Random, times: int, *, hot: bool = False) -> None:
    """Damage so many rows of the upgraded side; of those that the application writes, too, or of the others alone."""
    with upgraded.connect(autocommit=True) as session:
        for _ in range(times):
            table = choose.choice(list(DAMAGEABLE))
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                session.execute(_damage(session, table, choose, hot=hot).encode())


def plant_all(upgraded: Database, choose: random.Random) -> None:
    """Every way to change a row once, and of each table a missing row, an added one, and two that are exchanged."""
    with upgraded.connect(autocommit=True) as session:
        for table, of in DAMAGEABLE.items():
            for way in range(len(of.changes) + 2 + len(of.exchanged)):
                with contextlib.suppress(psycopg.errors.UniqueViolation):
                    session.execute(_damage(session, table, choose, hot=False, way=way).encode())
        session.execute("DELETE FROM bag WHERE ctid = (SELECT min(ctid) FROM bag WHERE v = 3)")
        session.execute("INSERT INTO bag VALUES (4, NULL), (4, ''), (777, 'new')")
        session.execute("UPDATE bag SET w = '' WHERE ctid = (SELECT min(ctid) FROM bag WHERE v = 5 AND w IS NULL)")


def _damage(session: Session, table: str, choose: random.Random, *, hot: bool, way: int | None = None) -> str:
    """One statement that does it."""
    of = DAMAGEABLE[table]
    which = "true" if hot else f"({of.hot}) IS NOT TRUE"
    query = f"SELECT ctid FROM {table} WHERE {which} ORDER BY {', '.join(of.key)}"
    keys = session.execute(query.encode()).fetchall()
    one, other = (key[0] for key in choose.sample(keys, 2))
    if way is None:
        way = choose.randrange(len(of.changes) + 2 + len(of.exchanged))
    if way < len(of.changes):
        return f"UPDATE {table} SET {of.changes[way]} WHERE ctid = '{one}'"
    way -= len(of.changes)
    if way == 0:
        return f"DELETE FROM {table} WHERE ctid = '{one}'"
    if way == 1:
        cursor = session.execute(f"SELECT * FROM {table} LIMIT 0".encode())
        names = [column.name for column in cursor.description or () if column.name not in of.without]
        values = [of.added if name == of.key[-1] else name for name in names]
        return f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {table} WHERE ctid = '{one}'"
    column = of.exchanged[way - 2]
    return (
        f"UPDATE {table} AS a SET {column} = b.{column} FROM {table} AS b "
        f"WHERE (a.ctid, b.ctid) IN (('{one}', '{other}'), ('{other}', '{one}'))"
    )


# -- the oracle --------------------------------------------------------------------------------------------------------

_ORDER_ID = "md5('order ' || {})::uuid"
_LOTS = (
    "SELECT code, name, amount, rate, at, flag, doc->>'tags' AS tags, trim_scale((doc->>'n')::numeric) AS n, "
    "doc - 'n' - 'tags' AS doc FROM lots"
)
_PRICES = "SELECT no, trim_scale(v) AS v FROM prices"
SHOULD = {
    "lots": (_LOTS, _LOTS),
    "prices": (_PRICES, _PRICES),
    "devices": ("SELECT * FROM devices", "SELECT * FROM devices"),
    "ticks": ("SELECT * FROM ticks", "SELECT * FROM ticks"),
    "cells": ("SELECT * FROM cells", "SELECT * FROM cells"),
    "customers": (
        (
            "SELECT id, lower(email) AS email, (cents / 100.0)::numeric(14,2) AS balance, opened, note FROM clients "
            "WHERE note IS DISTINCT FROM 'hidden'"
        ),
        "SELECT * FROM customers",
    ),
    "purchases": (
        (
            f"SELECT {_ORDER_ID.format('o.id')} AS id, {_ORDER_ID.format('o.follows')} AS follows, o.body, "
            "(SELECT count(*) FROM notes WHERE order_id = o.id) AS notes, "
            '(SELECT max(body COLLATE "C") FROM notes WHERE order_id = o.id) AS last FROM orders o'
        ),
        "SELECT * FROM purchases",
    ),
    "purchase_tags": (
        f"SELECT {_ORDER_ID.format('id')} AS purchase_id, unnest(tags) AS tag, NULL AS id FROM orders",
        "SELECT purchase_id, tag, id FROM purchase_tags",
    ),
    "shipments": (
        f"SELECT id, {_ORDER_ID.format('order_ref')} AS purchase_id, sent FROM shipments",
        "SELECT * FROM shipments",
    ),
    "parties": (
        "SELECT id, 'person' AS kind, name FROM people WHERE NOT deleted UNION ALL SELECT id, 'firm', name FROM firms",
        "SELECT * FROM parties",
    ),
}
"""By upgraded table: what it should hold, on the old side; and what it holds."""
_COLUMN_OF = {("lots", "tags"): "doc", ("lots", "n"): "doc"}


def oracle(world: Migration) -> set[Finding]:
    """What is wrong, while nothing changes: the keyed tables."""
    found: set[Finding] = set()
    for table, (there, here) in SHOULD.items():
        key = DAMAGEABLE[table].key
        wanted, held = _rows(world.old, there, key), _rows(world.upgraded, here, key)
        for one in wanted.keys() - held.keys():
            found.add((table, one[:1] if table == "purchase_tags" else one, "missing", ()))
        for one in held.keys() - wanted.keys():
            row = held[one]
            if table != "parties" or row["kind"] in ("person", "firm"):  # others are nobody's
                found.add((table, (str(row["id"]),) if table == "purchase_tags" else one, "extra", ()))
        for one in wanted.keys() & held.keys():
            if table == "purchase_tags":
                continue
            wrong = {
                _COLUMN_OF.get((table, name), name) for name, value in wanted[one].items() if held[one][name] != value
            }
            if wrong:
                found.add((table, one, "different", tuple(sorted(wrong))))
    return found


def oracle_of_bag(world: Migration) -> tuple[int, int]:
    """Of the table without a key: rows that are missing, and rows that are too many."""
    query = "SELECT v, w, count(*) FROM bag GROUP BY 1, 2"
    there, here = ({row[:2]: row[2] for row in one.execute(query)} for one in (world.old, world.upgraded))
    either = there.keys() | here.keys()
    missing = sum(max(0, there.get(row, 0) - here.get(row, 0)) for row in either)
    return missing, sum(max(0, here.get(row, 0) - there.get(row, 0)) for row in either)


def _rows(database: Database, query: str, key: Sequence[str]) -> dict[tuple[str, ...], dict[str, str | None]]:
    with database.connect() as session:
        cursor = session.execute(f"SELECT * FROM ({query}) AS q LIMIT 0".encode())
        names = [column.name for column in cursor.description or ()]
        texts = ", ".join(f"q.{name}::text" for name in names)
        rows = [
            dict(zip(names, row, strict=True))
            for row in session.execute(f"SELECT {texts} FROM ({query}) AS q".encode())
        ]
    return {tuple(str(row[name]) for name in key): row for row in rows}
