"""`replicator explain`: one row's story."""

import asyncio
import json
from typing import Any

import pytest

from replicator.config import load_connector
from replicator.daemon.explaining import Question, explain
from replicator.errors import ReplicatorError
from tests.fix_migration import Migrate, Migration

pytestmark = [pytest.mark.timeout(240)]

OLD = """
    CREATE TABLE users (id int PRIMARY KEY, email text, role text);
    CREATE TABLE notes (id int PRIMARY KEY, user_id int, body text);
    ALTER TABLE notes REPLICA IDENTITY FULL;
    CREATE TABLE plain (a int, b text, v text, PRIMARY KEY (a, b));
    INSERT INTO users SELECT n, 'u' || n || '@example.org', 'admin' FROM generate_series(1, 20) n;
    INSERT INTO notes SELECT n, n, 'secret ' || n FROM generate_series(1, 20) n;
    INSERT INTO plain SELECT n, 'b', 'v' FROM generate_series(1, 20) n;
"""
UPGRADED = """
    CREATE SCHEMA crm;
    CREATE TABLE crm.users (id uuid PRIMARY KEY, email text, notes text);
    CREATE TABLE crm.permissions (user_id uuid, permission text, PRIMARY KEY (user_id, permission));
    CREATE TABLE plain (a int, b text, v text, PRIMARY KEY (a, b));
"""
TRANSFORMS = """
    from uuid import NAMESPACE_OID, uuid5
    from replicator import Aggregate, KeyMap, Row, transform

    @transform(
        old={"public.users": "id", "public.notes": "user_id"},
        upgraded={"crm.users": "id", "crm.permissions": "user_id"},
        key=KeyMap(lambda id: uuid5(NAMESPACE_OID, str(id))),
    )
    def user(user: Aggregate):
        notes = sorted(note["body"] for note in user["public.notes"])
        yield user.root.to("crm.users").drop("role").set(notes="; ".join(notes))
        for permission in ("read", "write"):
            yield Row.of("crm.permissions", permission=permission)
"""


def explained(shop: Migration, *words: str, values: bool = False) -> dict[str, Any]:
    """What the command shows, in this process: many of them are slow to start."""
    connector = load_connector(shop.connector, shop.environment)
    table, *key = words
    return asyncio.run(explain(connector, Question(table, key, 60.0, values)))


def test_the_story_of_a_row(migrate: Migrate) -> None:
    """By either side's table, by its own key or the aggregate's: source, transform, target and writers; what is wrong,
    why, and what was known of it. Values only when they are asked for.
    """
    shop = migrate(old_schema=OLD, upgraded_schema=UPGRADED, tables="- {old: public.plain}", transforms=TRANSFORMS)
    shop.streaming()
    shop.catch_up()
    ((upgraded_key,),) = shop.upgraded.execute("SELECT id::text FROM crm.users WHERE email LIKE 'u5@%'")
    for words in (
        ("public.users", "5"),
        ("public.notes", "id=5"),
        ("crm.users", upgraded_key),
        ("crm.permissions", f"user_id={upgraded_key}"),
    ):
        document = explained(shop, *words)
        (story,) = document["stories"]
        assert ("equal", ["5"], True) == (story["verdict"], story["source"]["key"], story["source"]["exists"])
        assert ["public.users", "public.notes"] == [one["table"] for one in story["source"]["tables"]]
        assert [("crm.users", 1, 1), ("crm.permissions", 2, 2)] == [
            (one["table"], one["expected"], len(one["rows"])) for one in story["target"]
        ]
        assert {"the feed"} == {row["written_by"] for one in story["target"] for row in one["rows"]}
        assert "secret" not in json.dumps(document)
        assert document["last_verification"] is None

    shop.upgraded.execute("UPDATE crm.users SET notes = 'secret' WHERE email LIKE 'u5@%'")
    shop.upgraded.execute("DELETE FROM plain WHERE a = 7; INSERT INTO plain VALUES (900, 'b', 'v')")
    verified = shop.command("verify", "FILE", "--json", "--rate", "0")
    assert verified.wait(120) == 1, verified.story()
    document = explained(shop, "public.users", "5")
    (story,) = document["stories"]
    assert [("different", ["notes"], "outside_write")] == [
        (one["kind"], one["columns"], one["cause"]) for one in story["findings"]
    ]
    assert [("different", "open")] == [(one["kind"], one["state"]) for one in story["divergences"]]
    assert document["last_verification"]["ok"] is False
    assert "secret" not in json.dumps(document)
    assert "secret" in json.dumps(explained(shop, "public.users", "5", values=True))

    (missing,) = explained(shop, "public.plain", "a=7", "b=b")["stories"]
    assert ["missing"] == [one["kind"] for one in missing["findings"]]
    (extra,) = explained(shop, "public.plain", "900", "b")["stories"]
    assert (["extra"], False) == ([one["kind"] for one in extra["findings"]], extra["source"]["exists"])

    scripts = shop.command("explain", "FILE", "public.users", "5", "--json")
    human = shop.command("explain", "FILE", "public.users", "5")
    assert human.wait(120) == 1, human.story()
    assert "written by another session" in human.stdout
    assert "Next: replicator" in human.stdout
    assert scripts.wait(120) == 1, scripts.story()
    assert json.loads(scripts.stdout)["equal"] is False
    for words, message in (
        (("public.nothing", "5"), "maps no table"),
        (("public.plain", "5"), r"give values of \(a, b\)"),
        (("public.users", "five"), "integer"),
    ):
        with pytest.raises(ReplicatorError, match=message):
            explained(shop, *words)
