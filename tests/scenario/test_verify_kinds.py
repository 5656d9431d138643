"""`replicator verify` of every kind of mapping: keys that change, children, parts of tables, tables without a key."""

from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration
from tests.scenario.test_verify import findings, verify

pytestmark = [pytest.mark.timeout(240)]

OLD = """
    CREATE TABLE orders (id serial PRIMARY KEY, follows int, body text, tags text[] NOT NULL DEFAULT '{}');
    CREATE TABLE notes (id int PRIMARY KEY, order_id int, body text);
    ALTER TABLE notes REPLICA IDENTITY FULL;
    CREATE TABLE shipments (id int PRIMARY KEY, order_ref int, sent bool);
    CREATE TABLE people (id int PRIMARY KEY, name text, deleted bool NOT NULL DEFAULT false);
    CREATE TABLE firms (id int PRIMARY KEY, name text);
    CREATE TABLE drafts (id numeric PRIMARY KEY, title text, draft bool, seen interval, doc text);
    CREATE TABLE clicks (order_id int, page text, n numeric);
    ALTER TABLE clicks REPLICA IDENTITY FULL;
    CREATE TABLE readings (place text, at date, value real, PRIMARY KEY (place, at)) PARTITION BY RANGE (at);
    CREATE TABLE readings_1 PARTITION OF readings FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
    CREATE TABLE readings_2 PARTITION OF readings FOR VALUES FROM ('2024-07-01') TO ('2025-01-01');
    INSERT INTO orders
        SELECT n, nullif(n % 10, 0), 'body ' || n, ARRAY['a', 'b' || n % 3] FROM generate_series(1, 60) n;
    INSERT INTO notes SELECT n, n % 60 + 1, 'note ' || n FROM generate_series(1, 200) n;
    INSERT INTO shipments SELECT n, n, n % 2 = 0 FROM generate_series(1, 60) n;
    INSERT INTO people SELECT n, 'p' || n, n % 4 = 0 FROM generate_series(1, 60) n;
    INSERT INTO firms SELECT n, 'f' || n FROM generate_series(101, 160) n;
    INSERT INTO drafts SELECT n + 0.5, 't' || n, n % 3 = 0, n * interval '90 minutes', '{"b":1,"a":[1.0]}'
        FROM generate_series(1, 60) n;
    INSERT INTO clicks SELECT nullif(n % 8, 7) + 1, 'p' || n % 2, n % 3 FROM generate_series(1, 300) n;
    INSERT INTO readings SELECT 'place ' || n % 5, date '2024-01-01' + n, n / 3.0 FROM generate_series(1, 300) n;
"""
UPGRADED = """
    CREATE TABLE orders (id uuid PRIMARY KEY, follows uuid, body text, notes text[]);
    CREATE TABLE order_tags (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id uuid NOT NULL,
                             tag text NOT NULL, votes int NOT NULL DEFAULT 0, UNIQUE (order_id, tag));
    CREATE TABLE shipments (id int PRIMARY KEY, order_id uuid, sent bool);
    CREATE TABLE parties (id int PRIMARY KEY, kind text NOT NULL, name text);
    CREATE TABLE drafts (id numeric PRIMARY KEY, title text, seen interval, doc jsonb);
    CREATE TABLE words (draft_id numeric, word text);
    CREATE TABLE lines (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, draft_id numeric, line text);
    CREATE TABLE clicks (order_id uuid, page text, n numeric(10,2));
    CREATE TABLE readings (place text, at date, value real, PRIMARY KEY (place, at));
"""
TRANSFORMS = """
    from uuid import UUID, uuid5
    from replicator import Aggregate, KeyMap, RawText, Row, transform

    SPACE = UUID("9d1f7c52-3d0c-4f0e-8d57-2b8f6a3c9e10")

    @transform(
        old={"public.orders": "id", "public.notes": "order_id"},
        upgraded={"public.orders": "id", "public.order_tags": "order_id"},
        key=KeyMap(lambda number: uuid5(SPACE, str(number)), sequence="public.orders_id_seq"),
        references={"follows": "public.orders"},
    )
    def order(order: Aggregate):
        yield order.root.to("public.orders").drop("tags").set(notes=[note["body"] for note in order["public.notes"]])
        for tag in order.root["tags"]:
            yield Row.of("public.order_tags", tag=tag)

    @transform(old="public.people", upgraded="public.parties", owns="kind = 'person'", owns_old="NOT deleted")
    def person(row: Row) -> Row:
        return row.drop("deleted").set(kind="person")

    @transform(old="public.firms", upgraded="public.parties", owns="kind = 'firm'")
    def firm(row: Row) -> Row:
        return row.set(kind="firm")

    @transform(old="public.drafts", upgraded={
        "public.drafts": "id", "public.words": "draft_id", "public.lines": "draft_id"
    })
    def draft(row: Row):
        if row["draft"]:
            return
        # Spelled in other ways than the server prints them.
        seconds = int(row["seen"].total_seconds())
        yield row.to("public.drafts").drop("draft").set(seen=RawText(f"{seconds} seconds"))
        for word in (row["title"], "twice", "twice"):
            yield Row.of("public.words", draft_id=row["id"], word=word)
            yield Row.of("public.lines", line=word)
"""
TABLES = """
    - {old: public.shipments, columns: {order_ref: order_id}, references: {order_ref: public.orders}}
    - {old: public.clicks, references: {order_id: public.orders}, lossy: [n]}
    - {old: public.readings}
"""


@pytest.fixture
def kinds(migrate: Migrate) -> Migration:
    """One mapping of each kind, copied and running."""
    shop = migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables=TABLES,
        transforms=TRANSFORMS,
        options="cutover: {reverse: off}",
    )
    shop.streaming()
    shop.catch_up()
    return shop


DAMAGE = """
    UPDATE orders SET notes = notes[2:] || notes[1] WHERE body = 'body 7';
    DELETE FROM order_tags WHERE order_id = (SELECT id FROM orders WHERE body = 'body 8') AND tag = 'a';
    INSERT INTO order_tags (order_id, tag) SELECT id, 'new' FROM orders WHERE body = 'body 9';
    INSERT INTO order_tags (order_id, tag) VALUES ('00000000-0000-0000-0000-000000000001', 'orphan');
    INSERT INTO orders (id, body) VALUES ('00000000-0000-0000-0000-000000000002', 'nobody knows it');
    UPDATE orders SET follows = NULL WHERE body = 'body 11';
    UPDATE shipments SET order_id = (SELECT order_id FROM shipments WHERE id = 1) WHERE id = 2;
    INSERT INTO parties VALUES (8, 'person', 'a deleted one'), (9001, 'other', 'nobodys');
    DELETE FROM parties WHERE id = 102;
    UPDATE parties SET kind = 'firm' WHERE id = 5;
    INSERT INTO drafts (id, title) VALUES (3.5, 'filtered');
    UPDATE drafts SET seen = seen + interval '1 microsecond' WHERE id = 4.5;
    DELETE FROM words WHERE ctid = (SELECT min(ctid) FROM words WHERE draft_id = 5.5 AND word = 'twice');
    INSERT INTO words VALUES (7.50, 'twice');
    INSERT INTO lines (draft_id, line) VALUES (1000.5, 'orphan');
    DELETE FROM clicks WHERE ctid = (SELECT min(ctid) FROM clicks);
    UPDATE readings SET value = '1.0000001' WHERE place = 'place 3' AND at = '2024-01-04';
"""
"""Of each kind, without what only one test plants."""


def counts(document: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """Tables that are not equal: missing, extra, different, unsettled."""
    found = {
        one["table"].removeprefix("public."): (one["missing"], one["extra"], one["different"], one["unsettled"])
        for one in document["tables"]
    }
    return {table: numbers for table, numbers in found.items() if any(numbers)}


def test_each_kind_is_proven_equal_and_its_damage_is_named(kinds: Migration) -> None:
    """No finding where nothing is wrong; each planted damage by table, key, kind and column."""
    document = verify(kinds)
    assert {} == counts(document)
    rows = {one["table"].removeprefix("public."): one["rows"] for one in document["tables"]}
    wanted = {"orders": 60, "order_tags": 120, "shipments": 60, "parties": 105, "drafts": 40, "words": 120}
    wanted["lines"] = 120
    assert {**wanted, "clicks": 300, "readings": 300} == rows
    assert document["ok"]
    kinds.upgraded.execute(f"UPDATE order_tags SET votes = 5; {DAMAGE} INSERT INTO clicks VALUES (NULL, 'extra', 1)")
    uuids = dict(kinds.upgraded.execute("SELECT body, id::text FROM orders"))
    document = verify(kinds, code=1)
    found = {one[:4] for one in findings(kinds) if one[0] != "clicks"}
    tags = {key for table, key, kind, _ in found if (table, kind) == ("order_tags", "extra")}
    found -= {one for one in found if one[0] == "order_tags" and one[2] == "extra"}

    assert {
        ("orders", (uuids["body 7"],), "different", ("notes",)),
        ("order_tags", (uuids["body 8"],), "missing", ()),
        ("orders", (uuids["nobody knows it"],), "extra", ()),
        ("orders", (uuids["body 11"],), "different", ("follows",)),
        ("shipments", ("2",), "different", ("order_id",)),
        ("parties", ("8",), "extra", ()),
        ("parties", ("102",), "missing", ()),
        ("parties", ("5",), "different", ("kind",)),
        ("parties", ("5",), "extra", ()),  # a firm that there isn't
        ("drafts", ("3.5",), "extra", ()),
        ("drafts", ("4.5",), "different", ("seen",)),
        ("words", ("5.5",), "missing", ()),
        ("words", ("7.50",), "extra", ()),
        ("lines", ("121",), "extra", ()),
        ("readings", ("place 3", "2024-01-04"), "different", ("value",)),
    } == found
    assert set(kinds.upgraded.execute("SELECT id::text FROM order_tags WHERE tag IN ('new', 'orphan')")) == tags
    assert (1, 1, 0, 0) == counts(document)["clicks"]
