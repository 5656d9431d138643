"""What is known about one of the two databases before a plan is made. Frozen; read by `replicator.postgres.facts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from replicator.tables import Catalog, TableName


@dataclass(frozen=True)
class TableRights:
    """What our role may do with one table.

    Attributes:
        select, insert, update, delete, truncate: as granted, or by ownership.
        owned: our role is, or is a member of, the owner.
        schema_usage: USAGE on the table's schema.
        row_security: a policy applies to our role: with `row_security = off` every statement of ours is refused.

    """

    select: bool = True
    insert: bool = True
    update: bool = True
    delete: bool = True
    truncate: bool = True
    owned: bool = True
    schema_usage: bool = True
    row_security: bool = False


@dataclass(frozen=True)
class Rights:
    """What our role may do in one database.

    Attributes:
        role: current_user.
        superuser, replication: attributes of the role (`replication` also by membership in a provider's role).
        replica_role: it may set session_replication_role (tried, not inferred: providers grant it in their own ways).
        origin_functions: it may execute all functions of replication origins.
        create_on_database: it may make schemas, and publications of tables that it owns.
        own_schema: the schema `replicator` is there, and it may create tables in it.
        tables: of the tables that were asked for.

    """

    role: str = "replicator"
    superuser: bool = False
    replication: bool = True
    replica_role: bool = True
    origin_functions: bool = True
    create_on_database: bool = True
    own_schema: bool = False
    tables: Mapping[TableName, TableRights] = field(default_factory=dict)

    def of(self, table: TableName) -> TableRights:
        """The rights on one table; none where it wasn't asked for."""
        return self.tables.get(table, _NONE)


_NONE = TableRights(
    select=False,
    insert=False,
    update=False,
    delete=False,
    truncate=False,
    owned=False,
    schema_usage=False,
)


@dataclass(frozen=True)
class ServerFacts:
    """Settings and counts of one server.

    Attributes:
        identity: moment of the server's start, and database: two equal ones are one database (a system identifier is
            also that of every physical copy).
        database: its name.
        encoding: of the database.
        in_recovery: a standby.
        wal_level: minimal, replica or logical.
        slots_max, slots_used: replication slots.
        senders_max, senders_used: WAL senders.
        origins_max, origins_used: replication origins that sessions may hold at once, and those that exist.
        slot_keep_bytes_max: `max_slot_wal_keep_size`, None without a limit.
        slot_idle_seconds_max: `idle_replication_slot_timeout` (18 and later), None without a limit.

    """

    identity: tuple[str, str] = ("", "")
    database: str = ""
    encoding: str = "UTF8"
    in_recovery: bool = False
    wal_level: str = "logical"
    slots_max: int = 10
    slots_used: int = 0
    senders_max: int = 10
    senders_used: int = 0
    origins_max: int = 10
    origins_used: int = 0
    slot_keep_bytes_max: int | None = None
    slot_idle_seconds_max: int | None = None


@dataclass(frozen=True)
class PublishedTable:
    """One table of a publication; a partitioned one under its own name where it is published via its root."""

    columns: tuple[str, ...] = ()
    row_filter: str | None = None


@dataclass(frozen=True)
class PublicationFacts:
    """A publication that is there already.

    Attributes:
        operations: of insert, update, delete, truncate.
        via_root: changes of partitions come under the partitioned table's name.
        owned: our role may alter it.
        tables: what it publishes; empty `columns` is all.

    """

    operations: frozenset[str]
    via_root: bool
    owned: bool
    tables: Mapping[TableName, PublishedTable] = field(default_factory=dict)


@dataclass(frozen=True)
class SlotFacts:
    """A replication slot that is there already.

    Attributes:
        plugin: pgoutput, or None for a physical one.
        database: where it belongs.
        active: somebody reads it now.
        lost: why the server has given it up (`wal_status`, `invalidation_reason`), or None.

    """

    plugin: str | None
    database: str | None
    active: bool
    lost: str | None = None


@dataclass(frozen=True)
class Facts:
    """One database: catalog, rights, server.

    Attributes:
        filled: of the tables that were asked for, those that hold rows; None: could not be looked at.
        publication, slot: the connector's, where they are there.
        subscribed: tables that a native subscription writes to.

    """

    catalog: Catalog
    rights: Rights = field(default_factory=Rights)
    server: ServerFacts = field(default_factory=ServerFacts)
    filled: Mapping[TableName, bool | None] = field(default_factory=dict)
    publication: PublicationFacts | None = None
    slot: SlotFacts | None = None
    subscribed: frozenset[TableName] = frozenset()
