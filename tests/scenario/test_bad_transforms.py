"""Transforms that are wrong: told by function, table and key, in the log, in the queue, by `replicator test`."""

import json
import textwrap
from typing import Any

import pytest

from tests.fix_migration import Migrate, Migration

SCHEMA = """
    CREATE TABLE users (id int PRIMARY KEY, name text, role text NOT NULL DEFAULT 'viewer');
    CREATE TABLE people (id int PRIMARY KEY, name varchar(10), born date);
    CREATE TABLE grants (user_id int, what text, PRIMARY KEY (user_id, what));
"""
# What is made of the user with the number of its place, and what is said of it.
MISTAKES = (
    ("row.set(name=1 / 0)", "raised ZeroDivisionError (at shop.py:"),
    ("midway(row)", "raised KeyError (at shop.py:"),
    ("{'id': row['id']}", "returned a dict, where a Row, an iterable of Rows, or None is expected"),
    ("later(row)", "returned a coroutine: a transform must not be async"),
    ("good(row).set(nmae='x')", "no column nmae in public.people; did you mean name? (there are: id, name, born)"),
    ("good(row).to('public.users')", "returned a row for public.users, and it is declared for public.people"),
    ("good(row).set(id=8)", "returned a row for public.people that belongs to another aggregate"),
    ("good(row).set(id=None)", "returned a row for public.people whose key column id is NULL"),
    ("good(row).set(born=object())", "returned a row for public.people that can't be written: column born"),
    ("sys.exit(0)", "raised SystemExit (at shop.py:"),
    ("[good(row), good(row)]", "returned 2 rows for the root table public.people"),
    ("[Row.of('public.grants', what='x')]", "returned rows, but none for the root table public.people"),
    ("[good(row), *two_grants()]", "two rows with the same (user_id, what)"),
    ("good(row).set(name=RawText('x' * 11))", "value too long for type character varying(10)"),
    ("good(row).set(born=RawText('no day'))", "invalid input syntax for type date"),
    ("row.drop('role')", "returned a row that doesn't say for which table it is"),
    ("recursive(row)", "raised RecursionError (at shop.py:"),
    ("good(row).raw('nme')", "no column nme in public.people; did you mean name?"),
)
TRANSFORM = """
    import sys
    from replicator import RawText, Row, transform

    @transform(old="public.users", upgraded={"public.people": "id", "public.grants": "user_id"})
    def user(row: Row):
        return MADE.get(row["id"], good)(row)

    def good(row):
        return row.to("public.people").drop("role")

    def midway(row):
        yield good(row)
        raise KeyError(row["name"])

    async def later(row):
        return good(row)

    def two_grants():
        return [Row.of("public.grants", what="x"), Row.of("public.grants", what="x")]

    def recursive(row):
        return recursive(row)

    MADE = {
"""


def transform() -> str:
    lines = [f"        {number}: lambda row: {made}," for number, (made, _) in enumerate(MISTAKES, 1)]
    return textwrap.dedent("\n".join([TRANSFORM.rstrip(), *lines, "    }"]))


def letters(shop: Migration) -> dict[str, dict[str, Any]]:
    """Dead letters by key, as `replicator dlq list` prints them."""
    process = shop.command("dlq", "list", "FILE", "--json")
    assert process.wait() == 0, process.story()
    return {letter["key"][0]: letter for letter in json.loads(process.stdout)}


@pytest.mark.parametrize("streamed", [False, True])
def test_every_mistake_is_told(migrate: Migrate, *, streamed: bool) -> None:
    """Copied or streamed: each refused row waits under its key, with the function's name and never a value."""
    shop = migrate(SCHEMA, tables="[]", transforms=transform(), options="apply: {on_error: dlq}")
    insert = "INSERT INTO users SELECT n, 'secret' || n FROM generate_series(1, 30) n"
    if not streamed:
        shop.old.execute(insert)
    daemon = shop.streaming()
    if streamed:
        shop.old.execute(insert)
        shop.catch_up()

    found = letters(shop)
    assert {str(number) for number in range(1, len(MISTAKES) + 1)} == found.keys()
    for number, (made, told) in enumerate(MISTAKES, 1):
        letter = found[str(number)]
        assert told in letter["message"], (made, letter)
        if letter["kind"] == "transform":
            assert "user (shop.py:" in letter["message"], (made, letter)
        assert "secret" not in letter["message"]
    good = list(range(len(MISTAKES) + 1, 31))
    assert [(number,) for number in good] == shop.upgraded.execute("SELECT id FROM people ORDER BY 1")
    assert "secret" not in daemon.story()


def test_the_feed_stops_at_it(migrate: Migrate) -> None:
    """Everything before the guilty row is applied, the log and `replicator test` name it; a corrected file goes on."""
    shop = migrate(SCHEMA, tables="[]", transforms=transform())
    shop.old.execute("INSERT INTO users SELECT n, 'secret' || n FROM generate_series(31, 40) n")
    daemon = shop.streaming()
    shop.change("""
        INSERT INTO users VALUES (41, 'before')

        INSERT INTO users VALUES (1, 'secret');
        INSERT INTO users VALUES (42, 'after')
    """)

    failed = daemon.wait_for_log("connector failed")
    assert ("transform", "public.users", "(1)") == (failed["error_kind"], failed["table"], failed["key"])
    assert "transform user (shop.py:5): raised ZeroDivisionError (at shop.py:" in failed["error"]
    assert [(41,)] == shop.upgraded.execute("SELECT max(id) FROM people")
    test = shop.command("test", "FILE", "--seed", "1")
    assert test.wait() == 1, test.story()
    assert "raised ZeroDivisionError" in test.stdout
    assert "(1)" in test.stdout
    assert "secret" not in test.stdout + daemon.story()
    daemon.terminate()
    assert daemon.wait() == 1, daemon.story()

    file = shop.connector.with_suffix(".py")
    file.write_text(file.read_text().replace("row.set(name=1 / 0)", "good(row)"))
    shop.streaming()
    shop.catch_up()
    assert [(1,), (42,)] == shop.upgraded.execute("SELECT id FROM people WHERE id IN (1, 42) ORDER BY 1")


BROKEN = {
    "from replicator import transform\ndef user(row:\n": "shop.py:2: syntax error: '(' was never closed",
    "import replicator\nimport no_such_thing\n": "shop.py:2: ModuleNotFoundError: No module named 'no_such_thing'",
    "import sys\nsys.exit(3)\n": "shop.py:2: SystemExit: 3",
    "x = 1\n": "shop.py: declares no transform",
}


def test_files_that_do_not_load(migrate: Migrate) -> None:
    """Commands end with 78, and file and line; the daemon logs the same, and is there to be asked."""
    shop = migrate(SCHEMA, tables="[]", transforms="")
    for text, told in BROKEN.items():
        shop.connector.with_suffix(".py").write_text(text)
        for command in ("validate", "plan", "test"):
            process = shop.command(command, "FILE")
            assert 78 == process.wait(), process.story()
            assert told in process.story()
    failed = shop.start().wait_for_log("connector failed")
    assert "config" == failed["error_kind"]
    assert told in failed["error"]
    assert [] == shop.old.execute("SELECT FROM pg_replication_slots WHERE database = current_database()")


IMPURE = """
    import random
    from replicator import Row, transform

    seen = []

    @transform(old="public.users", upgraded="public.people", lossy="role")
    def user(row: Row):
        seen.append(row["id"])
        return row.drop("role").set(name=str(len(seen) % 1000))

    @user.inverse
    def user_back(row: Row):
        return row.drop("born")
"""


def test_impure_functions_are_found(migrate: Migrate) -> None:
    """A function that remembers what it has seen breaks a law, and the column is named."""
    shop = migrate(SCHEMA, tables="[]", transforms=IMPURE)
    shop.old.execute("INSERT INTO users SELECT n, 'x' FROM generate_series(1, 30) n")

    test = shop.command("test", "FILE")

    assert 1 == test.wait(), test.story()
    assert "(name)" in test.stdout
    assert "broken: the same aggregate gives the same" in test.stdout


INVERSE = """
    from replicator import Row, transform

    @transform(old="public.users", upgraded="public.people", lossy=LOSSY)
    def user(row: Row):
        return row.drop("role").set(name=row["name"][:1])

    @user.inverse
    def user_back(row: Row):
        return row.drop("born")
"""


@pytest.mark.parametrize("lossy, told", [("()", "(name, role)"), ('"role"', "(name)"), ('("name", "role")', None)])
def test_losses_are_found_unless_declared(migrate: Migrate, lossy: str, told: str | None) -> None:
    """What the inverse doesn't give back is named column by column, but for what is declared; its values are not."""
    shop = migrate(SCHEMA, tables="[]", transforms=INVERSE.replace("LOSSY", lossy))
    shop.old.execute("INSERT INTO users SELECT n, 'secret', 'admin' FROM generate_series(1, 30) n")

    test = shop.command("test", "FILE")

    assert (0 if told is None else 1) == test.wait(), test.story()
    assert told is None or f"public.users {told}:" in test.stdout
    assert "secret" not in test.stdout
