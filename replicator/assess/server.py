"""Servers and rights: versions, WAL, slots, publication, and the exact GRANT for each right that lacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from replicator.assess.facts import Facts, TableRights
from replicator.assess.feed import AssessedFeed
from replicator.assess.findings import Finding, Level, quoted, table_list
from replicator.tables import TableName, quote_identifier

VERSION_MIN: Final = 130000
_ORIGINS_SETTING_SINCE: Final = 180000
_OPERATIONS: Final = "insert, update, delete, truncate"
_MESSAGES_SINCE: Final = 140000  # logical messages in pgoutput, which can mark a transaction


@dataclass(frozen=True)
class SlotWishes:
    """What the connector wants from the source when it reads a slot.

    Attributes:
        slot, publication: names.
        create: make them where they are missing.
        reverse: a feed back runs after the cutover, so the two must tell each other's transactions from others.

    """

    slot: str
    publication: str
    create: bool = True
    reverse: bool = True


def assess_servers(feed: AssessedFeed) -> Iterator[Finding]:
    """Findings about the two servers, whatever the stream."""
    for name, facts in (("old", feed.source), ("upgraded", feed.target)):
        subject = f"{name} server"
        if facts.catalog.server_version < VERSION_MIN:
            version = facts.catalog.server_version // 10000
            yield feed.finding(
                Level.STOP, "version", subject, f"PostgreSQL {version} is too old", "Upgrade it to 13 or later"
            )
        if facts.server.encoding not in {"UTF8", "UNICODE"}:
            stop = name == "old" and facts.server.encoding == "SQL_ASCII"
            yield feed.finding(
                Level.STOP if stop else Level.WARN,
                "encoding",
                f"{name} database",
                f"its encoding is {facts.server.encoding}: "
                + (
                    "its bytes have no meaning that could be converted"
                    if stop
                    else "what it can't express is refused, row by row"
                ),
                "Make the new database with ENCODING 'UTF8'" if name == "upgraded" else "",
            )
    if feed.source.server.identity == feed.target.server.identity != ("", ""):
        yield feed.finding(
            Level.STOP,
            "same_database",
            feed.source.server.database,
            "old and upgraded are one and the same database",
            "Correct old.dsn or upgraded.dsn in the connector",
        )
    if feed.target.server.in_recovery:
        yield feed.finding(
            Level.STOP, "standby", "upgraded server", "it is a standby, which takes no writes", "Name the primary"
        )


def assess_slot(feed: AssessedFeed, wishes: SlotWishes) -> Iterator[Finding]:
    """Findings about reading the source by this slot and this publication."""
    yield from assess_slot_server(feed)
    yield from _slot(feed, wishes)
    yield from assess_publication(feed, wishes)


def assess_slot_server(feed: AssessedFeed) -> Iterator[Finding]:
    """Findings about reading the source's server by any slot of ours."""
    rights, server = feed.source.rights, feed.source.server
    subject = f"{feed.source_name} server"
    yield from assess_wal(feed)
    if not (rights.replication or rights.superuser):
        yield feed.finding(
            feed.stop,
            "right_replication",
            subject,
            "our role may not read a slot",
            f"ALTER ROLE {quoted(rights.role)} REPLICATION;",
        )
    if server.senders_used >= server.senders_max:
        yield feed.finding(
            feed.stop,
            "wal_senders",
            subject,
            f"all {server.senders_max} WAL senders are in use",
            f"ALTER SYSTEM SET max_wal_senders = {server.senders_max + 5}; -- then restart the server",
        )


def assess_wal(feed: AssessedFeed) -> Iterator[Finding]:
    """Findings about any slot on the source's server, whoever reads it."""
    server = feed.source.server
    subject = f"{feed.source_name} server"
    if server.wal_level != "logical":
        yield feed.finding(
            feed.stop,
            "wal_level",
            subject,
            f"wal_level is {server.wal_level}, and a slot needs logical",
            "ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server",
        )
    if server.slot_idle_seconds_max is not None:
        yield feed.finding(
            Level.WARN,
            "slot_timeout",
            subject,
            f"idle_replication_slot_timeout gives up a slot that nobody reads for {server.slot_idle_seconds_max} s",
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
        )
    if server.slot_keep_bytes_max is not None:
        yield feed.finding(
            Level.NOTE,
            "slot_keep",
            subject,
            f"max_slot_wal_keep_size gives up the slot once it is {server.slot_keep_bytes_max >> 20} MB behind: then "
            "everything is to be copied again",
        )


def _slot(feed: AssessedFeed, wishes: SlotWishes) -> Iterator[Finding]:
    slot, server = feed.source.slot, feed.source.server
    subject = f"slot {wishes.slot}"
    make = f"SELECT pg_create_logical_replication_slot('{wishes.slot}', 'pgoutput');"
    if slot is None:
        if server.slots_used >= server.slots_max:
            yield feed.finding(
                feed.stop,
                "slots",
                f"{feed.source_name} server",
                f"all {server.slots_max} replication slots are in use",
                f"ALTER SYSTEM SET max_replication_slots = {server.slots_max + 5}; -- then restart the server",
            )
        if not wishes.create:
            yield feed.finding(feed.stop, "slot_missing", subject, "it is not there, and stream.create is off", make)
    elif slot.plugin != "pgoutput" or slot.database != server.database:
        what = "a physical one" if slot.plugin is None else f"of {slot.plugin} in database {slot.database}"
        yield feed.finding(
            feed.stop,
            "slot_foreign",
            subject,
            f"a slot of this name is there, {what}",
            "Name another one in stream.slot",
        )
    elif slot.lost is not None:
        yield feed.finding(
            feed.stop,
            "slot_lost",
            subject,
            f"the server has given it up ({slot.lost}): changes since are lost to it",
            f"SELECT pg_drop_replication_slot('{wishes.slot}'); -- then start again with a new copy",
        )
    elif slot.active:
        yield feed.finding(
            Level.NOTE, "slot_active", subject, "somebody reads it now; a start takes it over from an earlier process"
        )


def assess_publication(feed: AssessedFeed, wishes: SlotWishes) -> Iterator[Finding]:
    """Findings about what the publication leaves out, and whether it can be made."""
    publication, rights = feed.source.publication, feed.source.rights
    subject = f"publication {wishes.publication}"
    tables = {table.name: mapping for mapping, table, _ in feed.published()}
    foreign = [name for name in tables if not rights.of(name).owned]
    named = quote_identifier(wishes.publication)
    root = "publish_via_partition_root = true"
    if publication is None:
        # ONLY: tables that inherit are mapped by themselves, or not at all.
        only = ", ".join(f"ONLY {name}" for name in tables)
        create = f"CREATE PUBLICATION {named} FOR TABLE {only} WITH (publish = '{_OPERATIONS}', {root});"
        if feed.source.slot is not None:
            yield feed.finding(
                feed.stop,
                "slot_older",
                f"slot {wishes.slot}",
                f"it is older than its publication {wishes.publication}, and can't send what was committed before that",
                f"SELECT pg_drop_replication_slot('{wishes.slot}'); -- both are made again, publication first",
            )
        may = wishes.create and (rights.superuser or (rights.create_on_database and not foreign))
        if not may:
            why = "stream.create is off" if not wishes.create else "our role may not make it for tables of others"
            yield feed.finding(
                feed.stop, "publication_missing", subject, f"it is not there, and {why}", f"{create}\n-- as their owner"
            )
        return
    missing = [name for name in tables if name not in publication.tables]
    if missing:
        may = wishes.create and (rights.superuser or (publication.owned and not set(missing) & set(foreign)))
        yield feed.finding(
            Level.NOTE if may else feed.stop,
            "publication_tables",
            subject,
            f"it lacks {table_list(missing)}" + ("; a start adds them" if may else ""),
            "" if may else f"ALTER PUBLICATION {named} ADD TABLE {', '.join(f'ONLY {name}' for name in missing)};",
        )
    parted = [table.name for _, table, _ in feed.published() if table.kind == "p" and table.name in tables]
    if parted and not publication.via_root:
        yield feed.finding(
            feed.stop,
            "publication_root",
            subject,
            f"it names partitions, not the partitioned tables that are mapped: {table_list(parted)}",
            f"ALTER PUBLICATION {named} SET ({root});",
        )
    yield from _published_part(feed, wishes, tables)


def _published_part(feed: AssessedFeed, wishes: SlotWishes, tables: Iterable[TableName]) -> Iterator[Finding]:
    """Operations, columns and rows that an existing publication leaves out."""
    publication = feed.source.publication
    assert publication is not None
    lacking = {"insert", "update", "delete", "truncate"} - publication.operations
    if lacking:
        yield feed.finding(
            feed.stop,
            "publication_operations",
            f"publication {wishes.publication}",
            f"it leaves out {', '.join(sorted(lacking))}: such changes never arrive",
            f"ALTER PUBLICATION {quote_identifier(wishes.publication)} SET (publish = '{_OPERATIONS}');",
        )
    for name in tables:
        published = publication.tables.get(name)
        table = feed.source.catalog.tables.get(name)
        if published is None or table is None:
            continue
        hidden = [c for c in table.writable if published.columns and c not in published.columns]
        if published.row_filter is not None or hidden:
            what = f"only rows with {published.row_filter}" if published.row_filter else "not the columns "
            yield feed.finding(
                feed.stop,
                "publication_part",
                name,
                f"its publication has {what}{', '.join(map(quote_identifier, hidden))}: the copy would have what the "
                "stream has not",
                "Publish the whole table; leave rows out by owns_old= or the transform, columns by drop",
            )


def assess_marking(feed: AssessedFeed, wishes: SlotWishes) -> Iterator[Finding]:
    """Whether the feed back could tell our transactions on the target from the application's."""
    if feed.target.rights.origin_functions or not feed.forward:
        return
    names = ("create(text)", "drop(text)", "oid(text)", "session_setup(text)", "session_reset()")
    functions = [f"pg_catalog.pg_replication_origin_{name}" for name in names]
    functions.append("pg_catalog.pg_replication_origin_xact_setup(pg_lsn, timestamptz)")
    marker = feed.target.catalog.server_version >= _MESSAGES_SINCE
    yield feed.finding(
        Level.STOP if wishes.reverse and not marker else Level.WARN,
        "right_origin",
        "upgraded database",
        "our role may not use replication origins"
        + (": transactions are marked by a logical message instead" if marker else ", and nothing else can mark them"),
        f"GRANT EXECUTE ON FUNCTION {', '.join(functions)} TO {quoted(feed.target.rights.role)};"
        + ("" if marker else "\n-- or in the connector: cutover: {reverse: off}"),
    )


def assess_origins(feed: AssessedFeed, lanes: int) -> Iterator[Finding]:
    """Whether every lane can hold an origin of its own."""
    server, rights = feed.target.server, feed.target.rights
    if rights.origin_functions and server.origins_used + lanes > server.origins_max:
        own_setting = feed.target.catalog.server_version >= _ORIGINS_SETTING_SINCE
        setting = "max_active_replication_origins" if own_setting else "max_replication_slots"
        yield feed.finding(
            Level.WARN,
            "origins",
            f"{feed.target_name} server",
            f"{lanes} lane(s) need an origin each; {server.origins_used} exist, and {server.origins_max} can be held",
            f"ALTER SYSTEM SET {setting} = {server.origins_used + lanes + 5}; -- then restart the server",
        )


def assess_grants(feed: AssessedFeed) -> Iterator[Finding]:
    """Rights on tables and schemas that lack, one GRANT for each kind."""
    sources = [table.name for _, table, _ in feed.published()]
    targets = [table.name for table in feed.mappings.target_tables]
    yield from _grants(feed, feed.source, feed.source_name, sources, ("SELECT",))
    yield from _grants(feed, feed.target, feed.target_name, targets, ("SELECT", "INSERT", "UPDATE", "DELETE"))
    yield from _grants(feed, feed.target, feed.target_name, targets, ("TRUNCATE",), level=Level.WARN)
    for name, facts in ((feed.source_name, feed.source), (feed.target_name, feed.target)):
        rights = facts.rights
        if not (rights.own_schema or rights.create_on_database):
            needed = name == feed.target_name
            role, database = quoted(rights.role), quoted(facts.server.database)
            what = "checkpoints and key maps live" if needed else "the heartbeat and the key map of the way back live"
            yield feed.finding(
                feed.stop if needed else Level.WARN,
                "right_schema",
                f"{name} database",
                f"our role may not make the schema replicator, where {what}",
                f"GRANT CREATE ON DATABASE {database} TO {role};\n"
                f"-- or: CREATE SCHEMA replicator AUTHORIZATION {role};",
            )


_HAS: Final[dict[str, Callable[[TableRights], bool]]] = {
    "SELECT": lambda rights: rights.select,
    "INSERT": lambda rights: rights.insert,
    "UPDATE": lambda rights: rights.update,
    "DELETE": lambda rights: rights.delete,
    "TRUNCATE": lambda rights: rights.truncate,
}


def _grants(
    feed: AssessedFeed,
    facts: Facts,
    name: str,
    tables: Iterable[TableName],
    wanted: tuple[str, ...],
    *,
    level: Level | None = None,
) -> Iterator[Finding]:
    role = quoted(facts.rights.role)
    lacking: dict[tuple[str, ...], list[TableName]] = defaultdict(list)
    schemas: dict[str, None] = {}
    for table in tables:
        rights = facts.rights.of(table)
        missing = tuple(right for right in wanted if not _HAS[right](rights))
        if missing:
            lacking[missing].append(table)
        if not rights.schema_usage:
            schemas[quote_identifier(table.schema)] = None
    for missing, where in lacking.items():
        yield feed.finding(
            level or feed.stop,
            "right_table",
            f"{name} database",
            f"our role lacks {', '.join(missing)} on {len(where)} table(s)"
            + ("; a TRUNCATE on the other side is done by DELETE, slower" if missing == ("TRUNCATE",) else ""),
            f"GRANT {', '.join(missing)} ON {table_list(where)} TO {role};",
        )
    if schemas and level is None:
        yield feed.finding(
            feed.stop,
            "right_usage",
            f"{name} database",
            f"our role lacks USAGE on {len(schemas)} schema(s)",
            f"GRANT USAGE ON SCHEMA {', '.join(schemas)} TO {role};",
        )
