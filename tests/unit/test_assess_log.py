"""A plan for a log: topics, partitions, order, TRUNCATE, what the brokers remove, who could not be asked."""

from dataclasses import replace
from typing import Any

import pytest

from replicator.assess import Level
from replicator.assess.log_facts import LogFacts, TopicFacts, Unreachable
from replicator.commands.plan import plan_lines
from replicator.tables import UniqueKey
from tests.assessing import (
    CONNECT,
    codes,
    database,
    foreign,
    found,
    integer,
    kafka_stream,
    log_plan,
    plan,
    table,
    text,
    transform,
)

USERS = table("public.users", text("name"))
LOG = replace(table("public.log", text("line"), key=()), replica_identity="f", identity_columns=("line",))
TOPIC = "old.public.users"


def test_a_table_without_a_key_may_not_have_several_partitions() -> None:
    """Its records have no key: an insert and a delete of one row may change places."""
    three = {"old.public.log": TopicFacts(3)}
    made = log_plan(LOG, topics=three)
    finding = found(made, "log_order")
    assert (Level.STOP, "public.log") == (finding.level, finding.subject)
    assert finding in made.losses
    assert "log_order" not in codes(log_plan(LOG))
    assert "log_order" not in codes(log_plan(USERS, topics={TOPIC: TopicFacts(3)}))
    assert "log_order" not in codes(log_plan(LOG, topics=three, config={"message.key.columns": "public.log:line"}))
    unique = replace(LOG, unique_keys=(UniqueKey("u", ("line",)),))
    assert "log_order" not in codes(log_plan(unique, topics=three))


def test_truncate_has_no_place_among_partitions() -> None:
    """And is in its place in one."""
    assert "public.users" in found(log_plan(USERS, topics={TOPIC: TopicFacts(2)}), "log_truncate").message
    assert "log_truncate" not in codes(log_plan(USERS))


def test_what_brokers_remove_is_told() -> None:
    """Compaction takes changes, and deletes; a short retention takes all."""
    made = log_plan(USERS, topics={TOPIC: TopicFacts(1, compacted=True, retention_seconds=3600)})
    assert Level.WARN is found(made, "log_compacted").level
    assert "3600 s" in found(made, "log_retention").message
    made = log_plan(USERS, topics={TOPIC: TopicFacts(1, retention_seconds=7 * 86_400)})
    assert not {"log_compacted", "log_retention"} & codes(made)


def test_topics_that_are_not_there_are_counted() -> None:
    """Some come with their first event; when none is there, the prefix may be wrong."""
    other = table("public.orders")
    made = log_plan(USERS, other, log=LogFacts("k", {TOPIC: TopicFacts(1)}, lag=7))
    finding = found(made, "topics_missing")
    assert (Level.NOTE, True) == (finding.level, "1 of 2 topics are not there yet" in finding.message)
    assert "7 record(s)" in found(made, "log_lag").message
    finding = found(log_plan(USERS, other, log=LogFacts("k")), "topics_missing")
    assert (Level.WARN, True) == (finding.level, "topic_prefix" in finding.remedy)


def test_whole_transactions_need_one_partition_and_no_reading_back() -> None:
    """The promise is made by name, and only where it holds."""
    atomic = kafka_stream(f"{CONNECT}, atomic: on")
    right = {"provide.transaction.metadata": "true"}
    made = log_plan(USERS, yaml=atomic, config=right, topics={"old.transaction": TopicFacts(1)})
    assert made.whole_transactions
    assert "topics_missing" not in codes(made)
    made = log_plan(USERS, yaml=atomic, config=right)
    assert "transactions end" in found(made, "topics_missing").message
    made = log_plan(USERS, yaml=atomic, config=right, topics={TOPIC: TopicFacts(2)})
    assert not made.whole_transactions
    assert Level.STOP is found(made, "log_atomic").level
    notes = table("public.notes", integer("user_id"), key=(), unique_keys=(), identity_columns=("user_id",))
    mapping = transform({USERS: ("id",), notes: ("user_id",)}, {USERS: ("id",)})
    made = log_plan(USERS, notes, yaml=atomic, config=right, mappings=[mapping])
    assert (False, True) == (made.whole_transactions, "read back" in made.transactions_reason)


@pytest.mark.parametrize(
    "facts,code",
    [
        ({"log": Unreachable("nobody is there", "look")}, "log_unreachable"),
        ({"connect": Unreachable("nobody is there", "look")}, "connect_unreachable"),
        ({"registry": Unreachable("nobody is there", "look")}, "registry_unreachable"),
    ],
)
def test_who_can_not_be_asked_stands_in_the_way(facts: dict[str, Any], code: str) -> None:
    """But is no loss: a start would hear of it by itself."""
    made = log_plan(USERS, **facts)
    finding = found(made, code)
    assert (Level.STOP, "nobody is there", "look") == (finding.level, finding.message, finding.remedy)
    assert finding not in made.losses


def test_connect_may_work_for_another_cluster() -> None:
    """Right only where one mirrors the other."""
    assert Level.WARN is found(log_plan(USERS, debezium={"cluster": "other"}), "clusters").level


def test_lanes_are_a_slots() -> None:
    """More than one means nothing here, and is no promise less."""
    made = log_plan(USERS, yaml=kafka_stream() + "\napply: {lanes: 4}")
    assert Level.NOTE is found(made, "lanes").level
    assert "origins" not in codes(made)


def test_our_capture_needs_what_a_slot_needs() -> None:
    """Rights, publication and slot as for stream.kind: slot, and nothing of Debezium."""
    yaml = kafka_stream("capture: {}")
    made = log_plan(USERS, yaml=yaml, debezium={"seen": False}, old={"slot": None, "publication": None})
    assert {Level.NOTE} == {finding.level for finding in made.findings}
    made = log_plan(USERS, yaml=yaml, debezium={"seen": False}, old={"rights": {"replication": False}})
    assert "right_replication" in codes(made)


def test_the_transactions_of_a_slot_are_promised_as_before() -> None:
    """One lane keeps them whole."""
    assert plan(database(USERS, name="a"), database(USERS, name="b")).whole_transactions


def test_the_topics_of_each_mapping_are_told() -> None:
    """With their partitions, for programs and for people; not where nobody could be asked."""
    made = log_plan(USERS, topics={TOPIC: TopicFacts(3)})
    assert [{"name": TOPIC, "partitions": 3}] == made.to_json()["mappings"][0]["topics"]
    assert f"    from {TOPIC} (3 partitions)" in list(plan_lines(made))
    made = log_plan(USERS, log=LogFacts("k"))
    assert f"    from {TOPIC} (not there yet)" in list(plan_lines(made))
    assert () == log_plan(USERS, log=Unreachable("away")).mappings[0].topics


def test_records_written_twice_double_rows_without_a_key() -> None:
    """A worker that is started again may repeat records: only a table with a key bears that."""
    once = log_plan(LOG)
    again = log_plan(LOG, config={"exactly.once.support": "requested"})

    assert not [one for one in once.stops if "records twice" in one.message]
    assert ["public.log"] == [one.subject for one in again.stops if "records twice" in one.message]
    assert not log_plan(USERS, config={"exactly.once.support": "requested"}).stops


def test_without_the_replica_role_rows_wait_for_their_parents() -> None:
    """Partitions have no common order: what foreign keys refuse is kept aside, where it has a key to keep it under."""
    lacking: dict[str, Any] = {"rights": {"replica_role": False}}
    child = table("public.orders", integer("user_id"), foreign_keys=(foreign("of_user", "user_id", "public.users"),))
    made = log_plan(USERS, child, upgraded=lacking)
    (waits,) = [one for one in made.findings if one.code == "replica_role" and "kept aside" in one.message]
    assert Level.WARN is waits.level
    assert "public.orders.of_user" in waits.message
    assert not [one for one in made.stops if one.code == "replica_role"]

    bare = replace(child, unique_keys=(), replica_identity="f", identity_columns=("id", "user_id"))
    made = log_plan(USERS, bare, upgraded=lacking)
    (stop,) = [one for one in made.stops if one.code == "replica_role"]
    assert "DROP CONSTRAINT of_user" in stop.remedy
