"""A connector as its YAML file describes it: frozen, strict, with few knobs and defaults that are the tested path.

Durations are `timedelta`, sizes are bytes. Scalars arrive as texts (see `document`) and get their type here.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from replicator.config.checks import Check
from replicator.config.fields import (
    Address,
    BufferSize,
    ColumnName,
    ConnectorName,
    Identifier,
    ListenAddress,
    PositiveDuration,
    PythonFile,
    SingleTable,
    TablePattern,
    Tables,
    Text,
    Tolerance,
)
from replicator.config.secret import Dsn, Secret, WebUrl
from replicator.config.section import Breach, Section
from replicator.config.streams import SlotStream, Stream
from replicator.config.units import parse_duration
from replicator.tables import TableName

CONTINUOUS: Final = "continuous"
"""In place of the whole section `verify`."""


class Database(Section):
    """One of the two databases."""

    dsn: Dsn = Field(description="libpq connection string (URI or key=value); best from ${ENV}.")
    connect_timeout: PositiveDuration = Field(
        default=parse_duration("10s"), description="How long one connection attempt may take."
    )
    statement_timeout: PositiveDuration | None = Field(
        default=None, description="Limit of one statement of ours; without it, the server's own."
    )


class TableMapping(Section):
    """Tables of the same shape, which need no Python; or more about a table that a transform maps."""

    old: Tables = Field(description="schema.table, or schema.* for all tables that no other entry names.")
    upgraded: Tables | None = Field(default=None, description="schema.table, or schema.*; the same name if left out.")
    columns: dict[Identifier, Identifier] = Field(
        default_factory=dict, description="Renamed columns: old name to upgraded name."
    )
    drop: tuple[Identifier, ...] = Field(default=(), description="Old columns that the upgraded table doesn't have.")
    references: dict[Identifier, SingleTable] = Field(
        default_factory=dict,
        description="Columns that hold a key which a transform changes: column to its old root table.",
    )
    lossy: tuple[Identifier, ...] = Field(default=(), description="Columns that may lose something, on purpose.")
    key: tuple[Identifier, ...] | None = Field(
        default=None, description="Columns of a unique index, for a table without primary key."
    )
    exclude: tuple[SingleTable, ...] = Field(default=(), description="Tables that schema.* leaves out.")

    def upgraded_table(self, table: TableName) -> TableName:
        """The upgraded name of `table`, which `old` must match."""
        if self.upgraded is None:
            return table
        if self.upgraded.wildcard:
            return TableName(self.upgraded.schema, table.name)
        return self.upgraded.table

    def _breaches(self) -> Iterable[Breach]:
        if self.upgraded is not None and self.upgraded.wildcard != self.old.wildcard:
            yield Breach(("upgraded",), "old and upgraded are both schema.*, or both one table")
        if self.old.wildcard:
            for name in ("columns", "drop", "references", "lossy", "key"):
                if getattr(self, name):
                    yield Breach((name,), "a table with columns of its own needs an entry of its own")
        elif self.exclude:
            yield Breach(("exclude",), "only an entry with schema.* leaves tables out")
        for index, table in enumerate(self.exclude):
            if self.old.wildcard and not self.old.matches(table):
                yield Breach(("exclude", index), "a table of another schema")
        if self.key == ():
            yield Breach(("key",), "expected at least one column")
        for name in ("drop", "lossy", "key"):
            yield from _repeated(name, getattr(self, name) or ())
        yield from (
            Breach(("columns", name), "a column can't be both renamed and dropped")
            for name in self.columns
            if name in self.drop
        )
        renamed = list(self.columns.values())
        yield from (
            Breach(("columns", name), "two columns get the same upgraded name")
            for index, (name, new) in enumerate(self.columns.items())
            if new in renamed[:index]
        )


class Retry(Section):
    """Pauses between attempts after an error that may pass: doubled each time, with jitter."""

    initial: PositiveDuration = Field(default=parse_duration("200ms"), description="Pause after the first failure.")
    max: PositiveDuration = Field(default=parse_duration("30s"), description="Longest pause.")
    attempts: int | None = Field(
        default=None, ge=1, description="Attempts in a row before the feed stops; unlimited if left out."
    )

    def _breaches(self) -> Iterable[Breach]:
        if self.max < self.initial:
            yield Breach(("max",), "expected at least as long as initial")


class Apply(Section):
    """How changes are written to the target."""

    lanes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Parallel lanes of a slot; more than 1 gives up whole source transactions.",
    )
    batch_rows_max: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Rows of one target transaction, at most."
    )
    batch_bytes_max: BufferSize = Field(default=16 << 20, description="Bytes of one batch, at most.")
    on_error: Literal["stop", "dlq"] = Field(
        default="stop", description="What a row does that can't be applied: stop, or dead letter queue."
    )
    retry: Retry = Field(default_factory=Retry)


class Backfill(Section):
    """The initial copy."""

    enabled: bool = Field(default=True, description="Off where the upgraded side has been filled by other means.")
    workers: int = Field(default=2, ge=1, le=64, description="Chunks copied at once.")
    chunk_rows: int = Field(default=20_000, ge=1, le=10_000_000, description="Rows of one chunk, about.")


class Verify(Section):
    """The comparison of both databases; `verify: continuous` alone is `{continuous: on}`."""

    continuous: bool = Field(default=False, description="The daemon verifies all the time, pass after pass.")
    interval: PositiveDuration = Field(
        default=parse_duration("1m"), description="From the beginning of one pass to that of the next, at least."
    )
    rows_per_second_max: int | None = Field(
        default=20_000, ge=1, description="Rows read a second, at most; null is unlimited."
    )
    tolerance: dict[ColumnName, Tolerance] = Field(
        default_factory=dict,
        description="Columns of the upgraded side whose values may differ by this: numbers, or seconds of moments.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        if isinstance(given, str) and given != CONTINUOUS:
            raise PydanticCustomError("verify", "expected `continuous`, or a mapping (key: value)")
        return {"continuous": True} if given == CONTINUOUS else given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The section, or the one word."""
        return {"anyOf": [handler(schema), {"const": CONTINUOUS}]}

    @property
    def tolerances(self) -> dict[TableName, dict[str, Decimal]]:
        """By table and column."""
        found: dict[TableName, dict[str, Decimal]] = {}
        for place, most in self.tolerance.items():
            found.setdefault(place.table, {})[place.column] = most
        return found


class NoRouter(Section):
    """The application is switched by other means; the fence alone holds its writes."""

    kind: Literal["none"] = "none"


class PgbouncerRouter(Section):
    """PgBouncer, by its admin console."""

    kind: Literal["pgbouncer"]
    dsn: Dsn = Field(description="Connection string of the admin console.")
    database: Text | None = Field(
        default=None, description="Its entry in [databases]; the name of the old database if left out."
    )


class CommandRouter(Section):
    """Programs that hold, switch and release the traffic: each an argument list, run without a shell."""

    kind: Literal["command"]
    switch: tuple[Text, ...] = Field(min_length=1)
    hold: tuple[Text, ...] | None = Field(default=None, min_length=1)
    release: tuple[Text, ...] | None = Field(default=None, min_length=1)
    timeout: PositiveDuration = Field(default=parse_duration("10s"), description="For each run.")


class WebhookRouter(Section):
    """An HTTP endpoint that is told to hold, switch and release the traffic."""

    kind: Literal["webhook"]
    url: WebUrl
    token: Secret | None = Field(default=None, description="Sent as bearer token.")
    timeout: PositiveDuration = Field(default=parse_duration("10s"), description="For each call.")


Router = Annotated[NoRouter | PgbouncerRouter | CommandRouter | WebhookRouter, Field(discriminator="kind")]


class Cutover(Section):
    """The switch of the application from old to upgraded."""

    max_pause: PositiveDuration = Field(
        default=parse_duration("5s"), description="Writes are held no longer; then it is undone."
    )
    lag_max: PositiveDuration = Field(
        default=parse_duration("2s"), description="With more lag a cutover doesn't begin."
    )
    router: Router = Field(default_factory=NoRouter)
    reverse: bool = Field(default=True, description="Replicate backwards after the switch, so that one can go back.")


class Http(Section):
    """Metrics, health, API and dashboard."""

    listen: ListenAddress = Field(default=Address("127.0.0.1", 8650), description="host:port; port 0 takes a free one.")
    token: Secret | None = Field(default=None, description="Bearer token of the API; needed beyond loopback.")

    def _breaches(self) -> Iterable[Breach]:
        if not self.listen.loopback and self.token is None:
            yield Breach(("listen",), "an address beyond loopback needs http.token")


class Connector(Section):
    """One migration: where from, where to, and how."""

    name: ConnectorName = Field(description="Lower-case letters, digits and _, 40 at most.")
    old: Database = Field(description="The database that the application leaves.")
    upgraded: Database = Field(description="The database that the application moves to.")
    stream: Stream = Field(default_factory=SlotStream, description="How changes are read.")
    transforms: PythonFile | None = Field(
        default=None, description="Python file with the transforms, relative to this file."
    )
    tables: tuple[TableMapping, ...] = Field(
        default=(), description="Tables of the same shape; those of the transforms come by themselves."
    )
    apply: Apply = Field(default_factory=Apply)
    backfill: Backfill = Field(default_factory=Backfill)
    verify: Verify = Field(default_factory=Verify)
    checks: tuple[Check, ...] = Field(default=(), description="The business's own rules.")
    cutover: Cutover = Field(default_factory=Cutover)
    http: Http = Field(default_factory=Http)

    @property
    def slot_name(self) -> str:
        """The replication slot's name: given, or `replicator_<name>`."""
        return self.stream.slot or f"replicator_{self.name}"

    @property
    def publication_name(self) -> str:
        """The publication's name: given, or `replicator_<name>`."""
        where = self.stream if isinstance(self.stream, SlotStream) else self.stream.capture
        given = None if where is None else where.publication
        return given or f"replicator_{self.name}"

    def mapping_of(self, table: TableName) -> TableMapping | None:
        """The entry of `tables` for an old table: its own one, else the one of its schema, else None."""
        matching = [entry for entry in self.tables if entry.old.matches(table) and table not in entry.exclude]
        return min(matching, key=lambda entry: entry.old.wildcard, default=None)

    def _breaches(self) -> Iterable[Breach]:
        if not self.tables and self.transforms is None:
            yield Breach((), "nothing to replicate: expected tables, or transforms")
        seen_tables: set[TablePattern] = set()
        for index, entry in enumerate(self.tables):
            if entry.old in seen_tables:
                yield Breach(("tables", index, "old"), "the same as in an entry above")
            seen_tables.add(entry.old)
        seen_checks: set[str] = set()
        for index, check in enumerate(self.checks):
            if check.name in seen_checks:
                yield Breach(("checks", index, "name"), "the same as in a check above")
            seen_checks.add(check.name)


def _repeated(name: str, values: tuple[str, ...]) -> Iterable[Breach]:
    return (Breach((name, index), "named twice") for index, value in enumerate(values) if value in values[:index])
