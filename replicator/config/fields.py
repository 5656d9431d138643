"""The types of single values in a connector: each says what it expects, and none repeats a value in an error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from replicator.config.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from replicator.tables import TableName, quote_identifier

NAME_BYTES_MAX: Final = 63
"""PostgreSQL's NAMEDATALEN - 1."""

REFERENCE_PATTERN: Final = r"\$\{"
SIZE_MIN: Final = 65_536

_Parsed = TypeVar("_Parsed")


def expected(message: str) -> PydanticCustomError:
    """The error of a value that isn't what `message` says; the caller may add the value if it is no secret."""
    return PydanticCustomError("expected", "{message}", {"message": message})


def _parsed_as(parse: Callable[[str], _Parsed], kind: type[_Parsed], *, message: str) -> Callable[[object], _Parsed]:
    """A validator that parses texts, takes values of the right type as they are, and refuses the rest."""

    def validate(value: object) -> _Parsed:
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
        if not isinstance(value, str):
            raise expected(message)
        try:
            return parse(value)
        except ValueError as error:
            text = str(error)
        raise expected(text)

    return validate


def _more_than_zero(value: timedelta) -> timedelta:
    if not value:
        raise expected("expected more than 0")
    return value


def _large_enough(value: int) -> int:
    if value < SIZE_MIN:
        raise expected(f"expected at least {format_size(SIZE_MIN)}")
    return value


def _identifier(value: str) -> str:
    if not value or len(value.encode()) > NAME_BYTES_MAX:
        raise expected(f"expected a name of 1 to {NAME_BYTES_MAX} bytes")
    return value


def _matches(pattern: str, message: str, *, private: bool = False) -> AfterValidator:
    """A validator by pattern; a `private` value isn't repeated in the error."""

    def validate(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError("secret", "{message}", {"message": message}) if private else expected(message)
        return value

    return AfterValidator(validate)


def _schema(pattern: str, *, name: bool = False) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string", "pattern": f"^({pattern})$|{REFERENCE_PATTERN}"}
    return WithJsonSchema(schema | {"maxLength": 1000} if name else schema)


Duration = Annotated[
    timedelta,
    BeforeValidator(_parsed_as(parse_duration, timedelta, message="expected a duration such as 250ms or 5s")),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^(0|{DURATION_PATTERN})$|{REFERENCE_PATTERN}"},
                {"const": 0},
            ]
        }
    ),
]
"""A `timedelta`, written as 250ms, 5s, 1m30s; 0 needs no unit."""

PositiveDuration = Annotated[
    Duration,
    AfterValidator(_more_than_zero),
    WithJsonSchema({"type": "string", "pattern": f"^({DURATION_PATTERN})$|{REFERENCE_PATTERN}"}),
]
"""A `Duration` above 0."""

BufferSize = Annotated[
    int,
    BeforeValidator(_parsed_as(parse_size, int, message="expected a size such as 16MiB")),
    AfterValidator(_large_enough),
    PlainSerializer(format_size, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^({SIZE_PATTERN})$|{REFERENCE_PATTERN}"},
                {"type": "integer", "minimum": SIZE_MIN},
            ]
        }
    ),
]
"""Bytes, written as 16MiB (1024 based), 64kB (1000 based), or a bare number; at least `SIZE_MIN`."""

Identifier = Annotated[str, AfterValidator(_identifier)]
"""A column or publication, exactly as the catalog spells it."""

ConnectorName = Annotated[
    str,
    _matches(
        r"[a-z0-9_]{1,40}",
        "expected 1 to 40 lower-case letters, digits and _ (it becomes part of slot names)",
    ),
    _schema(r"[a-z0-9_]{1,40}"),
]

SlotName = Annotated[
    str,
    _matches(r"[a-z0-9_]{1,63}", "expected 1 to 63 lower-case letters, digits and _"),
    _schema(r"[a-z0-9_]{1,63}"),
]

Text = Annotated[str, _matches(r"(?s).*\S.*", "must not be empty")]
"""A text with at least one visible character."""

PlainUrl = Annotated[
    str,
    _matches(
        r"https?://[^\s/?#@]+(?:/[^\s?#@]*)?",
        "expected a URL without credentials: http://host:port or https://host",
        private=True,
    ),
    _schema(r"https?://[^\s/?#@]+(/[^\s?#@]*)?"),
]


@dataclass(frozen=True, slots=True)
class TablePattern:
    """One table, or all tables of a schema.

    Attributes:
        schema: exactly as the catalog spells it.
        name: likewise; None for all tables of the schema.

    """

    schema: str
    name: str | None = None

    def __str__(self) -> str:
        """`schema.table` or `schema.*`, quoted where needed; `parse` reads it back."""
        return str(self.table) if self.name is not None else f"{quote_identifier(self.schema)}.*"

    @property
    def wildcard(self) -> bool:
        """Whether all tables of the schema are meant."""
        return self.name is None

    @property
    def table(self) -> TableName:
        """The one table that is meant; a wildcard has none, and asking is a mistake of ours."""
        assert self.name is not None
        return TableName(self.schema, self.name)

    def matches(self, table: TableName) -> bool:
        """Whether this names `table`, alone or among others."""
        return table.schema == self.schema and self.name in {None, table.name}

    @classmethod
    def parse(cls, text: str) -> TablePattern:
        """Read `schema.table` or `schema.*`; parts with dots, blanks or quotes in double quotes.

        Raises:
            ValueError: with what is expected, not the text.

        """
        wildcard = text.endswith(".*")
        exact = text.removesuffix("*") + "_" if wildcard else text
        try:
            table = None if "*" in exact and '"' not in exact else TableName.parse(exact)
        except ValueError:
            table = None
        if table is None:
            raise ValueError('expected schema.table or schema.*, such as public.users or public."Weird.Name"')
        if max(len(table.schema.encode()), len(table.name.encode())) > NAME_BYTES_MAX:
            raise ValueError(f"expected names of at most {NAME_BYTES_MAX} bytes")
        return cls(table.schema, None if wildcard else table.name)


def _parse_table(text: str) -> TableName:
    pattern = TablePattern.parse(text)
    if pattern.wildcard:
        raise ValueError("expected one table: schema.table")
    return pattern.table


_TABLE_PART: Final = r'("([^"]|"")+"|[^".\s]+)'

Tables = Annotated[
    TablePattern,
    BeforeValidator(_parsed_as(TablePattern.parse, TablePattern, message="expected schema.table or schema.*")),
    PlainSerializer(str, when_used="json"),
    _schema(rf"{_TABLE_PART}\.{_TABLE_PART}"),
]
"""A `TablePattern`, written as public.users, public."Weird.Name" or public.*"""

SingleTable = Annotated[
    TableName,
    BeforeValidator(_parsed_as(_parse_table, TableName, message="expected schema.table")),
    PlainSerializer(str, when_used="json"),
    _schema(rf"{_TABLE_PART}\.{_TABLE_PART}"),
]
"""A `TableName`, written as public.users"""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of one table, each part exactly as the catalog spells it."""

    table: TableName
    column: str

    def __str__(self) -> str:
        """`schema.table.column`, quoted where needed; `parse` reads it back."""
        return f"{self.table}.{quote_identifier(self.column)}"

    @classmethod
    def parse(cls, text: str) -> TableColumn:
        """Read `schema.table.column`.

        Raises:
            ValueError: with what is expected, not the text.

        """
        match = re.fullmatch(rf"({_TABLE_PART}\.{_TABLE_PART})\.{_TABLE_PART}", text)
        if match is None:
            raise ValueError("expected schema.table.column, such as crm.invoices.total")
        column = match.groups()[-2]
        return cls(_parse_table(match[1]), column[1:-1].replace('""', '"') if column.startswith('"') else column)


ColumnName = Annotated[
    TableColumn,
    BeforeValidator(_parsed_as(TableColumn.parse, TableColumn, message="expected schema.table.column")),
    PlainSerializer(str, when_used="json"),
    _schema(rf"{_TABLE_PART}\.{_TABLE_PART}\.{_TABLE_PART}"),
]
"""A `TableColumn`, written as crm.invoices.total"""


def _parse_tolerance(text: str) -> Decimal:
    if not re.fullmatch(NUMBER_PATTERN, text) or not (number := Decimal(text)):
        raise ValueError("expected a number above 0, such as 0.01")
    return number


NUMBER_PATTERN: Final = r"[0-9]{1,20}(\.[0-9]{1,20})?"

Tolerance = Annotated[
    Decimal,
    BeforeValidator(_parsed_as(_parse_tolerance, Decimal, message="expected a number above 0")),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^({NUMBER_PATTERN})$|{REFERENCE_PATTERN}"},
                {"type": "number", "exclusiveMinimum": 0},
            ]
        }
    ),
]
"""A decimal number above 0."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; `str()` gives the form that `parse` reads."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        local = re.fullmatch(r"localhost|::1|127(\.[0-9]{1,3}){3}", self.host)
        return local is not None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port` or `[v6]:port`; port 0 takes a free one.

        Raises:
            ValueError: with what is expected, not the text.

        """
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+)):([0-9]{1,5})", text, re.ASCII)
        if match is None or int(match[3]) > 65_535:
            raise ValueError("expected host:port, such as 127.0.0.1:8650")
        return cls(match[1] or match[2], int(match[3]))


ListenAddress = Annotated[
    Address,
    BeforeValidator(_parsed_as(Address.parse, Address, message="expected host:port")),
    PlainSerializer(str, when_used="json"),
    _schema(r".+:[0-9]{1,5}"),
]


def _existing_file(ending: str, what: str) -> Callable[[object, ValidationInfo], Path]:
    def validate(value: object, info: ValidationInfo) -> Path:
        if not isinstance(value, str | Path) or not str(value).endswith(ending):
            raise expected(f"expected the path of a {what} file")
        folder = (info.context or {}).get("folder", Path())
        path = Path(os.path.abspath(folder / value))  # noqa: PTH100 - resolve() fails on a loop of links
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on names that are too long
            raise expected("no such file beside the connector")
        return path

    return validate


PythonFile = Annotated[
    Path,
    BeforeValidator(_existing_file(".py", "Python")),
    WithJsonSchema({"type": "string", "pattern": rf"\.py$|{REFERENCE_PATTERN}"}),
]
"""A Python file that exists, absolute; relative paths begin at the connector's folder (context key `folder`)."""

JsonFile = Annotated[
    Path,
    BeforeValidator(_existing_file(".json", "JSON")),
    WithJsonSchema({"type": "string", "pattern": rf"\.json$|{REFERENCE_PATTERN}"}),
]
"""A JSON file that exists, likewise."""
