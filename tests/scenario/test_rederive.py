"""`replicator rederive`: after a transform has changed, only what it makes otherwise is written again."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration
from tests.scenario.test_verify import findings, verify

pytestmark = [pytest.mark.timeout(400)]

OLD = """
    CREATE TABLE users (id int PRIMARY KEY, full_name text, role text NOT NULL);
    CREATE TABLE plain (id int PRIMARY KEY, name text);
    INSERT INTO users SELECT n, 'First' || n || ' Last', (ARRAY['viewer', 'editor', 'admin', 'guest', 'bot'])[1 + n % 5]
        FROM generate_series(1, 500) n;
    INSERT INTO plain SELECT n, 'n' || n FROM generate_series(1, 100) n;
"""
UPGRADED = """
    CREATE TABLE users (id uuid PRIMARY KEY, name text, note text);
    CREATE TABLE user_permissions (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid NOT NULL,
                                   permission text NOT NULL, UNIQUE (user_id, permission));
    CREATE TABLE plain (id int PRIMARY KEY, name text);
"""
TRANSFORMS = """
    from uuid import UUID, uuid5
    from replicator import KeyMap, Row, transform
    from roles import PERMISSIONS, hidden

    SPACE = UUID("9d1f7c52-3d0c-4f0e-8d57-2b8f6a3c9e10")

    @transform(
        old="public.users",
        upgraded={"public.users": "id", "public.user_permissions": "user_id"},
        key=KeyMap(lambda number: uuid5(SPACE, str(number)), sequence="public.users_id"),
    )
    def user(row: Row):
        if hidden(row["role"]):
            return
        yield row.to("public.users").drop("full_name", "role").set(name=row["full_name"])
        for permission in PERMISSIONS[row["role"]]:
            yield Row.of("public.user_permissions", permission=permission)
"""
ROLES = """
PERMISSIONS = {"viewer": ("read",), "editor": ("read", "write"), "admin": ("read", "write", "invite"),
               "guest": (), "bot": ("read",)}
def hidden(role):
    return role == "bot"
"""
CHANGED = """
PERMISSIONS = {"viewer": ("read",), "editor": ("read", "write"), "admin": ("read", "grant", "invite"),
               "guest": (), "bot": ("read",)}
def hidden(role):
    return role == "guest"
"""
USERS = "SELECT id::text, u::text, xmin::text FROM users u"
GRANTS = "SELECT user_id::text, p::text, xmin::text FROM user_permissions p"


def state(shop: Migration) -> dict[str, list[Any]]:
    """What the target has of each user, with the transactions that wrote it."""
    found: dict[str, list[Any]] = {}
    for key, *rest in sorted([*shop.upgraded.execute(USERS), *shop.upgraded.execute(GRANTS)]):
        found.setdefault(key, []).append(tuple(rest))
    return found


def rederive(shop: Migration, *options: str, code: int = 0) -> dict[str, Any]:
    """Run the command; returns its JSON."""
    process = shop.command("rederive", "FILE", "--table", "public.users", "--json", *options)
    assert code == process.wait(120), process.story()
    document: dict[str, Any] = json.loads(process.stdout)
    return document


def status(shop: Migration) -> dict[str, Any]:
    """What `status` says."""
    process = shop.command("status", "FILE", "--json")
    assert 0 == process.wait(), process.story()
    document: dict[str, Any] = json.loads(process.stdout)
    return document


@pytest.fixture
def shop(migrate: Migrate, tmp_path: Path) -> Migration:
    """One user to many rows, under another key, with what the transform imports in a file beside it."""
    (tmp_path / "roles.py").write_text(ROLES)
    return migrate(
        old_schema=OLD,
        upgraded_schema=UPGRADED,
        tables="- {old: public.plain}",
        transforms=TRANSFORMS,
        options="cutover: {reverse: off}\nbackfill: {chunk_rows: 100}",
    )


def test_only_what_comes_out_otherwise_is_written(shop: Migration, tmp_path: Path) -> None:
    """A changed helper of the transform is noticed and told; a dry run counts; rederive writes the aggregates whose
    outcome changed, removes those that are left out now, inserts those that weren't before, and touches no other row.
    """
    daemon = shop.streaming()
    shop.catch_up()
    assert {} == status(shop)["transform_changed"]
    before = state(shop)
    (tmp_path / "roles.py").write_text(CHANGED)
    counted = rederive(shop, "--dry-run")["mappings"]["public.users"]
    # 100 of each role: bots come with a permission, guests go, an admin's permission is another one.
    assert (300, 200, 0, 500) == (counted["missing"], counted["extra"], counted["different"], counted["done"])
    assert before == state(shop)
    refused = rederive(shop, code=1)
    assert "restart the daemon" in refused["message"]
    daemon.terminate()
    daemon.wait()
    daemon = shop.streaming()
    assert ["public.users"] == [line["mapping"] for line in daemon.logged("transform changed")]
    assert ["public.users"] == list(status(shop)["transform_changed"])
    process = shop.command("plan", "FILE")
    process.wait()
    assert "replicator rederive FILE --table public.users" in process.stdout
    shop.old.execute("UPDATE users SET full_name = 'Another Name' WHERE id = 6")
    done = rederive(shop)
    after = state(shop)

    assert 300 <= done["mappings"]["public.users"]["aggregates"] <= 301
    assert {} == status(shop)["transform_changed"]
    roles = dict(shop.old.execute("SELECT id, role FROM users"))
    names = dict(shop.upgraded.execute("SELECT upgraded_key[1], old_key[1]::int FROM replicator.key_map"))
    touched = {names[key] for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {number for number, role in roles.items() if role in {"admin", "guest", "bot"}} | {6} == touched
    verify(shop, code=0)
    assert set() == findings(shop)
