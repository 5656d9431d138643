"""What librdkafka and the brokers report, as kinds and for people: the only place that knows their codes.

Codes: https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka.h (negative ones are the library's own) and
https://kafka.apache.org/protocol#protocol_error_codes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODES: Final = {
    ErrorKind.CONNECTION: (
        "_SSL _TRANSPORT _ALL_BROKERS_DOWN _RESOLVE _TIMED_OUT _TIMED_OUT_QUEUE _MSG_TIMED_OUT _WAIT_COORD _WAIT_CACHE "
        "_UNKNOWN_BROKER _DESTROY NETWORK_EXCEPTION REQUEST_TIMED_OUT BROKER_NOT_AVAILABLE LEADER_NOT_AVAILABLE "
        "NOT_LEADER_FOR_PARTITION COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR "
        "NOT_CONTROLLER KAFKA_STORAGE_ERROR REPLICA_NOT_AVAILABLE OFFSET_NOT_AVAILABLE FENCED_LEADER_EPOCH "
        "UNKNOWN_LEADER_EPOCH NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND THROTTLING_QUOTA_EXCEEDED "
        "STALE_BROKER_EPOCH REBOOTSTRAP_REQUIRED CONCURRENT_TRANSACTIONS FETCH_SESSION_ID_NOT_FOUND "
        "INVALID_FETCH_SESSION_EPOCH _RETRY UNSTABLE_OFFSET_COMMIT LISTENER_NOT_FOUND ELIGIBLE_LEADERS_NOT_AVAILABLE "
        "_NOENT"
    ),
    ErrorKind.REASSIGNED: (
        "ILLEGAL_GENERATION UNKNOWN_MEMBER_ID REBALANCE_IN_PROGRESS MEMBER_ID_REQUIRED FENCED_MEMBER_EPOCH "
        "STALE_MEMBER_EPOCH _ASSIGNMENT_LOST _MAX_POLL_EXCEEDED"
    ),
    ErrorKind.SUPERSEDED: "FENCED_INSTANCE_ID UNRELEASED_INSTANCE_ID PRODUCER_FENCED INVALID_PRODUCER_EPOCH _FENCED",
    ErrorKind.LOG_LOST: (
        "OFFSET_OUT_OF_RANGE _AUTO_OFFSET_RESET _NO_OFFSET _LOG_TRUNCATION UNKNOWN_TOPIC_OR_PART _UNKNOWN_TOPIC "
        "_UNKNOWN_PARTITION UNKNOWN_TOPIC_ID INCONSISTENT_TOPIC_ID"
    ),
    ErrorKind.PERMISSION: (
        "_AUTHENTICATION SASL_AUTHENTICATION_FAILED TOPIC_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED "
        "CLUSTER_AUTHORIZATION_FAILED TRANSACTIONAL_ID_AUTHORIZATION_FAILED DELEGATION_TOKEN_AUTHORIZATION_FAILED "
        "DELEGATION_TOKEN_EXPIRED UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE SECURITY_DISABLED"
    ),
    ErrorKind.CONFIG: (
        "_INVALID_ARG _NOT_CONFIGURED _UNSUPPORTED_FEATURE _UNKNOWN_PROTOCOL _CONFLICT INVALID_CONFIG INVALID_GROUP_ID "
        "INVALID_SESSION_TIMEOUT INCONSISTENT_GROUP_PROTOCOL UNSUPPORTED_VERSION UNSUPPORTED_FOR_MESSAGE_FORMAT "
        "GROUP_MAX_SIZE_REACHED INVALID_REPLICATION_FACTOR INVALID_PARTITIONS POLICY_VIOLATION TOPIC_EXCEPTION "
        "MSG_SIZE_TOO_LARGE INVALID_MSG_SIZE RECORD_LIST_TOO_LARGE INVALID_TRANSACTION_TIMEOUT UNSUPPORTED_ASSIGNOR"
    ),
    ErrorKind.DECODE: "_BAD_MSG _BAD_COMPRESSION INVALID_MSG INVALID_RECORD UNSUPPORTED_COMPRESSION_TYPE",
    ErrorKind.RESOURCES: "_CRIT_SYS_RESOURCE _FS _QUEUE_FULL",
}
_KINDS: Final[Mapping[int, ErrorKind]] = {
    getattr(KafkaError, name): kind for kind, names in _CODES.items() for name in names.split()
}
_HINTS: Final[Mapping[str, str]] = {
    "_SSL": "Check security.protocol, ssl.ca.location and the certificates in stream.settings, and the brokers' clocks",
    "_RESOLVE": "The name of a broker can't be resolved here; it is what the broker advertises, or bootstrap_servers",
    "_AUTHENTICATION": "Check security.protocol, sasl.mechanisms, and the name and password, in stream.settings",
    "SASL_AUTHENTICATION_FAILED": "Check sasl.mechanisms, and the name and password, in stream.settings",
    "TOPIC_AUTHORIZATION_FAILED": "The user needs READ and DESCRIBE on the topics (capture: WRITE and CREATE as well)",
    "GROUP_AUTHORIZATION_FAILED": "The user needs READ on the consumer group",
    "CLUSTER_AUTHORIZATION_FAILED": "The user needs DESCRIBE on the cluster",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "The user needs WRITE and DESCRIBE on the transactional id",
    "MSG_SIZE_TOO_LARGE": "Raise the brokers' message.max.bytes (or the topic's max.message.bytes), and "
    "message.max.bytes in stream.settings",
    "INVALID_SESSION_TIMEOUT": "session.timeout.ms in stream.settings lies outside of what the brokers allow",
    "INCONSISTENT_GROUP_PROTOCOL": "Another program is in this consumer group: name another one in stream.group",
    "FENCED_INSTANCE_ID": "Another daemon has joined as the same stream.instance: each one needs its own name",
    "UNSUPPORTED_VERSION": "The brokers are too old for what is asked of them",
    "_MAX_POLL_EXCEEDED": "This process stood still for longer than max.poll.interval.ms; it joins its group again",
}
_KIND_HINTS: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.CONNECTION: "It is tried again; check bootstrap_servers and the brokers if this persists",
    ErrorKind.REASSIGNED: "This process wrote nothing of it since, and joins its group again",
    ErrorKind.PERMISSION: "Grant the right, then start again; nothing is lost",
    ErrorKind.CONFIG: "Check stream.settings",
}
_PROPERTY: Final = re.compile(r'property:? "([A-Za-z][\w.]*)"', re.IGNORECASE)


def _cause(error: KafkaError) -> KafkaError:
    """The error itself, or what is behind one that the consumer calls fatal: it tells only that one's text."""
    if error.code() != KafkaError._FATAL:  # noqa: SLF001 - so it is called
        return error
    known = (KafkaError(code) for code in _KINDS)
    return next((one for one in known if one.str() in error.str()), error)


def kind_of(error: KafkaError) -> ErrorKind:
    """The kind of a code; INTERNAL for one that nobody has thought of, and that the library calls final."""
    error = _cause(error)
    known = _KINDS.get(error.code())
    if known is not None:
        return known
    return ErrorKind.CONNECTION if error.retriable() else ErrorKind.INTERNAL


def mapped(error: KafkaError, doing: str, *, scrub: Scrub | None = None) -> ReplicatorError:
    """An error for people.

    Args:
        error: as the library or a broker reported it.
        doing: what failed, as a gerund: "reading topic old.public.users".
        scrub: takes secrets out of the library's text.

    """
    kind, name = kind_of(error), _cause(error).name()
    text = error.str() if scrub is None else scrub(error.str())
    return ReplicatorError(
        f"{doing} failed: {text} ({name})",
        kind=kind,
        hint=_HINTS.get(name, _KIND_HINTS.get(kind)),
    )


def of_exception(error: KafkaException, doing: str, *, scrub: Scrub | None = None) -> ReplicatorError:
    """The same, of an exception of the library."""
    (cause, *_) = error.args
    if isinstance(cause, KafkaError):
        return mapped(cause, doing, scrub=scrub)
    text = str(cause)
    return ReplicatorError(f"{doing} failed: {text if scrub is None else scrub(text)}", kind=ErrorKind.INTERNAL)


def bad_setting(error: KafkaException, scrub: Scrub | None = None) -> ReplicatorError:
    """A setting that librdkafka refuses. Its text may repeat the value, so where it has one only the name is taken."""
    (cause, *_) = error.args
    text = cause.str() if isinstance(cause, KafkaError) else str(cause)
    found = _PROPERTY.search(text)
    if found is None:
        said = "librdkafka refuses its settings" + ("" if scrub is None else f": {scrub(text)}")
    elif "No such" in text:
        said = f"librdkafka knows no setting {found[1]}"
    else:
        said = f"librdkafka refuses the value of {found[1]}"
    return ReplicatorError(
        said,
        kind=ErrorKind.CONFIG,
        hint="Correct it in stream.settings; librdkafka's CONFIGURATION.md lists all names and values",
    )


class Scrub:
    """Takes the values of secret settings out of a text.

    Args:
        settings: names and values; those whose name speaks of a secret are taken out.

    """

    _SECRET: Final = re.compile(r"password|secret|token|\.pem$|jaas|oauthbearer\.config|assertion|credential")
    _LENGTH_MIN: Final = 3  # a shorter one would take letters out of every word

    def __init__(self, settings: Mapping[str, str]) -> None:
        secrets = {value for name, value in settings.items() if self._SECRET.search(name)}
        self._secrets = sorted((one for one in secrets if len(one) >= self._LENGTH_MIN), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, "********")
        return text
