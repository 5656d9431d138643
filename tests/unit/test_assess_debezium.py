"""Debezium's configuration against our promises: each setting that breaks one is found, with what to set."""

import json
import re
from dataclasses import replace

import pytest

from replicator.assess import Level
from replicator.assess.debezium_rules import RULES
from replicator.assess.debezium_settings import Settings, marks_by_message, value_settings
from replicator.assess.facts import PublicationFacts, PublishedTable, SlotFacts
from replicator.assess.log_facts import TopicFacts
from replicator.tables import Column, TableName
from tests.assessing import (
    CONNECT,
    DEBEZIUM,
    about,
    codes,
    found,
    integer,
    kafka_stream,
    log_plan,
    table,
    text,
    transform,
)
from tests.documents import ROOT, blocks

USERS = table("public.users", text("name"))
STOP, WARN = Level.STOP, Level.WARN


def test_a_right_configuration_has_nothing_to_mend() -> None:
    """What the guide asks for is enough."""
    made = log_plan(USERS)
    assert {Level.NOTE} == {finding.level for finding in made.findings}
    assert (False, True) == (made.whole_transactions, "one key, one partition" in made.transactions_reason)


def test_the_guide_is_what_the_plan_asks_for() -> None:
    """docs/connector.md's configuration has nothing to mend, and its table names every setting that has a rule."""
    guide = (ROOT / "docs" / "connector.md").read_text()
    (block,) = (one.text for one in blocks(ROOT / "docs" / "connector.md") if "connector.class" in one.text)
    config = dict.fromkeys(DEBEZIUM) | json.loads(block)
    others = (Column(kind, 1, kind, kind) for kind in ("numeric", "interval", "box"))
    held = table("public.held", text("c", has_default=True), *others)
    assert {Level.NOTE} == {finding.level for finding in log_plan(held, config=config).findings}
    missing = [rule.name for rule in RULES if rule.name.removeprefix("producer.override.") not in guide]
    assert [] == missing


@pytest.mark.parametrize(
    "setting,value,level,code",
    [
        ("plugin.name", None, STOP, "debezium_setting"),
        ("event.converting.failure.handling.mode", None, STOP, "debezium_loss"),
        ("event.converting.failure.handling.mode", "skip", STOP, "debezium_loss"),
        ("event.processing.failure.handling.mode", "warn", STOP, "debezium_loss"),
        ("errors.tolerance", "ALL", STOP, "debezium_loss"),
        ("slot.drop.on.stop", "true", STOP, "debezium_loss"),
        ("offset.mismatch.strategy", "trust_slot", STOP, "debezium_loss"),
        ("offset.mismatch.strategy", "trust_greater_lsn", STOP, "debezium_loss"),
        ("lsn.flush.mode", "manual", WARN, "debezium_setting"),
        ("flush.lsn.source", "false", WARN, "debezium_setting"),
        ("exactly.once.support", None, WARN, "debezium_order"),
        ("producer.override.acks", "1", STOP, "debezium_loss"),
        ("producer.override.partitioner.ignore.keys", "true", STOP, "debezium_order"),
        ("producer.override.partitioner.class", "x.Own", STOP, "debezium_order"),
        ("producer.override.max.in.flight.requests.per.connection", "5", STOP, "debezium_order"),
        ("producer.override.bootstrap.servers", "other:9092", WARN, "debezium_setting"),
        ("topic.delimiter", "_", WARN, "debezium_setting"),
        ("topic.naming.strategy", "io.debezium.schema.TableTopicNamingStrategy", WARN, "debezium_setting"),
        ("snapshot.isolation.mode", "read_committed", WARN, "debezium_setting"),
        ("connector.class", "io.debezium.connector.mysql.MySqlConnector", STOP, "debezium_setting"),
        ("topic.prefix", "legacy", STOP, "debezium_setting"),
        ("topic.prefix", None, STOP, "debezium_setting"),
        ("database.dbname", "other", WARN, "debezium_setting"),
        ("skipped.operations", None, STOP, "debezium_loss"),
        ("skipped.operations", "u,d", STOP, "debezium_loss"),
        ("snapshot.mode", "always", STOP, "debezium_loss"),
        ("snapshot.mode", "when_needed", STOP, "debezium_loss"),
        ("snapshot.mode", "initial_only", STOP, "debezium_setting"),
        ("snapshot.mode", "custom", WARN, "debezium_setting"),
        ("snapshot.mode", None, WARN, "debezium_snapshot"),
        ("heartbeat.interval.ms", None, STOP, "debezium_proof"),
        ("heartbeat.interval.ms", "no number", STOP, "debezium_proof"),
        ("heartbeat.interval.ms", "60000", WARN, "debezium_proof"),
        ("transaction.boundary", "interval", WARN, "debezium_proof"),
        ("message.prefix.exclude.list", None, STOP, "debezium_proof"),
        ("message.prefix.exclude.list", "(?<open", STOP, "debezium_proof"),
        ("unavailable.value.placeholder", "hex:00ff", STOP, "debezium_loss"),
        ("sourceinfo.struct.maker", "x.Own", STOP, "debezium_setting"),
        ("transaction.metadata.factory", "x.Own", STOP, "debezium_setting"),
        ("slot.stream.params", "origin=none", WARN, "debezium_setting"),
        ("value.converter", None, WARN, "debezium_values"),
        ("value.converter", "io.confluent.connect.avro.AvroConverter", STOP, "debezium_setting"),
        ("value.converter", "io.debezium.converters.CloudEventsConverter", STOP, "debezium_setting"),
        ("converters", "mine", STOP, "debezium_values"),
        ("post.processors", "reselect", STOP, "debezium_values"),
        ("time.precision.mode", "someday", STOP, "debezium_loss"),
    ],
)
def test_a_setting_that_breaks_a_promise_is_found(setting: str, value: str | None, level: Level, code: str) -> None:
    """With its level, its word for programs, and a remedy that names the setting."""
    (finding,) = about(setting, {setting: value})
    assert (level, code) == (finding.level, finding.code)
    assert finding.message
    if setting not in {
        "connector.class",
        "topic.prefix",
        "topic.naming.strategy",
        "topic.delimiter",
        "database.dbname",
    }:
        assert not finding.remedy or set(setting.split(".")) & set(re.findall(r"\w+", finding.remedy))


@pytest.mark.parametrize(
    "setting,value",
    [
        ("offset.mismatch.strategy", "trust_offset"),
        ("lsn.flush.mode", "connector_and_driver"),
        ("producer.override.acks", "-1"),
        ("connector.class", "PostgresConnector"),
        ("message.prefix.exclude.list", "other, Repl.*"),
        ("tombstones.on.delete", "false"),
        ("unavailable.value.placeholder", "__other"),
        ("read.only", "true"),
        ("tasks.max", "4"),
        ("binary.handling.mode", "hex"),
        ("value.converter", "io.apicurio.registry.utils.converter.ExtJsonConverter"),
    ],
)
def test_a_setting_that_breaks_nothing_is_not_found(setting: str, value: str) -> None:
    """Nobody reads a plan that cries wolf."""
    assert not about(setting, {setting: value})


def test_empty_skipped_operations_are_debeziums_default() -> None:
    """An empty list is no list: truncations are skipped."""
    (finding,) = about("skipped.operations", {"skipped.operations": ""})
    assert "truncations never arrive" == finding.message


def test_several_requests_in_flight_need_idempotence() -> None:
    """With it, the broker puts them in order."""
    head = "producer.override."
    flights: dict[str, str | None] = {f"{head}max.in.flight.requests.per.connection": "5"}
    assert not about(f"{head}max.in.flight.requests.per.connection", {**flights, f"{head}enable.idempotence": "true"})


def test_the_workers_flush_interval_matters_without_exactly_once() -> None:
    """It can't be seen by REST, so it is asked for."""
    (finding,) = about("offset.flush.interval.ms", {"exactly.once.support": "requested"})
    assert (WARN, True) == (finding.level, "Connect's workers" in finding.remedy)


def test_a_backfill_of_ours_and_a_snapshot_of_debezium_are_one_too_many() -> None:
    """With the backfill off, Debezium's is the one; then what it leaves out matters."""
    off = kafka_stream() + "\nbackfill: {enabled: off}"
    overrides = "snapshot.select.statement.overrides"
    assert not about("snapshot.mode", {"snapshot.mode": "initial"}, yaml=off)
    assert not about(overrides, {overrides: "public.users"})
    (finding,) = about(overrides, {overrides: "public.users"}, yaml=off)
    assert WARN is finding.level


def test_atomic_needs_transaction_metadata() -> None:
    """And its topic where it is looked for, and transforms that leave it alone."""
    atomic = kafka_stream(f"{CONNECT}, atomic: on")
    changes: dict[str, str | None] = {
        "topic.transaction": "tx",
        "transforms": "t",
        "transforms.t.type": "x.InsertHeader",
    }
    made = log_plan(USERS, config=changes, yaml=atomic)
    by_subject = {finding.subject: finding.level for finding in made.findings}
    assert STOP is by_subject["provide.transaction.metadata"]
    assert STOP is by_subject["topic.transaction"]
    assert WARN is by_subject["transforms"]
    made = log_plan(USERS, config={"provide.transaction.metadata": "true"}, yaml=atomic)
    assert made.whole_transactions
    assert "provide.transaction.metadata" not in {finding.subject for finding in made.findings}


def test_marks_reach_debezium_by_a_published_heartbeat_too() -> None:
    """Or because the server is so old that it sends empty transactions."""
    config: dict[str, str | None] = {"message.prefix.exclude.list": None}
    every = frozenset({"insert", "update", "delete", "truncate"})
    tables = {name: PublishedTable() for name in (USERS.name, TableName("replicator", "heartbeat"))}
    published = PublicationFacts(every, via_root=True, owned=False, tables=tables)
    subject = "message.prefix.exclude.list"
    assert not about(subject, config, old={"publication": published})
    assert not about(subject, config, old={"version": 140000})
    assert not about(subject, {**config, "message.prefix.include.list": "app"})
    assert about(subject, {**config, "message.prefix.include.list": "app,replicator"})


@pytest.mark.parametrize(
    "setting,value,missing",
    [
        ("table.include.list", "public.orders", True),
        ("table.include.list", r"public.orders,PUBLIC\.us.*", False),
        ("table.include.list", r"public.(orders\,x|users)", False),
        ("table.exclude.list", "public.users", True),
        ("table.exclude.list", "users", False),
        ("schema.include.list", "app", True),
        ("schema.include.list", "app,public", False),
        ("schema.exclude.list", "public", True),
    ],
)
def test_a_mapped_table_that_debezium_leaves_out_is_found(setting: str, value: str, *, missing: bool) -> None:
    """Lists are of regular expressions that match the whole name, in any case."""
    findings = about(setting, {setting: value})
    assert [STOP] * missing == [finding.level for finding in findings]
    assert not missing or "public.users" in findings[0].message


@pytest.mark.parametrize("setting", ["table.include.list", "column.include.list", "message.key.columns"])
def test_a_pattern_that_only_java_reads_is_told(setting: str) -> None:
    """We can't tell, and say so."""
    value = r"public\.(?<odd>users" + (":id" if setting == "message.key.columns" else "")
    assert WARN in {finding.level for finding in about(setting, {setting: value})}


@pytest.mark.parametrize(
    "setting,value,hit",
    [
        ("column.include.list", "public.users.id", True),
        ("column.include.list", r"public\.users\.(id|name)", False),
        ("column.exclude.list", "public.users.name", True),
        ("column.exclude.list", "public.users.phone", False),
        ("column.mask.hash.SHA-256.with.salt.s3cret", "public.users.name", True),
        ("column.mask.hash.v2.SHA-256.with.salt.s3cret", "public.users.name", True),
        ("column.mask.with.10.chars", "public.users.name", True),
        ("column.truncate.to.20.chars", "public.users.name", True),
        ("column.truncate.to.20.chars", "public.users.phone", False),
    ],
)
def test_a_mapped_column_that_debezium_leaves_out_or_changes_is_found(setting: str, value: str, *, hit: bool) -> None:
    """The salt of a hash, which is in a setting's name, is not told."""
    made = log_plan(USERS, config={setting: value})
    findings = [finding for finding in made.findings if finding.subject.startswith("column.")]
    assert [STOP] * hit == [finding.level for finding in findings]
    assert "s3cret" not in str(made.to_json())


def test_a_dropped_column_may_be_left_out() -> None:
    """Only what the mapping carries must arrive."""
    yaml = kafka_stream().replace('"public.*"', "public.users, drop: [name]")
    assert not about("column.exclude.list", {"column.exclude.list": "public.users.name"}, yaml=yaml)


def test_an_aggregate_that_is_read_back_needs_its_keys_only() -> None:
    """Its other values are read from the source."""
    notes = table("public.notes", integer("user_id"), text("body"))
    mapping = transform({USERS: ("id",), notes: ("user_id",)}, {USERS: ("id",)})
    tables = (USERS, replace(notes, identity_columns=("id", "user_id")))
    setting = "column.exclude.list"
    assert not about(setting, {setting: r"public\..*\.(name|body)"}, tables=tables, mappings=[mapping])
    (finding,) = about(setting, {setting: r"public\.notes\.user_id"}, tables=tables, mappings=[mapping])
    assert "user_id" in finding.message


def test_records_keyed_by_more_than_the_key_change_places() -> None:
    """In one partition they don't; in several the feed isn't started."""
    config: dict[str, str | None] = {"message.key.columns": "public.orders:a;public.(.*):id,name"}
    (finding,) = about("message.key.columns of public.users", config)
    assert WARN is finding.level
    (finding,) = about("message.key.columns of public.users", config, topics={"old.public.users": TopicFacts(3)})
    assert (STOP, "debezium_order") == (finding.level, finding.code)
    assert not about("message.key.columns of public.users", {"message.key.columns": "public.users:id"})


def test_partitions_must_come_under_the_partitioned_tables_name() -> None:
    """Else their changes are of tables that nobody maps."""
    parted = replace(USERS, kind="p")
    subject = "publish.via.partition.root"
    by_leaf = PublicationFacts(frozenset(), via_root=False, owned=False)
    assert about(subject, tables=(parted,), old={"publication": None})
    assert about(subject, tables=(parted,), old={"publication": by_leaf})
    assert not about(subject, {subject: "true"}, tables=(parted,), old={"publication": None})
    assert not about(subject, tables=(parted,))


def test_columns_that_avro_would_spell_alike_are_found() -> None:
    """One that is spelled otherwise is found again; of two nobody could tell which is which."""
    odd = table("public.users", text("first-name"))
    both = table("public.users", text("first-name"), text("first_name"), text("1st\N{GRINNING FACE}"))
    subject = "field.name.adjustment.mode"
    (finding,) = about(subject, {subject: "avro"}, tables=(both,))
    assert (STOP, True) == (finding.level, "first-name" in finding.message)
    assert not about(subject, {subject: "avro"}, tables=(odd,))
    assert not about(subject, {subject: "avro_unicode"}, tables=(both,))
    assert not about(subject, tables=(odd,))
    avro = kafka_stream(f"{CONNECT}, schema_registry: {{url: http://registry}}", kind="debezium-avro")
    (finding,) = about(subject, tables=(both,), yaml=avro)
    assert "1st" in finding.message


def test_without_connect_only_what_the_file_says_is_known() -> None:
    """The plan says what can't be proven, and judges modes by stream.debezium."""
    held = table("public.held", Column("c", 1, "interval", "interval"))
    made = log_plan(held, yaml=kafka_stream(""), debezium={"seen": False})
    assert WARN is next(f.level for f in made.findings if f.subject == "Debezium")
    assert {"interval.handling.mode"} == {f.subject for f in made.findings if f.code == "debezium_loss"}
    made = log_plan(held, yaml=kafka_stream("debezium: {interval.handling.mode: string}"), debezium={"seen": False})
    assert "debezium_loss" not in codes(made)


def test_the_state_of_debezium_is_told() -> None:
    """Version, trouble, snapshot."""
    made = log_plan(USERS, debezium={"version": "2.5.0.Final", "trouble": "its task is FAILED", "snapshot": True})
    messages = " ".join(finding.message for finding in made.findings if finding.subject == "Debezium")
    assert all(word in messages for word in ("2.5.0.Final", "FAILED", "snapshot is running"))


@pytest.mark.parametrize(
    "old,code,level",
    [
        ({"slot": None}, "slot_missing", STOP),
        ({"slot": SlotFacts("test_decoding", "app", active=False)}, "slot_foreign", STOP),
        ({"slot": SlotFacts("pgoutput", "app", active=False, lost="wal_removed")}, "slot_lost", STOP),
        ({"slot": SlotFacts("pgoutput", "app", active=False)}, "slot_idle", WARN),
        ({"server": {"wal_level": "replica"}}, "wal_level", STOP),
        (
            {"publication": PublicationFacts(frozenset({"insert"}), via_root=True, owned=False)},
            "publication_operations",
            STOP,
        ),
    ],
)
def test_debeziums_slot_and_publication_are_looked_at(old: dict[str, object], code: str, level: Level) -> None:
    """They are what the log is filled from; our role needs no right to read them."""
    made = log_plan(USERS, old={**old, "rights": {"replication": False}})
    assert level is found(made, code).level
    assert "right_replication" not in codes(made)


def test_settings_that_shape_values_are_brought_over() -> None:
    """Connect's go before the file's; the transform that flattens comes along, and nothing else."""
    config = {
        **DEBEZIUM,
        "transforms": "h,u",
        "transforms.h.type": "x.InsertHeader",
        "transforms.u.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.u.add.fields": "op,lsn",
    }
    given = {"decimal.handling.mode": "double", "hstore.handling.mode": "map"}
    assert value_settings(config, given) == {
        "decimal.handling.mode": "string",
        "interval.handling.mode": "string",
        "include.unknown.datatypes": "true",
        "value.converter.replace.null.with.default": "false",
        "hstore.handling.mode": "map",
        "transforms": "u",
        "transforms.u.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.u.add.fields": "op,lsn",
    }
    assert marks_by_message(config)


def test_settings_are_read_as_debezium_reads_them() -> None:
    """Blanks, case, empty values, numbers."""
    settings = Settings({"a": " X ", "b": "", "c": "1,  2,", "d": "no"})
    assert ("x", "z", ("1", "2"), 7) == (
        settings.mode("a", "y"),
        settings.mode("b", "z"),
        settings.words("c"),
        settings.number("d", 7),
    )
    assert settings.patterns("b") is None
