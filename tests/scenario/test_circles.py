"""Foreign keys that refer in a circle, or to their own table, with the replica role and without."""

import uuid

import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_migration import Migrate, Migration

TABLES = ("firms", "people", "teams", "trees", "marks")
SCHEMA = """
    CREATE TABLE firms (id int PRIMARY KEY, head int, name text);
    CREATE TABLE people (id int PRIMARY KEY, firm int NOT NULL, team int, email text UNIQUE);
    CREATE TABLE teams (id int PRIMARY KEY, lead int NOT NULL);
    CREATE TABLE trees (id int PRIMARY KEY, parent int, body text);
    CREATE TABLE marks (id int PRIMARY KEY, person int, note text);
"""
FOREIGN_KEYS = """
    ALTER TABLE firms ADD FOREIGN KEY (head) REFERENCES people DEFERRABLE;
    ALTER TABLE people ADD FOREIGN KEY (firm) REFERENCES firms, ADD FOREIGN KEY (team) REFERENCES teams;
    ALTER TABLE teams ADD FOREIGN KEY (lead) REFERENCES people DEFERRABLE INITIALLY DEFERRED;
    ALTER TABLE trees ADD FOREIGN KEY (parent) REFERENCES trees ON DELETE CASCADE;
    ALTER TABLE marks ADD FOREIGN KEY (person) REFERENCES people ON DELETE SET NULL ON UPDATE CASCADE;
"""


@pytest.fixture(params=["replica", "origin"])
def firm(request: pytest.FixtureRequest, migrate: Migrate) -> Migration:
    """Copied and streaming. Without the replica role foreign keys come when it has caught up, as `plan` says."""
    replica = request.param == "replica"
    made = migrate(SCHEMA, old_schema=FOREIGN_KEYS, upgraded_schema=FOREIGN_KEYS if replica else "")
    made.old.execute("""
        INSERT INTO firms SELECT n, NULL, 'f' || n FROM generate_series(1, 10) n;
        INSERT INTO people SELECT n, 1 + n % 10, NULL, 'e' || n FROM generate_series(1, 100) n;
        INSERT INTO teams SELECT n, n * 3 FROM generate_series(1, 30) n;
        UPDATE people SET team = 1 + id % 30;
        UPDATE firms SET head = id * 7;
        INSERT INTO trees SELECT n, nullif(n / 2, 0), 't' FROM generate_series(1, 100) n;
        INSERT INTO marks SELECT n, n, 'm' FROM generate_series(1, 100) n
    """)
    if not replica:
        role = f"plain_{uuid.uuid4().hex[:8]}"
        made.upgraded.execute(
            f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {made.upgraded.name} TO {role};"
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
        )
        made.environment = {**made.environment, "UPGRADED_DSN": make_conninfo(made.upgraded.dsn, user=role)}
        made.run_until_caught_up()
        made.upgraded.execute(FOREIGN_KEYS)
    made.streaming()
    return made


def test_circles_are_copied_and_streamed(firm: Migration) -> None:
    """Rows that need each other arrive, move, exchange values and go, in any order of their statements."""
    firm.same_tables(*TABLES)

    firm.change("""
        -- A new circle, begun at each of its ends.
        INSERT INTO teams VALUES (31, 101);
        INSERT INTO firms VALUES (11, NULL, 'new');
        INSERT INTO people VALUES (101, 11, 31, 'e101');
        UPDATE firms SET head = 101 WHERE id = 11

        SET CONSTRAINTS ALL DEFERRED;
        INSERT INTO firms VALUES (12, 102, 'newer');
        INSERT INTO people VALUES (102, 12, NULL, 'e102')

        -- The parent's actions are events of their own.
        DELETE FROM trees WHERE id = 3;
        INSERT INTO trees VALUES (3, 1, 'again'), (200, 3, 'below')

        UPDATE trees SET parent = 200 WHERE id IN (4, 5);
        DELETE FROM trees WHERE id = 2

        UPDATE people SET id = 1001 WHERE id = 1;
        UPDATE teams SET lead = 5 WHERE lead = 9;
        UPDATE firms SET head = NULL WHERE head = 14;
        DELETE FROM people WHERE id IN (9, 14)

        -- A circle goes, and its children find another.
        UPDATE people SET firm = 5, team = NULL WHERE firm = 4;
        UPDATE people SET team = NULL WHERE team = 7;
        DELETE FROM teams WHERE id = 7;
        DELETE FROM firms WHERE id = 4

        UPDATE people SET email = '-' WHERE id = 20;
        UPDATE people SET email = 'e20' WHERE id = 21;
        UPDATE people SET email = 'e21' WHERE id = 20

        SET CONSTRAINTS ALL DEFERRED;
        UPDATE firms SET head = 2000 WHERE id = 1;
        DELETE FROM people WHERE id = 30 AND NOT EXISTS (SELECT FROM teams WHERE lead = 30);
        INSERT INTO people VALUES (2000, 1, 2, 'e2000');
        UPDATE teams SET lead = 2000 WHERE id = 2
    """)
    firm.catch_up()
    firm.same_tables(*TABLES)

    firm.change("""
        SET CONSTRAINTS ALL DEFERRED;
        UPDATE people SET team = NULL;
        DELETE FROM teams;
        UPDATE firms SET head = NULL;
        DELETE FROM people;
        DELETE FROM firms WHERE id > 2;
        DELETE FROM trees WHERE id = 1

        TRUNCATE firms, people, teams, marks;
        INSERT INTO firms VALUES (1, NULL, 'the last')
    """)
    firm.catch_up()
    firm.same_tables(*TABLES)
