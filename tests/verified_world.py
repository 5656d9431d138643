"""A migration with a mapping of each kind, and an application that never stops writing to it; see `verified_damage`."""

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from tests.fix_migration import Migrate, Migration
from tests.fix_postgres import Database

Session = psycopg.Connection[tuple[Any, ...]]

SAME = """
    CREATE TABLE lots (code text PRIMARY KEY, name text, amount numeric(12,2), rate float8, at timestamptz, flag bool,
                       doc jsonb);
    CREATE TABLE prices (no numeric PRIMARY KEY, v numeric);
    CREATE TABLE devices (id uuid PRIMARY KEY, seen timestamp, f real, b bytea);
    CREATE TABLE ticks (at timestamptz PRIMARY KEY, v bigint);
    CREATE TABLE cells (x int, y varchar(40), v text, PRIMARY KEY (x, y));
    CREATE TABLE bag (v int, w text);
    ALTER TABLE bag REPLICA IDENTITY FULL;
"""
OLD = """
    CREATE TABLE clients (id bigint PRIMARY KEY, email text, cents bigint, opened timestamptz, note text);
    CREATE TABLE orders (id serial PRIMARY KEY, follows int, body text, tags text[] NOT NULL DEFAULT '{}');
    CREATE TABLE notes (id int PRIMARY KEY, order_id int, body text);
    ALTER TABLE notes REPLICA IDENTITY FULL;
    CREATE TABLE shipments (id int PRIMARY KEY, order_ref int, sent bool);
    CREATE TABLE people (id int PRIMARY KEY, name text, deleted bool NOT NULL DEFAULT false);
    CREATE TABLE firms (id int PRIMARY KEY, name text);
    INSERT INTO lots SELECT 'L' || n, CASE n % 3 WHEN 0 THEN '' WHEN 1 THEN NULL ELSE 'name ' || n END, n * 0.07,
        0.30000000000000004, '2024-03-31 00:30:00+00'::timestamptz + n * interval '1 hour', n % 2 = 0,
        jsonb_build_object('n', n, 'tags', '[]'::jsonb) FROM generate_series(1, 60) n;
    INSERT INTO prices SELECT n * 0.50, n / 7.0 FROM generate_series(1, 60) n;
    INSERT INTO devices SELECT md5('device ' || n)::uuid, timestamp '2024-01-01' + n * interval '1 s', 1,
        decode(md5(n::text), 'hex') FROM generate_series(1, 60) n;
    INSERT INTO ticks SELECT timestamptz '2024-01-01 00:00+00' + n * interval '1 s', n FROM generate_series(1, 60) n;
    INSERT INTO cells SELECT n % 6, 'y' || n, 'v' || n FROM generate_series(1, 60) n;
    INSERT INTO bag SELECT n % 9, nullif('w' || n % 2, 'w1') FROM generate_series(1, 60) n;
    INSERT INTO clients SELECT n, 'User' || n || '@Example.org', n * 7, timestamptz '2020-01-01' + n * interval '1 day',
        CASE n % 5 WHEN 0 THEN 'hidden' WHEN 1 THEN '' ELSE 'note ' || n END FROM generate_series(1, 60) n;
    INSERT INTO orders
        SELECT n, nullif(n % 10, 0), 'body ' || n, ARRAY['a', 'b' || n % 3] FROM generate_series(1, 60) n;
    INSERT INTO notes SELECT n, n % 60 + 1, 'note ' || n FROM generate_series(1, 150) n;
    INSERT INTO shipments SELECT n, n, n % 2 = 0 FROM generate_series(1, 60) n;
    INSERT INTO people SELECT n, 'p' || n, n % 4 = 0 FROM generate_series(1, 60) n;
    INSERT INTO firms SELECT n, 'f' || n FROM generate_series(101, 160) n;
"""
UPGRADED = """
    CREATE TABLE customers (id bigint PRIMARY KEY, email text, balance numeric(14,2), opened timestamptz, note text);
    CREATE TABLE purchases (id uuid PRIMARY KEY, follows uuid, body text, notes int, last text);
    CREATE TABLE purchase_tags (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, purchase_id uuid NOT NULL,
                                tag text NOT NULL, UNIQUE (purchase_id, tag));
    CREATE TABLE shipments (id int PRIMARY KEY, purchase_id uuid, sent bool);
    CREATE TABLE parties (id int PRIMARY KEY, kind text NOT NULL, name text);
"""
TRANSFORMS = """
    from decimal import Decimal
    from hashlib import md5
    from uuid import UUID
    from replicator import KeyMap, Row, transform

    @transform(old="public.clients", upgraded="public.customers")
    def client(row: Row):
        if row["note"] != "hidden":
            return row.drop("cents").set(balance=Decimal(row["cents"]) / 100, email=row["email"].lower())

    @transform(
        old={"public.orders": "id", "public.notes": "order_id"},
        upgraded={"public.purchases": "id", "public.purchase_tags": "purchase_id"},
        key=KeyMap(lambda n: UUID(md5(f"order {n}".encode()).hexdigest()), sequence="public.orders_id_seq"),
        references={"follows": "public.orders"},
    )
    def order(order):
        notes = [note["body"] for note in order["public.notes"]]
        root = order.root.to("public.purchases").drop("tags")
        yield root.set(notes=len(notes), last=max(notes, default=None))
        for tag in order.root["tags"]:
            yield Row.of("public.purchase_tags", tag=tag)

    @transform(old="public.people", upgraded="public.parties", owns="kind = 'person'", owns_old="NOT deleted")
    def person(row: Row) -> Row:
        return row.drop("deleted").set(kind="person")

    @transform(old="public.firms", upgraded="public.parties", owns="kind = 'firm'")
    def firm(row: Row) -> Row:
        return row.set(kind="firm")
"""
TABLES = """
    - {old: public.lots}
    - {old: public.prices}
    - {old: public.devices}
    - {old: public.ticks}
    - {old: public.cells}
    - {old: public.bag}
    - {old: public.shipments, columns: {order_ref: purchase_id}, references: {order_ref: public.orders}}
"""
OPTIONS = "cutover: {reverse: off}\nbackfill: {chunk_rows: 40}"  # more than one chunk of everything


# -- the application ---------------------------------------------------------------------------------------------------

# Rows that only the application writes, and that are there all the time.
LASTING = """
    INSERT INTO lots SELECT 'hot row ' || n, '', n, 1, now(), true, '{}' FROM generate_series(1, 8) n;
    INSERT INTO prices SELECT 9100 + n, n FROM generate_series(1, 4) n;
    INSERT INTO ticks SELECT timestamptz '2030-01-01 00:00+00' + n * interval '1 day', 9100 + n
        FROM generate_series(1, 4) n;
    INSERT INTO cells SELECT 90, 'hot mover ' || n, 'v' FROM generate_series(1, 4) n;
    INSERT INTO clients SELECT n, 'Hot', n, now(), '' FROM generate_series(9101, 9104) n;
    INSERT INTO orders SELECT n, NULL, 'hot', '{}' FROM generate_series(9101, 9104) n;
    INSERT INTO notes SELECT n, 9101, 'hot ' || n FROM generate_series(9101, 9106) n;
    INSERT INTO shipments SELECT n, n, true FROM generate_series(9101, 9104) n;
    INSERT INTO people SELECT n, 'hot' FROM generate_series(9101, 9104) n;
    INSERT INTO firms SELECT n, 'hot' FROM generate_series(9201, 9204) n
"""
_COME_AND_GO = {
    "lots": ("code = 'hot ' || {k}", "'hot ' || {k}, 'n', {k}, 1, now(), true, '{{}}'"),
    "prices": ("no = 9000 + {k} * 0.5", "9000 + {k} * 0.5, random()"),
    "devices": ("id = md5('hot ' || {k})::uuid", "md5('hot ' || {k})::uuid, now(), random(), NULL"),
    "ticks": ("at = to_timestamp(9000 + {k})", "to_timestamp(9000 + {k}), {j}"),
    "cells": ("(x, y) = (90, 'hot ' || {k})", "90, 'hot ' || {k}, 'v' || {j}"),
    "clients": ("id = 9000 + {k}", "9000 + {k}, 'Hot', {j}, now(), 'hot'"),
    "orders": ("id = 9000 + {k}", "9000 + {k}, 9100 + {j}, 'hot', '{{x,y}}'"),
    "notes": ("id = 9000 + {k}", "9000 + {k}, 9100 + {j}, 'hot ' || {j}"),
    "shipments": ("id = 9000 + {k}", "9000 + {k}, 9000 + {j}, NULL"),
    "people": ("id = 9000 + {k}", "9000 + {k}, 'hot'"),
    "firms": ("id = 9200 + 4 + {k}", "9200 + 4 + {k}, 'hot'"),
}
"""By table: which row, and what it holds when it is there; `k` and `j` are numbers from 1 to 4."""
_CHANGES = (
    (
        "UPDATE lots SET amount = amount + 0.01, at = clock_timestamp(), doc = jsonb_build_object('r', random()) "
        "WHERE code = 'hot row ' || {k}"
    ),
    (
        "UPDATE lots SET code = CASE WHEN code LIKE '%+' THEN left(code, -1) ELSE code || '+' END "
        "WHERE code IN ('hot row ' || 4 + {k}, 'hot row ' || 4 + {k} || '+')"
    ),
    "UPDATE prices SET v = v + 0.1 WHERE no = 9100 + {k}",
    "UPDATE prices SET no = 18300.5 - no WHERE no IN (9100 + {k}, 9200.5 - {k})",
    "UPDATE ticks SET at = at + interval '1 microsecond' WHERE v = 9100 + {k}",
    "UPDATE cells SET x = 181 - x WHERE y = 'hot mover ' || {k}",
    "INSERT INTO bag VALUES ({k}, 'hot'), ({k}, 'hot')",
    "DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE w = 'hot' LIMIT 2)",
    "UPDATE clients SET note = CASE note WHEN 'hidden' THEN '' ELSE 'hidden' END WHERE id = 9100 + {k}",
    "UPDATE clients SET cents = cents + 1 WHERE id = 9100 + {k}",
    (
        "UPDATE orders SET tags = CASE cardinality(tags) WHEN 0 THEN '{{x,y}}' WHEN 2 THEN '{{y}}' ELSE '{{}}' END "
        "::text[] WHERE id = 9100 + {k}"
    ),
    "UPDATE orders SET follows = 9000 + {j}, body = body || '.' WHERE id = 9100 + {k}",
    "UPDATE notes SET order_id = 9100 + {j} WHERE id = 9102 + {k}",
    "UPDATE shipments SET order_ref = nullif(9100 + {j}, 9104) WHERE id = 9100 + {k}",
    "UPDATE people SET deleted = NOT deleted WHERE id = 9100 + {k}",
    "UPDATE firms SET name = name || '.' WHERE id = 9200 + {k}",
)


class Application:
    """Threads that write to the old side, one statement a transaction every few milliseconds, until stopped."""

    def __init__(self, old: Database, seed: int, *, writers: int, pause: float, commit: str) -> None:
        self.transactions = 0
        self._old = old
        self._pause = pause
        self._commit = commit
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(f"{seed}/{at}",), daemon=True) for at in range(writers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End it; what a writer failed with is raised here."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        for failure in self._failures:
            raise failure

    def _run(self, seed: str) -> None:
        choose = random.Random(seed)
        try:
            while not self._stop.is_set():
                with contextlib.suppress(psycopg.OperationalError), self._old.connect(autocommit=True) as session:
                    session.execute(sql.SQL("SET synchronous_commit = {}").format(sql.Literal(self._commit)))
                    while not self._stop.wait(self._pause):
                        _change(session, choose)
                        self.transactions += 1
        except BaseException as error:  # noqa: BLE001 - raised by `stop`, in the test's own thread
            self._failures.append(error)


def _change(session: Session, choose: random.Random) -> None:
    numbers = {"k": choose.randint(1, 4), "j": choose.randint(1, 4)}
    if choose.random() < 0.5:
        table = choose.choice(list(_COME_AND_GO))
        where, values = (text.format(**numbers) for text in _COME_AND_GO[table])
        statement = (
            f"WITH gone AS (DELETE FROM {table} WHERE {where} RETURNING 1) "
            f"INSERT INTO {table} SELECT {values} WHERE NOT EXISTS (SELECT FROM gone) ON CONFLICT DO NOTHING"
        )
    else:
        statement = choose.choice(_CHANGES).format(**numbers)
    with contextlib.suppress(psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
        session.execute(statement.encode())


@contextlib.contextmanager
def application(
    old: Database, seed: int, *, writers: int = 2, pause: float = 0.004, commit: str = "on"
) -> Iterator[Application]:
    """Write within the block; `commit` is synchronous_commit."""
    running = Application(old, seed, writers=writers, pause=pause, commit=commit)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def start(migrate: Migrate, old: Database | None = None, *, options: str = "") -> Migration:
    """The world, copied and running; `options` are added to the connector."""
    shop = migrate(
        SAME,
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables=TABLES,
        transforms=TRANSFORMS,
        options=f"{OPTIONS}\n{options}",
        old=old,
    )
    shop.streaming()
    shop.old.execute(LASTING)
    shop.catch_up()
    return shop
