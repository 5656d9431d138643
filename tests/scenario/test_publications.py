"""Publications and slots that a DBA made, that lack something, or that went away; a source that can't have any."""

import pytest

from tests.fix_migration import Migrate
from tests.fix_postgres import MakeDatabase, MakeServer
from tests.fix_replicator import ReplicatorProcess

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

QUICK = "apply: {retry: {initial: 50ms, max: 300ms}}"
TABLES = "CREATE TABLE parts (id int PRIMARY KEY, label text); CREATE TABLE places (id int PRIMARY KEY, label text)"
BY_A_DBA = QUICK + "\nstream: {create: false, slot: dba_slot, publication: dba_publication}"
PUBLICATION = "WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"


def assert_fails(daemon: ReplicatorProcess, *words: str, kind: str = "config") -> None:
    """The connector fails in these words (of message or hint), and the daemon's exit code says so."""
    failed = daemon.wait_for_log("connector failed", error_kind=kind)
    for word in words:
        assert word in failed["error"] + failed.get("hint", "")
    daemon.terminate()
    assert 1 == daemon.wait(), daemon.story()


def test_made_by_a_dba(migrate: Migrate, make_database: MakeDatabase) -> None:
    """With create: false a role without any right to make them works on a DBA's slot and publication, step by step."""
    old = make_database()
    role = f"reader_{old.name}"
    old.execute(f"CREATE ROLE {role} LOGIN REPLICATION; GRANT ALL ON SCHEMA public TO postgres")
    shop = migrate(
        TABLES,
        old_schema=f"GRANT SELECT ON parts, places TO {role}",
        options=BY_A_DBA,
        old=old,
        old_dsn=old.dsn.replace("postgres@", f"{role}@"),
    )
    old.execute("INSERT INTO parts VALUES (1, 'one')")
    # The daemon says what lacks and the statement, which the DBA then runs.
    assert_fails(shop.start(), "dba_publication does not exist", "CREATE PUBLICATION")
    old.execute(f"CREATE PUBLICATION dba_publication FOR TABLE ONLY parts {PUBLICATION}")
    lacking = 'ALTER PUBLICATION "dba_publication" ADD TABLE ONLY "public"."places"'
    assert_fails(shop.start(), "lacks 1 mapped table(s): public.places", lacking)
    old.execute(lacking)
    making = "SELECT pg_create_logical_replication_slot('dba_slot', 'pgoutput')"
    assert_fails(shop.start(), "dba_slot does not exist", making)
    old.execute(making)

    shop.streaming()
    old.execute("INSERT INTO places VALUES (1, 'here'); UPDATE parts SET label = 'two'")
    shop.catch_up()
    shop.same_tables("parts", "places")
    assert [] == old.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'replicator'")
    shop.started[-2].kill()
    old.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
    old.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_table_leaves_the_publication(migrate: Migrate) -> None:
    """A DBA took a mapped table out of the publication: the next start stops and says that it needs a new copy."""
    shop = migrate(TABLES, options=QUICK + "\nstream: {create: false}")
    shop.old.execute(f"CREATE PUBLICATION replicator_shop FOR TABLE ONLY parts, ONLY places {PUBLICATION}")
    shop.old.execute("SELECT pg_create_logical_replication_slot('replicator_shop', 'pgoutput')")
    shop.run_until_caught_up()
    shop.old.execute("ALTER PUBLICATION replicator_shop DROP TABLE places")
    shop.old.execute("INSERT INTO places VALUES (1, 'unpublished')")

    assert_fails(shop.start(), "lacks 1 mapped table(s): public.places", "replicator resync")


def test_dropped_while_running(migrate: Migrate) -> None:
    """Without its publication the stream has a gap from the next change on: it stops, in place of leaving it out."""
    shop = migrate(TABLES, options=QUICK)
    daemon = shop.streaming()
    shop.old.execute("INSERT INTO parts VALUES (1, 'one')")
    shop.catch_up()
    shop.old.execute("DROP PUBLICATION replicator_shop")
    shop.old.execute("INSERT INTO parts VALUES (2, 'unpublished')")

    assert_fails(daemon, "gap", "new backfill")
    # Not by starting again either: the publication is made anew, but what it left out is in no stream.
    assert_fails(shop.start(), "gap", "new backfill")
    assert [(1, "one")] == shop.upgraded.execute("SELECT * FROM parts")


def test_dropped_while_stopped(migrate: Migrate) -> None:
    """A publication that was away while something was written is a gap, too, when the daemon starts."""
    shop = migrate(TABLES, options=QUICK)
    shop.run_until_caught_up()
    shop.old.execute("DROP PUBLICATION replicator_shop")
    shop.old.execute("INSERT INTO parts VALUES (1, 'unpublished')")

    assert_fails(shop.start(), "gap", "new backfill")
    assert [] == shop.upgraded.execute("SELECT * FROM parts")


def test_wal_level(migrate: Migrate, make_server: MakeServer, make_database: MakeDatabase) -> None:
    """A source whose WAL can't be decoded is told with the setting, and that it takes a restart."""
    server = make_server(settings={"wal_level": "replica"})
    shop = migrate(TABLES, options=QUICK, old=make_database(server))
    daemon = shop.start()

    assert_fails(daemon, "wal_level", "logical", "restart")


@pytest.mark.parametrize("running", [True, False])
def test_a_table_was_away_for_a_while(migrate: Migrate, running: bool) -> None:
    """A table left the publication: the daemon puts it back, goes on, and asks for a resync."""
    shop = migrate(TABLES, options=QUICK)
    daemon = shop.streaming()
    if not running:
        daemon.terminate()
        assert 0 == daemon.wait(), daemon.story()
    shop.old.execute("ALTER PUBLICATION replicator_shop DROP TABLE places")
    shop.old.execute("INSERT INTO places VALUES (1, 'unpublished')")
    if not running:
        daemon = shop.start()
    asked = daemon.wait_for_log("resync needed", mapping="public.places", timeout=60)
    assert "public.places is not in publication" in asked["reason"]
    daemon.wait_for_log("streaming")
    shop.old.execute("INSERT INTO places VALUES (2, 'published')")
    shop.catch_up()
    assert [(2, "published")] == shop.upgraded.execute("SELECT * FROM places")

    resync = shop.command("resync", "FILE", "public.places")
    assert 0 == resync.wait(), resync.story()
    shop.same_tables("places")
    assert [] == shop.upgraded.execute("SELECT mapping FROM replicator.stale_mapping")


def test_updates_are_published_no_more(migrate: Migrate) -> None:
    """A publication that was altered to leave out updates stops the feed, and all its tables need a resync."""
    shop = migrate(TABLES, options=QUICK)
    shop.old.execute("INSERT INTO parts VALUES (1, 'one')")
    daemon = shop.streaming()
    shop.old.execute("ALTER PUBLICATION replicator_shop SET (publish = 'insert, delete, truncate')")
    shop.old.execute("UPDATE parts SET label = 'unpublished'")
    assert_fails(daemon, "leaves out update", "ALTER PUBLICATION", "replicator resync")
    shop.old.execute("ALTER PUBLICATION replicator_shop SET (publish = 'insert, update, delete, truncate')")

    daemon = shop.start()
    asked = daemon.wait_for_log("resync needed", mapping="public.parts")
    assert "without its update" in asked["reason"]
