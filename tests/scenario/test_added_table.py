"""A table that a connector gets later, while transactions are open on it."""

import pytest

from tests.fix_migration import Migrate
from tests.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_a_table_added_beside_open_transactions(migrate: Migrate) -> None:
    """Rows of a transaction that was open when the table was added are copied or streamed: none is lost, none twice."""
    shop = migrate(
        "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int);CREATE TABLE c (n int)",
        old_schema="ALTER TABLE c REPLICA IDENTITY FULL",
        tables="- {old: public.a}",
    )
    shop.old.execute("INSERT INTO a SELECT n, n FROM generate_series(1, 50) n; INSERT INTO b SELECT * FROM a")
    shop.old.execute("INSERT INTO c SELECT n % 5 FROM a")
    daemon = shop.streaming()
    with shop.old.connect() as first, shop.old.connect() as second:
        first.execute("INSERT INTO b VALUES (100, 1); UPDATE b SET n = 7 WHERE id < 10; INSERT INTO c VALUES (1), (1)")
        second.execute("INSERT INTO a VALUES (100, 1); INSERT INTO b VALUES (101, 1); INSERT INTO c VALUES (1)")
        daemon.terminate()
        assert daemon.wait() == 0
        text = shop.connector.read_text()
        shop.connector.write_text(text.replace("- {old: public.a}", '- {old: "public.*"}'))
        daemon = shop.start()
        published = "SELECT 1 FROM pg_publication_tables WHERE tablename = 'b'"
        wait_until(lambda: shop.old.execute(published), 30)
        second.execute("INSERT INTO b VALUES (102, 1); INSERT INTO c VALUES (1), (2)")
        first.commit()
        second.commit()
    daemon.wait_for_log("streaming", 60)
    shop.old.execute("UPDATE b SET n = n + 1 WHERE id > 5; DELETE FROM c WHERE n = 1; INSERT INTO c VALUES (1)")
    shop.catch_up()
    shop.same_tables("a", "b", "c")
