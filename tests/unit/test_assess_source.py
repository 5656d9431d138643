"""What a plan finds at the source: replica identity, slot, publication, rights."""

from dataclasses import replace
from typing import Any

import pytest

from replicator.assess import Level
from replicator.assess.facts import PublicationFacts, PublishedTable, SlotFacts, TableRights
from replicator.assess.identity import identity_statement, see_keys_carried
from replicator.compile import Problem
from replicator.errors import ReplicatorError
from replicator.mapping import Mappings
from replicator.tables import Catalog, TableName
from tests.assessing import codes, database, found, integer, plan, table, text, transform, unique

USERS = table("public.users", text("name"))
NAME = USERS.name


def test_a_plan_without_findings_can_run() -> None:
    """Equal tables, full rights, a server with room: nothing stops, nothing warns, transactions stay whole."""
    made = plan(database(USERS, name="a"), database(USERS, name="b"))
    assert {Level.NOTE} == {finding.level for finding in made.findings}
    assert made.whole_transactions
    assert ("primary key (id)", ("same shape",)) == (made.mappings[0].replica_identity, made.mappings[0].how)
    document = made.to_json()
    assert document["can_run"] is True
    assert ["public.users"] == document["mappings"][0]["old"] == document["write_order"]


def test_a_table_whose_old_tuples_are_empty_is_refused_with_the_statement() -> None:
    """Without identity the application's own UPDATE would fail once the table is published."""
    bare = replace(USERS, replica_identity="n", identity_columns=())
    finding = found(plan(database(bare), database(USERS, name="b")), "replica_identity")
    assert (Level.STOP, "ALTER TABLE public.users REPLICA IDENTITY DEFAULT;") == (finding.level, finding.remedy)
    assert "refuses" in finding.message


def test_a_table_without_a_key_needs_full() -> None:
    """Its rows are told apart by all of their columns."""
    log = table("public.log", text("line"), key=())
    finding = found(plan(database(log), database(log, name="b")), "replica_identity")
    assert "ALTER TABLE public.log REPLICA IDENTITY FULL;" == finding.remedy
    full = replace(log, replica_identity="f", identity_columns=("line",))
    made = plan(database(full), database(log, name="b"))
    assert "replica_identity" not in codes(made)
    assert "no key: a multiset of rows" in made.mappings[0].how


def test_a_child_table_needs_the_aggregates_key_in_its_old_tuples() -> None:
    """A child that leaves its parent names it only there: by the primary key alone it can't."""
    notes = table("public.notes", integer("user_id"), unique_keys=())
    mapping = transform({USERS: ("id",), notes: ("user_id",)}, {USERS: ("id",)})
    made = plan(database(USERS, notes), database(USERS, name="b"), mappings=[mapping])
    finding = found(made, "replica_identity")
    assert ("public.notes", "ALTER TABLE public.notes REPLICA IDENTITY FULL;") == (finding.subject, finding.remedy)
    assert (False, True) == (made.whole_transactions, "read as they are now" in made.transactions_reason)


def test_the_narrowest_index_with_the_key_serves_as_identity() -> None:
    """An index of NOT NULL columns that contains the key is cheaper than FULL; the primary key cheaper still."""
    notes = table("public.notes", integer("user_id"))
    wide = unique("wide", "user_id", "id")
    nullable = unique("loose", "user_id", not_null=False)
    with_index = replace(notes, unique_keys=(*notes.unique_keys, nullable, wide))
    assert "ALTER TABLE public.notes REPLICA IDENTITY USING INDEX wide;" == identity_statement(with_index, ("user_id",))
    assert "ALTER TABLE public.notes REPLICA IDENTITY DEFAULT;" == identity_statement(with_index, ("id",))


def test_every_leaf_partition_is_looked_at() -> None:
    """The server takes the identity from the leaf, and ALTER TABLE on the root doesn't reach it."""
    leaf = table("public.p1", text("name"), replica_identity="n", identity_columns=(), parent=NAME)
    root = replace(USERS, kind="p", leaves=(leaf.name, TableName("public", "far")))
    made = plan(database(root, leaf), database(USERS, name="b"))
    assert "public.p1" == found(made, "replica_identity").subject
    assert "public.far" in found(made, "foreign_partition").message
    assert () == made.unmapped


def test_the_way_back_is_assessed_but_stops_nothing_yet() -> None:
    """What the reverse feed lacks can be mended until the cutover."""
    bare = replace(USERS, replica_identity="n", identity_columns=())
    upgraded = database(bare, name="b", rights={"replication": False})
    old = database(USERS)
    assert "replica_identity" not in codes(plan(old, upgraded))
    carried = {"id": "id", "name": "name"}
    reverse = transform({bare: ("id",)}, {USERS: ("id",)}, function=None, columns=carried)
    made = plan(old, upgraded, reverse=Mappings((reverse,)))
    assert Level.WARN is found(made, "replica_identity").level
    assert found(made, "replica_identity").message.startswith("For the way back: ")
    assert Level.WARN is found(made, "right_replication").level
    assert () == made.stops


@pytest.mark.parametrize(
    "changes,code,remedy",
    [
        ({"server": {"wal_level": "replica"}}, "wal_level", "ALTER SYSTEM SET wal_level = 'logical'"),
        ({"rights": {"replication": False, "role": "user"}}, "right_replication", 'ALTER ROLE "user" REPLICATION;'),
        ({"server": {"slots_max": 2, "slots_used": 2}}, "slots", "ALTER SYSTEM SET max_replication_slots = 7;"),
        ({"server": {"senders_max": 1, "senders_used": 1}}, "wal_senders", "ALTER SYSTEM SET max_wal_senders = 6;"),
        ({"slot": SlotFacts("pgoutput", "app", active=False, lost="wal_removed")}, "slot_lost", "pg_drop_replication_"),
        ({"slot": SlotFacts("test_decoding", "app", active=False)}, "slot_foreign", "stream.slot"),
        ({"slot": SlotFacts("pgoutput", "other", active=False)}, "slot_foreign", "stream.slot"),
        ({"version": 120000}, "version", "13 or later"),
        ({"server": {"encoding": "SQL_ASCII"}}, "encoding", ""),
        (
            {"table_rights": {NAME: TableRights(select=False)}, "rights": {"role": "user"}},
            "right_table",
            'GRANT SELECT ON public.users TO "user";',
        ),
        (
            {"table_rights": {NAME: TableRights(schema_usage=False)}},
            "right_usage",
            'GRANT USAGE ON SCHEMA public TO "replicator";',
        ),
        ({"table_rights": {NAME: TableRights(row_security=True)}}, "row_security", "BYPASSRLS"),
    ],
)
def test_what_the_old_side_lacks_stops_with_the_remedy(changes: dict[str, Any], code: str, remedy: str) -> None:
    """Each setting or right that a slot needs, and the exact statement for it."""
    finding = found(plan(database(USERS, **changes), database(USERS, name="b")), code)
    assert Level.STOP is finding.level
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "server,code,level",
    [
        ({"slot_idle_seconds_max": 3600}, "slot_timeout", Level.WARN),
        ({"slot_keep_bytes_max": 1 << 30}, "slot_keep", Level.NOTE),
        ({"encoding": "LATIN1"}, "encoding", Level.WARN),
    ],
)
def test_what_may_cost_the_slot_is_said_beforehand(server: dict[str, Any], code: str, level: Level) -> None:
    """Limits after which the server gives up the slot are no surprise later."""
    assert level is found(plan(database(USERS, server=server), database(USERS, name="b")), code).level


def test_an_unlogged_table_has_no_changes() -> None:
    """Its changes are in no WAL."""
    finding = found(plan(database(replace(USERS, persistence="u")), database(USERS, name="b")), "unlogged")
    assert (Level.STOP, "ALTER TABLE public.users SET LOGGED;") == (finding.level, finding.remedy)


def published(*tables: TableName, **changes: Any) -> PublicationFacts:
    every = frozenset({"insert", "update", "delete", "truncate"})
    made = PublicationFacts(every, via_root=True, owned=True, tables=dict.fromkeys(tables, PublishedTable()))
    return replace(made, **changes)


def test_a_publication_of_a_dba_is_checked() -> None:
    """Missing tables, partitions in place of roots, missing operations, hidden rows and columns are all found."""
    upgraded = database(USERS, name="b")
    off = 'tables: [{old: "public.*"}]\nstream: {create: off}'
    slot = SlotFacts("pgoutput", "app", active=True)

    made = plan(database(USERS, slot=slot), upgraded, yaml=off)
    statement = "CREATE PUBLICATION replicator_crm FOR TABLE ONLY public.users WITH (publish = "
    assert found(made, "publication_missing").remedy.startswith(statement)
    assert "pg_drop_replication_slot('replicator_crm')" in found(made, "slot_older").remedy
    assert "slot_active" in codes(made)

    made = plan(database(USERS, slot=slot, publication=published()), upgraded, yaml=off)
    assert "ALTER PUBLICATION replicator_crm ADD TABLE ONLY public.users;" == found(made, "publication_tables").remedy
    assert Level.STOP is found(made, "publication_tables").level

    made = plan(database(USERS, publication=published()), upgraded)
    assert (Level.NOTE, "") == (found(made, "publication_tables").level, found(made, "publication_tables").remedy)

    inserts = published(NAME, operations=frozenset({"insert", "update", "delete"}))
    made = plan(database(USERS, publication=inserts), upgraded)
    assert "truncate" in found(made, "publication_operations").message
    assert made.stops

    part = published(NAME, tables={NAME: PublishedTable(("id",), "(id > 5)")})
    message = found(plan(database(USERS, publication=part), upgraded), "publication_part").message
    assert "(id > 5)" in message

    parted = replace(USERS, kind="p")
    made = plan(database(parted, publication=published(NAME, via_root=False)), upgraded)
    assert Level.STOP is found(made, "publication_root").level


def test_tables_of_others_need_their_owner_to_publish_them() -> None:
    """Only an owner may put a table into a publication, so the statement is given to them."""
    not_ours = {NAME: TableRights(owned=False)}
    made = plan(database(USERS, table_rights=not_ours), database(USERS, name="b"))
    assert Level.STOP is found(made, "publication_missing").level
    superuser = database(USERS, table_rights=not_ours, rights={"superuser": True})
    assert "publication_missing" not in codes(plan(superuser, database(USERS, name="b")))


def test_kafka_asks_for_no_slot_and_promises_no_whole_transactions() -> None:
    """A stream through Kafka needs none of a slot's rights here, and plan says what it gives up."""
    stream = "stream: {kind: kafka, bootstrap_servers: 'k:1', format: debezium-json, topic_prefix: old}\n"
    old = database(USERS, rights={"replication": False}, server={"wal_level": "replica"})
    made = plan(old, database(USERS, name="b"), yaml=stream + 'tables: [{old: "public.*"}]')
    assert not {"right_replication", "wal_level"} & codes(made)
    assert (False, True) == (made.whole_transactions, "Kafka" in made.transactions_reason)


def test_tables_that_nobody_maps_are_listed() -> None:
    """A forgotten table is seen before the migration, not after."""
    other = table("public.other")
    made = plan(database(USERS, other), database(USERS, name="b"), yaml="tables: [{old: public.users}]")
    assert (other.name,) == made.unmapped
    assert "public.other" in found(made, "unmapped").message


def test_one_database_is_no_two() -> None:
    """The same server and database under both names is a mistake."""
    made = plan(database(USERS), database(USERS))
    assert "same_database" in {finding.code for finding in made.stops}


def test_what_could_not_be_compiled_stops() -> None:
    """The compiler's problems are findings like all others."""
    problem = Problem("public.x", "public.x", "the old database has no such table", "Correct the name")
    made = plan(database(USERS), database(USERS, name="b"), problems=[problem])
    assert ("public.x", "Correct the name") == (made.stops[0].mapping, made.stops[0].remedy)
    assert made.stops[0] in made.of("public.x")
    assert made.stops[0] not in made.general


def test_a_capture_needs_its_keys_in_old_tuples() -> None:
    """Of the table and of each partition; a table without a key, or without any identity, has none to carry."""
    code = integer("code")
    index = unique("items_code_key", "code")
    odd = table("public.items", code, replica_identity="i", identity_columns=("code",))
    odd = replace(odd, unique_keys=(*odd.unique_keys, index))
    with pytest.raises(ReplicatorError, match=r"carry index .code., but not its primary key .id.") as caught:
        see_keys_carried(Catalog(180000, {odd.name: odd}), odd)
    assert "ALTER TABLE public.items REPLICA IDENTITY DEFAULT;" in str(caught.value.hint)

    root = replace(table("public.parted", code), leaves=(odd.name,))
    with pytest.raises(ReplicatorError, match=r"public\.items"):
        see_keys_carried(Catalog(180000, {odd.name: odd, root.name: root}), root)

    for fine in (USERS, replace(USERS, replica_identity="n", identity_columns=()), table("public.log", code, key=())):
        see_keys_carried(Catalog(180000, {}), fine)
