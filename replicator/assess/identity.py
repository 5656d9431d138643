"""Whether old tuples carry what a feed needs: the replica identity of every source table, and the statement to mend it.

An old tuple names the row that was deleted, and the parent that a child row has left. The server fills it by the
identity of the leaf that the row lies in, and describes it by that of the partitioned table (pgoutput's RELATION), so
both are looked at; ALTER TABLE on the one doesn't change the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from replicator.assess.feed import AssessedFeed
from replicator.assess.findings import Finding, column_list
from replicator.errors import ErrorKind, ReplicatorError
from replicator.mapping import Mapping
from replicator.tables import Catalog, Table, quote_identifier


def assess_identities(feed: AssessedFeed) -> Iterator[Finding]:
    """Findings about every source table whose identity doesn't suffice."""
    for mapping, table, key in feed.published():
        for physical in feed.physical(table):
            yield from _assess(feed, mapping, physical, key)
        missing = [str(leaf) for leaf in table.leaves if leaf not in feed.source.catalog.tables]
        if missing:
            yield feed.finding(
                feed.stop,
                "foreign_partition",
                table.name,
                f"changes of its foreign partitions are in no stream of this server: {', '.join(missing)}",
                "Detach them, or map the table on the server that they live on",
                of=mapping,
            )


def see_keys_carried(catalog: Catalog, table: Table) -> None:
    """See that old tuples of a table, and of its partitions, carry its primary key, where they carry anything.

    Raises:
        ReplicatorError: SCHEMA, with the statement that mends it.

    """
    if table.primary_key is None:
        return
    key = table.primary_key.columns
    leaves = (catalog.tables[leaf] for leaf in table.leaves if leaf in catalog.tables)
    for physical in (table, *leaves):
        if physical.identity_columns and not set(key) <= set(physical.identity_columns):
            raise ReplicatorError(
                f"old tuples of {physical.name} carry {identity_in_words(physical)}, but not its primary key "
                f"({column_list(key)}), which is the key of its records: deletes would name no row",
                kind=ErrorKind.SCHEMA,
                table=str(physical.name),
                hint=f"Nothing was captured of it. Run on the source: {identity_statement(physical, key)}",
            )


def identity_in_words(table: Table) -> str:
    """What an old tuple of this table carries, for people."""
    if table.replica_identity == "f":
        return "full"
    if not table.identity_columns:
        return "nothing"
    kind = "index" if table.replica_identity == "i" else "primary key"
    return f"{kind} ({column_list(table.identity_columns)})"


def identity_statement(table: Table, key: tuple[str, ...]) -> str:
    """The ALTER TABLE that makes old tuples carry these columns: by the narrowest index that has them, or FULL."""
    start = f"ALTER TABLE {table.name} REPLICA IDENTITY"
    if not key:
        return f"{start} FULL;"
    fitting = [index for index in table.unique_keys if index.usable and set(key) <= set(index.columns)]
    if not fitting:
        return f"{start} FULL;"
    index = min(fitting, key=lambda index: (not index.primary, len(index.columns)))
    return f"{start} DEFAULT;" if index.primary else f"{start} USING INDEX {quote_identifier(index.name)};"


def _assess(feed: AssessedFeed, mapping: Mapping, physical: Table, key: tuple[str, ...]) -> Iterator[Finding]:
    wanted = key or physical.column_names
    if set(wanted) <= set(physical.identity_columns):
        return
    statement = identity_statement(physical, key)
    carries = identity_in_words(physical)
    if not key:
        message = f"it has no key, and its old tuples carry {carries}: which row was updated or deleted can't be known"
    elif not physical.identity_columns:
        message = (
            f"its old tuples carry nothing of the key ({column_list(key)}); and once it is published the server "
            "refuses the application's own UPDATE and DELETE on it"
        )
    elif not mapping.reads_back or physical.name in {mapping.root.table.name, *mapping.root.table.leaves}:
        message = f"its old tuples carry {carries}, but not the key ({column_list(key)}) that its deletes must name"
    else:
        message = (
            f"its old tuples carry {carries}, but not ({column_list(key)}): a row that leaves one "
            f"{mapping.root.table.name} for another, or is deleted, doesn't say which one it belonged to"
        )
    yield feed.finding(feed.stop, "replica_identity", physical.name, message, statement, of=mapping)
