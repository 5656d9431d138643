"""What the target does when rows are written: foreign keys, keys, triggers, policies, and what of it is turned off."""

from __future__ import annotations

from collections.abc import Iterator

from replicator.assess.feed import AssessedFeed
from replicator.assess.findings import Finding, Level, column_list, quoted, table_list
from replicator.mapping import Mapping, Side
from replicator.planner import TableOrder
from replicator.tables import ForeignKey, Table, TableName, UniqueKey, quote_identifier

_SET_ON_PARAMETER = 150000  # GRANT SET ON PARAMETER


def assess_writing(feed: AssessedFeed, lanes: int, *, log: bool = False) -> Iterator[Finding]:
    """Findings about the target's tables.

    Args:
        feed: with the mappings.
        lanes: of the connector.
        log: changes come by several partitions, in no common order.

    """
    yield from _replica_role(feed, lanes, log=log)
    yield from _circles(feed)
    yield from _foreign_keys_outward(feed)
    for mapping in feed.mappings.all:
        for side in mapping.targets:
            yield from _storage(feed, mapping, side.table)
            yield from _keys(feed, mapping, side)
            yield from _triggers(feed, mapping, side.table)


def write_order(feed: AssessedFeed) -> tuple[TableName, ...]:
    """Target tables, parents first."""
    ranks = TableOrder.of(feed.mappings.target_tables).ranks
    return tuple(sorted(ranks, key=lambda name: ranks[name]))


def _mapped_keys(feed: AssessedFeed) -> list[tuple[Table, ForeignKey]]:
    names = {table.name for table in feed.mappings.target_tables}
    return [(t, key) for t in feed.mappings.target_tables for key in t.foreign_keys if key.referenced in names]


def _replica_role(feed: AssessedFeed, lanes: int, *, log: bool) -> Iterator[Finding]:
    if feed.target.rights.replica_role:
        return
    role = quoted(feed.target.rights.role)
    if feed.target.catalog.server_version >= _SET_ON_PARAMETER:
        grant = f"GRANT SET ON PARAMETER session_replication_role TO {role};"
    else:
        grant = f"ALTER ROLE {role} SUPERUSER; -- before PostgreSQL 15 nothing less lets a role set it"
    subject = f"{feed.target_name} database"
    yield feed.finding(
        Level.WARN,
        "replica_role",
        subject,
        "our role may not set session_replication_role: triggers fire for replicated rows, foreign keys are checked",
        grant,
    )
    if lanes > 1:
        yield feed.finding(
            feed.stop,
            "replica_role",
            subject,
            f"{lanes} lanes can't keep the order that foreign keys ask for, and without that role they are checked",
            f"{grant}\n-- or in the connector: apply: {{lanes: 1}}",
        )
    keys = _mapped_keys(feed)
    if log:  # what is refused waits for its parent, where it has a key to wait under
        waiting = {side.table.name for one in feed.mappings.all if not one.multiset for side in one.targets}
        wait = [f"{t.name}.{quote_identifier(key.name)}" for t, key in keys if t.name in waiting]
        keys = [(t, key) for t, key in keys if t.name not in waiting]
        if wait:
            yield feed.finding(
                Level.WARN,
                "replica_role",
                subject,
                "without that role foreign keys between mapped tables are checked, and partitions have no common order:"
                " a row that comes before its parent, or a parent that goes before its rows, is kept aside and written "
                f"once the feed has passed it: {', '.join(wait)}",
                grant,
            )
    if keys:
        drops = "\n".join(f"ALTER TABLE {t.name} DROP CONSTRAINT {quote_identifier(key.name)};" for t, key in keys)
        yield feed.finding(
            feed.stop,
            "replica_role",
            subject,
            f"without that role {len(keys)} foreign key(s) between mapped tables are checked while the copy catches "
            "up, and a row may come whose parent is gone for good",
            f"{grant}\n-- or drop them, and add them again when the state is streaming:\n{drops}",
        )


def _circles(feed: AssessedFeed) -> Iterator[Finding]:
    owners = {key: table for table in feed.mappings.target_tables for key in table.foreign_keys}
    for key in TableOrder.of(feed.mappings.target_tables).cut:
        table = owners[key]
        subject = f"{table.name}.{quote_identifier(key.name)}"
        if feed.target.rights.replica_role:
            yield feed.finding(
                Level.NOTE,
                "foreign_key_circle",
                subject,
                f"closes a circle of foreign keys (to {key.referenced}); it is not checked under the replica role",
            )
        elif key.deferrable:
            yield feed.finding(
                Level.NOTE,
                "foreign_key_circle",
                subject,
                f"closes a circle of foreign keys (to {key.referenced}), and is checked at the end of each transaction",
            )
        else:
            yield feed.finding(
                feed.stop,
                "foreign_key_circle",
                subject,
                f"closes a circle of foreign keys (to {key.referenced}), so that no order of writes serves all of them",
                f"ALTER TABLE {table.name} ALTER CONSTRAINT {quote_identifier(key.name)} DEFERRABLE;",
            )


def _foreign_keys_outward(feed: AssessedFeed) -> Iterator[Finding]:
    """Foreign keys between mapped tables and others: nobody replicates their other end."""
    mapped = {table.name for table in feed.mappings.target_tables}
    mapped |= {leaf for table in feed.mappings.target_tables for leaf in table.leaves}
    for table in feed.mappings.target_tables:
        for key in table.foreign_keys:
            if key.referenced not in mapped:
                checked = "is not checked" if feed.target.rights.replica_role else "fails where they are missing"
                yield feed.finding(
                    Level.WARN,
                    "foreign_key_unmapped",
                    f"{table.name}.{quote_identifier(key.name)}",
                    f"it refers to {key.referenced}, which no mapping fills; its rows must be there: this {checked}",
                )
    for table in feed.target.catalog.tables.values():
        for key in table.foreign_keys:
            if table.name not in mapped and key.referenced in mapped and key.on_delete in "cnd":
                turned_off = feed.target.rights.replica_role
                yield feed.finding(
                    Level.WARN,
                    "foreign_key_unmapped",
                    f"{table.name}.{quote_identifier(key.name)}",
                    f"a replicated delete in {key.referenced} "
                    + ("leaves rows here that refer to nothing" if turned_off else "changes rows here")
                    + ", and no mapping has this table",
                )


def _storage(feed: AssessedFeed, mapping: Mapping, table: Table) -> Iterator[Finding]:
    known = feed.target.catalog.tables
    for name in (table.name, *table.leaves):
        part = table if name == table.name else known.get(name)
        if part is None:
            yield feed.finding(
                feed.stop,
                "foreign_partition",
                name,
                f"{table.name} has a foreign partition: what is written there commits on another server, by itself",
                f"Detach it from {table.name}",
                of=mapping,
            )
        elif part.persistence == "u":
            yield feed.finding(
                feed.stop,
                "unlogged",
                name,
                "it is unlogged: after a crash it is empty, and the checkpoint says that its rows have arrived",
                f"ALTER TABLE {name} SET LOGGED;",
                of=mapping,
            )
    if feed.target.rights.of(table.name).row_security:
        role = quoted(feed.target.rights.role)
        yield feed.finding(
            feed.stop,
            "row_security",
            table.name,
            "a row-level policy applies to our role, so rows may be hidden from it: every statement is refused",
            f"ALTER ROLE {role} BYPASSRLS;",
            of=mapping,
        )
    if table.name in feed.target.subscribed:
        yield feed.finding(
            feed.stop,
            "subscription",
            table.name,
            "a native subscription writes to it too: two writers would overwrite each other",
            f"Take {table.name} out of that subscription's publication, then ALTER SUBSCRIPTION … REFRESH PUBLICATION;",
            of=mapping,
        )


def _keys(feed: AssessedFeed, mapping: Mapping, side: Side) -> Iterator[Finding]:
    table = side.table
    deferrable = [key.name for key in table.unique_keys if key.deferrable] + list(table.deferrable_exclusions)
    if deferrable:
        yield feed.finding(
            Level.WARN,
            "deferrable_key",
            table.name,
            f"the check of a DEFERRABLE key is a trigger, which the replica role turns off, and ON CONFLICT can't use "
            f"it ({column_list(deferrable)}): this table is written under role origin, slower, and its triggers fire",
            "Where the application doesn't need it: "
            + " ".join(
                f"ALTER TABLE {table.name} DROP CONSTRAINT {quote_identifier(name)}, then add it NOT DEFERRABLE;"
                for name in deferrable
            ),
            of=mapping,
        )
    others = [name for name in table.other_unique_indexes if name not in table.deferrable_exclusions]
    if others:
        yield feed.finding(
            Level.WARN,
            "other_unique",
            table.name,
            f"unique or excluding over an expression, a part of the rows, or ranges: {column_list(others)}. Rows that "
            f"the {feed.source_name} side allows may be refused",
            f"Check that the {feed.source_name} side keeps the same rule",
            of=mapping,
        )
    if mapping.function is None:
        for key in table.unique_keys:
            if not _kept_by_source(mapping, key):
                yield feed.finding(
                    Level.WARN,
                    "unique_only_here",
                    f"{table.name}.{quote_identifier(key.name)}",
                    f"({column_list(key.columns)}) is unique here, and nothing on the {feed.source_name} side says so: "
                    "two rows with one value would stop the feed",
                    of=mapping,
                )


def _kept_by_source(mapping: Mapping, key: UniqueKey) -> bool:
    """Whether a unique key of the source makes this one's values unique; columns of the target alone are defaults."""
    back = {new: name for name, new in mapping.columns.items()}
    columns = {back.get(column) for column in key.columns}
    if None in columns:
        return True  # filled by a default: a sequence, most likely
    return any(set(other.columns) <= columns for other in mapping.root.table.unique_keys)


def _triggers(feed: AssessedFeed, mapping: Mapping, table: Table) -> Iterator[Finding]:
    replica = feed.target.rights.replica_role
    silent = [trigger.name for trigger in table.triggers if trigger.enabled == "O" and replica]
    fire = [trigger.name for trigger in table.triggers if trigger.enabled == "A" or trigger.enabled == "OR"[replica]]
    if silent:
        yield feed.finding(
            Level.NOTE,
            "triggers_silent",
            table.name,
            f"these triggers do not fire for replicated rows: {column_list(silent)}. What they do must be done by the "
            "transform, or have been done on the other side",
            of=mapping,
        )
    if fire:
        why = "ENABLE ALWAYS or REPLICA" if replica else "our role may not set session_replication_role"
        yield feed.finding(
            Level.WARN,
            "triggers_fire",
            table.name,
            f"these triggers fire for replicated rows too ({why}): {column_list(fire)}",
            "\n".join(f"ALTER TABLE {table.name} DISABLE TRIGGER {quote_identifier(name)};" for name in fire)
            + " -- if what they do has been done on the other side already",
            of=mapping,
        )


def assess_reading(feed: AssessedFeed) -> Iterator[Finding]:
    """Findings about reading the source's tables."""
    hidden = {}
    for mapping, table, _ in feed.published():
        for physical in feed.physical(table):
            if physical.persistence == "u":
                yield feed.finding(
                    feed.stop,
                    "unlogged",
                    physical.name,
                    "it is unlogged: its changes are in no stream",
                    f"ALTER TABLE {physical.name} SET LOGGED;",
                    of=mapping,
                )
        if feed.source.rights.of(table.name).row_security:
            hidden[table.name] = mapping
    if hidden:
        yield feed.finding(
            feed.stop,
            "row_security",
            table_list(hidden),
            "a row-level policy applies to our role: rows that it hides would be missing, so every read is refused",
            f"ALTER ROLE {quoted(feed.source.rights.role)} BYPASSRLS;",
        )
