"""Keys that are equal to the database though their texts differ: `Ann` and `ann` of citext, 1.0 and 1.00 of numeric."""

import uuid

import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_migration import Migrate

SCHEMA = """
    CREATE EXTENSION citext;
    CREATE TABLE users (name citext PRIMARY KEY, n int);
    CREATE TABLE rates (rate numeric PRIMARY KEY, n int);
"""


@pytest.mark.parametrize("lanes, role", [(1, "replica"), (1, "origin"), (4, "replica")])
def test_a_key_that_changes_only_its_text_stays_one_row(migrate: Migrate, lanes: int, role: str) -> None:
    """No delete of the old text takes the row of the new one; and the new text arrives."""
    shop = migrate(SCHEMA, options=f"apply: {{lanes: {lanes}}}")
    shop.old.execute("""
        INSERT INTO users SELECT 'user' || n, n FROM generate_series(1, 500) n;
        INSERT INTO rates SELECT (n || '.0')::numeric, n FROM generate_series(1, 500) n
    """)
    if role == "origin":
        name = f"plain_{uuid.uuid4().hex[:8]}"
        shop.upgraded.execute(
            f"CREATE ROLE {name} LOGIN; GRANT CREATE ON DATABASE {shop.upgraded.name} TO {name};"
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}"
        )
        shop.environment = {**shop.environment, "UPGRADED_DSN": make_conninfo(shop.upgraded.dsn, user=name)}
    shop.streaming()
    for _ in range(2):
        shop.change("""
            UPDATE users SET name = initcap(name::text); UPDATE rates SET rate = (rate || '0')::numeric

            UPDATE users SET n = n + 1; UPDATE rates SET n = n + 1

            UPDATE users SET name = upper(name::text); UPDATE rates SET rate = (rate || '0')::numeric

            DELETE FROM users WHERE n % 70 = 0; DELETE FROM rates WHERE n % 70 = 0
        """)
        shop.catch_up()
        shop.same_tables("users", "rates")
