"""Operators at a connector that reads Kafka: dead letters, resync, a restart, the snapshots that Debezium makes."""

import pytest
from confluent_kafka import Producer

from tests.churn import COUNTED, TABLES, assert_equal_and_once, churning
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import MakeDatabase, MakeServer
from tests.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PARTS = "CREATE TABLE parts (id int PRIMARY KEY, n int);"
POSITIVE = "ALTER TABLE parts ADD CONSTRAINT positive CHECK (n >= 0)"
QUICK = "apply: {retry: {initial: 50ms, max: 500ms}}"


def test_dead_letters_and_resync_in_a_group(pipeline: MakePipeline) -> None:
    """Two processes park what is refused; one request frees all of it, and another copies the table again."""
    made = pipeline("capture-json", PARTS, upgraded_schema=POSITIVE, partitions=2, options="apply: {on_error: dlq}")
    shop = made.shop
    shop.streaming()
    shop.streaming()
    shop.old.execute("INSERT INTO parts SELECT n, CASE WHEN n % 4 = 0 THEN -n ELSE n END FROM generate_series(1, 40) n")
    shop.old.execute("UPDATE parts SET n = n - 1 WHERE id = 4")
    shop.catch_up()
    assert [(30,)] == shop.upgraded.execute("SELECT count(*) FROM parts")
    waiting = "SELECT count(DISTINCT key), count(*) FROM replicator.dead_letter WHERE discarded_at IS NULL"
    assert [(10, 11)] == shop.upgraded.execute(waiting)

    shop.upgraded.execute("ALTER TABLE parts DROP CONSTRAINT positive")
    retry = shop.command("dlq", "retry", "FILE", "--all")
    assert 0 == retry.wait(60), retry.story()
    # As a leader leaves it that dies before it has answered: the next one carries the request out again.
    shop.upgraded.execute("UPDATE replicator.request SET status = 'running', message = NULL")
    shop.upgraded.execute(f"SELECT pg_notify('replicator', '{made.prefix}')")
    answer = "SELECT status, message FROM replicator.request WHERE message IS NOT NULL"
    wait_until(lambda: shop.upgraded.execute(answer), 60)
    done = "applied again: 0 parked keys (11 of 11 dead letters had been freed before)"
    assert [("done", done)] == shop.upgraded.execute(answer)
    shop.old.execute("UPDATE parts SET n = n * 10")
    shop.catch_up()
    shop.same_tables("parts")

    shop.upgraded.execute("UPDATE parts SET n = 0 WHERE id % 3 = 0; DELETE FROM parts WHERE id % 5 = 0")
    resync = shop.command("resync", "FILE", "public.parts")
    assert 0 == resync.wait(60), resync.story()
    shop.old.execute("INSERT INTO parts VALUES (100, 1)")
    shop.catch_up()
    shop.same_tables("parts")


def test_what_one_process_has_parked_stays_parked_with_the_next(pipeline: MakePipeline) -> None:
    """Who takes a partition over knows its dead letters before it applies anything of it: later events wait behind."""
    made = pipeline("capture-json", PARTS, upgraded_schema=POSITIVE, options="apply: {on_error: dlq}")
    shop = made.shop
    daemons = [shop.streaming(), shop.streaming()]
    shop.old.execute("INSERT INTO parts VALUES (1, -1)")
    letters = "SELECT kind, count(*) FROM replicator.dead_letter WHERE discarded_at IS NULL GROUP BY 1 ORDER BY 1"
    wait_until(lambda: shop.upgraded.execute(letters) == [("data", 1)], 60)
    ((holder,),) = shop.upgraded.execute("SELECT holder FROM replicator.partition WHERE holder IS NOT NULL")
    (holds,) = [one for one in daemons if f"process {one.pid} " in holder]
    holds.terminate()
    shop.old.execute("UPDATE parts SET n = 5")

    shop.catch_up()

    assert [("behind", 1), ("data", 1)] == shop.upgraded.execute(letters)
    assert [] == shop.upgraded.execute("SELECT * FROM parts")


def test_a_table_without_a_key_is_copied_again_by_whoever_applies_it(pipeline: MakePipeline) -> None:
    """No other process would know what the copy holds: refused while one has its topic; then nothing is doubled."""
    bag = "CREATE TABLE bag (v int); ALTER TABLE bag REPLICA IDENTITY FULL;"
    made = pipeline("capture-json", f"{PARTS} {bag}")
    shop = made.shop
    leader, other = shop.streaming(), shop.streaming()
    shop.old.execute("INSERT INTO bag VALUES (1), (1), (2); INSERT INTO parts VALUES (1, 1)")
    shop.catch_up()
    query = "SELECT topic, holder FROM replicator.partition WHERE holder IS NOT NULL"
    wait_until(lambda: len(dict(shop.upgraded.execute(query))) == 2, 60)
    shop.upgraded.execute("DELETE FROM bag WHERE v = 1")

    asked = shop.command("resync", "FILE", "public.bag")
    if asked.wait(60):
        assert "another daemon of the group applies its topic" in asked.story()
        other.terminate()
        wait_until(
            lambda: all(f"process {leader.pid} " in one for one in dict(shop.upgraded.execute(query)).values()), 60
        )
        asked = shop.command("resync", "FILE", "public.bag")
        assert 0 == asked.wait(60), asked.story()
    shop.old.execute("INSERT INTO bag VALUES (1), (3)")
    shop.catch_up()

    shop.same_tables("bag")


def test_a_record_of_somebody_else(pipeline: MakePipeline) -> None:
    """Bytes that no Debezium wrote stop the feed with their place, and what came before is applied."""
    made = pipeline("capture-json", PARTS)
    daemon = made.shop.streaming()
    made.shop.old.execute("INSERT INTO parts VALUES (1, 1)")
    made.shop.catch_up()
    producer = Producer({"bootstrap.servers": made.bootstrap})
    producer.produce(f"{made.prefix}.public.parts", b'{"schema": null, "payload": {"op": ', b"1")
    producer.flush(20)
    made.shop.old.execute("INSERT INTO parts VALUES (2, 2)")

    failed = daemon.wait_for_log("connector failed", 60)

    assert "decode" == failed["error_kind"]
    assert f"{made.prefix}.public.parts/0:" in failed["error"]
    assert [(1, 1)] == made.shop.upgraded.execute("SELECT * FROM parts")


def test_the_upgraded_server_restarts(
    pipeline: MakePipeline, make_server: MakeServer, make_database: MakeDatabase
) -> None:
    """Killed under a running feed, and started: what it had acknowledged is there, everything exactly once."""
    server = make_server(fsync=True)
    made = pipeline(
        "capture-json",
        TABLES,
        upgraded_schema=COUNTED,
        upgraded=make_database(server),
        partitions=2,
        single=["public.bag"],
        options=QUICK,
    )
    daemon = made.shop.streaming()
    with churning(made.shop.old, 7, pause=0.02) as churn:
        churn.write_more(30)
        server.stop("immediate")
        daemon.wait_for_log("retrying", error_kind="connection", timeout=60)
        server.start()
        daemon.wait_for_log("streaming", 60)
        churn.write_more(30)
    made.shop.catch_up()

    assert_equal_and_once(made.shop)


def test_debezium_copies(pipeline: MakePipeline, make_database: MakeDatabase) -> None:
    """Without a copy of ours: Debezium's own snapshot fills the upgraded side, and an incremental one mends it."""
    old = make_database()
    old.execute(f"{PARTS} CREATE TABLE signals (id text PRIMARY KEY, type text, data text)")
    old.execute("INSERT INTO parts SELECT n, n FROM generate_series(1, 500) n")
    made = pipeline(
        "debezium-json",
        old=old,
        upgraded_schema=PARTS,
        tables="- {old: public.parts}",
        captured=r"public\.parts",
        options="backfill: {enabled: off}",
        config={
            "snapshot.mode": "initial",
            "signal.data.collection": "public.signals",
            "table.include.list": r"public\.(parts|signals)",
            "incremental.snapshot.chunk.size": "50",
        },
    )
    shop = made.shop
    shop.streaming()
    old.execute("UPDATE parts SET n = -n WHERE id % 2 = 0; DELETE FROM parts WHERE id % 7 = 0")
    shop.catch_up()
    shop.same_tables("parts")

    shop.upgraded.execute("DELETE FROM parts WHERE id % 3 = 0; UPDATE parts SET n = 0 WHERE id % 5 = 0")
    old.execute(
        "INSERT INTO signals VALUES ('1', 'execute-snapshot', "
        """'{"data-collections": ["public.parts"], "type": "incremental"}')"""
    )
    for _ in range(20):
        old.execute("UPDATE parts SET n = n + 1 WHERE id % 11 = 0")
    there = "SELECT t::text FROM parts t ORDER BY 1"
    wait_until(lambda: old.execute(there) == shop.upgraded.execute(there), 60)
