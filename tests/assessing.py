"""Two databases described in words, and the plan for them: for the unit tests of `replicator.assess`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from replicator.assess import Assessment, Finding, assess
from replicator.assess.facts import Facts, PublicationFacts, PublishedTable, Rights, ServerFacts, SlotFacts, TableRights
from replicator.assess.log_facts import DebeziumFacts, LogFacts, StreamFacts, TopicFacts, Unreachable
from replicator.compile import compile_mappings
from replicator.config import parse_connector
from replicator.mapping import Mapping as TableMapping
from replicator.mapping import Mappings, Outcome, Side, SourceAggregate
from replicator.tables import Catalog, Column, ForeignKey, Table, TableName, UniqueKey

INTEGER = Column("id", 23, "integer", "integer", nullable=False)


def text(name: str, **changes: Any) -> Column:
    return replace(Column(name, 25, "text", "text"), **changes)


def integer(name: str, **changes: Any) -> Column:
    return replace(INTEGER, name=name, **changes)


def table(name: str, *columns: Column, key: tuple[str, ...] = ("id",), **changes: Any) -> Table:
    """A table with an integer key `id` before the given columns, unless `key` is ()."""
    every = (INTEGER, *columns) if "id" in key else columns
    keys = (UniqueKey("pkey", key, primary=True),) if key else ()
    made = Table(TableName.parse(name), every, unique_keys=keys, identity_columns=key)
    return replace(made, **changes)


def unique(name: str, *columns: str, **changes: Any) -> UniqueKey:
    return UniqueKey(name, columns, **changes)


def foreign(name: str, column: str, to: str, **changes: Any) -> ForeignKey:
    return ForeignKey(name, (column,), TableName.parse(to), ("id",), **changes)


def database(*tables: Table, version: int = 180000, name: str = "x", **facts: Any) -> Facts:
    """Facts of a database in which our role may do everything; `rights` and `server` are changes to that."""
    rights = {each.name: TableRights() for each in tables}
    made = Facts(
        Catalog(version, {each.name: each for each in tables}),
        Rights(**{"own_schema": True, "tables": rights | facts.pop("table_rights", {})} | facts.pop("rights", {})),
        ServerFacts(identity=(name, "app"), database="app", **facts.pop("server", {})),
        filled={each.name: False for each in tables},
    )
    return replace(made, **facts)


def plan(
    old: Facts,
    upgraded: Facts,
    *,
    yaml: str = 'tables: [{old: "public.*"}]',
    mappings: Iterable[TableMapping] | None = None,
    **arguments: Any,
) -> Assessment:
    """The plan of a connector; its mappings are compiled, unless they are given."""
    head = "name: crm\nold: {dsn: host=old}\nupgraded: {dsn: host=new}\n"
    connector = parse_connector((head + yaml).encode(), Path("crm.yaml"), {})
    if mappings is None:
        made = compile_mappings(connector.tables, (), old.catalog, upgraded.catalog, forward=True)
    else:
        made = Mappings(tuple(mappings))
    return assess(connector, made, old, upgraded, **arguments)


def transform(
    sources: Mapping[Table, tuple[str, ...]], targets: Mapping[Table, tuple[str, ...]], **changes: Any
) -> TableMapping:
    """A mapping with a function, whose tables and keys are given, the root first."""
    made = TableMapping(
        name=str(next(iter(sources)).name),
        sources=tuple(Side(each, key) for each, key in sources.items()),
        targets=tuple(Side(each, key) for each, key in targets.items()),
        function=_never_called,
        label="transform f (crm.py:1)",
    )
    return replace(made, **changes)


def _never_called(aggregate: SourceAggregate) -> Outcome:
    raise AssertionError(aggregate.key)  # a plan runs nothing


def found(assessment: Assessment, code: str) -> Finding:
    """The one finding of this code."""
    matching = [finding for finding in assessment.findings if finding.code == code]
    assert 1 == len(matching), f"{code} in {[finding.code for finding in assessment.findings]}"
    return matching[0]


def codes(assessment: Assessment) -> set[str]:
    return {finding.code for finding in assessment.findings}


DEBEZIUM: Mapping[str, str] = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "plugin.name": "pgoutput",
    "topic.prefix": "old",
    "database.dbname": "app",
    "database.password": "s3cret",
    "slot.name": "debezium",
    "publication.name": "dbz",
    "snapshot.mode": "no_data",
    "event.converting.failure.handling.mode": "fail",
    "include.unknown.datatypes": "true",
    "skipped.operations": "none",
    "decimal.handling.mode": "string",
    "interval.handling.mode": "string",
    "heartbeat.interval.ms": "500",
    "exactly.once.support": "required",
    "message.prefix.exclude.list": "replicator",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter.replace.null.with.default": "false",
}
"""A configuration with nothing to find."""
CONNECT = "connect_url: http://connect:8083, connect_name: crm"


def kafka_stream(more: str = CONNECT, *, kind: str = "debezium-json") -> str:
    """The connector's section, and tables."""
    stream = f"kind: kafka, bootstrap_servers: kafka, format: {kind}, topic_prefix: old"
    return f'stream: {{{stream}{", " if more else ""}{more}}}\ntables: [{{old: "public.*"}}]'


def log_plan(
    *tables: Table,
    config: Mapping[str, str | None] | None = None,
    topics: Mapping[str, TopicFacts] | None = None,
    yaml: str | None = None,
    old: Mapping[str, Any] | None = None,
    debezium: Mapping[str, Any] | None = None,
    mappings: Iterable[TableMapping] | None = None,
    enums: Iterable[str] = (),
    upgraded: Mapping[str, Any] | None = None,
    connect: Unreachable | None = None,
    **facts: Any,
) -> Assessment:
    """The plan of a connector that reads Kafka; nothing is found unless something is changed.

    `config` are changes of Debezium's configuration (None takes a setting away), `topics` of the topics, `old` of the
    old database's facts, `upgraded` of the other's, `debezium` of what Connect says (`seen=False`: nothing), the rest
    of the stream's facts.
    """
    settings = {key: value for key, value in {**DEBEZIUM, **(config or {})}.items() if value is not None}
    names = {each.name: f"old.{each.name.schema}.{each.name.name}" for each in tables}
    found = dict.fromkeys(names.values(), TopicFacts(1)) | dict(topics or {})
    operations = frozenset({"insert", "update", "delete", "truncate"})
    published = {each.name: PublishedTable() for each in tables}
    source = database(
        *tables,
        name="a",
        **{
            "slot": SlotFacts("pgoutput", "app", active=True),
            "publication": PublicationFacts(operations, via_root=True, owned=False, tables=published),
            **(old or {}),
        },
    )
    source = replace(source, catalog=replace(source.catalog, enums=dict.fromkeys(enums, ("a",))))
    told = {"version": "3.6.3.Final", "cluster": "k", **(debezium or {})}
    stream = StreamFacts(
        **{
            "topics": names,
            "transactions": "old.transaction",
            "log": LogFacts("k", found),
            "debezium": DebeziumFacts(settings, **told) if told.pop("seen", True) and not connect else connect,
            "slot": "debezium",
            "publication": "dbz",
            **facts,
        }
    )
    target = database(*tables, name="b", **(upgraded or {}))
    return plan(source, target, yaml=yaml or kafka_stream(), mappings=mappings, stream=stream)


def about(
    subject: str, config: dict[str, str | None] | None = None, *, tables: tuple[Table, ...] = (), **changes: Any
) -> list[Finding]:
    """What is found about one setting; no secret is in any message."""
    made = log_plan(*(tables or (table("public.users", text("name")),)), config=config, **changes)
    assert "s3cret" not in str(made.to_json())
    return [finding for finding in made.findings if finding.subject == subject]
