"""librdkafka's own messages, in our log: without secrets, and from whatever thread they come."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from replicator.kafka.errors import Scrub

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

_NAMES: Final = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}
_QUIET_SECONDS: Final = 10.0
"""A broker that is away is reported at every attempt, several times a second; here once in so long."""
_OTHERS: Final = re.compile(r"is a (?:consumer|producer) property and will be ignored")
"""Every client of a connector is given all of its settings."""
_DIGITS: Final = re.compile(r"\d+")


class Log:
    """What a client of librdkafka takes for a logger, and its `error_cb`.

    Args:
        scrub: takes secrets out.
        watch: hears of every error that the library reports; in the thread that polls.
        bound: names and values for every line.

    """

    def __init__(self, scrub: Scrub, watch: Callable[[KafkaError], None] | None = None, **bound: str) -> None:
        self._scrub = scrub
        self._watch = watch
        self._log = structlog.get_logger("replicator.kafka").bind(**bound)
        self._said: dict[str, float] = {}

    def log(self, level: int, message: str, *arguments: Any) -> None:
        """As `logging.Logger.log`."""
        text = message % arguments if arguments else message
        if _OTHERS.search(text):
            return
        kind, now = _DIGITS.sub("", text), time.monotonic()
        if now - self._said.get(kind, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return
        self._said = {one: at for one, at in self._said.items() if now - at < _QUIET_SECONDS} | {kind: now}
        getattr(self._log, _NAMES.get(level, "error"))("librdkafka", text=self._scrub(text))

    def error(self, error: KafkaError) -> None:
        """The library's `error_cb`: it goes on by itself, and has logged it."""
        if self._watch is not None:
            self._watch(error)
