"""Columns that whoever fills the topics leaves out, by the whole product."""

from tests.fix_pipeline import MakePipeline
from tests.polling import wait_until


def test_a_column_that_debezium_leaves_out(pipeline: MakePipeline) -> None:
    """Where nobody can be asked for Debezium's settings, a row without a mapped column stops the feed: it would stay
    NULL, or as it was, without a word.
    """
    made = pipeline(
        "debezium-json",
        "CREATE TABLE t (id int PRIMARY KEY, note text);",
        config={"column.exclude.list": "public.t.note"},
    )
    shop = made.shop
    lines = [line for line in shop.connector.read_text().splitlines() if "connect_" not in line]
    shop.connector.write_text("\n".join(lines))
    process = shop.streaming()

    shop.change("INSERT INTO t VALUES (1, 'kept')")
    wait_until(lambda: process.logged("connector failed"), 60)

    (failed,) = process.logged("connector failed")
    assert "the records of public.t lack note" in failed["error"]
    assert "schema" == failed["error_kind"]
    assert not shop.upgraded.execute("SELECT FROM t")


def test_a_table_that_debezium_captures_no_more(pipeline: MakePipeline) -> None:
    """It is gone from the publication, and its changes from the topics: the feed stops, and says how to go on."""
    made = pipeline(
        "debezium-json", "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE gone (id int PRIMARY KEY, at text);"
    )
    shop = made.shop
    process = shop.streaming()

    ((publication,),) = shop.old.execute("SELECT pubname FROM pg_publication")
    shop.old.execute(f"ALTER PUBLICATION {publication} DROP TABLE gone")
    wait_until(lambda: process.logged("connector failed"), 120)

    (failed,) = process.logged("connector failed")
    assert "public.gone is not in publication" in failed["error"]
    assert "schema" == failed["error_kind"]
    assert f"ALTER PUBLICATION {publication} ADD TABLE public.gone" in failed["hint"].replace('"', "")
    assert "replicator resync" in failed["hint"]
    assert [("public.gone",)] == shop.upgraded.execute("SELECT mapping FROM replicator.stale_mapping")
