"""Columns that come, go and change their type while the daemon runs, on either side: it goes on, or says why not."""

import pytest

from tests.fix_migration import Migrate, Migration
from tests.fix_replicator import ReplicatorProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TABLE = "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(10), c numeric(10,2), d text)"
ROWS = "INSERT INTO t SELECT n, n, 'b' || n, n, repeat('d', 9000) FROM generate_series(1, 50) n"


def stopped(shop: Migration, daemon: ReplicatorProcess) -> str:
    """Wait until the connector has failed; its error and hint. The daemon is ended."""
    failed = daemon.wait_for_log("connector failed", 60)
    daemon.terminate()
    daemon.wait()
    return f"{failed['error']} {failed.get('column', '')} {failed.get('hint', '')}"


def write(shop: Migration, first: int, columns: str = "", values: str = "") -> None:
    shop.old.execute(
        f"INSERT INTO t (id, a{columns}) SELECT n, 0{values} FROM generate_series({first}, {first + 4}) n;"
        f"UPDATE t SET a = {first} WHERE id % 3 = 0; UPDATE t SET id = id + 10000 WHERE id = {first};"
        f"DELETE FROM t WHERE id = {first + 1}"
    )


def test_a_column_that_comes_upgraded_first(migrate: Migrate) -> None:
    """Added on the upgraded side, then on the old one, in the middle of a transaction: the running feed goes on."""
    shop = migrate(TABLE, old_schema=ROWS)
    daemon = shop.streaming()
    shop.upgraded.execute("ALTER TABLE t ADD e text, ADD f int")
    write(shop, 100)
    with shop.old.connect() as session:
        session.execute("INSERT INTO t VALUES (200, 1)")
        session.execute("ALTER TABLE t ADD e text, ADD f int")
        session.execute("INSERT INTO t VALUES (201, 1, 'x', 1, 'd', 'e', 7)")
        session.execute("UPDATE t SET f = 9, e = repeat('e', 9000) WHERE id < 20")
    write(shop, 300, ", e", ", 'e'")
    shop.catch_up()

    shop.same_tables("t")
    assert daemon.running


def test_a_column_that_comes_on_the_old_side_only(migrate: Migrate) -> None:
    """The feed stops before the first row with it, names it and what to do; once the column is there it goes on."""
    shop = migrate(TABLE, old_schema=ROWS)
    daemon = shop.streaming()
    write(shop, 100)
    shop.old.execute("ALTER TABLE t ADD e text")
    write(shop, 200, ", e", ", 'e'")
    error = stopped(shop, daemon)
    assert "no column e" in error
    assert "public.t" in error
    assert [(0,)] == shop.upgraded.execute("SELECT count(*) FROM t WHERE id BETWEEN 200 AND 300")
    assert [(4,)] == shop.upgraded.execute("SELECT count(*) FROM t WHERE id BETWEEN 100 AND 105 OR id = 10100")

    shop.upgraded.execute("ALTER TABLE t ADD e text")
    shop.streaming()
    shop.catch_up()
    shop.same_tables("t")


def test_a_column_that_goes_from_both_sides(migrate: Migrate) -> None:
    """Dropped on the old side, then on the upgraded one: rows from before and after both go on."""
    shop = migrate(TABLE, old_schema=ROWS)
    daemon = shop.streaming()
    write(shop, 100, ", b", ", 'b'")
    shop.old.execute("ALTER TABLE t DROP b")
    write(shop, 200, ", d", ", 'd'")
    shop.catch_up()
    assert [(45,)] == shop.upgraded.execute("SELECT count(*) FROM t WHERE b IS NOT NULL AND id <= 50 AND id % 10 <> 0")
    shop.upgraded.execute("ALTER TABLE t DROP b")
    write(shop, 300, ", d", ", 'd'")
    shop.catch_up()

    shop.same_tables("t")
    assert daemon.running


def test_a_column_that_goes_from_the_upgraded_side_only(migrate: Migrate) -> None:
    """The feed stops, names it, and goes on once the connector leaves it out."""
    shop = migrate(TABLE, old_schema=ROWS)
    daemon = shop.streaming()
    shop.upgraded.execute("ALTER TABLE t DROP b")
    write(shop, 100, ", b", ", 'b'")
    error = stopped(shop, daemon)
    assert "column" in error
    assert " b" in error.replace('"', " ")

    again = shop.start()
    assert "has no column b" in stopped(shop, again)
    text = shop.connector.read_text()
    shop.connector.write_text(text.replace('- {old: "public.*"}', "- {old: public.t, drop: [b]}"))
    shop.streaming()
    shop.catch_up()
    shop.same("SELECT id, a, c, d FROM t")


def test_types_that_grow_upgraded_first(migrate: Migrate) -> None:
    """Widened on the upgraded side, then on the old one: the running feed goes on with the wider values."""
    shop = migrate(TABLE, old_schema=ROWS)
    daemon = shop.streaming()
    grow = "ALTER TABLE t ALTER a TYPE bigint, ALTER b TYPE varchar(100), ALTER c TYPE numeric(20,2)"
    shop.upgraded.execute(grow)
    write(shop, 100, ", b, c", ", 'b', 1.25")
    shop.old.execute(grow)
    write(shop, 200, ", b, c", ", repeat('b', 100), 123456789012345678.99")
    shop.old.execute("UPDATE t SET a = 9223372036854775807 WHERE id < 10")
    shop.catch_up()

    shop.same_tables("t")
    assert daemon.running


@pytest.mark.parametrize(
    "change, column",
    [("ALTER b TYPE varchar(12)", "b"), ("ALTER c TYPE numeric(12,3)", "c"), ("ALTER a TYPE bigint", "a")],
)
def test_types_that_grow_on_the_old_side_only(migrate: Migrate, change: str, column: str) -> None:
    """Values that would be cut, rounded or refused stop the feed before the first of them, and name the column."""
    shop = migrate(TABLE, old_schema=ROWS)
    daemon = shop.streaming()
    shop.old.execute(f"ALTER TABLE t {change}")
    write(shop, 100, ", b, c", ", 'b1234567  ', 1.26")
    shop.old.execute("INSERT INTO t VALUES (999, 1, '123456789   ', 1.255)")
    error = stopped(shop, daemon)
    assert f"public.t.{column}" in error
    assert "does not fit" in error
    assert [(0,)] == shop.upgraded.execute("SELECT count(*) FROM t WHERE id > 50")

    shop.upgraded.execute(f"ALTER TABLE t {change}")
    shop.streaming()
    shop.catch_up()
    shop.same("SELECT id, a, b, d FROM t")
    shop.same("SELECT id, c FROM t WHERE id > 100 AND id < 1000")


def test_types_that_shrink_on_the_upgraded_side(migrate: Migrate) -> None:
    """A column that no longer takes every value stops the feed, whatever the values."""
    shop = migrate(TABLE, old_schema=ROWS)
    daemon = shop.streaming()
    shop.upgraded.execute("ALTER TABLE t ALTER c TYPE numeric(10,1)")
    write(shop, 100, ", c", ", 1.5")
    error = stopped(shop, daemon)
    assert "public.t.c" in error
    assert "numeric(10,2) does not fit into numeric(10,1)" in error


def test_a_column_that_came_and_went_while_nobody_ran(migrate: Migrate) -> None:
    """The stream still has its values; nobody wants them any more, and the feed goes on."""
    shop = migrate(TABLE, old_schema=ROWS)
    shop.streaming().terminate()
    assert shop.started[0].wait() == 0
    write(shop, 100)
    shop.old.execute("ALTER TABLE t ADD e text, ADD f int")
    write(shop, 200, ", e, f", ", 'e', 1")
    shop.old.execute("ALTER TABLE t DROP e")
    write(shop, 300, ", f", ", 1")
    shop.old.execute("ALTER TABLE t DROP f")
    write(shop, 400)
    shop.streaming()
    shop.catch_up()

    shop.same_tables("t")


def test_a_column_that_was_renamed_while_changes_waited(migrate: Migrate) -> None:
    """They have its value under its former name: what they left out is said, and a resync brings it."""
    shop = migrate("CREATE TABLE t (id int PRIMARY KEY, a int)")
    shop.streaming().terminate()
    assert shop.started[0].wait() == 0
    shop.old.execute("INSERT INTO t VALUES (1, 7)")
    for side in (shop.old, shop.upgraded):
        side.execute("ALTER TABLE t RENAME a TO b")
    daemon = shop.streaming()
    shop.catch_up()
    assert "a is called b now" in str(daemon.logged("resync needed")[0])

    resync = shop.command("resync", "FILE", "public.t")

    assert 0 == resync.wait(60), resync.story()
    shop.same_tables("t")


@pytest.mark.parametrize(
    "old, upgraded, value",
    [
        ("numeric(10,2)", "numeric(10,1)", "1.25"),
        ("timestamp", "timestamp(0)", "2024-01-01 00:00:00.7"),
        ("varchar(5)", "varchar(3)", "abc  "),
        ("text", "name", "x"),
    ],
)
def test_a_start_refuses_what_would_be_lost(migrate: Migrate, old: str, upgraded: str, value: str) -> None:
    """A target column that would round or cut silently is refused before a row is written, unless declared lossy."""
    shop = migrate(
        old_schema=f"CREATE TABLE t (id int PRIMARY KEY, v {old}); INSERT INTO t VALUES (1, '{value}')",
        upgraded_schema=f"CREATE TABLE t (id int PRIMARY KEY, v {upgraded})",
    )
    error = stopped(shop, shop.start())
    assert "public.t.v" in error
    assert "does not fit into" in error
    assert [(0,)] == shop.upgraded.execute("SELECT count(*) FROM t")

    shop.connector.write_text(shop.connector.read_text().replace('"public.*"', "public.t, lossy: [v]"))
    shop.run_until_caught_up()
    assert [(1,)] == shop.upgraded.execute("SELECT count(*) FROM t WHERE v IS NOT NULL")
