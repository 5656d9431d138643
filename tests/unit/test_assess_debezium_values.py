"""Debezium's modes of values by the columns' types, and what becomes of its records on their way."""

import pytest

from replicator.assess import Level
from replicator.tables import Column
from tests.assessing import CONNECT, about, kafka_stream, log_plan, table, text

USERS = table("public.users", text("name"))
STOP, WARN = Level.STOP, Level.WARN


@pytest.mark.parametrize(
    "kind,level,code",
    [
        ("io.debezium.transforms.Filter", STOP, "debezium_loss"),
        ("org.apache.kafka.connect.transforms.Filter", STOP, "debezium_loss"),
        ("io.debezium.transforms.ContentBasedRouter", STOP, "debezium_order"),
        ("io.debezium.transforms.partitions.PartitionRouting", STOP, "debezium_order"),
        ("org.apache.kafka.connect.transforms.TimestampRouter", STOP, "debezium_order"),
        ("io.debezium.transforms.outbox.EventRouter", STOP, "debezium_setting"),
        ("io.debezium.transforms.ByLogicalTableRouter", WARN, "debezium_setting"),
        ("org.apache.kafka.connect.transforms.RegexRouter", WARN, "debezium_setting"),
        ("org.apache.kafka.connect.transforms.ReplaceField$Value", STOP, "debezium_values"),
        ("org.apache.kafka.connect.transforms.Cast$Value", STOP, "debezium_values"),
        ("com.example.Own", STOP, "debezium_values"),
        ("org.apache.kafka.connect.transforms.InsertHeader", None, ""),
        ("io.debezium.transforms.tracing.ActivateTracingSpan", None, ""),
    ],
)
def test_transforms_that_drop_route_or_change_records_are_found(kind: str, level: Level | None, code: str) -> None:
    """And those that touch headers alone are not."""
    findings = about("transforms.t", {"transforms": "t", "transforms.t.type": kind})
    assert ([] if level is None else [(level, code)]) == [(finding.level, finding.code) for finding in findings]


def test_routed_topics_may_be_named() -> None:
    """Once stream.topics has every mapped table, a router is no surprise."""
    yaml = kafka_stream(f"{CONNECT}, topics: {{public.users: all}}")
    router = {"transforms": "t", "transforms.t.type": "io.debezium.transforms.ByLogicalTableRouter"}
    assert not about("transforms.t", {**router}, yaml=yaml)
    assert not about("topic.naming.strategy", {"topic.naming.strategy": "x.Own"}, yaml=yaml)


UNWRAP: dict[str, str | None] = {
    "transforms": "u",
    "transforms.u.type": "io.debezium.transforms.ExtractNewRecordState",
    "transforms.u.add.fields": "op,source.lsn:lsn,txId",
    "transforms.u.delete.tombstone.handling.mode": "rewrite",
    "transforms.u.replace.null.with.default": "false",
}


def test_flattened_events_must_say_what_happened() -> None:
    """What, where, in which transaction, deletes, and NULL."""
    assert not about("transforms.u", UNWRAP)
    by_header = {"transforms.u.add.fields": None, "transforms.u.add.headers": "op,lsn,source.txId"}
    assert not about("transforms.u", {**UNWRAP, **by_header})
    bare = {key: UNWRAP[key] for key in ("transforms", "transforms.u.type")}
    assert [STOP, STOP, WARN] == [finding.level for finding in about("transforms.u", bare)]
    harm = {"transforms.u.route.by.field": "a", "transforms.u.drop.fields.header.name": "b"}
    assert [STOP, STOP] == [finding.level for finding in about("transforms.u", {**UNWRAP, **harm})]


def test_flattened_events_of_whole_transactions_say_which() -> None:
    """And their place in it."""
    yaml = kafka_stream(f"{CONNECT}, atomic: on")
    config = {**UNWRAP, "provide.transaction.metadata": "true"}
    assert [STOP] == [finding.level for finding in about("transforms.u", config, yaml=yaml)]
    more = "op,lsn,txId,id,transaction.total_order"
    assert not about("transforms.u", {**config, "transforms.u.add.fields": more}, yaml=yaml)


@pytest.mark.parametrize(
    "mode,kept,identity,level,code",
    [
        ("rewrite-with-tombstone", "true", "d", None, ""),
        ("drop", "true", "d", STOP, "debezium_loss"),
        ("none", "true", "d", STOP, "debezium_loss"),
        ("tombstone", "true", "d", WARN, "debezium_setting"),
        ("tombstone", "false", "d", STOP, "debezium_loss"),
        ("tombstone", "true", "f", STOP, "debezium_setting"),
        ("delete-to-tombstone", "false", "d", WARN, "debezium_setting"),
    ],
)
def test_deletes_of_flattened_events_must_arrive(
    mode: str, kept: str, identity: str, level: Level | None, code: str
) -> None:
    """With the row that is gone, where the feed looks for a whole row."""
    config = {**UNWRAP, "transforms.u.delete.tombstone.handling.mode": mode, "tombstones.on.delete": kept}
    held = table("public.users", text("name"), replica_identity=identity)
    findings = about("transforms.u", config, tables=(held,))
    assert ([] if level is None else [(level, code)]) == [(one.level, one.code) for one in findings]


def test_deletes_are_told_by_an_older_setting_too() -> None:
    """That of 2.x."""
    older: dict[str, str | None] = {**UNWRAP, "transforms.u.delete.tombstone.handling.mode": None}
    mode, dropped = "transforms.u.delete.handling.mode", "transforms.u.drop.tombstones"
    assert not about("transforms.u", {**older, mode: "rewrite"})
    assert [WARN] == [one.level for one in about("transforms.u", {**older, mode: "drop", dropped: "false"})]
    assert [STOP] == [one.level for one in about("transforms.u", {**older, mode: "drop"})]


COLUMNS = {
    "numeric": Column("c", 1, "numeric", "numeric"),
    "price": Column("c", 1, "numeric(10,2)", "numeric", base_typmod=655366),
    "money": Column("c", 1, "money", "money"),
    "timestamp": Column("c", 1, "timestamp without time zone", "timestamp without time zone"),
    "timestamp3": Column("c", 1, "timestamp(3) without time zone", "timestamp without time zone", base_typmod=3),
    "times": Column("c", 1, "time without time zone[]", "time without time zone[]"),
    "timetz": Column("c", 1, "time with time zone", "time with time zone"),
    "interval": Column("c", 1, "interval", "interval"),
    "intervals": Column("c", 1, "interval[]", "interval[]"),
    "bits": Column("c", 1, "bit varying(5)", "bit varying"),
    "bit": Column("c", 1, "bit(5)", "bit varying"),
    "composite": Column("c", 1, "public.pair", "public.pair"),
    "mood": Column("c", 1, "public.mood", "public.mood"),
    "moods": Column("c", 1, "public.mood[]", "public.mood[]"),
    "citext": Column("c", 1, "public.citext", "public.citext"),
    "name": Column("c", 1, "name", "name"),
    "bit3s": Column("c", 1, "bit(3)[]", "bit varying[]"),
    "varbits": Column("c", 1, "bit varying(3)[]", "bit varying[]"),
    "tsvector": Column("c", 1, "tsvector", "tsvector"),
    "box": Column("c", 1, "box", "box"),
    "default": Column("c", 1, "text", "text", has_default=True),
    "json": Column("c", 1, "jsonb", "jsonb"),
}


@pytest.mark.parametrize(
    "column,config,subject,level",
    [
        ("numeric", {}, "", None),
        ("numeric", {"decimal.handling.mode": "double"}, "decimal.handling.mode", STOP),
        ("numeric", {"decimal.handling.mode": None}, "decimal.handling.mode", STOP),
        ("price", {"decimal.handling.mode": "precise"}, "decimal.handling.mode", WARN),
        ("money", {"decimal.handling.mode": "double"}, "decimal.handling.mode", STOP),
        ("money", {"decimal.handling.mode": "precise"}, "", None),
        ("money", {"decimal.handling.mode": "precise", "money.fraction.digits": "1"}, "money.fraction.digits", STOP),
        ("name", {"include.unknown.datatypes": None}, "include.unknown.datatypes", STOP),
        ("times", {"time.precision.mode": "isostring"}, "time[]", STOP),
        ("bit3s", {}, "bit[]", STOP),
        ("varbits", {}, "bit varying[]", STOP),
        ("timestamp", {}, "", None),
        ("timestamp", {"time.precision.mode": "connect"}, "time.precision.mode", STOP),
        ("timestamp3", {"time.precision.mode": "connect"}, "", None),
        ("times", {"time.precision.mode": "connect"}, "time[]", STOP),
        ("timestamp", {"time.precision.mode": "nanoseconds"}, "time.precision.mode", WARN),
        ("timestamp", {"time.precision.mode": "isostring"}, "", None),
        ("timetz", {}, "time with time zone", STOP),
        ("interval", {}, "", None),
        ("interval", {"interval.handling.mode": None}, "interval.handling.mode", STOP),
        ("intervals", {}, "interval[]", STOP),
        ("bits", {}, "bit varying", STOP),
        ("bit", {}, "", None),
        ("composite", {}, "", None),
        ("composite", {"include.unknown.datatypes": None}, "include.unknown.datatypes", STOP),
        ("mood", {"include.unknown.datatypes": None}, "", None),
        ("moods", {"include.unknown.datatypes": None}, "", None),
        ("citext", {"include.unknown.datatypes": None}, "", None),
        ("box", {"include.unknown.datatypes": None}, "include.unknown.datatypes", STOP),
        ("tsvector", {"include.unknown.datatypes": None}, "", None),
        ("json", {"include.unknown.datatypes": None}, "", None),
        ("default", {}, "", None),
        (
            "default",
            {"value.converter.replace.null.with.default": None},
            "value.converter.replace.null.with.default",
            STOP,
        ),
    ],
)
def test_modes_that_lose_values_are_found_by_the_types_of_the_columns(
    column: str, config: dict[str, str | None], subject: str, level: Level | None
) -> None:
    """A mode is no problem where no mapped column has such a type."""
    held = table("public.held", COLUMNS[column])
    made = log_plan(held, config=config, money_digits=2, enums=["public.mood"])
    findings = [f for f in made.findings if f.code in {"debezium_loss", "debezium_values"} and f.subject != "arrays"]
    assert ([] if level is None else [(subject, level)]) == [(f.subject, f.level) for f in findings]
    assert all("public.held (c)" in f.message for f in findings)
    assert not [f for f in log_plan(USERS, config=config, money_digits=2).findings if f.level is not Level.NOTE]


def test_types_that_debezium_came_to_know_are_asked_for_of_older_ones() -> None:
    """Or of one whose version nobody knows."""
    held = table("public.held", COLUMNS["tsvector"])
    subject = "include.unknown.datatypes"
    for version in ("2.7.4.Final", None):
        assert about(subject, {subject: None}, tables=(held,), debezium={"version": version})


def test_avro_writes_defaults_in_the_place_of_null_too() -> None:
    """By another setting."""
    avro = kafka_stream(f"{CONNECT}, schema_registry: {{url: http://registry}}", kind="debezium-avro")
    config: dict[str, str | None] = {"value.converter": "io.confluent.connect.avro.AvroConverter"}
    subject = "value.converter.ignore.default.for.nullables"
    held = table("public.held", COLUMNS["default"])
    assert about(subject, config, tables=(held,), yaml=avro)
    assert not about(subject, {**config, subject: "true"}, tables=(held,), yaml=avro)


def test_money_of_another_country_is_not_known() -> None:
    """Yen have no fraction, dinars have three digits."""
    held = table("public.held", COLUMNS["money"])
    assert about("money", tables=(held,), money_digits=0)
    assert about("money", tables=(held,), money_digits=3)


def test_arrays_that_begin_elsewhere_are_spoken_of_once() -> None:
    """Only the values tell: one warning for all array columns, domains over arrays among them; none without."""
    tags, flags = text("tags", cast_type="text[]"), text("flags", type_name="crm.flags", cast_type="integer[]")
    (finding,) = about("arrays", tables=(table("public.users", tags, flags), table("public.orders", tags)))
    assert (WARN, "debezium_values") == (finding.level, finding.code)
    assert "public.users (tags, flags); public.orders (tags)" in finding.message
    assert "replicator verify" in finding.remedy
    assert [] == about("arrays")
