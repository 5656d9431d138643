"""Values that never show: passwords, tokens, connection strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Self
from urllib.parse import unquote

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MASK: Final = "********"

_SHOWN: Final = (
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "service",
    "sslmode",
    "target_session_attrs",
    "application_name",
)
"""What `Dsn.masked` shows; the value of any other parameter is masked, whatever its name."""

_URI: Final = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]*)(?:/(?P<dbname>[^@/?#]*))?(?:\?(?P<query>[^@?#]*))?"
)
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[\w.%-]*)(?::(?P<port>[0-9]*))?")
_PAIR: Final = re.compile(
    r"\s*(?P<key>\w+)\s*=\s*(?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<plain>(?:[^\s'\\]|\\.)*))(?=\s|\Z)",
    re.DOTALL,
)


class Secret:
    """A text that is shown as `********` everywhere; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and type(other) is type(self) and self._value == other._value

    def __hash__(self) -> int:
        return hash((type(self), self._value))

    @classmethod
    def _validate(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise PydanticCustomError("secret", "expected a text")
        if not value:
            raise PydanticCustomError("secret", "must not be empty")
        cls._check(value)
        return cls(value)

    @classmethod
    def _check(cls, value: str) -> None:
        """Refuse what can't be right, without repeating it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "minLength": 1}


class Dsn(Secret):
    """A libpq connection string, as a URI or as `key=value` pairs."""

    __slots__ = ()

    def masked(self) -> str:
        """For people: `host=db port=5432 dbname=crm user=app password=********`.

        Only well-known parameters are shown; a string that isn't fully understood is masked as a whole.
        """
        value = self.reveal()
        pairs = _uri_pairs(value) if _is_uri(value) else _keyword_pairs(value)
        if pairs is None:
            return MASK
        found = dict(pairs)
        shown = [f"{key}={found[key]}" for key in _SHOWN if found.get(key)]
        hidden = [f"{key}={MASK}" for key in found if key not in _SHOWN]
        return " ".join(shown + hidden)

    @classmethod
    def _check(cls, value: str) -> None:
        if not _is_uri(value) and "=" not in value:
            raise PydanticCustomError(
                "secret",
                "expected a connection string: postgresql://user@host/dbname or host=... dbname=...",
            )


class WebUrl(Secret):
    """An http or https URL that may carry a token."""

    __slots__ = ()

    @classmethod
    def _check(cls, value: str) -> None:
        if not re.fullmatch(r"https?://[^\s/?#]+(?:[/?#]\S*)?", value):
            raise PydanticCustomError("secret", "expected a URL: http://... or https://...")


def _is_uri(value: str) -> bool:
    return value.startswith(("postgresql://", "postgres://"))


def _uri_pairs(value: str) -> dict[str, str] | None:
    """Parameters of a connection URI, or None if any part of it is in doubt."""
    match = _URI.fullmatch(value)
    if match is None:
        return None
    hosts: list[str] = []
    ports: list[str] = []
    for part in match["hosts"].split(","):
        host = _HOST.fullmatch(part)
        if host is None:
            return None
        hosts.append(unquote(host["host"]).strip("[]"))
        ports.append(host["port"] or "")
    pairs = {"host": ",".join(hosts), "port": ",".join(ports).strip(",")}
    pairs |= {key: unquote(match[key]) for key in ("dbname", "user", "password") if match[key]}
    for parameter in filter(None, (match["query"] or "").split("&")):
        key, equals, text = parameter.partition("=")
        if not equals or not re.fullmatch(r"\w+", key):
            return None
        pairs[key] = unquote(text)
    return pairs


def _keyword_pairs(value: str) -> dict[str, str] | None:
    """Parameters of a `key=value` string, or None if any part of it is in doubt."""
    pairs: dict[str, str] = {}
    at = 0
    for match in _adjacent(_PAIR, value):
        text = match["quoted"] if match["quoted"] is not None else match["plain"]
        pairs[match["key"]] = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
        at = match.end()
    return None if value[at:].strip() else pairs


def _adjacent(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Matches that follow each other without a gap, from the start."""
    match = pattern.match(text)
    while match is not None:
        yield match
        match = pattern.match(text, match.end())
