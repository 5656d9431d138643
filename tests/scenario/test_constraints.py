"""Constraints of the upgraded side, kept while replicated rows pass by them: deferrable keys, circles, cascades."""

import threading

import pytest

from tests.fix_migration import Migrate
from tests.fix_postgres import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

DEFERRABLE = """
    CREATE TABLE seats (
        id int PRIMARY KEY DEFERRABLE INITIALLY IMMEDIATE,
        place int UNIQUE DEFERRABLE INITIALLY DEFERRED,
        span int4range, EXCLUDE USING gist (span WITH &&) DEFERRABLE,
        body text
    );
"""
FULL = "ALTER TABLE seats REPLICA IDENTITY FULL;"
SEATS = """
    INSERT INTO seats SELECT n, n, int4range(n * 10, n * 10 + 5), repeat('b', 3000) FROM generate_series(1, 60) n;
"""


@pytest.mark.parametrize("lanes", [1, 4])
def test_deferrable_keys(migrate: Migrate, lanes: int) -> None:
    """Keys and values that rows exchange within one statement, as deferrable constraints allow, arrive."""
    shop = migrate(DEFERRABLE, old_schema=FULL + SEATS, options=f"apply: {{lanes: {lanes}}}")
    shop.streaming()
    shop.same_tables("seats")

    shop.old.execute("UPDATE seats SET id = 61 - id")
    shop.old.execute("UPDATE seats SET place = 61 - place; UPDATE seats SET body = 'x' WHERE id < 30")
    shop.old.execute("BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE seats SET id = id + 1; COMMIT")
    shop.old.execute(
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE seats SET span = int4range(lower(span) + 10, upper(span) + 10);"
        "DELETE FROM seats WHERE id % 7 = 0; INSERT INTO seats VALUES (7, NULL, NULL, 'again'); COMMIT"
    )
    shop.old.execute("UPDATE seats SET id = CASE id WHEN 10 THEN 11 ELSE 10 END WHERE id IN (10, 11)")
    shop.catch_up()
    shop.same_tables("seats")


def test_a_deferrable_key_is_still_a_key(migrate: Migrate) -> None:
    """A value that another row holds is refused, though the check is a trigger and the role turns triggers off."""
    shop = migrate(
        old_schema="CREATE TABLE seats (id int PRIMARY KEY, place int, span int4range, body text)",
        upgraded_schema=DEFERRABLE,
    )
    shop.old.execute(SEATS)
    daemon = shop.streaming()
    shop.old.execute("INSERT INTO seats VALUES (100, 5, NULL, 'twice')")
    failed = daemon.wait_for_log("connector failed")
    assert failed["constraint"] == "seats_place_key"
    assert [] == shop.upgraded.execute("SELECT place FROM seats GROUP BY place HAVING count(*) > 1")


def shift(database: Database) -> None:
    """Unique values that swap, shift and rotate among rows, in transactions of all sizes."""
    with database.connect(autocommit=True) as session:
        for n in range(1, 251):
            with session.transaction():  # a pair, far apart
                a, b = 1 + n * 7 % 2000, 2000 - n * 13 % 2000
                session.execute("UPDATE seats SET place = -1 WHERE id = %s", [a])
                session.execute("UPDATE seats SET place = %s WHERE id = %s", [-b - 10, b])
                session.execute(
                    "UPDATE seats SET place = CASE id WHEN %(a)s THEN %(y)s ELSE %(x)s END WHERE id IN (%(a)s, %(b)s)",
                    {"a": a, "b": b, "x": 100_000 + n * 2, "y": 100_001 + n * 2},
                )
            with session.transaction():  # a chain: each takes the next one's
                first = 1 + n * 3 % 1900
                session.execute(b"CREATE TEMP TABLE IF NOT EXISTS was (id int, place int); TRUNCATE was")
                session.execute(
                    "INSERT INTO was SELECT id, place FROM seats WHERE id BETWEEN %s AND %s", [first, first + 9]
                )
                session.execute("UPDATE seats SET place = -place WHERE id BETWEEN %s AND %s", [first, first + 9])
                session.execute(
                    "UPDATE seats s SET place = w.place FROM was w WHERE s.id BETWEEN %s AND %s "
                    "AND w.id = CASE s.id WHEN %s THEN %s ELSE s.id + 1 END",
                    [first, first + 9, first + 9, first],
                )
            session.execute("UPDATE seats SET place = NULL WHERE id = %s", [1 + n % 2000])
            session.execute("DELETE FROM seats WHERE id = %s", [1 + n * 11 % 2000])
            session.execute(
                "INSERT INTO seats VALUES (%s, %s) ON CONFLICT DO NOTHING", [1 + n * 11 % 2000, 500_000 + n]
            )


@pytest.mark.parametrize("lanes", [1, 4])
def test_unique_values_in_motion(migrate: Migrate, lanes: int) -> None:
    """Swapped and shifted all through the copy and after it, between chunks and between lanes."""
    shop = migrate(
        "CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE)",
        options=f"apply: {{lanes: {lanes}}}\nbackfill: {{chunk_rows: 100, workers: 3}}",
    )
    shop.old.execute("INSERT INTO seats SELECT n, n FROM generate_series(1, 2000) n")
    writer = threading.Thread(target=shift, args=(shop.old,))
    daemon = shop.start()
    daemon.wait_for_log("backfill started", 60)
    writer.start()
    writer.join()
    shop.catch_up()
    shop.same_tables("seats")
    assert not [line for line in daemon.logs if line["event"] == "connector failed"]


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_long_chain(migrate: Migrate, lanes: int) -> None:
    """Each of 1,100 rows takes the next one's value before that has given it up: all of it arrives."""
    shop = migrate(
        old_schema="CREATE TABLE seats (id int PRIMARY KEY, place int)",
        upgraded_schema="CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE)",
        options=f"apply: {{lanes: {lanes}, batch_rows_max: 100}}",
    )
    shop.old.execute("INSERT INTO seats SELECT n, n FROM generate_series(1, 1100) n")
    shop.streaming()
    shop.old.execute("UPDATE seats SET place = place + 1")
    shop.catch_up()
    shop.same_tables("seats")


CIRCLE = """
    CREATE TABLE people (id int PRIMARY KEY, team_id int NOT NULL, boss_id int REFERENCES people);
    CREATE TABLE teams (id int PRIMARY KEY, lead_id int NOT NULL REFERENCES people DEFERRABLE INITIALLY DEFERRED);
    ALTER TABLE people ADD FOREIGN KEY (team_id) REFERENCES teams DEFERRABLE INITIALLY DEFERRED;
    CREATE TABLE badges (id int PRIMARY KEY, person_id int REFERENCES people ON UPDATE CASCADE ON DELETE CASCADE);
    CREATE TABLE visits (id int PRIMARY KEY, badge_id int REFERENCES badges ON UPDATE SET NULL ON DELETE SET NULL);
"""
PEOPLE = """
    BEGIN; INSERT INTO people SELECT n, n % 10, NULLIF(n / 2, 0) FROM generate_series(1, 300) n;
    INSERT INTO teams SELECT n, n + 1 FROM generate_series(0, 9) n; COMMIT;
    INSERT INTO badges SELECT n, n FROM generate_series(1, 300) n;
    INSERT INTO visits SELECT n, 1 + n % 300 FROM generate_series(1, 600) n;
"""


@pytest.mark.parametrize("lanes", [1, 4])
def test_circles_and_cascades(migrate: Migrate, lanes: int) -> None:
    """Rows that refer to each other in circles arrive, and what a cascade did on the old side is done once."""
    shop = migrate(CIRCLE, options=f"apply: {{lanes: {lanes}}}")
    shop.old.execute(PEOPLE)
    shop.streaming()
    tables = ("people", "teams", "badges", "visits")
    shop.same_tables(*tables)

    shop.old.execute("UPDATE people SET boss_id = NULL WHERE boss_id > 100; UPDATE teams SET lead_id = 1")
    shop.old.execute("DELETE FROM people WHERE id > 200")
    shop.old.execute("BEGIN; INSERT INTO people VALUES (900, 90, 900); INSERT INTO teams VALUES (90, 900); COMMIT")
    shop.old.execute("UPDATE badges SET id = id + 10000 WHERE id % 2 = 0")
    shop.old.execute("UPDATE people SET boss_id = NULL; UPDATE people SET id = id + 5000 WHERE id BETWEEN 50 AND 90")
    shop.old.execute("BEGIN; DELETE FROM teams WHERE id = 90; DELETE FROM people WHERE id = 900; COMMIT")
    shop.old.execute("TRUNCATE badges CASCADE; INSERT INTO badges VALUES (1, 1); INSERT INTO visits VALUES (1, 1)")
    shop.catch_up()
    shop.same_tables(*tables)
