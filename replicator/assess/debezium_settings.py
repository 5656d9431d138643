"""Debezium's configuration, read as Debezium and Kafka Connect read it: names, defaults, lists of patterns. Pure.

Versions 2.7 to 3.6: https://debezium.io/documentation/reference/stable/connectors/postgresql.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from replicator.tables import TableName

MARK: Final = "replicator"
"""Prefix of the logical messages that mark a place on the source."""
DEFAULT_SLOT: Final = "debezium"
DEFAULT_PUBLICATION: Final = "dbz_publication"
UNWRAP: Final = "ExtractNewRecordState"

_SHAPING: Final = (
    "decimal.handling.mode",
    "time.precision.mode",
    "interval.handling.mode",
    "hstore.handling.mode",
    "binary.handling.mode",
    "money.fraction.digits",
    "unavailable.value.placeholder",
    "include.unknown.datatypes",
    "topic.heartbeat.prefix",
    "topic.transaction",
    "value.converter.replace.null.with.default",
    "value.converter.ignore.default.for.nullables",
    "value.converter.decimal.format",
)


def value_settings(config: Mapping[str, str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The settings that shape values, of a connector's configuration: what `stream.debezium` would have to say.

    Args:
        config: as Kafka Connect tells it.
        given: `stream.debezium`; the configuration goes before it, and what only it says stays.

    Returns:
        By Debezium's names; of the chain of transforms only the one that flattens.

    """
    settings = dict(given or {})
    settings.update({name: config[name] for name in _SHAPING if name in config})
    flattening = [one for one in Settings(config).transforms() if one.simple_type == UNWRAP]
    if flattening:
        settings["transforms"] = ",".join(one.name for one in flattening)
        settings.update(
            {f"transforms.{one.name}.{name}": value for one in flattening for name, value in one.options.items()}
        )
    return settings


def marks_by_message(config: Mapping[str, str]) -> bool:
    """Whether a logical message marks a place for Debezium without writing a record: its prefix is left out.

    A message that Debezium takes in makes a record in the topic `<prefix>.message`, which somebody would have to have
    made; where brokers make none by themselves it would end Debezium's task.
    """
    settings = Settings(config)
    excluded, included = (settings.patterns(f"message.prefix.{which}.list") for which in ("exclude", "include"))
    if included is not None:
        return not included.matches(MARK)
    return excluded is not None and excluded.matches(MARK)


@dataclass(frozen=True)
class Patterns:
    """A list of regular expressions, separated by commas; each matches a whole name, whatever its case.

    Attributes:
        setting: its name.
        expressions: in order.

    """

    setting: str
    expressions: tuple[str, ...]

    def matches(self, name: str) -> bool:
        """Whether one of them does.

        Raises:
            re.error: an expression that Java's syntax may allow, and Python's doesn't.

        """
        return any(re.fullmatch(one, name, re.IGNORECASE) for one in self.expressions)


@dataclass(frozen=True)
class Transform:
    """A single message transform: `transforms.NAME.*`."""

    name: str
    type: str
    options: Mapping[str, str]

    @property
    def simple_type(self) -> str:
        """The class without its package, and without `$Value` or `$Key`."""
        return self.type.rpartition(".")[2].partition("$")[0]


class Settings:
    """A connector's configuration with Debezium's defaults."""

    def __init__(self, config: Mapping[str, str]) -> None:
        self._config = config

    def __contains__(self, name: str) -> bool:
        return name in self._config

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def text(self, name: str, default: str = "") -> str:
        """As it is written, without blanks around it."""
        return self._config.get(name, default).strip()

    def mode(self, name: str, default: str) -> str:
        """A word whose case doesn't matter; the default where it is empty."""
        return (self.text(name) or default).lower()

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        return self.mode(name, str(default)) == "true"

    def number(self, name: str, default: int) -> int:
        """A number; the default for what is none."""
        try:
            return int(self.text(name))
        except ValueError:
            return default

    def words(self, name: str) -> tuple[str, ...]:
        """A list, separated by commas."""
        return tuple(word.strip() for word in self.text(name).split(",") if word.strip())

    def patterns(self, name: str) -> Patterns | None:
        """A list of regular expressions (a comma in one has a backslash before it); None where it isn't set."""
        expressions = tuple(
            one.strip().replace("\\,", ",") for one in re.split(r"(?<!\\),", self.text(name)) if one.strip()
        )
        return Patterns(name, expressions) if expressions else None

    def transforms(self) -> tuple[Transform, ...]:
        """The chain of single message transforms, in order."""
        made = []
        for name in self.words("transforms"):
            head = f"transforms.{name}."
            options = {key.removeprefix(head): value for key, value in self._config.items() if key.startswith(head)}
            made.append(Transform(name, options.get("type", "").strip(), options))
        return tuple(made)


def plain_name(table: TableName) -> str:
    """A table as Debezium's lists write it: schema and name, never quoted."""
    return f"{table.schema}.{table.name}"
