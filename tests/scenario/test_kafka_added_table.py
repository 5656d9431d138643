"""A table that a group gets later: its processes are restarted one after the other, and all of it arrives."""

import pytest

from tests.fix_pipeline import MakePipeline
from tests.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_a_table_added_by_one_process_after_the_other(pipeline: MakePipeline) -> None:
    """What was there before is copied by the first new one that leads, and not before the capture tells of it."""
    made = pipeline(
        "capture-json",
        "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int);",
        tables="- {old: public.a}",
    )
    shop = made.shop
    shop.old.execute("INSERT INTO a SELECT n, n FROM generate_series(1, 50) n; INSERT INTO b SELECT * FROM a")
    before = shop.streaming()
    text = shop.connector.read_text()
    shop.connector.write_text(text.replace("- {old: public.a}", '- {old: "public.*"}'))
    early = shop.start()
    wait_until(lambda: early.logged("waiting to lead"), 60)
    before.terminate()
    assert before.wait() == 0
    wait_until(lambda: early.logged("connector failed"), 60)
    assert "has not begun with it" in str(early.logged("connector failed")[0])
    early.terminate()
    early.wait()

    made.captures[-1].terminate()
    made.captures[-1].wait()
    made.capture()
    after = shop.start()
    after.wait_for_log("streaming", 60)
    other = shop.start()
    other.wait_for_log("streaming", 60)
    shop.old.execute("UPDATE b SET n = n + 1 WHERE id > 5; INSERT INTO b VALUES (100, 1); DELETE FROM b WHERE id = 1")
    shop.catch_up()
    shop.same_tables("a", "b")


def test_a_process_that_follows_copies_nothing_and_misses_nothing(pipeline: MakePipeline) -> None:
    """One that knows a table more than the leader waits for the lead, and copies it then."""
    made = pipeline(
        "capture-json",
        "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int);",
        tables="- {old: public.a}",
    )
    shop = made.shop
    shop.old.execute("INSERT INTO a SELECT n, n FROM generate_series(1, 50) n; INSERT INTO b SELECT * FROM a")
    before = shop.streaming()
    text = shop.connector.read_text()
    shop.connector.write_text(text.replace("- {old: public.a}", '- {old: "public.*"}'))
    made.captures[-1].terminate()
    made.captures[-1].wait()
    made.capture()
    after = shop.start()
    wait_until(lambda: after.logged("waiting to lead") or after.logged("streaming"), 60)
    before.terminate()
    assert before.wait() == 0
    after.wait_for_log("streaming", 60)
    shop.old.execute("UPDATE b SET n = n + 1 WHERE id > 5; INSERT INTO b VALUES (100, 1); DELETE FROM b WHERE id = 1")
    shop.catch_up()
    shop.same_tables("a", "b")
