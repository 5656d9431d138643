"""What librdkafka is told, what it says, and what nobody gets to see."""

from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from replicator.config import KafkaStream
from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka import errors
from replicator.kafka.settings import client_settings, consumer_settings, group_of, max_poll_seconds, scrub_of
from replicator.kafka.topics import Topics, topic_of
from replicator.tables import TableName

PASSWORD = "hunter2-is-secret"


def stream(**given: Any) -> KafkaStream:
    return KafkaStream.model_validate(
        {"kind": "kafka", "bootstrap_servers": "a:1,b:2", "format": "debezium-json", "topic_prefix": "old", **given}
    )


@pytest.mark.parametrize(
    "name",
    [
        "isolation.level",
        "enable.auto.commit",
        "auto.offset.reset",
        "group.id",
        "group.instance.id",
        "partition.assignment.strategy",
        "group.protocol",
        "enable.partition.eof",
    ],
)
def test_settings_that_promises_rest_on_are_refused(name: str) -> None:
    """By name, with the reason; the value isn't repeated."""
    with pytest.raises(ReplicatorError) as caught:
        consumer_settings(stream(settings={name: PASSWORD}), "crm")

    assert ErrorKind.CONFIG is caught.value.kind
    assert f"must not set {name}: " in caught.value.message
    assert PASSWORD not in str(caught.value)


def test_all_other_settings_are_passed_on() -> None:
    """Ours give way to the connector's; those that promises rest on don't."""
    given = {"fetch.wait.max.ms": "7", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.password": PASSWORD}
    settings = consumer_settings(stream(settings=given, instance="pod-1", buffer_bytes_max=8 << 20), "crm")

    assert given.items() <= settings.items()
    assert "a:1,b:2" == settings["bootstrap.servers"]
    assert ("replicator_crm", "pod-1") == (settings["group.id"], settings["group.instance.id"])
    assert ("read_committed", False, "error") == (
        settings["isolation.level"],
        settings["enable.auto.commit"],
        settings["auto.offset.reset"],
    )
    assert 4096 == settings["queued.max.messages.kbytes"]
    assert "sales" == group_of(stream(group="sales"), "crm")
    assert given.items() <= client_settings(stream(settings=given)).items()


def test_librdkafka_knows_all_of_ours() -> None:
    """Every setting of ours has a name and a value that it takes."""
    Consumer(consumer_settings(stream(settings={"log_level": "0"}), "crm")).close()


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"no.such.thing": PASSWORD}, "librdkafka knows no setting no.such.thing"),
        ({"session.timeout.ms": PASSWORD}, "librdkafka refuses the value of session.timeout.ms"),
        ({"security.protocol": PASSWORD}, "librdkafka refuses the value of security.protocol"),
        ({"security.protocol": "ssl", "ssl.key.pem": PASSWORD}, "librdkafka refuses its settings: "),
    ],
)
def test_what_librdkafka_refuses_is_named_without_its_value(settings: dict[str, str], said: str) -> None:
    """The value may be a secret, or hold one."""
    given = stream(settings={**settings, "log_level": "0"})
    with pytest.raises(KafkaException) as refused:
        Consumer(consumer_settings(given, "crm"))

    error = errors.bad_setting(refused.value, scrub_of(given))

    assert ErrorKind.CONFIG is error.kind
    assert error.message.startswith(said)
    assert PASSWORD not in str(error)


def test_secrets_are_taken_out_of_texts() -> None:
    """Passwords, tokens, keys; not names that any text may hold."""
    scrub = scrub_of(stream(settings={"sasl.password": PASSWORD, "sasl.username": "replicator", "ssl.key.pem": "x"}))

    assert "user replicator, password ********, x" == scrub(f"user replicator, password {PASSWORD}, x")


def test_how_long_a_member_may_stand_still() -> None:
    """As librdkafka's default, or as the connector says; a text that is no number is refused without it."""
    assert 300.0 == max_poll_seconds(stream())
    assert 12.5 == max_poll_seconds(stream(settings={"max.poll.interval.ms": "12500"}))
    with pytest.raises(ReplicatorError) as caught:
        max_poll_seconds(stream(settings={"max.poll.interval.ms": PASSWORD}))
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "code, kind",
    [
        (KafkaError._ALL_BROKERS_DOWN, ErrorKind.CONNECTION),
        (KafkaError.REQUEST_TIMED_OUT, ErrorKind.CONNECTION),
        (KafkaError._AUTHENTICATION, ErrorKind.PERMISSION),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ErrorKind.PERMISSION),
        (KafkaError._AUTO_OFFSET_RESET, ErrorKind.LOG_LOST),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ErrorKind.LOG_LOST),
        (KafkaError.UNKNOWN_MEMBER_ID, ErrorKind.REASSIGNED),
        (KafkaError.FENCED_INSTANCE_ID, ErrorKind.SUPERSEDED),
        (KafkaError.MSG_SIZE_TOO_LARGE, ErrorKind.CONFIG),
        (KafkaError._BAD_MSG, ErrorKind.DECODE),
        (KafkaError._APPLICATION, ErrorKind.INTERNAL),
    ],
)
def test_codes_have_kinds(code: int, kind: ErrorKind) -> None:
    """One table, and a default that stops."""
    error = errors.mapped(KafkaError(code, "some text"), "reading")

    assert kind is error.kind
    assert "reading failed: some text" in error.message


def test_a_fatal_error_is_what_caused_it() -> None:
    """The consumer tells only the text of what it can't go on after."""
    cause = KafkaError(KafkaError.FENCED_INSTANCE_ID)
    error = errors.mapped(KafkaError(KafkaError._FATAL, f"Fatal error: {cause.str()}: so it is"), "reading")

    assert ErrorKind.SUPERSEDED is error.kind
    assert error.hint
    assert "stream.instance" in error.hint


def test_topics_are_named_as_debezium_names_them() -> None:
    """Prefix, schema and table; signs that a topic's name can't hold become underscores."""
    plain, odd = TableName("public", "users"), TableName("My Schema", "tä ble")
    topics = Topics(stream(topics={"public.users": "people"}), [plain, odd, TableName("My Schema", "t_ ble")])

    assert "old.public.users" == topic_of("old", plain)
    assert "people" == topics.by_table[plain]
    assert "old.My_Schema.t__ble" == topics.by_table[odd]
    assert {"people": plain} == dict(topics.of_one_table)
    assert 2 == len(topics.tables["old.My_Schema.t__ble"])
    assert "old.transaction" == topics.transactions
