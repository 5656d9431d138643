"""`replicator verify` beside the running daemon: what is damaged is found by name, and nothing else is."""

import json
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration

pytestmark = [pytest.mark.timeout(180)]

TABLES = """
    CREATE TABLE plain (id int PRIMARY KEY, name text, price numeric(10,2), at timestamptz, doc jsonb, f float8);
    CREATE TABLE pairs (a int, b text, v text, PRIMARY KEY (a, b));
"""
FILL = """
    INSERT INTO plain SELECT n, 'name ' || n, n / 7.0, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour',
        jsonb_build_object('n', n), n / 3.0 FROM generate_series(1, 500) n;
    INSERT INTO pairs SELECT n % 50, 'b' || n, 'v' FROM generate_series(1, 500) n;
"""


def verify(migration: Migration, *options: str, code: int | None = None) -> dict[str, Any]:
    """Run the command; returns its JSON."""
    process = migration.command("verify", "FILE", "--json", "--rate", "0", *options)
    ended = process.wait(120)
    assert code is None or ended == code, process.story()
    assert process.stdout, process.story()
    document: dict[str, Any] = json.loads(process.stdout)
    assert document["ok"] is (ended == 0)
    return document


def findings(migration: Migration) -> set[tuple[Any, ...]]:
    """Open divergences: table, key, kind, columns, source key."""
    return {
        (table, tuple(key), kind, tuple(columns), None if source is None else tuple(source))
        for table, key, kind, columns, source in migration.upgraded.execute(
            "SELECT table_name, key, kind, columns, source_key FROM replicator.divergence WHERE closed_at IS NULL"
        )
    }


def test_what_is_equal_is_proven_equal(migrate: Migrate) -> None:
    """Two equal databases: no finding, every row counted, exit code 0."""
    shop = migrate(TABLES, old_schema=FILL)
    shop.streaming()
    document = verify(shop, code=0)

    assert [("public.pairs", 500), ("public.plain", 500)] == [(one["table"], one["rows"]) for one in document["tables"]]
    assert set() == findings(shop)


def test_every_damage_is_found_and_named(migrate: Migrate) -> None:
    """Whatever is planted is found with table, key, kind and columns, and closed once it is mended."""
    shop = migrate(TABLES, old_schema=FILL)
    shop.streaming()
    shop.catch_up()
    damage = [
        "DELETE FROM plain WHERE id = 7",
        "INSERT INTO plain (id, name) VALUES (9001, 'extra')",
        "UPDATE plain SET name = 'another' WHERE id = 8",
        "UPDATE plain SET price = price + 0.01 WHERE id = 9",
        "UPDATE plain SET at = at + interval '1 hour' WHERE id = 10",
        "UPDATE plain SET name = NULL, doc = NULL WHERE id = 11",
        "UPDATE plain SET f = -f WHERE id = 12",
        "UPDATE plain p SET name = q.name FROM plain q WHERE (p.id, q.id) IN ((20, 21), (21, 20))",
        "DELETE FROM pairs WHERE a = 3 AND b = 'b53'",
        "INSERT INTO pairs VALUES (3, 'new', 'v')",
    ]
    for statement in damage:
        shop.upgraded.execute(statement)
    document = verify(shop, code=1)
    wanted = {
        ("plain", ("7",), "missing", (), ("7",)),
        ("plain", ("9001",), "extra", (), ("9001",)),
        ("plain", ("8",), "different", ("name",), ("8",)),
        ("plain", ("9",), "different", ("price",), ("9",)),
        ("plain", ("10",), "different", ("at",), ("10",)),
        ("plain", ("11",), "different", ("name", "doc"), ("11",)),
        ("plain", ("12",), "different", ("f",), ("12",)),
        ("plain", ("20",), "different", ("name",), ("20",)),
        ("plain", ("21",), "different", ("name",), ("21",)),
        ("pairs", ("3", "b53"), "missing", (), ("3", "b53")),
        ("pairs", ("3", "new"), "extra", (), ("3", "new")),
    }

    assert wanted == findings(shop)
    by_name = {one["table"]: (one["missing"], one["extra"], one["different"]) for one in document["tables"]}
    assert {"public.plain": (1, 1, 7), "public.pairs": (1, 1, 0)} == by_name
    shop.upgraded.execute("TRUNCATE plain, pairs")
    with shop.old.connect() as there, shop.upgraded.connect() as here:
        for table in ("plain", "pairs"):
            with (
                there.cursor().copy(f"COPY {table} TO STDOUT") as out,
                here.cursor().copy(f"COPY {table} FROM STDIN") as into,
            ):
                for block in out:
                    into.write(block)
    verify(shop, code=0)
    assert set() == findings(shop)
